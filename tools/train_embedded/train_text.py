"""Captions in, a text encoder that knows what they say out.

Stable Diffusion's text encoder is trained before the U-Net; here there is no CLIP to train it with, so it learns to name object, colours,
size, place and count from any position at or after the end of the text, and from the mean of all. Trained jointly, the U-Net ignores it.
separate.py comes next."""
import time

import numpy as np
import torch
import torch.nn.functional as F

import compose
import model
import settings
import stages
from words import PLACES, SIZES, TINTS

HELD = 512


def labels(scene):
    """What the caption says, as one class per question; the second object's colour is left to separate.py."""
    place = 0 if scene.place is None else 1 + list(PLACES).index(scene.place)
    tint = 0 if scene.tint is None else 1 + TINTS.index(scene.tint)
    background = compose.BACKGROUNDS.index(scene.background or "white")
    second = 0 if scene.second is None else 1 + scene.second
    return [scene.concept, background, tint, second, list(SIZES).index(scene.size), place, scene.count - 1]


def classes(concepts):
    """How many classes each question of `labels` has."""
    return [concepts, len(compose.BACKGROUNDS), 1 + len(TINTS), 1 + concepts, len(SIZES), 1 + len(PLACES), 4]


class Trainer:
    """The text encoder with two linear readers, thrown away afterwards."""

    def __init__(self, args, config):
        self.args, self.config = args, config
        self.composer, self.tokenizer = stages.composer(args, config), stages.tokenizer(args)
        self.rng = np.random.default_rng(config.seed + 7)
        self.network = model.text(config, len(self.tokenizer.vocab)).to(config.device)
        self.sizes = classes(len(self.composer.concepts))
        width = config.model.text_width
        self.at_position, self.at_mean = (torch.nn.Linear(width, sum(self.sizes)).to(config.device) for _ in range(2))
        networks = (self.network, self.at_position, self.at_mean)
        self.parameters = [p for n in networks for p in n.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.text.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.held = self.batch(HELD)

    def batch(self, count):
        scenes = [self.composer.scene(self.rng) for _ in range(count)]
        tokens = self.tokenizer([self.composer.caption(s, self.rng) for s in scenes])
        return tokens.to(self.config.device), torch.tensor([labels(s) for s in scenes], device=self.config.device)

    def loss(self, tokens, answers):
        """The summed cross-entropy of all questions, and each question's accuracy from the mean."""
        end = (tokens == self.tokenizer.end).int().argmax(1)
        with model.autocast(self.config):
            hidden = self.network(tokens)[0]
            later = [end + (torch.rand(len(end), device=end.device) * (77 - end)).long() for _ in range(3)]
            rows = torch.stack([end, *later], 1)
            picked = hidden.gather(1, rows[..., None].expand(-1, -1, hidden.shape[-1])).flatten(0, 1)
            guesses = [(self.at_position(picked), answers.repeat_interleave(4, 0)), (self.at_mean(hidden.mean(1)), answers)]
        total = sum(F.cross_entropy(part, wanted[:, k]) for guess, wanted in guesses for k, part in enumerate(guess.float().split(self.sizes, -1)))
        from_mean = guesses[1][0].split(self.sizes, -1)
        return total, [(part.argmax(-1) == answers[:, k]).float().mean().item() for k, part in enumerate(from_mean)]

    def run(self):
        start, steps, seconds = time.time(), 0, self.config.text.seconds
        while (past := (time.time() - start) / seconds) < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.text.rate * min(1, (steps + 1) / 50) * (1 - past) + 1e-6
            loss, _ = self.loss(*self.batch(self.config.text.batch))
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            steps += 1
        with torch.no_grad():
            right = self.loss(*self.held)[1]
        names = ["object", "background", "tint", "second", "size", "place", "count"]
        print(steps, "steps; held-out accuracy", {n: round(r, 3) for n, r in zip(names, right)}, flush=True)
        stages.save(self.args.work / "text_alone.pt", self.network.state_dict())


def main():
    args, config = settings.parse(__doc__.splitlines()[0])
    Trainer(args, config).run()


if __name__ == "__main__":
    main()
