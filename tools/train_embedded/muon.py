"""A network's weights and gradients in, updated weights out: Muon for matrices, AdamW for the rest, on float32 master copies.

Muon (K. Jordan, 2024) takes the momentum's nearest orthogonal matrix as the step, found by a Newton-Schulz iteration; the factor that gives
it the size of an AdamW step is that of Liu et al., "Muon is scalable for LLM training" (2025). A convolution counts as [out, in*kh*kw]."""
import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrices, dtype):
    """About U V^T of each [n, rows, cols] matrix's singular value decomposition."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).float()


def is_matrix(name, parameter):
    """Whether Muon takes it: not the vectors, and not the convolutions that touch the latents' few channels."""
    return parameter.ndim >= 2 and not name.startswith(("conv_in", "conv_out"))


class Optimizer:
    """Keeps float32 masters of `network`'s parameters (which may be bfloat16, as then are Muon's iterations), steps them and copies them back."""

    def __init__(self, network, momentum=0.95, decay=0.01):
        self.names = [n for n, _ in network.named_parameters()]
        self.parameters = list(network.parameters())
        self.masters = [p.detach().float().clone() for p in self.parameters]
        self.momentum, self.decay = momentum, decay
        groups = {}
        for i, (name, p) in enumerate(zip(self.names, self.parameters)):
            if is_matrix(name, p):
                groups.setdefault((p.shape[0], p[0].numel()), []).append(i)
        self.groups = groups
        self.buffers = {i: torch.zeros_like(self.masters[i]) for ids in groups.values() for i in ids}
        self.rest = [i for i in range(len(self.parameters)) if i not in self.buffers]
        self.adam = torch.optim.AdamW([self.masters[i] for i in self.rest], betas=(0.9, 0.99), weight_decay=0, foreach=True)

    @torch.no_grad()
    def step(self, rate, clip=1.0):
        """One update at learning rate `rate`; AdamW's gradients are clipped to the norm `clip`."""
        for i in self.rest:
            self.masters[i].grad = self.parameters[i].grad.float()
        torch.nn.utils.clip_grad_norm_([self.masters[i] for i in self.rest], clip)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        for (rows, cols), ids in self.groups.items():
            self._muon(ids, rows, cols, rate)
        torch._foreach_copy_([p.data for p in self.parameters], self.masters)
        for p in self.parameters:
            p.grad = None

    def _muon(self, ids, rows, cols, rate):
        gradients = [self.parameters[i].grad.float() for i in ids]
        buffers = [self.buffers[i] for i in ids]
        torch._foreach_lerp_(buffers, gradients, 1 - self.momentum)
        ahead = torch._foreach_lerp(gradients, buffers, self.momentum)       # Nesterov
        steps = orthogonal(torch.stack([g.reshape(rows, cols) for g in ahead]), self.parameters[ids[0]].dtype)
        size = 0.2 * max(rows, cols) ** 0.5
        for i, step in zip(ids, steps):
            self.masters[i].mul_(1 - rate * self.decay).add_(step.reshape(self.masters[i].shape), alpha=-rate * size)

    def state(self):
        return {"masters": self.masters, "buffers": self.buffers, "adam": self.adam.state_dict()}

    @torch.no_grad()
    def load(self, state):
        torch._foreach_copy_(self.masters, state["masters"])
        for i, buffer in state["buffers"].items():
            self.buffers[i].copy_(buffer)
        self.adam.load_state_dict(state["adam"])
        torch._foreach_copy_([p.data for p in self.parameters], self.masters)
