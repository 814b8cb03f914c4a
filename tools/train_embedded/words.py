"""The words of the captions: concepts, colours, plurals, articles, and which combinations are held out of the training."""
import dataclasses
import zlib
from pathlib import Path

COLORS = {  # background name -> sRGB
    "white": (255, 255, 255), "black": (24, 24, 28), "gray": (150, 152, 156), "red": (222, 52, 52), "orange": (246, 140, 40),
    "yellow": (250, 214, 62), "green": (64, 170, 84), "blue": (58, 112, 222), "purple": (140, 78, 196), "pink": (248, 158, 196),
    "brown": (134, 90, 58), "light blue": (158, 212, 246),
}
TINTS = ["red", "orange", "yellow", "green", "blue", "purple", "pink"]
PLACES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
COUNTS = {2: "two", 3: "three", 4: "four"}
SIZES = {"small": ["small"], "medium": [""], "big": ["big", "large"]}
PREFIXES = ["a picture of", "an emoji of", "a drawing of"]

# The colour that the untinted picture has already: a word that may be said without a tint.
NATURAL = {
    "red": "apple heart circle square strawberry tomato rose balloon ladybug fire_truck crab", "yellow": "banana lemon chick star sun",
    "green": "frog cactus pear avocado crocodile tree", "pink": "pig flamingo", "orange": "carrot fox basketball",
    "gray": "elephant mouse koala ufo", "purple": "eggplant", "white": "ghost", "blue": "whale dress",
}
NATURAL = {name.replace("_", " "): color for color, names in NATURAL.items() for name in names.split()}

IRREGULAR = {
    "mouse": "mice", "fish": "fish", "tropical fish": "tropical fish", "wolf": "wolves", "loaf of bread": "loaves of bread",
    "maple leaf": "maple leaves", "snowman": "snowmen", "dice": "dice",
}


@dataclasses.dataclass(frozen=True)
class Concept:
    """One thing that can be drawn. `names[0]` is the canonical name, the others are synonyms."""
    label: str
    names: tuple
    tintable: bool
    mass: bool

    @property
    def name(self):
        return self.names[0]


def concepts(which):
    """The concepts of concepts.txt: `all`, or the `short` list."""
    found = []
    for line in (Path(__file__).parent / "concepts.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        label, *rest = line.split("|")
        bare = label.lstrip("+!*")
        marks = label[:len(label) - len(bare)]
        names = [rest[0] if rest else bare] + (rest[1].split(",") if len(rest) > 1 else [])
        if which == "all" or "+" in marks:
            found.append(Concept(bare, tuple(dict.fromkeys(names)), "!" not in marks, "*" in marks))
    return found


def plural(name):
    """`cup of coffee` -> `cups of coffee`."""
    if name in IRREGULAR:
        return IRREGULAR[name]
    for word in (" of ", " on "):
        if word in name:
            first, rest = name.split(word, 1)
            return plural(first) + word + rest
    if name.endswith(("s", "sh", "ch", "x", "z", "mango", "potato", "tomato", "volcano")):
        return name + "es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def article(phrase, mass=False):
    """`apple` -> `an apple`; a mass word stays bare."""
    if mass:
        return phrase
    return ("an " if phrase[0] in "aeiou" and not phrase.startswith(("unicorn", "ufo")) else "a ") + phrase


def held_out(kind, name, color):
    """Whether the pair (`name`, `color`) is never drawn in training; `kind` is `background` or `tint`. A tenth of all pairs; white, the
    background of every caption that names none, is always seen."""
    if kind == "background" and color == "white":
        return False
    return zlib.crc32(f"{'bg' if kind == 'background' else 'tint'}|{name}|{color}".encode()) % 10 == 0
