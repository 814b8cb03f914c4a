"""The trained parts of a work folder in, a diffusers folder (f16) and the single file that the binary embeds out.

The moving average of the U-Net's weights is what is exported. `words.json` beside the model lists the words that it was trained on."""
import json
import subprocess
import sys
from pathlib import Path

import torch

import folder
import model
import settings
import stages
from words import COLORS, COUNTS, PLACES, SIZES, TINTS

EMBED = Path(__file__).parent.parent / "embed_model.py"
OPTIONS = [
    (["--out"], {"type": Path, "help": "the folder to write (WORK/export)"}),
    (["--embed"], {"type": Path, "help": "also write the single file that the binary embeds, with tools/embed_model.py"}),
    (["--steps"], {"type": int, "default": 20}),
    (["--sampler"], {"default": "ddim"}),
    (["--name"], {"default": "lienzo-emoji"}),
]


def words(composer):
    """What can be said, in the captions' own words."""
    return {
        "objects": {c.name: list(c.names[1:]) for c in composer.concepts},
        "object colors": TINTS, "backgrounds": list(COLORS), "sizes": [w for choices in SIZES.values() for w in choices if w],
        "places": list(PLACES.values()), "counts": list(COUNTS.values()),
    }


@torch.no_grad()
def check(path, unet, text, tokenizer):
    """The largest difference that rounding to f16 makes to one prediction; both networks in float32."""
    latents = torch.randn(1, 4, model.LATENT, model.LATENT, generator=torch.Generator().manual_seed(0))
    tokens = tokenizer(["a cat"])
    exact = unet(latents, 500, text(tokens)[0]).sample
    rounded = folder.read_unet(path)(latents, 500, folder.read_text(path)(tokens)[0]).sample
    return (rounded - exact).abs().max().item()


def write(args, config, out):
    """Writes the folder; returns what rounding to f16 changed."""
    unet = model.unet(config).eval()
    state = torch.load(args.work / "diffusion.pt", map_location="cpu", weights_only=True)
    unet.load_state_dict(state["average"])
    config.device = "cpu"
    text, vae = stages.load_text(args, config), stages.load_vae(args, config)
    (out / "tokenizer").mkdir(parents=True, exist_ok=True)
    for file in (args.work / "tokenizer").iterdir():
        (out / "tokenizer" / file.name).write_bytes(file.read_bytes())
    exact_unet, exact_text = model.unet(config).eval(), stages.load_text(args, config)
    exact_unet.load_state_dict(unet.state_dict())
    folder.write(out, unet, vae, text, model.schedule(config))
    (out / "words.json").write_text(json.dumps(words(stages.composer(args, config)), indent=1))
    print(f"{state['seen']} pictures seen;", f"{sum(f.stat().st_size for f in out.rglob('*') if f.is_file()):,} bytes in {out}")
    return check(out, exact_unet, exact_text, stages.tokenizer(args))


def main():
    args, config = settings.parse(__doc__.splitlines()[0], OPTIONS)
    out = args.out or args.work / "export"
    print("rounding to f16 changes a prediction by at most", write(args, config, out))
    if args.embed:
        command = [sys.executable, EMBED, out, args.embed, "--size", config.size, "--steps", args.steps, "--guidance", config.guidance]
        command += ["--sampler", args.sampler, "--name", args.name]
        subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    main()
