#!/usr/bin/env python3
"""Stable Diffusion 1.5 at full size with seeded random f16 weights: a diffusers folder and a single file of the original layout.

usage: make_full_weights.py OUT     (needs torch, diffusers, transformers)
writes OUT/sd15-random-diffusers/ and OUT/sd15-random-f16.safetensors (2.13 GB each)
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
MERGES = os.path.join(os.path.dirname(__file__), "..", "src", "assets", "bpe_merges.txt")

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
          "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
UNET_ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
             "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def renamed(name, table):
    """`name` with its first part replaced as the table says."""
    for old, new in table.items():
        if name.startswith(old + "."):
            return new + name[len(old):]
    raise KeyError(name)


def unet_name(name):
    """diffusers' name of a U-Net tensor to the original one: levels of blocks become one numbered row."""
    match = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
    if match:
        way, level, kind, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
        if kind == "downsamplers":
            return f"input_blocks.{3 * level + 3}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            # The last level without attention has one module less before it.
            return f"output_blocks.{3 * level + 2}.{1 if level == 0 else 2}.{rest}"
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    args = parser.parse_args()
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
