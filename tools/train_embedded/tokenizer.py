"""CLIP's merges and the captions' words in, a CLIP tokenizer cut to the merges that those words use out; and the encoder that training uses.

The algorithm, the byte alphabet and the file format are CLIP's and every known word gets CLIP's own pieces: only the ids are renumbered."""
import json
import re
import sys
from pathlib import Path

import torch

from words import COLORS, COUNTS, PLACES, PREFIXES, SIZES, TINTS, concepts, plural

LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"
PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")
EXTRA = "a an and the one with of grey middle center tiny huge icon image photo color colour light dark , . - s"


def byte_alphabet():
    """CLIP's printable stand-in for each byte (GPT-2's table): printable bytes stand for themselves, the rest from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


def pieces(word, rank, alphabet, used=None):
    """The word's byte pairs after all merges; the merges' ranks are added to `used`."""
    parts = [alphabet[b] for b in word.encode()]
    parts[-1] += "</w>"
    while len(parts) > 1:
        best, at = min((rank.get(pair, len(rank)), i) for i, pair in enumerate(zip(parts, parts[1:])))
        if best == len(rank):
            break
        if used is not None:
            used.add(best)
        parts[at:at + 2] = [parts[at] + parts[at + 1]]
    return parts


def caption_words():
    """Every word that a caption can hold."""
    words = set(EXTRA.split()) | set(TINTS) | set(COUNTS.values()) | set(" ".join([*COLORS, *PREFIXES, *PLACES.values()]).split())
    words |= {w for choices in SIZES.values() for w in choices if w} | {"background"}
    for concept in concepts("all"):
        for name in concept.names:
            words |= set(PIECES.findall(f"{name} {plural(name)}".lower()))
    return words


def build(merges_file, folder):
    """Writes the reduced tokenizer (vocab.json, merges.txt and the two small configs) to `folder`."""
    merges = [tuple(line.split()) for line in Path(merges_file).read_text().splitlines() if line and not line.startswith("#version")]
    rank, alphabet, used = {m: i for i, m in enumerate(merges)}, byte_alphabet(), set()
    for word in caption_words():
        pieces(word, rank, alphabet, used)
    kept = [merges[i] for i in sorted(used)]
    letters = list(alphabet.values())
    tokens = [*letters, *(c + "</w>" for c in letters), *dict.fromkeys(a + b for a, b in kept), START, END]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in kept) + "\n")
    write_configs(folder)
    return len(tokens)


def write_configs(folder):
    """The two small files that tell transformers which tokens are special and how long a prompt is."""
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, **special, "do_lower_case": True, "errors": "replace"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


class Tokenizer:
    """The tokenizer of `folder`: captions in, token ids [n, 77] out."""

    def __init__(self, folder):
        folder = Path(folder)
        self.vocab = json.loads((folder / "vocab.json").read_text())
        lines = (folder / "merges.txt").read_text().splitlines()[1:]
        self.rank = {tuple(line.split()): i for i, line in enumerate(lines) if line}
        self.alphabet = byte_alphabet()
        self.start, self.end = self.vocab[START], self.vocab[END]
        self._words = {}

    def _ids(self, word):
        if word not in self._words:
            self._words[word] = [self.vocab.get(p, self.end) for p in pieces(word, self.rank, self.alphabet)]
        return self._words[word]

    def __call__(self, captions):
        rows = []
        for caption in captions:
            ids = [i for word in PIECES.findall(caption.lower()) for i in self._ids(word)][:LENGTH - 2]
            rows.append([self.start, *ids] + [self.end] * (LENGTH - 1 - len(ids)))
        return torch.tensor(rows)


if __name__ == "__main__":
    print(build(sys.argv[1], sys.argv[2]), "tokens")
