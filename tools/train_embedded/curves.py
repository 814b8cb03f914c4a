"""The logs of a work folder in, its curves as one PNG out: the VAE's PSNR, the U-Net's loss, and the evaluations along the way.

Evaluations are read from WORK/eval-*/result.json; the number after the dash is taken as pictures seen."""
import csv
import json
from pathlib import Path

import matplotlib
import torch

import settings

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen first)

MEASURES = {
    "object": ("held-out background", "object, first"), "object, first five": ("held-out background", "object, first five"),
    "background": ("held-out background", "background"), "tint": ("held-out tint", "tint"), "count": ("count", "count"),
    "place": ("place", "place"), "second of a pair": ("pair", "second"),
}


def evaluations(work):
    """(pictures seen, result) in order."""
    found = []
    for path in work.glob("eval-*/result.json"):
        number = path.parent.name.removeprefix("eval-")
        if number.isdigit():
            found.append((int(number), json.loads(path.read_text())))
    return sorted(found, key=lambda pair: pair[0])


def draw_loss(axes, work):
    rows = list(csv.DictReader(open(work / "diffusion.csv")))
    seen = [int(r["pictures"]) / 1000 for r in rows]
    axes.plot(seen, [float(r["mse"]) for r in rows], label="training")
    axes.plot(seen, [float(r["validation"]) for r in rows], label="validation, averaged weights")
    axes.set(xlabel="thousand pictures", ylabel="mean squared error of the noise", title="U-Net")
    axes.legend()


def draw_evaluations(axes, work):
    points = evaluations(work)
    for name, (kind, measure) in MEASURES.items():
        pairs = [(seen / 1000, result[kind][measure]) for seen, result in points if measure in result.get(kind, {})]
        if pairs:
            axes.plot(*zip(*pairs), marker="o", label=name)
    axes.set(xlabel="thousand pictures", ylabel="share right", ylim=(0, 1.03), title="held-out prompts")
    if points:
        axes.legend(loc="lower right")


def draw_vae(axes, work):
    log = torch.load(work / "vae.pt", map_location="cpu", weights_only=True)["log"]
    axes.plot([row[1] / 60 for row in log], [row[3] for row in log], marker="o")
    axes.set(xlabel="minutes", ylabel="PSNR, dB", title="VAE")


def main():
    args, _ = settings.parse(__doc__.splitlines()[0], [(["out"], {"type": Path})])
    parts = [draw_loss, draw_evaluations] + ([draw_vae] if (args.work / "vae.pt").exists() else [])
    figure, axes = plt.subplots(1, len(parts), figsize=(5.5 * len(parts), 4), layout="constrained")
    for part, where in zip(parts, axes):
        part(where, args.work)
        where.grid(alpha=0.3)
    figure.savefig(args.out, dpi=80)


if __name__ == "__main__":
    main()
