#!/usr/bin/env python3
"""The tiny model and tiny.safetensors go in, the other inputs of same_bytes.sh come out, in this folder.

Masks as PNG, a textual inversion embedding, a styles.csv, tiny.safetensors pickled as torch.save does it (tiny.ckpt), and
a folder with a nine-channel U-Net (tiny-inpaint). Only the standard library: torch need not be there.
"""
import io
import json
import pathlib
import pickle
import shutil
import struct
import sys
import types
import zipfile
import zlib


def png(path, width, height, value):
    """An 8-bit grey picture, value(x, y) its levels."""
    rows = b"".join(b"\0" + bytes(value(x, y) for x in range(width)) for y in range(height))
    chunks = [(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def read_safetensors(path):
    """Name -> (type, shape, bytes)."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header, body = json.loads(raw[8:8 + size]), raw[8 + size:]
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], body[slice(*v["data_offsets"])]) for k, v in header.items()}


def write_safetensors(path, tensors):
    header, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = dict(dtype=dtype, shape=shape, data_offsets=[len(body), len(body) + len(data)])
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def write_ckpt(path, tensors):
    """The zip with one pickle that torch.save writes: tensors are calls of torch's rebuild function, data are files."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    storages = {"F16": type("HalfStorage", (), {}), "F32": type("FloatStorage", (), {}), "I64": type("LongStorage", (), {})}
    for storage in storages.values():
        storage.__module__ = "torch"
        setattr(torch, storage.__name__, storage)

    def _rebuild_tensor_v2(*_):
        raise NotImplementedError("written, never read, here")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2, torch._utils = _rebuild_tensor_v2, utils
    sys.modules["torch"], sys.modules["torch._utils"] = torch, utils

    class Stored:
        def __init__(self, key, dtype, size):
            self.told = ("storage", storages[dtype], key, "cpu", size)

    class Tensor:
        def __init__(self, key, dtype, shape, size):
            strides = [1] * len(shape)
            for i in reversed(range(len(shape) - 1)):
                strides[i] = strides[i + 1] * shape[i + 1]
            self.args = (Stored(key, dtype, size), 0, tuple(shape), tuple(strides), False, {})

        def __reduce__(self):
            return _rebuild_tensor_v2, self.args

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.told if isinstance(value, Stored) else None

    width = {"F16": 2, "F32": 4, "I64": 8}
    state = {name: Tensor(str(i), dtype, shape, len(data) // width[dtype])
             for i, (name, (dtype, shape, data)) in enumerate(tensors.items())}
    text = io.BytesIO()
    Pickler(text, protocol=2).dump({"epoch": 3, "global_step": 470000, "state_dict": state, "optimizer_states": []})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", text.getvalue())
        archive.writestr("archive/version", "3\n")
        for i, (_, _, data) in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{i}", data)


def nine_channels(folder, out):
    """The model with a U-Net that is told the mask: channel c of conv_in reads like channel c mod 4 at half the weight."""
    shutil.copytree(folder, out)
    config = out / "unet/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "in_channels": 9}, indent=2))
    path = out / "unet/diffusion_pytorch_model.safetensors"
    tensors = read_safetensors(path)
    dtype, (n, c, h, w), data = tensors["conv_in.weight"]
    step, new = 2 * h * w, b""
    for i in range(n):
        row = [data[(i * c + j) * step:(i * c + j + 1) * step] for j in range(c)]
        halves = [struct.pack(f"<{h * w}e", *(v / 2 for v in struct.unpack(f"<{h * w}e", r))) for r in row]
        new += b"".join(row) + b"".join(halves[j % c] for j in range(c, 9))
    tensors["conv_in.weight"] = (dtype, [n, 9, h, w], new)
    write_safetensors(path, tensors)


def main():
    model, here = pathlib.Path(sys.argv[1]), pathlib.Path(".")
    png(here / "mask.png", 64, 64, lambda x, y: 255 if x > 20 and 10 < y < 50 else 0)
    png(here / "wide-mask.png", 128, 96, lambda x, y: 255 if (x - 70) ** 2 + (y - 40) ** 2 < 400 else 0)
    (here / "styles.csv").write_text("name,prompt,negative_prompt\nshiny,\"{prompt}, shiny and blue\",dull\n")
    (here / "embeddings").mkdir()
    values = struct.pack("<96f", *(((i * 37) % 101 / 50 - 1) / 20 for i in range(96)))
    write_safetensors(here / "embeddings/shiny.safetensors", {"emb_params": ("F32", [2, 48], values)})
    write_ckpt(here / "tiny.ckpt", read_safetensors(here / "tiny.safetensors"))
    nine_channels(model, here / "tiny-inpaint")


if __name__ == "__main__":
    main()
