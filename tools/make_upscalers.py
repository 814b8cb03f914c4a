#!/usr/bin/env python3
"""The tiny upscalers of tests/golden/upscalers, one in every layout and container, and what PyTorch computes with them.

    pip install torch==2.15.0 safetensors pillow numpy
    tools/make_upscalers.py OUT

Writes OUT/{check.safetensors, upscale/*.safetensors, upscale/*.pth, adapters.json}. float32 on the CPU, fixed seeds, weights
rounded to float16. The networks are those of the papers: Compact (SRVGGNet) and RRDB (ESRGAN).
"""
import json
import math
import pathlib
import re
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F


class Compact(nn.Module):
    def __init__(self, features, convs, scale):
        super().__init__()
        self.scale = scale
        layers = [nn.Conv2d(3, features, 3, padding=1), nn.PReLU(features)]
        for _ in range(convs):
            layers += [nn.Conv2d(features, features, 3, padding=1), nn.PReLU(features)]
        self.body = nn.Sequential(*layers, nn.Conv2d(features, 3 * scale * scale, 3, padding=1))

    def forward(self, x):
        return F.pixel_shuffle(self.body(x), self.scale) + F.interpolate(x, scale_factor=self.scale, mode="nearest")


def leaky(x):
    return F.leaky_relu(x, 0.2)


class Dense(nn.Module):
    def __init__(self, features, growth):
        super().__init__()
        for k in range(1, 6):
            setattr(self, f"conv{k}", nn.Conv2d(features + (k - 1) * growth, growth if k < 5 else features, 3, padding=1))

    def forward(self, x):
        seen = [x]
        for k in range(1, 5):
            seen.append(leaky(getattr(self, f"conv{k}")(torch.cat(seen, 1))))
        return 0.2 * self.conv5(torch.cat(seen, 1)) + x


class Block(nn.Module):
    def __init__(self, features, growth):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (Dense(features, growth) for _ in range(3))

    def forward(self, x):
        return 0.2 * self.rdb3(self.rdb2(self.rdb1(x))) + x


class Rrdb(nn.Module):
    def __init__(self, features, blocks, growth, unshuffle=1, doublings=2):
        super().__init__()
        self.unshuffle, self.doublings = unshuffle, doublings
        self.conv_first = nn.Conv2d(3 * unshuffle**2, features, 3, padding=1)
        self.body = nn.Sequential(*(Block(features, growth) for _ in range(blocks)))
        for name in ["conv_body", "conv_hr", *(f"conv_up{n + 1}" for n in range(doublings))]:
            setattr(self, name, nn.Conv2d(features, features, 3, padding=1))
        self.conv_last = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, x):
        first = self.conv_first(F.pixel_unshuffle(x, self.unshuffle))
        x = first + self.conv_body(self.body(first))
        for n in range(self.doublings):
            x = leaky(getattr(self, f"conv_up{n + 1}")(F.interpolate(x, scale_factor=2, mode="nearest")))
        return self.conv_last(leaky(self.conv_hr(x)))


def of_2018(name, blocks, doublings):
    """A name as the first ESRGAN's code has it: numbers, of which upsamplings and activations take some."""
    block = re.match(r"body\.(\d+)\.rdb(\d)\.conv(\d)\.(.*)", name)
    if block:
        return "model.1.sub.{}.RDB{}.conv{}.0.{}".format(*block.groups())
    head, tail = name.split(".")
    numbers = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}"}
    numbers |= {f"conv_up{n + 1}": f"model.{3 * n + 3}" for n in range(doublings)}
    numbers |= {"conv_hr": f"model.{3 * doublings + 2}", "conv_last": f"model.{3 * doublings + 4}"}
    return f"{numbers[head]}.{tail}"


def of_bsrgan(name):
    name = re.sub(r"^body\.", "RRDB_trunk.", name).replace("rdb", "RDB")
    for ours, theirs in [("conv_body", "trunk_conv"), ("conv_up", "upconv"), ("conv_hr", "HRconv")]:
        name = name.replace(ours, theirs)
    return "module." + name


def split(n, tile, overlap):
    """Tiles along a side as the webui's SD upscale cuts it."""
    count = math.ceil((n - overlap) / (tile - overlap))
    apart = (n - tile) / (count - 1) if count > 1 else 0
    return [n - tile if int(i * apart) + tile >= n else int(i * apart) for i in range(count)]


@torch.no_grad()
def main(out):
    (out / "upscale").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    values = {}
    networks = {"compact_x2": Compact(8, 3, 2), "compact_x4": Compact(12, 2, 4), "rrdb_x4": Rrdb(12, 2, 4), "rrdb_x8_2018": Rrdb(8, 1, 4, 1, 3),
                "rrdb_x2_bsrgan": Rrdb(8, 2, 4, 1, 1), "rrdb_x2_unshuffle": Rrdb(12, 1, 4, 2), "rrdb_x1_unshuffle": Rrdb(8, 1, 4, 4)}
    for name, network in networks.items():
        for p in network.parameters():
            p.mul_(1.6 if p.ndim > 1 else 1)
        network.half().float()
        weights = {k: v.half().contiguous() for k, v in network.state_dict().items()}
        file = out / "upscale" / name
        if name == "compact_x4":
            torch.save({"params": {k: v.float() for k, v in weights.items()}}, f"{file}.pth")
        elif name == "rrdb_x4":
            torch.save({"params": {}, "params_ema": weights}, f"{file}.pth")
        elif name == "rrdb_x8_2018":
            old = {of_2018(k, 1, 3): v for k, v in weights.items()}
            torch.save(old, f"{file}.pth", _use_new_zipfile_serialization=False)
        elif name == "rrdb_x2_bsrgan":
            torch.save({of_bsrgan(k): v for k, v in weights.items()}, f"{file}.pth")
        else:
            save_file(weights, f"{file}.safetensors")
        image = torch.randint(0, 256, (1, 3, 8, 12))
        values[f"upscale.{name}.image"] = image.to(torch.uint8)
        values[f"upscale.{name}.output"] = network(image / 255.0)
    latents = torch.randn(1, 4, 8, 12)
    values["resize.latents"] = latents
    modes = {"latent": dict(mode="bilinear"), "latent_antialiased": dict(mode="bilinear", antialias=True), "latent_bicubic": dict(mode="bicubic"),
             "latent_bicubic_antialiased": dict(mode="bicubic", antialias=True), "latent_nearest": dict(mode="nearest"),
             "latent_nearest_exact": dict(mode="nearest-exact")}
    for name, how in modes.items():
        for size in [(16, 24), (13, 17), (5, 9)]:
            values[f"resize.{name}.{size[0]}x{size[1]}"] = F.interpolate(latents, size=size, **how)
    small = torch.randint(0, 256, (3, 4, 3)).numpy().astype(np.uint8)
    image = Image.fromarray(small).resize((40, 32), Image.BICUBIC)
    values["resize.image"] = torch.from_numpy(np.asarray(image).copy())
    for size in [(80, 64), (29, 23)]:
        values[f"resize.lanczos.{size[0]}x{size[1]}"] = torch.from_numpy(np.asarray(image.resize(size, Image.LANCZOS)).copy())
    save_file({k: v.contiguous() for k, v in values.items()}, out / "check.safetensors")
    cuts = [((1024, 1000), (512, 512), 64), ((300, 190), (192, 192), 8), ((2048, 1536), (768, 640), 128)]
    tiles = [dict(image=i, tile=t, overlap=o, x=split(i[0], t[0], o), y=split(i[1], t[1], o)) for i, t, o in cuts]
    (out / "adapters.json").write_text(json.dumps(dict(tiles=tiles), indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
