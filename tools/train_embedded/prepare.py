"""Nothing but npm and the repository's CLIP merges in, sprites.npz and the reduced tokenizer out.

The two packages are pinned by package-lock.json with their checksums and fetched by the npm client."""
import shutil
import subprocess
from pathlib import Path

import settings
import sprites
import tokenizer

HERE = Path(__file__).parent
MERGES = HERE.parent.parent / "src/assets/bpe_merges.txt"
OPTIONS = [(["--merges"], {"type": Path, "default": MERGES, "help": "CLIP's merges, one pair a line"})]


def fetch(work):
    """Installs the packages below `work`; returns their folder."""
    target = work / "npm"
    target.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, target / name)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=target, check=True)
    return target / "node_modules"


def main():
    args, _ = settings.parse(__doc__.splitlines()[0], OPTIONS)
    if not (args.work / "sprites.npz").exists():
        missing = sprites.build(fetch(args.work), args.work / "sprites.npz")
        print("concepts without a picture:", missing or "none")
    if not (args.work / "tokenizer").exists():
        print(tokenizer.build(args.merges, args.work / "tokenizer"), "tokens")


if __name__ == "__main__":
    main()
