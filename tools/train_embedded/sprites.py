"""Emoji files in, sprites out: square premultiplied RGBA pictures of 128x128, one per concept, stored in one small file; and tinting."""
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from words import COLORS, concepts

SIDE = 128


def _file_of(entry, have):
    code = entry["hexcode"].lower()
    return next((c for c in (code, code.replace("-fe0f", ""), code + "-fe0f") if c in have), None)


def _square(path):
    """The picture cropped to what is visible, centred in a square, premultiplied, SIDE x SIDE."""
    picture = Image.open(path).convert("RGBA")
    picture = picture.crop(picture.getchannel("A").point(lambda v: 255 if v > 8 else 0).getbbox())
    side = max(picture.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    values = np.asarray(square, np.float32) / 255
    values[..., :3] *= values[..., 3:]
    return resize(values, SIDE)


def build(packages, out):
    """Reads `packages` (a node_modules folder) and writes every concept's sprite to `out`; returns the labels without a picture."""
    packages = Path(packages)
    assets = packages / "@lobehub/fluent-emoji-3d/assets"
    have = {f.stem for f in assets.iterdir()}
    by_label = {e["label"]: e for e in json.loads((packages / "emojibase-data/en/data.json").read_text())}
    found, missing = {}, []
    for concept in concepts("all"):
        code = _file_of(by_label[concept.label], have) if concept.label in by_label else None
        if code is None:
            missing.append(concept.label)
        else:
            found[concept.label] = (_square(assets / f"{code}.webp") * 255 + 0.5).astype(np.uint8)
    np.savez_compressed(out, labels=np.array(list(found)), sprites=np.stack(list(found.values())))
    return missing


def load(path, which):
    """The concepts of `which` list that have a picture, and their sprites as float32 in [0, 1]."""
    stored = np.load(path)
    at = {str(label): i for i, label in enumerate(stored["labels"])}
    chosen = [c for c in concepts(which) if c.label in at]
    return chosen, stored["sprites"][[at[c.label] for c in chosen]].astype(np.float32) / 255


def resize(values, side):
    """Premultiplied float RGBA to side x side; area-filtered when it shrinks to half or less."""
    how = Image.BOX if values.shape[0] >= 2 * side else Image.BILINEAR
    planes = [Image.fromarray(np.ascontiguousarray(values[..., c])).resize((side, side), how) for c in range(4)]
    return np.stack([np.asarray(p, np.float32) for p in planes], -1)


def tint(values, color):
    """The sprite in the colour named `color`: luminance mapped to black, the colour (at the sprite's mean luminance) and white, with an
    eighth of the old hue left so that eyes and shadows stay readable."""
    alpha = values[..., 3:]
    rgb = values[..., :3] / np.maximum(alpha, 1e-4)
    luminance = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    mean = float(np.clip((luminance * values[..., 3]).sum() / values[..., 3].sum(), 0.2, 0.8))
    target = np.array(COLORS[color], np.float32) / 255
    x = luminance[..., None]
    dark = target * np.clip(x / mean, 0, 1) ** 0.8
    light = target + (1 - target) * np.clip((x - mean) / (1 - mean), 0, 1) * 0.8
    tinted = 0.88 * np.where(x < mean, dark, light) + 0.12 * rgb
    return np.concatenate([tinted * alpha, alpha], -1).astype(np.float32)


if __name__ == "__main__":
    print("without a picture:", build(sys.argv[1], sys.argv[2]))
