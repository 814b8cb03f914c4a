"""Composed pictures in, a trained KL autoencoder out. Start it again and it goes on where it stopped.

First on crops, of three random ones the busiest: many cheap steps where the objects are. Then on whole pictures."""
import math
import time

import numpy as np
import torch
import torch.nn.functional as F

import model
import settings
import stages

SAVE_EVERY = 120              # seconds


def crops(pictures, side, rng):
    """One crop of `side` from each picture: of three random ones that with the largest variance."""
    found = np.empty((len(pictures), side, side, 3), np.uint8)
    for k, picture in enumerate(pictures):
        corners = rng.integers(0, picture.shape[0] - side + 1, (3, 2))
        parts = [picture[y:y + side, x:x + side] for y, x in corners]
        found[k] = max(parts, key=lambda p: int(p[::4, ::4].astype(np.int32).var()))
    return found


def _edges(a, b):
    """Mean absolute difference of the horizontal and the vertical gradients."""
    across = (a[..., 1:] - a[..., :-1]) - (b[..., 1:] - b[..., :-1])
    down = (a[..., 1:, :] - a[..., :-1, :]) - (b[..., 1:, :] - b[..., :-1, :])
    return across.abs().mean() + down.abs().mean()


def reconstruction_loss(guess, target):
    """Absolute and squared error, with the gradients at two scales: they keep edges sharp without a second network."""
    coarse = _edges(F.avg_pool2d(guess, 2), F.avg_pool2d(target, 2))
    return (guess - target).abs().mean() + 0.5 * ((guess - target).pow(2).mean() + _edges(guess, target) + coarse)


class Trainer:
    """The VAE, its moving average and the stream of pictures."""

    def __init__(self, args, config):
        self.args, self.config, self.v = args, config, config.vae
        self.network = model.vae(config).to(config.device).to(memory_format=torch.channels_last)
        self.average = model.vae(config).to(config.device).eval()
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.v.rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.steps, self.used, self.log = 0, 0.0, []
        self.path = args.work / "vae.pt"
        if self.path.exists():
            state = torch.load(self.path, map_location=config.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.steps, self.used, self.log = state["steps"], state["used"], state["log"]
        composer = stages.composer(args, config)
        self.rng = np.random.default_rng(config.seed + self.steps)
        self.stream = stages.stream(composer, config, self.v.batch, config.seed + self.steps)
        held = np.random.default_rng(config.seed + 1000)
        self.held = np.stack([composer.sample(held)[2] for _ in range(64)])

    def progress(self):
        return self.used / 60 / self.v.minutes

    def batch(self):
        pictures = next(self.stream)[1]
        if self.progress() < 1 - self.v.whole_share:
            return crops(pictures, self.v.crop, self.rng)
        return pictures[:self.v.whole_batch]

    def step(self):
        """One update; returns the reconstruction's loss."""
        rate = self.v.rate * min(1, (self.steps + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * min(1, self.progress()))) + 1e-6
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images = model.to_unit(self.batch(), self.config.device).contiguous(memory_format=torch.channels_last)
        with model.autocast(self.config):
            latents = self.network.encode(images).latent_dist
            guess = self.network.decode(latents.sample()).sample.float()
        divergence = 0.5 * (latents.mean.float().pow(2) + latents.var.float() - 1 - latents.logvar.float()).mean()
        loss = reconstruction_loss(guess, images)
        self.optimizer.zero_grad(set_to_none=True)
        (loss + self.v.kl * divergence).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        keep = min(0.998, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - keep)
        return loss.item()

    @torch.no_grad()
    def psnr(self):
        """Of the average weights' reconstructions of pictures kept aside, in dB."""
        images = model.to_unit(self.held, self.config.device)
        guess = torch.cat([self.average(part).sample.clamp(-1, 1) for part in images.split(16)])
        return (10 * torch.log10(4 / (guess - images).pow(2).mean((1, 2, 3)))).mean().item()

    def save(self):
        state = {"network": self.network.state_dict(), "ema": self.average.state_dict(), "optimizer": self.optimizer.state_dict()}
        stages.save(self.path, {**state, "steps": self.steps, "used": self.used, "log": self.log})

    def run(self):
        last = saved = time.time()
        while self.progress() < 1:
            loss = self.step()
            now = time.time()
            self.used, last = self.used + now - last, now
            if now - saved > SAVE_EVERY or self.progress() >= 1:
                self.log.append([self.steps, round(self.used), loss, self.psnr()])
                print("step %d, %d s, loss %.4f, %.2f dB" % tuple(self.log[-1]), flush=True)
                self.save()
                saved = time.time()


def main():
    args, config = settings.parse(__doc__.splitlines()[0])
    Trainer(args, config).run()


if __name__ == "__main__":
    main()
