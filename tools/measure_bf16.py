#!/usr/bin/env python3
"""Measures how far --precision bf16 is from f32 in pictures of the embedded model. Needs numpy, pillow and a release build.

    python3 tools/measure_bf16.py OUT [--lienzo target/release/lienzo]

Each line is a prompt: the peak signal-to-noise ratio over all bytes, and the largest difference in levels of 255. The pictures are
left in OUT.
"""

import argparse
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

# Prompt i is drawn with seed i + 1.
PROMPTS = ["a red apple on a blue background", "a small green turtle on a yellow background", "two blue hearts"]


def draw(lienzo, prompt, seed, precision, path):
    command = [lienzo, "generate", prompt, "-s", str(seed), "--steps", "20", "--precision", precision, "-o", path, "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--lienzo", default="target/release/lienzo")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for seed, prompt in enumerate(PROMPTS, 1):
        f32, bf16 = (draw(args.lienzo, prompt, seed, p, args.out / f"{seed}-{p}.png") for p in ("f32", "bf16"))
        error = np.mean((f32 - bf16) ** 2)
        decibels = 10 * np.log10(255**2 / error) if error else np.inf
        print(f"{decibels:.1f} dB, at most {np.abs(f32 - bf16).max():.0f} levels: {prompt}")


if __name__ == "__main__":
    main()
