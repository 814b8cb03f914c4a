"""A model's parts and prompts in, pictures out: DDIM with classifier-free guidance, each picture from its own seed.

The noise is `torch.randn(1, 4, 16, 16)` of a CPU generator with the picture's seed, so `lienzo generate --seed S --rng cpu` starts alike."""
import torch

import folder
import model


def noise(seeds):
    """Initial latents [n, 4, 16, 16]."""
    shape = (1, 4, model.LATENT, model.LATENT)
    return torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


class Sampler:
    """Draws with an exported folder, in float32."""

    def __init__(self, path, device="cpu"):
        self.device = device
        self.unet = model.plain_attention(folder.read_unet(path)).to(device)
        self.vae, self.text = folder.read_vae(path).to(device), folder.read_text(path).to(device)
        self.schedule = folder.read_schedule(path)
        self.tokenizer = folder.read_tokenizer(path)

    @torch.no_grad()
    def latents(self, prompts, seeds, steps, guidance):
        """Denoised latents of one batch of prompts."""
        schedule = self.schedule
        schedule.set_timesteps(steps)
        latents = noise(seeds).to(self.device)
        contexts = self.text(self.tokenizer([""] * len(prompts) + list(prompts)).to(self.device))[0]
        for time in schedule.timesteps:
            without, with_text = self.unet(torch.cat([latents, latents]), time, contexts).sample.chunk(2)
            latents = schedule.step(without + guidance * (with_text - without), time, latents).prev_sample
        return latents

    @torch.no_grad()
    def draw(self, prompts, seeds, steps=20, guidance=6.0, batch=32):
        """Pictures uint8 [n, size, size, 3]."""
        images = []
        for k in range(0, len(prompts), batch):
            latents = self.latents(prompts[k:k + batch], seeds[k:k + batch], steps, guidance)
            images.append(self.vae.decode(latents / self.vae.config.scaling_factor).sample)
        return model.to_bytes(torch.cat(images))
