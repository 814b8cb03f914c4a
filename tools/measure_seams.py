#!/usr/bin/env python3
"""Measures the step that outpainting leaves at the edge of the original. Needs numpy, pillow and a release build.

    python3 tools/measure_seams.py OUT [--seeds 20] [--lienzo target/release/lienzo]

Two pictures of the embedded model are outpainted by 32 pixels, on four sides with every seed: as they are ("whole"), and moved
so that the edge goes through the middle of the object ("cut"). The ratio is the mean absolute difference of the two columns (rows,
for up and down) beside the edge, over the mean of the same difference one column further in and one further out. Whole levels are
all that a PNG can hold, so the denominator is one level of 255 at least. Each line tells, over the seeds, the median and the largest
ratio, how many are above 2, the ratio of the sums over all seeds, and the mean step at the edge in levels. Contact sheets of the
first eight seeds are left in OUT.
"""

import argparse
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

PIXELS = 32
FLOOR = 1.0
PROMPTS = {"penguin": "a penguin on a blue background", "apple": "a red apple"}
MOVES = {"left": (1, 0), "right": (-1, 0), "up": (0, 1), "down": (0, -1)}
CONTENTS = {"whole": 0, "cut": 32}


def generate(lienzo, *words):
    done = subprocess.run([lienzo, "generate", *words, "-t", "1", "--overwrite"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)


def load(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def moved(picture, side, by):
    """The picture moved towards `side`; what comes in at the other end repeats the edge."""
    (dx, dy), (h, w) = MOVES[side], picture.shape[:2]
    return picture[np.clip(np.arange(h) + dy * by, 0, h - 1)][:, np.clip(np.arange(w) + dx * by, 0, w - 1)]


def steps(given, grown, side):
    """Mean absolute differences at the edge, before it and behind it."""
    (h, w) = given.shape[:2]
    x, y = PIXELS * (side == "left"), PIXELS * (side == "up")
    assert (grown[y : y + h, x : x + w] == given).all(), "the original is not untouched"
    turned = {"right": grown, "left": grown[:, ::-1], "down": grown.transpose(1, 0, 2), "up": grown[::-1].transpose(1, 0, 2)}[side]
    edge = w if side in ("left", "right") else h
    differences = np.abs(np.diff(turned, axis=1)).mean(axis=(0, 2))
    return differences[edge - 1], differences[edge - 2], differences[edge]


def sheet(files, across):
    tile = 2 * (64 + PIXELS) + 4
    out = Image.new("RGB", (tile * across, tile * -(-len(files) // across)), "magenta")
    for i, file in enumerate(files):
        picture = Image.open(file).convert("RGB")
        picture = picture.resize((2 * picture.width, 2 * picture.height), Image.NEAREST)
        out.paste(picture, (i % across * tile + 2, i // across * tile + 2))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--lienzo", default=str(Path(__file__).resolve().parent.parent / "target/release/lienzo"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, prompt in PROMPTS.items():
        generate(args.lienzo, prompt, "-s", "1", "-o", str(args.out / f"{name}.png"))
        for content, by in CONTENTS.items():
            for side in MOVES:
                picture = moved(load(args.out / f"{name}.png"), side, by).astype(np.uint8)
                Image.fromarray(picture).save(args.out / f"{name}-{content}-{side}.png")

    def one(job):
        name, content, side, seed = job
        given, grown = args.out / f"{name}-{content}-{side}.png", args.out / f"{name}-{content}-{side}-{seed}.png"
        words = ["-i", str(given), "--outpaint", f"{side}={PIXELS}", "-s", str(seed), "-o", str(grown)]
        generate(args.lienzo, PROMPTS[name], *words)
        return steps(load(given), load(grown), side)

    jobs = [(n, c, s, i) for n in PROMPTS for c in CONTENTS for s in MOVES for i in range(args.seeds)]
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(jobs, pool.map(one, jobs)))
    for name in PROMPTS:
        for content in CONTENTS:
            for side in MOVES:
                found = np.array([results[name, content, side, i] for i in range(args.seeds)])
                beside = found[:, 1:].mean(axis=1)
                ratios = found[:, 0] / np.maximum(beside, FLOOR)
                whole = found[:, 0].mean() / max(beside.mean(), FLOOR)
                print(
                    f"{name:8} {content:6} {side:6} median {np.median(ratios):5.2f}  max {ratios.max():5.2f}  over 2: {(ratios > 2).sum():2}"
                    f"  of sums {whole:5.2f}  step {found[:, 0].mean():6.2f}  beside {beside.mean():6.2f}"
                )
            files = [args.out / f"{name}-{content}-{s}-{i}.png" for s in MOVES for i in range(min(args.seeds, 8))]
            sheet(files, min(args.seeds, 8)).save(args.out / f"sheet-{name}-{content}.png")


if __name__ == "__main__":
    main()
