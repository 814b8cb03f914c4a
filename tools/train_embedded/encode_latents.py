"""The trained VAE in, the VAE with unit-variance latents and a pool of encoded pictures with their captions out.

Encoding once makes a step of the U-Net's training on a CPU a third cheaper; a preset with `pool.pictures = 0` only folds."""
import time

import numpy as np
import torch

import model
import settings
import stages


@torch.no_grad()
def fold(vae, pictures, device):
    """Rewrites quant_conv and post_quant_conv so that SCALING * latent has mean 0 and variance 1 in each channel; the pictures that the
    VAE reconstructs do not change. Returns the largest change of a reconstruction (rounding only)."""
    images = model.to_unit(pictures, device)
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(64)])
    before = vae.decode(latents[:8]).sample
    mean, factor = latents.mean((0, 2, 3)), 1 / model.SCALING / latents.std((0, 2, 3))
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:4] *= factor[:, None, None, None]
    into.bias[:4] = (into.bias[:4] - mean) * factor
    into.bias[4:] += 2 * factor.log()
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight /= factor[None, :, None, None]
    return (vae.decode(vae.encode(images[:8]).latent_dist.mean).sample - before).abs().max().item()


@torch.no_grad()
def encode(vae, composer, config, rng):
    """Means and standard deviations of the latents as f16 [n, 4, 16, 16], and the captions."""
    count, shape = config.pool.pictures, (4, model.LATENT, model.LATENT)
    means, stds = np.empty((count, *shape), np.float16), np.empty((count, *shape), np.float16)
    captions, start = [], time.time()
    for k in range(0, count, 64):
        examples = [composer.sample(rng) for _ in range(min(64, count - k))]
        captions += [e[1] for e in examples]
        with model.autocast(config):
            latents = vae.encode(model.to_unit(np.stack([e[2] for e in examples]), config.device)).latent_dist
        means[k:k + 64], stds[k:k + 64] = latents.mean.float().cpu(), latents.std.float().cpu()
        if k % 6400 == 0:
            print(f"{k} pictures, {time.time() - start:.0f} s", flush=True)
    return {"mean": means, "std": stds}, captions


@torch.no_grad()
def embed(args, config, captions):
    """The embedding f16 [77, width] of every distinct caption, the empty one first, and which of them each picture has."""
    distinct, which = np.unique(["", *captions], return_inverse=True)
    tokens, text = stages.tokenizer(args)([str(c) for c in distinct]), stages.load_text(args, config)
    with model.autocast(config):
        contexts = [text(part.to(config.device))[0].cpu().half().numpy() for part in tokens.split(256)]
    return {"contexts": np.concatenate(contexts), "caption": which[1:]}


def main():
    args, config = settings.parse(__doc__.splitlines()[0])
    composer, rng = stages.composer(args, config), np.random.default_rng(config.seed)
    if not (args.work / "folded_vae.pt").exists():
        vae = model.vae(config).to(config.device).eval()
        vae.load_state_dict(torch.load(args.work / "vae.pt", map_location=config.device, weights_only=True)["ema"])
        pictures = np.stack([composer.sample(rng)[2] for _ in range(min(1024, config.pool.pictures or 1024))])
        print("folded; largest change of a reconstruction", fold(vae, pictures, config.device))
        torch.save(vae.state_dict(), args.work / "folded_vae.pt")
    if config.pool.pictures:
        latents, captions = encode(stages.load_vae(args, config), composer, config, rng)
        np.savez(args.work / "pool.npz", **latents, **embed(args, config, captions))


if __name__ == "__main__":
    main()
