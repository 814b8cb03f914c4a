#!/usr/bin/env python3
"""Stable Diffusion at full size with seeded random f16 weights, in files of the published layouts.

usage: make_full_weights.py OUT                 (needs torch, diffusers, transformers)
writes OUT/sd15-random-diffusers/ and OUT/sd15-random-f16.safetensors (2.13 GB each)

usage: make_full_weights.py --arch sdxl OUT     (needs torch, diffusers, numpy)
writes OUT/sdxl-random-f16.safetensors (6.94 GB), one tensor in memory at a time; --arch sdxl-refiner the refiner (6.08 GB)
"""
import argparse
import json
import os
import re

LEVELS = (320, 640, 1280, 1280)
UNET = dict(
    sample_size=64, in_channels=4, out_channels=4, block_out_channels=LEVELS, layers_per_block=2,
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    cross_attention_dim=768, attention_head_dim=8,
)
VAE = dict(
    in_channels=3, out_channels=3, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    latent_channels=4, sample_size=512, scaling_factor=0.18215,
)
CLIP = dict(
    vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
    max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=768,
    bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
)
SCHEDULE = dict(
    beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000,
    set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1,
)
XL = dict(
    sample_size=128, in_channels=4, out_channels=4, layers_per_block=2, use_linear_projection=True,
    addition_embed_type="text_time", addition_time_embed_dim=256,
)
XL_UNETS = {
    "sdxl": dict(
        XL, block_out_channels=LEVELS[:3], down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",), transformer_layers_per_block=[1, 2, 10],
        attention_head_dim=[5, 10, 20], cross_attention_dim=2048, projection_class_embeddings_input_dim=2816,
    ),
    "sdxl-refiner": dict(
        XL, block_out_channels=(384, 768, 1536, 1536),
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",), transformer_layers_per_block=4,
        attention_head_dim=[6, 12, 24, 24], cross_attention_dim=1280, projection_class_embeddings_input_dim=2560,
    ),
}
MERGES = os.path.join(os.path.dirname(__file__), "..", "src", "assets", "bpe_merges.txt")

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
          "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
UNET_ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
             "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
             "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def renamed(name, table):
    """`name` with its first part replaced as the table says."""
    for old, new in table.items():
        if name.startswith(old + "."):
            return new + name[len(old):]
    raise KeyError(name)


def unet_name(name, attends_first=False):
    """diffusers' name of a U-Net tensor to the original one: levels of blocks become one numbered row.

    attends_first: whether the smallest level has attention.
    """
    match = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
    if match:
        way, level, kind, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
        if kind == "downsamplers":
            return f"input_blocks.{3 * level + 3}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            # A level without attention has one module less before it.
            return f"output_blocks.{3 * level + 2}.{1 if level == 0 and not attends_first else 2}.{rest}"
        number = 3 * level + index + (1 if way == "down" else 0)
        row = "input_blocks" if way == "down" else "output_blocks"
        return f"{row}.{number}." + (f"0.{renamed(rest, RESNET)}" if kind == "resnets" else f"1.{rest}")
    match = re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name)
    if match:
        if match[1] == "attentions":
            return f"middle_block.1.{match[3]}"
        return f"middle_block.{2 * int(match[2])}.{renamed(match[3], RESNET)}"
    return renamed(name, UNET_ENDS)


def vae_name(name):
    """diffusers' name of a VAE tensor to the original one; the decoder's levels count the other way."""
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    up = r"decoder\.up_blocks\.(\d)\."
    name = re.sub(up + r"resnets\.(\d)", lambda m: f"decoder.up.{3 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(up + r"upsamplers\.0", lambda m: f"decoder.up.{3 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0." in name:
        side, rest = name.split("mid_block.attentions.0.")
        name = f"{side}mid.attn_1.{renamed(rest, VAE_ATTENTION)}"
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def tokenizer(folder):
    """CLIP's tokenizer, its vocabulary rebuilt from the merges: bytes, bytes at a word's end, merges, two marks."""
    from transformers import CLIPTokenizer
    with open(MERGES, encoding="utf-8") as f:
        merges = [line for line in f.read().split("\n") if line]
    codes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in codes]
    letters = [chr(c) for c in codes] + [chr(256 + n) for n in range(len(others))]
    vocab = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in merges]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    if len(vocab) != CLIP["vocab_size"]:
        raise SystemExit(f"{MERGES}: gives {len(vocab)} tokens instead of {CLIP['vocab_size']}")
    os.makedirs(folder, exist_ok=True)
    paths = os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt")
    with open(paths[0], "w", encoding="utf-8") as f:
        json.dump({token: i for i, token in enumerate(vocab)}, f, ensure_ascii=False)
    with open(paths[1], "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizer(*paths, model_max_length=77, pad_token="<|endoftext|>")


def original_layout(unet, vae, text):
    """All tensors under the names of the original single-file checkpoints."""
    tensors = {}
    for name, value in unet.state_dict().items():
        tensors["model.diffusion_model." + unet_name(name)] = value.contiguous()
    for name, value in vae.state_dict().items():
        name = vae_name(name)
        if ".mid.attn_1." in name and value.ndim == 2:
            value = value[:, :, None, None]  # those were 1x1 convolutions
        tensors["first_stage_model." + name] = value.contiguous()
    for name, value in text.state_dict().items():
        if "position_ids" not in name:
            name = "text_model." + name.removeprefix("text_model.")
            tensors["cond_stage_model.transformer." + name] = value.contiguous()
    return tensors


def text_shapes():
    """CLIP-L below its prefix, in Hugging Face's names."""
    yield "embeddings.token_embedding.weight", (49408, 768)
    yield "embeddings.position_embedding.weight", (77, 768)
    for n in range(12):
        at = f"encoder.layers.{n}."
        for norm in ("layer_norm1", "layer_norm2"):
            yield at + norm + ".weight", (768,)
            yield at + norm + ".bias", (768,)
        sizes = {f"self_attn.{p}_proj": (768, 768) for p in ("q", "k", "v", "out")}
        for name, shape in dict(sizes, **{"mlp.fc1": (3072, 768), "mlp.fc2": (768, 3072)}).items():
            yield at + name + ".weight", shape
            yield at + name + ".bias", shape[:1]
    yield "final_layer_norm.weight", (768,)
    yield "final_layer_norm.bias", (768,)


def openclip_shapes(width=1280, layers=32):
    """OpenCLIP bigG below its prefix, in OpenCLIP's names: query, key and value in one tensor."""
    yield "token_embedding.weight", (49408, width)
    yield "positional_embedding", (77, width)
    for n in range(layers):
        at = f"transformer.resblocks.{n}."
        for norm in ("ln_1", "ln_2"):
            yield at + norm + ".weight", (width,)
            yield at + norm + ".bias", (width,)
        yield at + "attn.in_proj_weight", (3 * width, width)
        yield at + "attn.in_proj_bias", (3 * width,)
        sizes = {"attn.out_proj": (width, width), "mlp.c_fc": (4 * width, width), "mlp.c_proj": (width, 4 * width)}
        for name, shape in sizes.items():
            yield at + name + ".weight", shape
            yield at + name + ".bias", shape[:1]
    yield "ln_final.weight", (width,)
    yield "ln_final.bias", (width,)
    yield "text_projection", (width, width)
    yield "logit_scale", ()


def xl_shapes(arch):
    """Every tensor of a file of the SDXL family in the original layout, with its shape."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**XL_UNETS[arch]), AutoencoderKL(**VAE)
    for name, value in unet.state_dict().items():
        yield "model.diffusion_model." + unet_name(name, arch == "sdxl"), tuple(value.shape)
    for name, value in vae.state_dict().items():
        name = vae_name(name)
        kernel = (1, 1) if ".mid.attn_1." in name and value.ndim == 2 else ()
        yield "first_stage_model." + name, (*value.shape, *kernel)
    if arch == "sdxl":
        for name, shape in text_shapes():
            yield "conditioner.embedders.0.transformer.text_model." + name, shape
    for name, shape in openclip_shapes():
        yield f"conditioner.embedders.{int(arch == 'sdxl')}.model." + name, shape


def write_xl(arch, path):
    """One tensor at a time: matrices uniform with variance 1/inputs, scales near 1, shifts near 0."""
    import numpy as np
    shapes = sorted(xl_shapes(arch))
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes:
        size = 2 * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(0)
    with open(path + ".tmp", "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes:
            if len(shape) < 2:
                value = random.random(shape, np.float32) * 0.1 + (1 if name.endswith("weight") else 0)
            else:
                reach = (3 / np.prod(shape[1:])) ** 0.5
                value = (random.random(shape, np.float32) * 2 - 1) * np.float32(reach)
            f.write(np.asarray(value, np.float16).tobytes())
    os.replace(path + ".tmp", path)
    print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--arch", choices=("sd15", *XL_UNETS), default="sd15")
    args = parser.parse_args()
    if args.arch != "sd15":
        os.makedirs(args.out, exist_ok=True)
        write_xl(args.arch, os.path.join(args.out, f"{args.arch}-random-f16.safetensors"))
        return
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    text = CLIPTextModel(CLIPTextConfig(**CLIP)).eval().half()
    unet = UNet2DConditionModel(**UNET).eval().half()
    vae = AutoencoderKL(**VAE).eval().half()
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text, unet=unet, tokenizer=tokenizer(os.path.join(args.out, "tokenizer-files")),
        scheduler=PNDMScheduler(**SCHEDULE), safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.save_pretrained(os.path.join(args.out, "sd15-random-diffusers"), safe_serialization=True)
    path = os.path.join(args.out, "sd15-random-f16.safetensors")
    save_file(original_layout(unet, vae, text), path + ".tmp", metadata={"format": "pt"})
    os.replace(path + ".tmp", path)
    print(path)


if __name__ == "__main__":
    main()
