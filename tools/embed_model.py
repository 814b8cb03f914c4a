#!/usr/bin/env python3
"""A diffusers folder to one bundle, the file that the binary embeds: canonical names, configs in the metadata, matrices in 8 bits.

usage: embed_model.py FOLDER OUT --size 64 --steps 20 --guidance 3 --sampler ddim --name NAME

A matrix `NAME` becomes I8, and `NAME.scale` (F32) holds what each of its rows (dimension 0) is multiplied by. Vectors and small matrices,
such as the convolutions at the networks' ends, stay f16. --f16 keeps everything f16.
"""
import argparse
import json
import os
import struct

import numpy as np

PARTS = {"text_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def tensors(folder, part):
    """Yields (canonical name, dtype, shape, bytes)."""
    with open(os.path.join(folder, part, PARTS[part] + ".safetensors"), "rb") as f:
        length = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(length))
        data = f.read()
    for name, info in header.items():
        if name == "__metadata__" or name.endswith("position_ids"):
            continue
        if part == "text_encoder" and name.startswith("text_model."):
            name = name[len("text_model."):]
        if part == "vae":
            for old, new in OLD_ATTENTION.items():
                name = name.replace(f"mid_block.attentions.0.{old}.", f"mid_block.attentions.0.{new}.")
        start, end = info["data_offsets"]
        yield f"{part}.{name}", info["dtype"], info["shape"], data[start:end]


SMALL = 4096                   # elements; smaller matrices stay f16: they are cheap, and the pictures' channels pass through them
CLIPS = np.linspace(1, 0.7, 16)  # of a row's largest magnitude: the candidates for the 8-bit range


def rows_in_8_bits(values):
    """[rows, n] float32 to int8 and the rows' scales, float32: of CLIPS the range with the least squared error, row by row."""
    largest = np.abs(values).max(1, keepdims=True)
    largest[largest < 1e-30] = 127                       # a row of zeros
    best, scales = np.full((len(values), 1), np.inf), None
    for clip in CLIPS:
        tried = (largest * clip / 127).astype(np.float32)
        error = ((np.clip(np.rint(values / tried), -127, 127) * tried - values) ** 2).sum(1, keepdims=True)
        scales = tried if scales is None else np.where(error < best, tried, scales)
        best = np.minimum(error, best)
    return np.clip(np.rint(values / scales), -127, 127).astype(np.int8), scales[:, 0]


def in_8_bits(found):
    """The tensors with every large matrix as two: its 8-bit rows and their scales."""
    for name, dtype, shape, data in found:
        if dtype != "F16" or len(shape) < 2 or len(data) < 2 * SMALL:
            yield name, dtype, shape, data
            continue
        values, scales = rows_in_8_bits(np.frombuffer(data, "<f2").reshape(shape[0], -1).astype(np.float32))
        yield name, "I8", shape, values.tobytes()
        yield name + ".scale", "F32", shape[:1], scales.astype("<f4").tobytes()


def text(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


def metadata(args):
    entry = {part: json.loads(text(args.folder, part, "config.json")) for part in PARTS}
    entry["scheduler"] = json.loads(text(args.folder, "scheduler", "scheduler_config.json"))
    if os.path.exists(os.path.join(args.folder, "tokenizer", "vocab.json")):
        read = lambda name: text(args.folder, "tokenizer", name)
        entry["tokenizer"] = {"vocab": read("vocab.json"), "merges": read("merges.txt")}
    keys = ("size", "steps", "guidance", "sampler")
    entry["defaults"] = {key: getattr(args, key) for key in keys}
    entry["name"] = args.name
    return json.dumps(entry, ensure_ascii=False, sort_keys=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--size", type=int, default=512, help="side of its pictures in pixels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--sampler", default="euler_a")
    parser.add_argument("--name", required=True, help="what pictures' metadata calls it")
    parser.add_argument("--f16", action="store_true", help="keep every tensor in 16 bits")
    args = parser.parse_args()
    found = [t for part in PARTS for t in tensors(args.folder, part)]
    found = sorted(found if args.f16 else in_8_bits(found), key=lambda t: (t[1] == "I8", t[0]))
    header, at = {"__metadata__": {"format": "pt", "lienzo": metadata(args)}}, 0
    for name, dtype, shape, data in found:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    # The data start on a multiple of 8, and the bytes come last, so that every wider tensor lies at a multiple of its elements' size.
    head += b" " * (-len(head) % 8)
    with open(args.out + ".tmp", "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for _, _, _, data in found:
            f.write(data)
    os.replace(args.out + ".tmp", args.out)
    print(f"{args.out}: {len(found)} tensors, {8 + len(head) + at} bytes")


if __name__ == "__main__":
    main()
