"""The single file that the binary embeds in, a diffusers folder (f16) out: the other direction of ../embed_model.py.

`train.py --from` can then go on from the weights that the repository has."""
import json
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from folder import INDEX
from tokenizer import write_configs

PARTS = {"text_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
SCALE = ".scale"              # `NAME.scale` holds the step of every row of the 8-bit tensor NAME


def tensors(path):
    """The file's Lienzo metadata and {name: f16 array}; 8-bit rows are multiplied by their steps."""
    with safe_open(path, "np") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}
        entry = json.loads(file.metadata()["lienzo"])
    found = {}
    for name, values in stored.items():
        if values.dtype == np.int8:
            steps = stored[name + SCALE].astype(np.float32)
            values = values.astype(np.float32) * steps.reshape(-1, *[1] * (values.ndim - 1))
        if not (name.endswith(SCALE) and name.removesuffix(SCALE) in stored):
            found[name] = values.astype(np.float16)
    return entry, found


def write(path, out):
    """Writes the folder."""
    entry, found = tensors(path)
    for part, file in PARTS.items():
        (out / part).mkdir(parents=True, exist_ok=True)
        (out / part / "config.json").write_text(json.dumps(entry[part], indent=2))
        prefix = "text_model." if part == "text_encoder" else ""
        mine = {prefix + n.removeprefix(part + "."): v for n, v in found.items() if n.startswith(part + ".")}
        save_file(mine, out / part / f"{file}.safetensors", metadata={"format": "pt"})
    for folder in ("scheduler", "tokenizer"):
        (out / folder).mkdir(exist_ok=True)
    (out / "scheduler/scheduler_config.json").write_text(json.dumps(entry["scheduler"], indent=2))
    (out / "tokenizer/vocab.json").write_text(entry["tokenizer"]["vocab"], encoding="utf-8")
    (out / "tokenizer/merges.txt").write_text(entry["tokenizer"]["merges"], encoding="utf-8")
    write_configs(out / "tokenizer")
    (out / "model_index.json").write_text(json.dumps(INDEX, indent=2))


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
