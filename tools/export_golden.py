#!/usr/bin/env python3
"""A diffusers folder goes in, reference values for `lienzo verify` come out (reference.safetensors, samplers.json, tokens.json).

    pip install torch diffusers transformers safetensors
    tools/export_golden.py FOLDER OUT [--size 64] [--prompt TEXT ...]

Everything is float32 on the CPU, one thread, with fixed seeds. Names are those of tests/golden/README.md. The embedded model's
values are made with `tools/export_golden.py FOLDER OUT` and then copied to src/assets/reference/.
"""
import argparse
import json
import pathlib

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1)
SCHEDULERS = {
    "ddim": lambda: DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **SCHEDULE),
    "euler": lambda: EulerDiscreteScheduler(**SCHEDULE),
}


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Exporter:
    def __init__(self, folder, size):
        load = dict(torch_dtype=torch.float32, use_safetensors=True)
        self.text = CLIPTextModel.from_pretrained(folder / "text_encoder", **load).eval()
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet", **load).eval()
        self.vae = AutoencoderKL.from_pretrained(folder / "vae", **load).eval()
        tokenizer = folder / "tokenizer"
        self.tokenizer = CLIPTokenizer.from_pretrained(tokenizer) if tokenizer.exists() else None
        self.side = size // 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.size, self.out, self.loops = size, {}, {}

    def embed(self, prompt):
        ids = self.tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        hidden = self.text(ids, output_hidden_states=True)
        skipped = self.text.final_layer_norm(hidden.hidden_states[-2]) if hasattr(self.text, "final_layer_norm") else \
            self.text.text_model.final_layer_norm(hidden.hidden_states[-2])
        return ids, hidden.last_hidden_state, skipped

    def parts(self, prompts):
        for k, prompt in enumerate(prompts, 1):
            ids, last, skipped = self.embed(prompt)
            self.out.update({f"text.{k}.ids": ids.int(), f"text.{k}.last_hidden_state": last, f"text.{k}.clip_skip_2": skipped})
        uncond, cond = self.embed("")[1], self.embed(prompts[0])[1]
        self.out.update({"loop.uncond": uncond, "loop.cond": cond})
        s = self.side
        for name, shape, t, context in [("square", (1, 4, s, s), [500.0], cond), ("frac", (1, 4, s, s), [321.25], cond),
                                        ("cfg", (2, 4, s, s + 4), [801.0] * 2, torch.cat([uncond, cond])),
                                        ("skip", (1, 4, s + 2, s - 2), [37.0], cond)]:
            sample, t = normal(len(self.out), *shape), torch.tensor(t)
            y = self.unet(sample, t, encoder_hidden_states=context).sample
            self.out.update({f"unet.{name}.sample": sample, f"unet.{name}.timestep": t, f"unet.{name}.context": context,
                             f"unet.{name}.output": y})
        latents, image = normal(77, 1, 4, s, s - 4), normal(78, 1, 3, self.size, self.size // 2).clamp(-1, 1)
        moments = self.vae.encode(image).latent_dist
        scale = self.vae.config.scaling_factor
        self.out.update({"vae.latents": latents, "vae.decoded": self.vae.decode(latents / scale).sample, "vae.image": image,
                         "vae.mean": moments.mean, "vae.logvar": moments.logvar})

    def run(self, scheduler, steps, cfg, noise):
        scheduler.set_timesteps(steps)
        context, x = torch.cat([self.out["loop.uncond"], self.out["loop.cond"]]), noise * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            both = scheduler.scale_model_input(torch.cat([x, x]), t)
            uncond, cond = self.unet(both, t, encoder_hidden_states=context).sample.chunk(2)
            x = scheduler.step(uncond + cfg * (cond - uncond), t, x).prev_sample
        return x

    def sampling(self, steps=5, cfg=7.5):
        for i, (name, make) in enumerate(SCHEDULERS.items()):
            scheduler, noise = make(), normal(100 + i, 1, 4, self.side, self.side)
            latents = self.run(scheduler, steps, cfg, noise)
            self.out.update({f"loop.{name}.noise": noise, f"loop.{name}.latents": latents})
            self.loops[name] = dict(steps=steps, cfg=cfg, timesteps=[float(t) for t in scheduler.timesteps],
                                    sigmas=[float(s) for s in getattr(scheduler, "sigmas", [])],
                                    init_noise_sigma=float(scheduler.init_noise_sigma), config=dict(scheduler.config))
        noise = normal(120, 1, 4, self.side, self.side)
        latents = self.run(SCHEDULERS["ddim"](), 6, cfg, noise)
        image = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        image = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        self.out.update({"txt2img.noise": noise, "txt2img.latents": latents, "txt2img.image_u8": image})
        for seed in (0, 42):
            generator = torch.Generator().manual_seed(seed)
            for label, shape in (("5", (5,)), ("4x8x8", (1, 4, 8, 8)), ("19", (19,))):
                self.out[f"randn.{seed}.{label}"] = torch.randn(shape, generator=generator)

    def tokens(self, prompts):
        pad = dict(padding="max_length", max_length=77, truncation=True)
        return [dict(prompt=p, ids77=self.tokenizer(p, **pad).input_ids,
                     ids=self.tokenizer(p, add_special_tokens=False).input_ids) for p in prompts]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--prompt", action="append", default=[])
    args = parser.parse_args()
    prompts = args.prompt or ["a small red car on a green background", "two cats"]
    torch.set_num_threads(1)
    print("torch", torch.__version__, "diffusers", diffusers.__version__, "transformers", transformers.__version__)
    with torch.no_grad():
        exporter = Exporter(args.folder, args.size)
        exporter.parts(prompts)
        exporter.sampling()
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.clone().contiguous() for k, v in exporter.out.items()}
    save_file(tensors, args.out / "reference.safetensors", metadata={"torch": torch.__version__})
    (args.out / "samplers.json").write_text(json.dumps(exporter.loops, indent=1, default=str) + "\n")
    (args.out / "tokens.json").write_text(json.dumps(exporter.tokens(prompts + ["", "Don't!  Größe 12"]), indent=1) + "\n")
    print(len(tensors), "tensors written to", args.out)


if __name__ == "__main__":
    main()
