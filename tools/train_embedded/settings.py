"""A preset's name and command-line overrides in, the settings and the work folder's paths out; every stage starts here."""
import argparse
import tomllib
from pathlib import Path
from types import SimpleNamespace


def _merge(base, over):
    for key, value in over.items():
        if isinstance(value, dict):
            _merge(base.setdefault(key, {}), value)
        else:
            base[key] = value


def _set(settings, assignment):
    path, text = assignment.split("=", 1)
    *tables, key = path.split(".")
    table = settings
    for name in tables:
        table = table[name]
    if key not in table and key not in ("minutes",):
        raise SystemExit(f"no setting `{path}`: see config.toml")
    try:
        table[key] = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        table[key] = text


def _spaces(value):
    return SimpleNamespace(**{k: _spaces(v) for k, v in value.items()}) if isinstance(value, dict) else value


def load(preset, smoke=False, assignments=()):
    """The settings of `preset` as nested namespaces."""
    presets = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
    settings = presets[preset]
    if smoke:
        _merge(settings, presets["smoke"])
    for assignment in assignments:
        _set(settings, assignment)
    return _spaces(settings)


def parse(description, extra=()):
    """Parses a stage's command line; returns the arguments (`work` a Path that exists) and the settings. `extra` is a list of
    (flags, options) for argparse."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--preset", default="cpu64", help="a table of config.toml")
    parser.add_argument("--work", type=Path, required=True, help="folder for data and checkpoints, outside the repository")
    parser.add_argument("--smoke", action="store_true", help="tiny amounts: shows that the stage runs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides one setting, e.g. diffusion.batch=32")
    for flags, options in extra:
        parser.add_argument(*flags, **options)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    settings = load(args.preset, args.smoke, args.set)
    import torch

    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    return args, settings
