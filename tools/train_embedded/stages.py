"""A work folder in, the trained parts that earlier stages left in it out; and pictures composed in the background."""
import os

import numpy as np
import torch

import compose
import model
import sprites
from tokenizer import Tokenizer


def composer(args, settings):
    """The composer of the preset's concepts."""
    return compose.Composer(*sprites.load(args.work / "sprites.npz", settings.concepts), settings.size)


def tokenizer(args):
    return Tokenizer(args.work / "tokenizer")


def load_text(args, settings, file="text.pt"):
    """The pretrained, frozen text encoder; `file` is text_alone.pt before separate.py."""
    network = model.text(settings, len(tokenizer(args).vocab))
    network.load_state_dict(torch.load(args.work / file, map_location="cpu", weights_only=True))
    return network.to(settings.device).eval().requires_grad_(False)


def load_vae(args, settings, file=None):
    """The trained VAE with its latents' scale folded in; without `file` the one whose decoder was tuned, if there is one."""
    network = model.vae(settings)
    if file is None:
        file = "tuned_vae.pt" if (args.work / "tuned_vae.pt").exists() else "folded_vae.pt"
    network.load_state_dict(torch.load(args.work / file, map_location="cpu", weights_only=True))
    return network.to(settings.device).eval().requires_grad_(False)


def save(path, values):
    """Writes a checkpoint so that a stop at any moment leaves the old one or the new one."""
    beside = path.with_suffix(".tmp")
    torch.save(values, beside)
    os.replace(beside, path)


class Stream(torch.utils.data.IterableDataset):
    """Endless batches (captions, pictures uint8 [batch, size, size, 3]); every worker draws its own."""

    def __init__(self, composer, batch, seed):
        self.composer, self.batch, self.seed = composer, batch, seed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            examples = [self.composer.sample(rng) for _ in range(self.batch)]
            yield [e[1] for e in examples], np.stack([e[2] for e in examples])


def stream(composer, settings, batch, seed):
    """An iterator over Stream's batches, made by `workers` processes (0: in this one)."""
    workers = getattr(settings, "workers", 0)
    data = torch.utils.data.DataLoader(
        Stream(composer, batch, seed), batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None, collate_fn=lambda b: b
    )
    return iter(data)
