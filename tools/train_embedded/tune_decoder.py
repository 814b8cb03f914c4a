"""A trained VAE and U-Net in, the VAE with a decoder that knows the U-Net's latents out (tuned_vae.pt).

The decoder has learnt on latents that the encoder makes; those that sampling with guidance leaves are a little beside them, and it draws the
difference: faint colours on white, edges that waver. So pictures are encoded, noised part of the way and sampled back: they keep their
layout, and their latents carry the sampler's marks. The decoder learns to draw the picture as it was composed from them. The rest of each batch is
the encoder's own latents, which img2img starts from. Encoder and U-Net stay as they are. Start it again and it goes on where it stopped."""
import time

import numpy as np
import torch

import model
import settings
import stages
from sample import denoise
from train_vae import reconstruction_loss

STEPS = 20                    # of the sampler
STARTS = range(10, 19)        # which of its steps sampling sets in at: t = 451 down to 51
HELD = 128                    # pictures kept aside, at most a quarter
PART = 64                     # pictures sampled at once
SAVE_EVERY = 120              # seconds


@torch.no_grad()
def make_pool(args, config):
    """Pictures uint8 [n, size, size, 3] with two latents each, f16 [n, 4, 16, 16]: the encoder's and the sampled ones."""
    composer, rng = stages.composer(args, config), np.random.default_rng([config.seed, 9])
    vae, text, unet = stages.load_vae(args, config, "folded_vae.pt"), stages.load_text(args, config), model.unet(config).to(config.device).eval()
    unet.load_state_dict(torch.load(args.work / "diffusion.pt", map_location="cpu", weights_only=True)["average"])
    tokenizer, schedule = stages.tokenizer(args), model.schedule(config)
    schedule.set_timesteps(STEPS, device=config.device)
    count, found, start = config.decoder.pictures, {"picture": [], "encoded": [], "sampled": []}, time.time()
    for k in range(0, count, PART):
        examples = [composer.sample(rng) for _ in range(min(PART, count - k))]
        pictures = np.stack([e[2] for e in examples])
        contexts = text(tokenizer([""] * len(examples) + [e[1] for e in examples]).to(config.device))[0]
        encoded = vae.encode(model.to_unit(pictures, config.device)).latent_dist.sample() * model.SCALING
        times = schedule.timesteps[STARTS[k // PART % len(STARTS)]:]
        noisy = schedule.add_noise(encoded, torch.randn_like(encoded), times[:1].expand(len(encoded)))
        sampled = denoise(unet, schedule, noisy, contexts, times, config.guidance)
        found["picture"].append(torch.from_numpy(pictures))
        for name, latents in (("encoded", encoded), ("sampled", sampled)):
            found[name].append((latents / model.SCALING).cpu().half())
        if k % 640 == 0:
            print(f"{k} pictures sampled, {time.time() - start:.0f} s", flush=True)
    return {name: torch.cat(parts) for name, parts in found.items()}


class Trainer:
    """The VAE whose decoder learns, and its moving average."""

    def __init__(self, args, config):
        self.config, self.d, self.path = config, config.decoder, args.work / "decoder.pt"
        pool = args.work / "decoder_pool.pt"
        if not pool.exists():
            stages.save(pool, make_pool(args, config))
        self.pool = torch.load(pool, map_location="cpu", weights_only=True)
        self.held = min(HELD, len(self.pool["picture"]) // 4)
        self.network, self.average = (stages.load_vae(args, config, "folded_vae.pt") for _ in range(2))
        self.parameters = [*self.network.post_quant_conv.parameters(), *self.network.decoder.parameters()]
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.d.rate, betas=(0.9, 0.99), weight_decay=0)
        self.steps, self.used = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=config.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.steps, self.used = state["steps"], state["used"]
        self.random = torch.Generator().manual_seed(config.seed + self.steps)

    def progress(self):
        return self.used / 60 / self.d.minutes

    def step(self):
        """One update on a batch of which three quarters are sampled latents; returns the loss."""
        rate = self.d.rate * min(1, (self.steps + 1) / 100, 2 * max(0, 1 - self.progress()))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rows = torch.randint(0, len(self.pool["picture"]) - self.held, (self.d.batch,), generator=self.random)
        own = max(1, self.d.batch // 4)
        latents = torch.cat([self.pool["encoded"][rows[:own]], self.pool["sampled"][rows[own:]]]).float().to(self.config.device)
        with model.autocast(self.config):
            guess = self.network.decode(latents).sample.float()
        loss = reconstruction_loss(guess, model.to_unit(self.pool["picture"][rows], self.config.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.steps += 1
        keep = min(0.995, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - keep)
        return loss.item()

    @torch.no_grad()
    def psnr(self, kind):
        """Of the average weights' pictures from the latents kept aside, in dB."""
        images = model.to_unit(self.pool["picture"][-self.held:], self.config.device)
        parts = self.pool[kind][-self.held:].float().to(self.config.device).split(16)
        guess = torch.cat([self.average.decode(part).sample.clamp(-1, 1) for part in parts])
        return (10 * torch.log10(4 / (guess - images).pow(2).mean((1, 2, 3)))).mean().item()

    def report(self):
        print(f"step {self.steps}, {self.used:.0f} s; sampled {self.psnr('sampled'):.2f} dB, encoded {self.psnr('encoded'):.2f} dB", flush=True)

    def run(self):
        self.report()
        last = saved = time.time()
        while self.progress() < 1:
            self.step()
            now = time.time()
            self.used, last = self.used + now - last, now
            if now - saved > SAVE_EVERY or self.progress() >= 1:
                self.report()
                state = {"network": self.network.state_dict(), "ema": self.average.state_dict(), "optimizer": self.optimizer.state_dict()}
                stages.save(self.path, {**state, "steps": self.steps, "used": self.used})
                saved = last = time.time()


def main():
    args, config = settings.parse(__doc__.splitlines()[0])
    trainer = Trainer(args, config)
    trainer.run()
    stages.save(args.work / "tuned_vae.pt", trainer.average.state_dict())


if __name__ == "__main__":
    main()
