"""The concepts, spanish.txt and emojibase-data in, src/assets/words.json out: what the binary knows of the embedded model's words.

    python words_table.py --work W        (W/npm as prepare.py leaves it; `--check` only compares)

Objects with synonyms, plurals and Spanish names; colours, sizes, places and numbers in both languages; and groups of words that the model
does not know, each beside the objects of its kind: those of CLDR's English and Spanish names that stand in the same of Unicode's groups."""
import json
import unicodedata
from pathlib import Path

import settings
from words import COLORS, COUNTS, NATURAL, PLACES, PREFIXES, SIZES, TINTS, concepts, plural

HERE = Path(__file__).parent
OUT = HERE.parent.parent / "src/assets/words.json"
OPTIONS = [(["--which"], {"default": "short", "help": "the list of concepts that the embedded model was trained on"}),
           (["--check"], {"action": "store_true", "help": "write nothing, fail if the file would change"})]

SPANISH_COLORS = {
    "white": "blanco blanca", "black": "negro negra", "gray": "gris", "red": "rojo roja", "orange": "naranja anaranjado anaranjada",
    "yellow": "amarillo amarilla", "green": "verde", "blue": "azul", "purple": "morado morada púrpura violeta lila",
    "pink": "rosa rosado rosada", "brown": "marrón castaño castaña",
}
SPANISH_COLORS = {name: words.split() for name, words in SPANISH_COLORS.items()}
SPANISH_COLORS["light blue"] = ["azul claro", "celeste"]
SPANISH_SIZES = {"small": ["pequeño", "pequeña", "chico", "chica", "pequeñito", "pequeñita"], "big": ["grande", "gran", "enorme"]}
SPANISH_PLACES = {
    "left": ["a la izquierda", "en la izquierda"], "right": ["a la derecha", "en la derecha"],
    "top": ["arriba", "en la parte superior", "en la parte de arriba"], "bottom": ["abajo", "en la parte inferior", "en la parte de abajo"],
}
SPANISH_COUNTS = {2: "dos", 3: "tres", 4: "cuatro"}
SPANISH_PLURAL = {"paraguas": "paraguas", "cactus": "cactus", "arcoíris": "arcoíris", "robot": "robots", "dónut": "dónuts", "bus": "buses"}

# Words of everyday that no emoji is named after, and what can be said instead.
EVERYDAY = [
    ("dog cat pig rabbit penguin fish".split(), "animal animals pet creature beast"),
    ("chick penguin owl".split(), "bird birds"),
    ("rose sunflower".split(), "flower flowers plant blossom"),
    ("apple banana strawberry watermelon".split(), "fruit fruits"),
    ("car bus bicycle train".split(), "vehicle vehicles truck lorry scooter tram van"),
    ("hamburger pizza cake apple".split(), "food meal dinner lunch"),
    (["smiley face", "robot", "snowman", "ghost"], "person people man men woman women boy girl child baby king queen wizard knight face"),
    ("house castle".split(), "building home city town tower village palace street"),
    (["sailboat"], "ship ships boat boats sea ocean"),
    (["soccer ball"], "ball balls"), (["light bulb"], "lamp bulb"), (["cup of coffee"], "tea mug cup drink"), (["gift"], "box"),
    (["big"], "huge giant enormous massive"), (["small"], "tiny little mini"), (["gray"], "grey silver"),
    (["light blue"], "cyan turquoise sky azure"), (["purple"], "violet lilac magenta lavender"), (["yellow"], "gold golden"),
    (["pink"], "salmon"), (["brown"], "beige tan chocolate"), (["blue"], "navy indigo"), (["green"], "lime olive teal"),
    (["red"], "crimson scarlet maroon"), (list(COUNTS.values()), "five six seven eight nine ten 2 3 4 5 6 7 8 9 10 many several some few dozen"),
    (list(PLACES.values()), "corner middle center centre above below beside behind under inside next"),
]
SKIPPED_GROUPS = {"component", "people-body", "symbols", "flags"}
MERGED = {"animal-reptile": "animal-amphibian", "food-vegetable": "food-fruit", "food-asian": "food-prepared", "place-geographic": "place-building",
          "place-religious": "place-building", "place-other": "place-building", "music": "musical-instrument", "dishware": "drink",
          "event": "arts-crafts", "game": "sport", "face-costume": "face", "cat-face": "animal-mammal", "monkey-face": "animal-mammal"}
COMMON = set("""face with and the of for old new button mark three two one no not woman man person people hand hands head eye eyes body left right
down out over under open closed on in off at cara con del los las una uno para por sin mano ojos boca que símbolo""".split())


def plain(text):
    """Lower case, without accents: the form in which the binary compares words."""
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


def spanish_plural(name):
    """`árbol de Navidad` -> `árboles de Navidad`: the first word changes, an adjective after it too."""
    first, _, rest = name.partition(" ")
    if first in SPANISH_PLURAL:
        first = SPANISH_PLURAL[first]
    elif first.endswith("z"):
        first = first[:-1] + "ces"
    elif first[-1] in "aeiouéáó":
        first += "s"
    else:
        first += "es"
    if rest in ("llena", "feliz", "sonriente"):
        rest = spanish_plural(rest)
    return f"{first} {rest}".strip()


def forms(words):
    """Spanish adjectives with their plurals."""
    return sorted({plain(form) for word in words for form in (word, spanish_plural(word))})


def spanish_names(packages):
    """{name: the Spanish words} of spanish.txt; a word without `+` has to be in CLDR's data."""
    english = {e["label"]: e["hexcode"] for e in json.loads((packages / "emojibase-data/en/data.json").read_text())}
    spanish = {e["hexcode"]: e for e in json.loads((packages / "emojibase-data/es/data.json").read_text())}
    lines = dict(line.split("|") for line in (HERE / "spanish.txt").read_text().splitlines() if not line.startswith("#"))
    found = {}
    for concept in concepts("all"):
        if concept.name not in lines:
            continue
        entry = spanish[english[concept.label]]
        source = f" {' '.join([entry['label'], *entry.get('tags', [])])} ".lower()
        words = lines.pop(concept.name).split(",")
        for word in words:
            if not word.startswith("+") and word.lower() not in source:
                raise SystemExit(f"spanish.txt: {word} is not in CLDR's names of {concept.name}: {source}")
        found[concept.name] = [w.removeprefix("+") for w in words]
    if lines:
        raise SystemExit(f"spanish.txt: no such objects: {', '.join(lines)}")
    return found


def groups(packages, chosen, known):
    """[{objects, words}]: the objects that the model knows of a kind, and the other words of that kind; `known` words are left out."""
    meta = json.loads((packages / "emojibase-data/meta/groups.json").read_text())
    kind_of = {int(k): MERGED.get(v, v) for k, v in meta["subgroups"].items()}
    data = json.loads((packages / "emojibase-data/en/data.json").read_text())
    spanish = {e["hexcode"]: e["label"] for e in json.loads((packages / "emojibase-data/es/data.json").read_text())}
    by_label = {e["label"]: e for e in data}
    objects, votes = {}, {}
    for concept in chosen:
        objects.setdefault(kind_of[by_label[concept.label]["subgroup"]], []).append(concept.name)
    for entry in data:
        if "subgroup" not in entry or meta["groups"][str(entry["group"])] in SKIPPED_GROUPS:
            continue
        for text in (entry["label"], spanish[entry["hexcode"]]):
            for word in set(plain(text).replace("-", " ").split()):
                if len(word) > 2 and word.isalpha() and word not in COMMON and word not in known:
                    kinds = votes.setdefault(word, {})
                    kind = kind_of[entry["subgroup"]]
                    kinds[kind] = kinds.get(kind, 0) + 1
    everyday = {word for _, words in EVERYDAY for word in words.split()}
    best = {word: max(kinds, key=kinds.get) for word, kinds in votes.items() if word not in everyday}
    found = [(names[:6], [w for w, k in sorted(best.items()) if k == kind]) for kind, names in objects.items()]
    found += [(near, [w for w in words.split() if w not in known]) for near, words in EVERYDAY]
    return [{"near": near, "words": " ".join(words)} for near, words in found if words]


def table(packages, chosen):
    """The whole of words.json."""
    spanish = spanish_names(packages)
    objects = [{
        "name": c.name, "also": list(c.names[1:]), "plurals": [] if c.mass else [plural(n) for n in c.names], "mass": c.mass,
        "natural": NATURAL.get(c.name), "tinted": c.tintable,
        "spanish": [plain(n) for n in spanish[c.name]], "spanish plurals": [plain(spanish_plural(n)) for n in spanish[c.name]],
    } for c in chosen]
    known = {w for o in objects for n in (o["name"], *o["also"], *o["plurals"], *o["spanish"], *o["spanish plurals"]) for w in n.lower().split()}
    known |= {w for names in (COLORS, COUNTS.values(), *SIZES.values(), *map(forms, SPANISH_COLORS.values())) for n in names for w in n.split()}
    pair = lambda name, words: {"name": name, "spanish": [plain(w) for w in words]}
    return {
        "objects": objects, "prefixes": PREFIXES, "object colors": TINTS,
        "colors": [pair(name, forms(SPANISH_COLORS[name])) for name in COLORS],
        "sizes": [{**pair(SIZES[size][0], forms(words)), "also": SIZES[size][1:]} for size, words in SPANISH_SIZES.items()],
        "places": [pair(PLACES[place], words) for place, words in SPANISH_PLACES.items()],
        "counts": [pair(COUNTS[n], [word]) for n, word in SPANISH_COUNTS.items()],
        "groups": groups(packages, chosen, known),
    }


def main():
    args, _ = settings.parse(__doc__.splitlines()[0], OPTIONS)
    text = json.dumps(table(args.work / "npm/node_modules", concepts(args.which)), ensure_ascii=False, indent=1) + "\n"
    if args.check and OUT.read_text() != text:
        raise SystemExit(f"{OUT} is not what this script makes")
    if not args.check:
        OUT.write_text(text)
        print(f"{OUT}: {len(text.encode())} bytes")


if __name__ == "__main__":
    main()
