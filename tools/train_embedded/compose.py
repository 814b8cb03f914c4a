"""Random scenes in, pictures with captions out: sprites on a plain background, and a caption that says what is there."""
import dataclasses

import numpy as np

import sprites
from words import COLORS, COUNTS, NATURAL, PLACES, PREFIXES, SIZES, TINTS, article, held_out, plural

BACKGROUNDS = list(COLORS)
SHARES = {"one": 0.46, "count": 0.20, "pair": 0.34}              # of the pictures: pairs are learned last
SIZE_SHARES = {"small": 0.26, "medium": 0.65, "big": 0.09}      # of the pictures of one object
SCALE = {"small": 0.40, "medium": 0.72, "big": 0.94}          # of the picture's side
SMALL_SHARE = 0.12                                            # of the pictures of several objects
TINT_SHARES = {"one": 0.25, "count": 0.12, "pair": 0.2}         # of the objects of such a picture: for a pair, of each
PLACED = 0.68                                                 # how much a medium object shrinks to fit its place
FEW = 0.68                                                    # how much several objects shrink when they are small
LAYOUT = {                                                    # count -> scale, centres
    2: (0.50, [(0.255, 0.5), (0.745, 0.5)]),
    3: (0.47, [(0.26, 0.74), (0.74, 0.74), (0.5, 0.26)]),
    4: (0.47, [(0.26, 0.26), (0.74, 0.26), (0.26, 0.74), (0.74, 0.74)]),
}


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a caption says. `background` is None when the caption names none (white is drawn); `second` is another concept, or None."""
    concept: int
    background: str | None = None
    tint: str | None = None
    size: str = "medium"
    place: str | None = None
    count: int = 1
    second: int | None = None
    second_tint: str | None = None


def centre(place, scale):
    """The centre (x, y), in sides of the picture, of an object of `scale` at `place`."""
    reach = (1 - scale) / 2 - 0.02
    step = {None: (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}[place]
    return 0.5 + step[0] * reach, 0.5 + step[1] * reach


class Composer:
    """Draws scenes of `concepts` (words.Concept) with their `pictures` (sprites.load) as size x size pictures."""

    def __init__(self, concepts, pictures, size):
        self.concepts, self.pictures, self.size = concepts, pictures, size
        self._scaled = {}

    def allowed(self, scene):
        """Whether training may draw this scene: sensible, and no (object, background) or (object, tint) in it held out."""
        shown = scene.background or "white"
        objects = [(self.concepts[scene.concept], scene.tint)]
        if scene.second is not None:
            objects.append((self.concepts[scene.second], scene.second_tint))
        if scene.count > 1 and objects[0][0].mass or len(set(objects)) < len(objects):
            return False
        return not any(held_out("background", concept.name, shown) or tint and not self._takes(concept, tint, shown) for concept, tint in objects)

    def _takes(self, concept, tint, shown):
        """Whether `concept` may be drawn in `tint` on the background `shown`."""
        return concept.tintable and tint != shown and not held_out("tint", concept.name, tint)

    def scene(self, rng):
        """A random scene that training may draw."""
        kind = rng.choice(list(SHARES), p=list(SHARES.values()))
        while True:
            size = "medium"
            if kind == "one":
                size = str(rng.choice(list(SIZE_SHARES), p=list(SIZE_SHARES.values())))
            elif kind == "count" and rng.random() < SMALL_SHARE:
                size = "small"
            placed = kind == "one" and size != "big" and rng.random() < 0.15
            scene = Scene(
                concept=int(rng.integers(len(self.concepts))),
                background=str(rng.choice(BACKGROUNDS)) if rng.random() < 0.6 else None,
                tint=str(rng.choice(TINTS)) if rng.random() < TINT_SHARES[kind] else None,
                size=size,
                place=str(rng.choice(list(PLACES))) if placed else None,
                count=int(rng.integers(2, 5)) if kind == "count" else 1,
                second=int(rng.integers(len(self.concepts))) if kind == "pair" else None,
                second_tint=str(rng.choice(TINTS)) if kind == "pair" and rng.random() < TINT_SHARES[kind] else None,
            )
            if self.allowed(scene):
                return scene

    def _named(self, index, tint, background, rng):
        """The words for an object's colour and name; `rng` chooses synonyms, and says the colour that an object has anyway."""
        concept = self.concepts[index]
        name, natural = concept.name, NATURAL.get(concept.name)
        if rng is not None and len(concept.names) > 1 and rng.random() < 0.4:
            name = str(rng.choice(concept.names[1:]))
        if rng is not None and tint is None and natural and natural != background and rng.random() < 0.4:
            tint = natural
        return f"{tint} {name}" if tint else name

    def caption(self, scene, rng=None):
        """The scene's caption; `rng` chooses synonyms and optional words, without it the canonical words are taken."""
        size = str(rng.choice(SIZES[scene.size])) if rng is not None else SIZES[scene.size][0]
        words = " ".join(w for w in (size, self._named(scene.concept, scene.tint, scene.background, rng)) if w)
        text = f"{COUNTS[scene.count]} {plural(words)}" if scene.count > 1 else article(words, self.concepts[scene.concept].mass)
        if scene.second is not None:
            text += f" and {article(self._named(scene.second, scene.second_tint, scene.background, rng), self.concepts[scene.second].mass)}"
        if scene.place:
            text += " " + PLACES[scene.place]
        elif rng is not None and scene.count == 1 and scene.second is None and rng.random() < 0.12:
            text = f"{rng.choice(PREFIXES)} {text}"
        return text + (f" on {article(scene.background)} background" if scene.background else "")

    def objects(self, scene):
        """The scene's objects as (concept, tint, scale, x, y), without any jitter."""
        if scene.second is not None:
            scale, ((xa, ya), (xb, yb)) = LAYOUT[2]
            return [(scene.concept, scene.tint, scale, xa, ya), (scene.second, scene.second_tint, scale, xb, yb)]
        if scene.count > 1:
            scale, centres = LAYOUT[scene.count]
            scale *= FEW if scene.size == "small" else 1
            return [(scene.concept, scene.tint, scale, x, y) for x, y in centres]
        scale = SCALE[scene.size] * (PLACED if scene.place and scene.size == "medium" else 1)
        return [(scene.concept, scene.tint, scale, *centre(scene.place, scale))]

    def draw(self, scene, rng=None):
        """The scene as uint8 [size, size, 3]; `rng` moves, scales and shades it a little."""
        color = np.array(COLORS[scene.background or "white"], np.float32) / 255
        factor = 1.0
        if rng is not None:
            factor += rng.normal(0, 0.025)
            if (scene.background or "white") != "white":
                color = color + rng.normal(0, 0.015, 3)
        picture = np.broadcast_to(np.clip(color, 0, 1).astype(np.float32), (self.size, self.size, 3)).copy()
        for concept, tint, scale, x, y in self.objects(scene):
            if rng is not None:
                x, y = x + rng.normal(0, 0.012), y + rng.normal(0, 0.012)
            self.paste(picture, concept, tint, scale * factor, x, y)
        return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)

    def paste(self, picture, concept, tint, scale, x, y):
        """Draws one object over `picture` (float [size, size, 3]); what lies outside is cut off."""
        side = max(6, int(scale * self.size))
        sprite = self._sprite(concept, side, tint)
        left, top = round(x * self.size - side / 2), round(y * self.size - side / 2)
        x0, y0, x1, y1 = max(0, left), max(0, top), min(self.size, left + side), min(self.size, top + side)
        if x0 < x1 and y0 < y1:
            sprite = sprite[y0 - top:y1 - top, x0 - left:x1 - left].astype(np.float32)
            picture[y0:y1, x0:x1] = sprite[..., :3] + picture[y0:y1, x0:x1] * (1 - sprite[..., 3:])

    def _sprite(self, concept, side, tint):
        key = (concept, side, tint)
        if key not in self._scaled:
            sprite = sprites.resize(self.pictures[concept], side)
            self._scaled[key] = (sprites.tint(sprite, tint) if tint else sprite).astype(np.float16)
        return self._scaled[key]

    def sample(self, rng):
        """A random training example: scene, caption, picture."""
        scene = self.scene(rng)
        return scene, self.caption(scene, rng), self.draw(scene, rng)
