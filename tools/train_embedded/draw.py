"""A list of prompts (prompts.jsonl) in, a folder of PNG pictures out, drawn by diffusers' networks, by the lienzo binary, or by the composer.

    python draw.py --work W --by FOLDER prompts.jsonl OUT          an exported folder, through PyTorch
    python draw.py --work W --by lienzo --binary target/release/lienzo [--model FOLDER] prompts.jsonl OUT
    python draw.py --work W --by real prompts.jsonl OUT            composed pictures through the VAE: the upper bound
    python draw.py --work W --by moved prompts.jsonl OUT           the same, moved, scaled and shaded as in training: what a perfect model reaches"""
import json
import subprocess
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import compose
import model
import settings
import stages

OPTIONS = [
    (["--by"], {"required": True, "help": "an exported folder, `lienzo`, `real` or `moved`"}),
    (["--binary"], {"default": "lienzo"}),
    (["--model"], {"help": "the folder for `lienzo generate -m`; without it the embedded model"}),
    (["--threads"], {"type": int, "default": 1, "help": "of lienzo; one is best beside other work"}),
    (["--steps"], {"type": int, "default": 20}),
    (["--guidance"], {"type": float, "help": "the preset's by default"}),
    (["prompts"], {"type": Path}),
    (["out"], {"type": Path}),
]


def read_list(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def by_lienzo(args, tests):
    """Runs the binary once per prompt; `python draw.py` stops at the first failure and shows its message."""
    for test in tests:
        command = [args.binary, "generate", test["prompt"], "-t", args.threads, "--seed", test["seed"], "--rng", "cpu", "--steps", args.steps]
        command += ["--cfg-scale", args.guidance, "--sampling-method", "ddim", "--overwrite", "-o", args.out / test["file"]]
        command += ["-m", args.model] if args.model else []
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


@torch.no_grad()
def by_composer(args, config, tests):
    """The scenes themselves, or as training draws them, through the VAE."""
    composer, vae = stages.composer(args, config), stages.load_vae(args, config)
    for test in tests:
        rng = np.random.default_rng(test["seed"]) if args.by == "moved" else None
        picture = composer.draw(compose.Scene(**test["scene"]), rng)[None]
        latents = vae.encode(model.to_unit(picture, config.device)).latent_dist.mode()
        Image.fromarray(model.to_bytes(vae.decode(latents).sample)[0]).save(args.out / test["file"])


def by_folder(args, config, tests):
    from sample import Sampler

    sampler = Sampler(args.by, config.device)
    pictures = sampler.draw([t["prompt"] for t in tests], [t["seed"] for t in tests], args.steps, args.guidance)
    for test, picture in zip(tests, pictures):
        Image.fromarray(picture).save(args.out / test["file"])


def main():
    args, config = settings.parse(__doc__.splitlines()[0], OPTIONS)
    args.guidance = config.guidance if args.guidance is None else args.guidance
    args.out.mkdir(parents=True, exist_ok=True)
    tests = read_list(args.prompts)
    if args.by == "lienzo":
        by_lienzo(args, tests)
    elif args.by in ("real", "moved"):
        by_composer(args, config, tests)
    else:
        by_folder(args, config, tests)
    print(len(tests), "pictures in", args.out)


if __name__ == "__main__":
    main()
