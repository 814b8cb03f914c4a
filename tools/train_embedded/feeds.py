"""Pictures with captions in, endless batches of (latents, caption embeddings) for the U-Net out: from the encoded pool, or composed live."""
import numpy as np
import torch

import model
import stages

HELD = 256                    # pictures kept for the validation loss


class Pool:
    """Batches from pool.npz, each epoch in another order; the last HELD pictures are for validation."""

    def __init__(self, args, seed):
        stored = np.load(args.work / "pool.npz")
        self.mean, self.std = torch.from_numpy(stored["mean"]), torch.from_numpy(stored["std"])
        self.contexts, self.caption = torch.from_numpy(stored["contexts"]), stored["caption"]
        self.random = torch.Generator().manual_seed(seed)
        self.count = len(self.mean) - min(HELD, len(self.mean) // 8)
        self.order = torch.empty(0, dtype=torch.long)

    def _take(self, rows, noise=None):
        latents = self.mean[rows].float()
        if noise is not None:
            latents += self.std[rows].float() * torch.randn(latents.shape, generator=noise)
        return latents * model.SCALING, self.contexts[self.caption[rows.numpy()]]

    def batch(self, size):
        """Random training latents (a draw from the encoder's distribution) and their captions' embeddings."""
        if len(self.order) < size:
            self.order = torch.cat([self.order, torch.randperm(self.count, generator=self.random)])
        rows, self.order = self.order[:size], self.order[size:]
        return self._take(rows, self.random)

    def validation(self):
        return self._take(torch.arange(self.count, len(self.mean)))

    def empty(self):
        """The embedding of the empty caption, [1, 77, width]."""
        return self.contexts[:1]


class Live:
    """Batches composed by worker processes and encoded on the device."""

    def __init__(self, args, config, seed):
        self.config, self.tokenizer = config, stages.tokenizer(args)
        self.vae, self.text = stages.load_vae(args, config), stages.load_text(args, config)
        composer = stages.composer(args, config)
        self.held = self._encode(*next(stages.stream(composer, _single(config), HELD, config.seed)))
        self.stream = stages.stream(composer, config, config.diffusion.batch, seed + 1)

    @torch.no_grad()
    def _encode(self, captions, pictures):
        with model.autocast(self.config):
            latents = self.vae.encode(model.to_unit(pictures, self.config.device)).latent_dist.sample()
            contexts = self.text(self.tokenizer(captions).to(self.config.device))[0]
        return latents.float() * model.SCALING, contexts.float()

    def batch(self, size):
        """`size` is the configured batch: the workers make no other."""
        return self._encode(*next(self.stream))

    def validation(self):
        return self.held

    @torch.no_grad()
    def empty(self):
        return self.text(self.tokenizer([""]).to(self.config.device))[0].float()


def _single(config):
    """The settings with no worker processes: for the one validation batch."""
    return type(config)(**{**vars(config), "workers": 0})
