"""A model's parts and prompts in, pictures out: DDIM with classifier-free guidance, each picture from its own seed.

The noise is `torch.randn(1, 4, 16, 16)` of a CPU generator with the picture's seed, so `lienzo generate --seed S --rng cpu` starts alike."""
import torch

import folder
import model


def noise(seeds):
    """Initial latents [n, 4, 16, 16]."""
    shape = (1, 4, model.LATENT, model.LATENT)
    return torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def denoise(unet, schedule, latents, contexts, times, guidance):
    """Follows the schedule's `times` with guidance; `contexts` [2n, 77, width] has the empty captions first."""
    for time in times:
        without, with_text = unet(torch.cat([latents, latents]), time, contexts).sample.chunk(2)
        latents = schedule.step(without + guidance * (with_text - without), time, latents).prev_sample
    return latents


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
        self.schedule.set_timesteps(steps)
        contexts = self.text(self.tokenizer([""] * len(prompts) + list(prompts)).to(self.device))[0]
        return denoise(self.unet, self.schedule, noise(seeds).to(self.device), contexts, self.schedule.timesteps, guidance)

    @torch.no_grad()
    def draw(self, prompts, seeds, steps, guidance, batch=32):
        """Pictures uint8 [n, size, size, 3]."""
        images = []
        for k in range(0, len(prompts), batch):
            latents = self.latents(prompts[k:k + batch], seeds[k:k + batch], steps, guidance)
            images.append(self.vae.decode(latents / self.vae.config.scaling_factor).sample)
        return model.to_bytes(torch.cat(images))
