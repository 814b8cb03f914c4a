"""A frozen text encoder in, the same encoder with the two objects of a pair told apart out.

A caption of a pair ("a cat and a dog on a red background") leaves both objects in every position after its end, the second one weakly, and
a U-Net that can draw "a dog on the right" well draws the dog of that pair as a blob. The encoder already has words for each half: so it is its
own teacher. After the end of a pair's caption the even positions learn to say "a cat on the left on a red background" and the odd ones "a dog on
the right on a red background", as the encoder says those captions itself; all other captions keep their hidden states."""
import copy

import numpy as np
import torch

import settings
import stages

HELD = 256
SHARE = 0.6                   # of the captions: pairs
KEPT = 0.1                    # weight of a pair's positions before its end, which stay as they were


def halves(caption, background):
    """`a cat and a dog on a red background` -> its two objects as captions of their own; `background` says whether one is named."""
    first, rest = caption.split(" and ", 1)
    second, ground = (rest, "")
    if background:
        at = rest.rindex(" on a")
        second, ground = rest[:at], rest[at:]
    return f"{first} on the left{ground}", f"{second} on the right{ground}"


class Separator:
    """The encoder that learns, and a frozen copy of it that teaches."""

    def __init__(self, args, config):
        self.config, self.work = config, args.work
        self.composer, self.tokenizer = stages.composer(args, config), stages.tokenizer(args)
        self.teacher = stages.load_text(args, config, "text_alone.pt")
        self.network = copy.deepcopy(self.teacher).requires_grad_(True)
        self.rng = np.random.default_rng(config.seed + 8)
        self.pairs, self.others = self._batch(HELD, 1), self._batch(HELD, 0)

    def _scene(self, pair):
        while True:
            scene = self.composer.scene(self.rng)
            if (scene.second is not None) == pair:
                return scene

    @torch.no_grad()
    def _batch(self, count, share):
        """Tokens, wanted hidden states [count, 77, width] and each position's weight [count, 77]."""
        scenes = [self._scene(self.rng.random() < share) for _ in range(count)]
        captions = [self.composer.caption(s, self.rng) for s in scenes]
        tokens = self._tokens(captions)
        wanted, weights = self.teacher(tokens)[0].clone(), torch.ones(tokens.shape, device=tokens.device)
        rows = [k for k, s in enumerate(scenes) if s.second is not None]
        if rows:
            said = [halves(captions[k], scenes[k].background) for k in rows]
            left, right = (self._after_end(list(side)) for side in zip(*said))
            places = torch.arange(tokens.shape[1], device=tokens.device)
            mixed = torch.where((places % 2 == 0)[None, :, None], left, right)
            after = places[None] >= self._end(tokens[rows])[:, None]
            wanted[rows] = torch.where(after[..., None], mixed, wanted[rows])
            weights[rows] = torch.where(after, 1.0, KEPT)
        return tokens, wanted, weights

    def _tokens(self, captions):
        return self.tokenizer(captions).to(self.config.device)

    def _end(self, tokens):
        return (tokens == self.tokenizer.end).int().argmax(1)

    def _after_end(self, captions):
        """The teacher's hidden states; positions before a caption's end repeat the end's."""
        tokens = self._tokens(captions)
        hidden = self.teacher(tokens)[0]
        rows = torch.maximum(torch.arange(tokens.shape[1], device=tokens.device)[None], self._end(tokens)[:, None])
        return hidden.gather(1, rows[..., None].expand_as(hidden))

    def _error(self, batch):
        """The weighted mean square error."""
        tokens, wanted, weights = batch
        return ((self.network(tokens)[0] - wanted).pow(2).mean(-1) * weights).sum() / weights.sum()

    @torch.no_grad()
    def unexplained(self, batch):
        """The error as a share of the wanted states' variance over captions."""
        return (self._error(batch) / batch[1].var(0).mean()).item()

    def report(self, steps):
        print(steps, f"steps; unexplained of pairs {self.unexplained(self.pairs):.4f}, of others {self.unexplained(self.others):.4f}", flush=True)

    def run(self):
        t = self.config.text
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=t.separate_rate, betas=(0.9, 0.98), weight_decay=0)
        for step in range(t.separate_steps):
            if step % 50 == 0:
                self.report(step)
            for group in optimizer.param_groups:
                group["lr"] = t.separate_rate * min(1, (step + 1) / 30) * (1 - step / t.separate_steps)
            loss = self._error(self._batch(t.batch, SHARE))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            optimizer.step()
        self.report(t.separate_steps)
        stages.save(self.work / "text.pt", self.network.state_dict())


def main():
    args, config = settings.parse(__doc__.splitlines()[0])
    Separator(args, config).run()


if __name__ == "__main__":
    main()
