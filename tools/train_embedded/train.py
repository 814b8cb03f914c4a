"""Nothing in, an exported model out: runs every stage that the work folder does not have yet, in order.

    python train.py --work W                      all, with the preset cpu64
    python train.py --work W --from FOLDER        goes on from exported weights: only latents and U-Net
    python train.py --work W --smoke              the same in two minutes, with tiny amounts"""
import subprocess
import sys
from pathlib import Path

import settings

HERE = Path(__file__).parent
OPTIONS = [
    (["--from"], {"dest": "start", "help": "a diffusers folder whose tokenizer, text encoder, VAE and U-Net are the start"}),
    (["--merges"], {"help": "CLIP's merges, where the repository has none"}),
]


def stage(args, script, *extra):
    """Runs one stage with this run's preset and overrides."""
    command = [sys.executable, HERE / script, "--preset", args.preset, "--work", args.work, *extra]
    command += ["--smoke"] if args.smoke else []
    command += [word for assignment in args.set for word in ("--set", assignment)]
    print("==", script, *extra, flush=True)
    subprocess.run([str(word) for word in command], check=True)


def main():
    args, config = settings.parse(__doc__.splitlines()[0], OPTIONS)
    work = args.work
    stage(args, "prepare.py", *(["--merges", args.merges] if args.merges else []))
    if args.start and not (work / "start.pt").exists():
        stage(args, "adopt.py", args.start)
    if not (work / "folded_vae.pt").exists():
        stage(args, "train_vae.py")
    if not (work / "text.pt").exists():
        if not (work / "text_alone.pt").exists():
            stage(args, "train_text.py")
        stage(args, "separate.py")
    if not (work / "folded_vae.pt").exists() or config.pool.pictures and not (work / "pool.npz").exists():
        stage(args, "encode_latents.py")
    stage(args, "train_diffusion.py")
    stage(args, "export.py")
    stage(args, "prompts.py", "--count", "4" if args.smoke else "60", work / "prompts.jsonl")
    stage(args, "draw.py", "--by", work / "export", work / "prompts.jsonl", work / "pictures")
    stage(args, "evaluate.py", work / "prompts.jsonl", work / "pictures")
    stage(args, "curves.py", work / "curves.png")


if __name__ == "__main__":
    main()
