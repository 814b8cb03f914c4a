"""An exported folder and the lienzo binary in, a pass or a failure out: diffusers and Lienzo draw the same picture from the same noise.

    python test_same_picture.py --binary target/release/lienzo FOLDER

diffusers' own StableDiffusionPipeline loads the folder and starts from the noise of a torch CPU generator; Lienzo gets `--rng cpu`. PSNR of
every pair must reach 45 dB."""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

PROMPTS = ["a red apple", "a small blue car on a yellow background", "three bananas", "a cat on the left"]
LIMIT = 45.0


def by_lienzo(args, prompt, seed, out):
    command = [args.binary, "generate", prompt, "--seed", seed, "--rng", "cpu", "--steps", args.steps, "--cfg-scale", args.guidance]
    command += ["--sampling-method", "ddim", "--overwrite", "-o", out, "-m", args.folder]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return np.asarray(Image.open(out).convert("RGB"))


def by_diffusers(pipeline, args, prompt, seed, size):
    latent = pipeline.unet.config.sample_size
    noise = torch.randn(1, 4, latent, latent, generator=torch.Generator().manual_seed(seed))
    picture = pipeline(prompt, height=size, width=size, latents=noise, num_inference_steps=args.steps, guidance_scale=args.guidance)
    return np.asarray(picture.images[0])


def psnr(a, b):
    error = ((a.astype(np.float64) - b) ** 2).mean()
    return 99.0 if error == 0 else 10 * np.log10(255 ** 2 / error)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="lienzo")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(args.folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    size, worst = pipeline.vae.config.sample_size, 99.0
    with tempfile.TemporaryDirectory() as folder:
        for seed, prompt in enumerate(PROMPTS):
            pair = by_lienzo(args, prompt, seed, Path(folder) / "lienzo.png"), by_diffusers(pipeline, args, prompt, seed, size)
            same = psnr(*pair)
            worst = min(worst, same)
            print(f"{same:6.1f} dB  {prompt}")
    sys.exit(0 if worst >= LIMIT else f"the worst pair has {worst:.1f} dB, {LIMIT:.0f} are needed")


if __name__ == "__main__":
    main()
