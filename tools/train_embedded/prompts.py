"""The concepts in, the evaluation's prompts out (one JSON line each: file, prompt, seed, kind, scene): held-out and seen
combinations, counts, places, pairs of objects, small objects, pairs in two colours, small objects by number."""
import dataclasses
import json
from pathlib import Path

import numpy as np

import compose
import settings
import stages
from words import COLORS, COUNTS, PLACES, TINTS, held_out

OPTIONS = [(["--count"], {"type": int, "default": 60, "help": "prompts of each kind"}), (["out"], {"type": Path})]


def pairs(concepts, kind, held, rng):
    """Scenes of one object with a named background, or tinted on white, in random order: held out of the training, or seen in it."""
    colors = [c for c in COLORS if c != "white"] if kind == "background" else TINTS
    found = [
        compose.Scene(i, **{kind: color})
        for i, c in enumerate(concepts) for color in colors
        if held_out(kind, c.name, color) == held and (c.tintable or kind == "background")
    ]
    return [found[i] for i in rng.permutation(len(found))]


def tinted_pairs(concepts, count, rng):
    """Scenes of two objects, each in a colour of its own."""
    tintable = [i for i, c in enumerate(concepts) if c.tintable]
    found = []
    for _ in range(count):
        (a, b), (p, q) = rng.choice(tintable, 2, replace=False), rng.choice(TINTS, 2, replace=False)
        found.append(compose.Scene(int(a), tint=str(p), second=int(b), second_tint=str(q)))
    return found


def scenes(concepts, count, rng):
    """(kind, scene) of every prompt."""
    found = []
    for kind in ("background", "tint"):
        for held in (True, False):
            found += [(("held-out " if held else "seen ") + kind, s) for s in pairs(concepts, kind, held, rng)[:count]]
    countable = [i for i in rng.permutation(len(concepts)) if not concepts[i].mass][:count // 3]
    found += [("count", compose.Scene(int(i), count=n)) for i in countable for n in COUNTS]
    found += [("place", compose.Scene(int(i), place=p)) for i in countable for p in PLACES]
    firsts, seconds = rng.permutation(len(concepts)), rng.permutation(len(concepts))
    found += [("pair", compose.Scene(int(a), second=int(b))) for a, b in zip(firsts, seconds) if a != b][:count]
    seen = pairs(concepts, "background", False, rng)
    found += [("small", dataclasses.replace(s, size="small")) for s in seen[:2 * count // 3]]
    found += [("tinted pair", s) for s in tinted_pairs(concepts, 2 * count // 3, rng)]
    return found + [("small count", compose.Scene(int(i), size="small", count=int(rng.integers(2, 5)))) for i in countable]


def main():
    args, config = settings.parse(__doc__.splitlines()[0], OPTIONS)
    composer = stages.composer(args, config)
    with open(args.out, "w") as out:
        for seed, (kind, scene) in enumerate(scenes(composer.concepts, args.count, np.random.default_rng(0))):
            row = {"file": f"{seed:04}.png", "prompt": composer.caption(scene), "seed": seed, "kind": kind, "scene": dataclasses.asdict(scene)}
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
