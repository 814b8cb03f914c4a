"""Encoded pictures and captions in, a trained U-Net (with its moving average) out. Start it again and it goes on where it stopped.

The network predicts the noise or v (`prediction`); the loss is that of the noise either way. It departs from Stable Diffusion's training in
four things, each measured to matter at this size: the text encoder is frozen; a constant per channel is added to the noise, because the
schedule leaks the picture's mean at t = 999 and the background's colour would be read from there instead of from the text; time steps are
drawn a little noisier than uniform; and the loss weighs noisy steps more than min-SNR does, because that is where the text decides."""
import csv
import json
import os
import signal
import time

import numpy as np
import torch

import feeds
import model
import settings
import stages
from muon import Optimizer

WEIGHT_LIMIT = 6
DECAY = 0.35                  # the last part of the training, over which the learning rate falls to 0
COLUMNS = ["pictures", "seconds", "rate", "mse", "weighted", "validation"]


class Noise:
    """The forward process and the loss's weights on the device."""

    def __init__(self, config):
        kept = model.schedule(config).alphas_cumprod
        self.config = config.diffusion
        self.signal, self.noise = kept.sqrt().to(config.device), (1 - kept).sqrt().to(config.device)
        weights = (kept / (1 - kept) + 0.02).rsqrt().clamp(max=WEIGHT_LIMIT)
        self.weights = (weights / weights.mean()).to(config.device)

    def times(self, count, device):
        """Stratified over the batch: the gradients are less noisy than with independent draws."""
        uniform = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
        return (uniform ** self.config.time_power * 1000).long().clamp(0, 999)

    def add(self, latents, times, noise):
        return self.signal[times, None, None, None] * latents + self.noise[times, None, None, None] * noise

    def guessed(self, output, noisy, times):
        """The noise that a network's output stands for: itself, or what v = signal * noise - noise's share * latents implies."""
        if self.config.prediction == "epsilon":
            return output
        return self.signal[times, None, None, None] * output + self.noise[times, None, None, None] * noisy


class Trainer:
    """The U-Net in the device's type (model.dtype), its float32 masters, their moving average, and the log."""

    def __init__(self, args, config):
        self.args, self.config, self.d = args, config, config.diffusion
        self.network = model.unet(config)
        if torch.device(config.device).type == "cpu" and model.dtype(config) == torch.bfloat16:
            model.plain_attention(self.network)
        self.seen, self.steps, self.used, self.log, self.stopped = 0, 0, 0.0, [], False
        path, start = args.work / "diffusion.pt", args.work / "start.pt"
        if not path.exists() and start.exists():
            self.network.load_state_dict(torch.load(start, map_location="cpu", weights_only=True))
        self.network.to(config.device)
        initial = [p.detach().float().clone() for p in self.network.parameters()]
        self.optimizer = Optimizer(self.network.to(model.dtype(config)))
        torch._foreach_copy_(self.optimizer.masters, initial)
        self.average = [m.clone() for m in initial]
        self.noise = Noise(config)
        if path.exists():
            self._resume(torch.load(path, map_location=config.device, weights_only=True))
        seed = config.seed + self.seen
        self.feed = feeds.Pool(args, seed) if config.pool.pictures else feeds.Live(args, config, seed)
        self.empty = self._typed(self.feed.empty())

    def _resume(self, state):
        self.optimizer.load(state["optimizer"])
        torch._foreach_copy_(self.average, list(state["average"].values()))
        self.seen, self.steps, self.used, self.log = state["seen"], state["steps"], state["used"], state["log"]
        torch.manual_seed(self.config.seed + self.seen)
        print(f"going on after {self.seen} pictures", flush=True)

    def _typed(self, values):
        """On the device, in the network's type."""
        return values.to(self.config.device, model.dtype(self.config))

    def progress(self):
        limits = [self.seen / self.d.pictures]
        if hasattr(self.d, "minutes"):
            limits.append(self.used / 60 / self.d.minutes)
        return max(limits)

    def rate(self):
        return self.d.rate * min(1, (self.steps + 1) / self.d.warmup, max(0, 1 - self.progress()) / DECAY)

    def step(self):
        """One update; returns the loss per picture, plain and weighted."""
        latents, contexts = self.feed.batch(self.d.batch)
        latents, contexts = latents.to(self.config.device), self._typed(contexts)
        count = len(latents)
        contexts = torch.where((torch.rand(count, device=latents.device) < self.d.drop)[:, None, None], self.empty, contexts)
        noise = torch.randn_like(latents) + self.d.offset_noise * torch.randn(count, 4, 1, 1, device=latents.device)
        times = self.noise.times(count, latents.device)
        noisy = self.noise.add(latents, times, noise)
        guess = self.noise.guessed(self.network(self._typed(noisy), times, contexts).sample.float(), noisy, times)
        plain = (guess - noise).pow(2).mean((1, 2, 3))
        weighted = (plain * self.noise.weights[times]).mean()
        weighted.backward()
        self.optimizer.step(self.rate())
        self.steps, self.seen = self.steps + 1, self.seen + count
        keep = min(self.d.ema, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.average, self.optimizer.masters, 1 - keep)
        return plain.mean().item(), weighted.item()

    @torch.no_grad()
    def validate(self):
        """The average weights' plain loss on pictures kept aside, always with the same noise and times."""
        latents, contexts = self.feed.validation()
        latents, contexts = latents.to(self.config.device), self._typed(contexts)
        fixed = torch.Generator().manual_seed(5)
        noise = torch.randn(latents.shape, generator=fixed).to(latents.device)
        times = torch.randint(0, 1000, (len(latents),), generator=fixed).to(latents.device)
        parameters = [p.data for p in self.network.parameters()]
        torch._foreach_copy_(parameters, self.average)
        noisy = self.noise.add(latents, times, noise)
        inputs = zip(self._typed(noisy).split(64), times.split(64), contexts.split(64))
        output = torch.cat([self.network(x, t, c).sample for x, t, c in inputs])
        torch._foreach_copy_(parameters, self.optimizer.masters)
        return (self.noise.guessed(output.float(), noisy, times) - noise).pow(2).mean().item()

    def save(self):
        average = dict(zip(self.optimizer.names, self.average))
        state = {"optimizer": self.optimizer.state(), "average": average, "seen": self.seen, "steps": self.steps, "used": self.used}
        stages.save(self.args.work / "diffusion.pt", {**state, "log": self.log})
        with open(self.args.work / "diffusion.csv", "w", newline="") as out:
            csv.writer(out).writerows([COLUMNS, *self.log])

    def note(self, losses):
        """Writes the log line and the checkpoint."""
        row = [self.seen, round(self.used), self.rate(), *np.mean(losses, 0).tolist(), self.validate()]
        self.log.append(row)
        self.save()
        print(json.dumps(dict(zip(COLUMNS, (float(f"{v:.4g}") if isinstance(v, float) else v for v in row)))), flush=True)

    def stop(self, *_):
        """A polite end: SIGTERM and Ctrl-C write a checkpoint first."""
        self.stopped = True

    def run(self):
        losses, saved, last = [], time.time(), time.time()
        while self.progress() < 1 and not self.stopped:
            losses.append(self.step())
            now = time.time()
            self.used, last = self.used + now - last, now
            if now - saved > self.d.save_every:
                self.note(losses)
                losses, saved = [], time.time()
        if losses:
            self.note(losses)


def main():
    args, config = settings.parse(__doc__.splitlines()[0])
    (args.work / "pid").write_text(str(os.getpid()))
    trainer = Trainer(args, config)
    signal.signal(signal.SIGTERM, trainer.stop)
    signal.signal(signal.SIGINT, trainer.stop)
    trainer.run()
    if trainer.stopped:
        raise SystemExit(f"stopped after {trainer.seen} pictures; the same command goes on")


if __name__ == "__main__":
    main()
