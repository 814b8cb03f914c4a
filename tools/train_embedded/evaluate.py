"""Prompts (prompts.jsonl) and a folder of their pictures in, how often object, background, tint, count, place and second object are right out.

No CLIP: each picture is asked which of all the pictures that the composer could have drawn is nearest (mean square on 32 x 32, one pixel of
shift and a few scales allowed). The background is the border's median colour, and the candidates are drawn on it. Being nearest saturates long before a
picture is beautiful, so the distance itself is reported too: `dB` is the peak signal-to-noise ratio against the wanted scene as composed. That one
saturates too, as the training's pictures are moved and scaled a little at random: `fitted dB` moves and scales the objects to where they are."""
import dataclasses
import json
from pathlib import Path

import numpy as np
from PIL import Image

import compose
import settings
import sheet
import stages
from draw import read_list
from words import COLORS, TINTS

SIDE = 32
SCALES = (0.88, 0.94, 1.0, 1.06)
FIT_SCALES = np.arange(0.92, 1.085, 0.01)
FIT_SHIFTS = range(-2, 3)     # pixels, from where the object was found before
OPTIONS = [(["prompts"], {"type": Path}), (["pictures"], {"type": Path}), (["--title"], {"default": ""})]


def shrink(picture):
    """uint8 [s, s, 3] to float [32, 32, 3] in [0, 1] by averaging."""
    f = picture.shape[0] // SIDE
    return picture.reshape(SIDE, f, SIDE, f, 3).astype(np.float32).mean((1, 3)) / 255


def border(picture):
    """The median colour, in [0, 1], of a frame three pixels wide."""
    frame = np.concatenate([picture[:3].reshape(-1, 3), picture[-3:].reshape(-1, 3), picture[:, :3].reshape(-1, 3), picture[:, -3:].reshape(-1, 3)])
    return np.median(frame, 0).astype(np.float32) / 255


def candidates(composer, objects, background):
    """The objects (compose.Composer.objects) on the colour `background` at every scale of SCALES, shrunk: [scales, 32, 32, 3]."""
    found = []
    for factor in SCALES:
        picture = np.broadcast_to(background, (composer.size, composer.size, 3)).copy()
        for concept, tint, scale, x, y in objects:
            composer.paste(picture, concept, tint, scale * factor, x, y)
        found.append(shrink((np.clip(picture, 0, 1) * 255).astype(np.uint8)))
    return np.stack(found)


def distances(composer, picture, layouts):
    """The picture's mean square distance from each of the layouts (lists of objects)."""
    background, wanted = border(picture), shrink(picture)[1:-1, 1:-1]
    drawn = np.stack([candidates(composer, objects, background) for objects in layouts])
    distance = np.full(len(layouts), np.inf)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            moved = np.roll(drawn, (dy, dx), (2, 3))[:, :, 1:-1, 1:-1]
            distance = np.minimum(distance, ((moved - wanted) ** 2).mean((2, 3, 4)).min(1))
    return distance


def ranking(composer, picture, layouts):
    """The layouts' indices, nearest to the picture first."""
    return np.argsort(distances(composer, picture, layouts))


def closeness(composer, picture, scene):
    """dB against the scene itself."""
    return -10 * np.log10(distances(composer, picture, [composer.objects(scene)])[0] + 1e-6)


def fitted(composer, picture, scene):
    """dB of all pixels against the scene whose objects were moved, each by itself, and scaled, all alike, to fit the picture best."""
    background, wanted, side = border(picture), picture.astype(np.float32) / 255, composer.size

    def error(objects, factor, moves):
        drawn = np.broadcast_to(background, wanted.shape).copy()
        for (concept, tint, scale, x, y), (dx, dy) in zip(objects, moves):
            composer.paste(drawn, concept, tint, scale * factor, x + dx / side, y + dy / side)
        return ((np.clip(drawn, 0, 1) - wanted) ** 2).mean()

    best, objects, steps = np.inf, composer.objects(scene), [(dx, dy) for dx in FIT_SHIFTS for dy in FIT_SHIFTS]
    for factor in FIT_SCALES:
        moves = [(0, 0)] * len(objects)
        for _ in range(2):
            for k, (x, y) in enumerate(moves):
                tried = [moves[:k] + [(x + dx, y + dy)] + moves[k + 1:] for dx, dy in steps]
                errors = [error(objects, factor, moves) for moves in tried]
                moves = tried[int(np.argmin(errors))]
                best = min(best, *errors)
    return -10 * np.log10(best + 1e-6)


def judge(composer, test, picture):
    """What is right in one picture, as {measure: bool}."""
    scene = compose.Scene(**test["scene"])

    def nearest(field, values):
        """`values` of the scene's `field`, the one whose scene is nearest to the picture first."""
        order = ranking(composer, picture, [composer.objects(dataclasses.replace(scene, **{field: value})) for value in values])
        return [values[k] for k in order]

    concepts = range(len(composer.concepts))
    if scene.count > 1:
        return {"count": nearest("count", [1, 2, 3, 4])[0] == scene.count}
    if test["kind"] == "place":
        places = [None, "left", "right", "top", "bottom"]
        scale = compose.SCALE["medium"] * compose.PLACED
        order = ranking(composer, picture, [[(scene.concept, None, scale, *compose.centre(p, scale))] for p in places])
        return {"place": places[order[0]] == scene.place}
    if scene.second is not None:
        first = nearest("concept", [i for i in concepts if i != scene.second])
        second = nearest("second", [i for i in concepts if i != scene.concept])
        right = {"first": first[0] == scene.concept, "second": second[0] == scene.second, "second, first five": scene.second in second[:5]}
        if scene.second_tint:
            right["first tint"] = nearest("tint", TINTS)[0] == scene.tint
            right["second tint"] = nearest("second_tint", TINTS)[0] == scene.second_tint
        return right
    order = nearest("concept", concepts)
    near = min(COLORS, key=lambda c: ((border(picture) * 255 - COLORS[c]) ** 2).sum())
    right = {"object, first": order[0] == scene.concept, "object, first five": scene.concept in order[:5], "background": near == (scene.background or "white")}
    if scene.tint:
        right["tint"] = nearest("tint", TINTS)[0] == scene.tint
    return right


def main():
    args, config = settings.parse(__doc__.splitlines()[0], OPTIONS)
    composer, tests = stages.composer(args, config), read_list(args.prompts)
    pictures = [np.asarray(Image.open(args.pictures / t["file"]).convert("RGB")) for t in tests]
    counted = {}
    for test, picture in zip(tests, pictures):
        for measure, right in judge(composer, test, picture).items():
            counted.setdefault(test["kind"], {}).setdefault(measure, []).append(bool(right))
        for measure, decibels in (("dB", closeness), ("fitted dB", fitted)):
            counted[test["kind"]].setdefault(measure, []).append(decibels(composer, picture, compose.Scene(**test["scene"])))
    result = {kind: {m: round(float(np.mean(v)), 3) for m, v in measures.items()} | {"pictures": max(map(len, measures.values()))}
              for kind, measures in counted.items()}
    (args.pictures / "result.json").write_text(json.dumps(result, indent=1))
    print(args.title, json.dumps(result, indent=1))
    for kind in result:
        chosen = [k for k, t in enumerate(tests) if t["kind"] == kind][:40]
        sheet.save(args.pictures / f"sheet-{kind.replace(' ', '-')}.png", [pictures[k] for k in chosen], [tests[k]["prompt"] for k in chosen])


if __name__ == "__main__":
    main()
