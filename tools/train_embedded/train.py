"""Nothing in, an exported model out: runs every stage that the work folder does not have yet, in order.

    python train.py --work W                      all, with the preset cpu64
    python train.py --work W --from FOLDER        goes on from exported weights: only latents, U-Net and decoder
    python train.py --work W --smoke              the same in under two minutes, with tiny amounts"""
import importlib
import sys

import settings

OPTIONS = [
    (["--from"], {"dest": "start", "help": "a diffusers folder whose tokenizer, text encoder, VAE and U-Net are the start"}),
    (["--merges"], {"help": "CLIP's merges, where the repository has none"}),
]


def stage(args, name, *extra):
    """Runs one stage with this run's preset and overrides, as its command line would; in this process, because importing torch and
    diffusers anew takes six seconds a stage."""
    command = ["--preset", args.preset, "--work", args.work, *extra]
    command += ["--smoke"] if args.smoke else []
    command += [word for assignment in args.set for word in ("--set", assignment)]
    print("==", name, *extra, flush=True)
    sys.argv = [f"{name}.py", *map(str, command)]
    importlib.import_module(name).main()


def main():
    args, config = settings.parse(__doc__.splitlines()[0], OPTIONS)
    work = args.work
    stage(args, "prepare", *(["--merges", args.merges] if args.merges else []))
    if args.start and not (work / "start.pt").exists():
        stage(args, "adopt", args.start)
    if not (work / "folded_vae.pt").exists():
        stage(args, "train_vae")
    if not (work / "text.pt").exists():
        if not (work / "text_alone.pt").exists():
            stage(args, "train_text")
        stage(args, "separate")
    if not (work / "folded_vae.pt").exists() or config.pool.pictures and not (work / "pool.npz").exists():
        stage(args, "encode_latents")
    stage(args, "train_diffusion")
    if not (work / "tuned_vae.pt").exists():
        stage(args, "tune_decoder")
    stage(args, "export")
    stage(args, "prompts", "--count", "4" if args.smoke else "60", work / "prompts.jsonl")
    stage(args, "draw", "--by", work / "export", *(["--steps", "5"] if args.smoke else []), work / "prompts.jsonl", work / "pictures")
    stage(args, "evaluate", work / "prompts.jsonl", work / "pictures")
    stage(args, "curves", work / "curves.png")


if __name__ == "__main__":
    main()
