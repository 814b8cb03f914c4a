#!/usr/bin/env python3
"""The tiny model of tests/golden and all of its reference values, made anew; `--check` compares them with those that are there.

    pip install torch==2.15.0 diffusers==0.42.1 transformers==5.23.0 k-diffusion==0.1.1 safetensors "setuptools<80"
    tools/make_golden.py OUT [--check tests/golden]

Writes OUT/{tiny-sd/,overlay-inpaint.safetensors,reference.safetensors,samplers.json,tokens.json,tokens_extra.json}. Everything
is float32 on the CPU, one thread, with fixed seeds, from weights rounded to float16. The draws of `self.draw` come from one
generator: their order decides all values after them, so new tensors go to the end.
"""
import argparse
import json
import pathlib
import shutil
import tempfile

import diffusers
import torch
import transformers
from diffusers import (AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler,
                       KDPM2DiscreteScheduler, LMSDiscreteScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel,
                       UniPCMultistepScheduler)
from k_diffusion import sampling
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from make_full_weights import SCHEDULE as PNDM, tokenizer

TEXT = dict(vocab_size=49408, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=12,
            max_position_embeddings=77, hidden_act="quick_gelu", layer_norm_eps=1e-5, projection_dim=48)
UNET = dict(sample_size=16, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(32, 32, 64, 64),
            cross_attention_dim=48, attention_head_dim=8, norm_num_groups=32,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
VAE = dict(in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32, 32, 64), layers_per_block=2,
           down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=32,
           sample_size=128, scaling_factor=0.18215)
BASE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
OLD = dict(set_alpha_to_one=False, steps_offset=1)
DPMPP = dict(algorithm_type="dpmsolver++", solver_order=2)
SCHEDULERS = {
    "ddim": lambda: DDIMScheduler(**BASE, clip_sample=False, **OLD),
    "pndm": lambda: PNDMScheduler(**BASE, skip_prk_steps=True, **OLD),
    "euler": lambda: EulerDiscreteScheduler(**BASE, steps_offset=1, timestep_spacing="leading"),
    "euler_linspace": lambda: EulerDiscreteScheduler(**BASE, timestep_spacing="linspace"),
    "euler_karras": lambda: EulerDiscreteScheduler(**BASE, use_karras_sigmas=True),
    "heun": lambda: HeunDiscreteScheduler(**BASE),
    "dpm2": lambda: KDPM2DiscreteScheduler(**BASE),
    "lms": lambda: LMSDiscreteScheduler(**BASE),
    "dpmpp_2m": lambda: DPMSolverMultistepScheduler(**BASE, **DPMPP),
    "dpmpp_2m_karras": lambda: DPMSolverMultistepScheduler(**BASE, **DPMPP, use_karras_sigmas=True),
    "unipc": lambda: UniPCMultistepScheduler(**BASE, solver_order=2),
}
SAMPLERS = ("euler", "heun", "dpm_2", "lms", "dpmpp_2m", "euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde",
            "dpmpp_2m_sde", "dpmpp_3m_sde")
SEED, STEPS, K_STEPS, GUIDANCE = 1, 5, 6, 7.5
ROUNDING = 2e-5  # of the rms: torch's sums depend on the processor's instruction set; one level of a picture may tip over


def away_from_one(model, seed):
    """Biases and norms that are not 0 and 1, so that a forgotten one shows; then weights that float16 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.half().float()


class Golden:
    def __init__(self, tokens):
        torch.manual_seed(0)
        text, unet, vae = CLIPTextModel(CLIPTextConfig(**TEXT)), UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)
        parts = enumerate((text.eval(), unet.eval(), vae.eval()))
        self.text, self.unet, self.vae = (away_from_one(part, 10 + i) for i, part in parts)
        self.tokens, self.out, self.loops = tokens, {}, {}
        self.generator = torch.Generator().manual_seed(SEED)
        self.inpaint = self.told_the_mask()

    def told_the_mask(self):
        """The same U-Net with five channels more: the mask and the masked picture. One tensor differs, `self.overlay`."""
        own = self.unet.conv_in.weight
        more = 0.1 * torch.randn((own.shape[0], 5, *own.shape[2:]), generator=torch.Generator().manual_seed(13))
        self.overlay = torch.cat([own, more.half().float()], 1)
        unet = UNet2DConditionModel(**{**UNET, "in_channels": 9}).eval()
        unet.load_state_dict({**self.unet.state_dict(), "conv_in.weight": self.overlay})
        return unet

    def save_model(self, folder):
        parts = dict(vae=self.vae.half(), text_encoder=self.text.half(), unet=self.unet.half())
        pipe = StableDiffusionPipeline(**parts, tokenizer=self.tokens, scheduler=PNDMScheduler(**PNDM), safety_checker=None,
                                       feature_extractor=None, requires_safety_checker=False)
        pipe.save_pretrained(folder, safe_serialization=True)
        shutil.rmtree(folder / "tokenizer")  # CLIP's own, which the binary has
        for part in parts.values():
            part.float()

    def draw(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def embed(self, ids):
        hidden = self.text(torch.tensor([ids]), output_hidden_states=True)
        norm = getattr(self.text, "text_model", self.text).final_layer_norm
        return hidden.last_hidden_state, norm(hidden.hidden_states[-2])

    def texts(self, prompts):
        """text.*, tokens.json"""
        padded = [self.tokens(p, padding="max_length", max_length=77, truncation=True).input_ids for p in prompts]
        bare = [self.tokens(p, add_special_tokens=False, truncation=False).input_ids for p in prompts]
        for k in (1, 2):
            last, skipped = self.embed(padded[k])
            self.out.update({f"text.{k}.ids": torch.tensor([padded[k]]).int(), f"text.{k}.last_hidden_state": last,
                             f"text.{k}.clip_skip_2": skipped})
        self.uncond, self.cond = self.embed(padded[0])[0], self.embed(padded[1])[0]
        return [dict(prompt=p, ids77=i, ids=b) for p, i, b in zip(prompts, padded, bare)]

    def parts(self):
        """unet.*, unet9.*, vae.*"""
        cases = {"square": (1, 16, 16, [981]), "cfg": (2, 16, 24, [500, 500]), "odd": (1, 24, 8, [1]), "frac": (1, 16, 16, [417.3]),
                 "skip": (1, 20, 12, [250])}
        for name, (b, h, w, times) in cases.items():
            sample, context, times = self.draw(b, 4, h, w), self.draw(b, 77, 48), torch.tensor(times, dtype=torch.float32)
            self.call(self.unet, f"unet.{name}", sample, times, context)
            if name == "cfg":
                longer = self.draw(b, 154, 48)
                output = self.unet(sample, times, longer).sample
                self.out.update({"unet.cfg.context154": longer, "unet.cfg.output154": output})
        self.call(self.inpaint, "unet9", self.draw(1, 9, 16, 16), torch.tensor([321.]), self.draw(1, 77, 48))
        latents = self.draw(1, 4, 12, 16)
        decoded = self.vae.decode(latents / VAE["scaling_factor"]).sample
        image = self.draw(1, 3, 96, 64).clamp(-1, 1)
        moments = self.vae.encode(image).latent_dist
        self.out.update({"vae.latents": latents, "vae.decoded": decoded, "vae.image": image, "vae.mean": moments.mean,
                         "vae.logvar": moments.logvar})

    def call(self, unet, name, sample, times, context):
        output = unet(sample, times, context).sample
        self.out.update({f"{name}.sample": sample, f"{name}.timestep": times, f"{name}.context": context, f"{name}.output": output})

    def noise(self):
        """randn.*"""
        for seed in (0, 42, 2 ** 32 + 5):
            generator = torch.Generator().manual_seed(seed)
            for label, shape in (("5", (5,)), ("4x8x8", (1, 4, 8, 8)), ("19", (19,))):
                self.out[f"randn.{seed}.{label}"] = torch.randn(shape, generator=generator)

    def guided(self, unet, x, t):
        uncond, cond = unet(torch.cat([x, x]), t, torch.cat([self.uncond, self.cond])).sample.chunk(2)
        return uncond + GUIDANCE * (cond - uncond)

    def walk(self, scheduler, times, x):
        for t in times:
            x = scheduler.step(self.guided(self.unet, scheduler.scale_model_input(x, t), t), t, x).prev_sample
        return x

    def diffusers_loops(self):
        """loop.*, samplers.json"""
        self.out.update({"loop.uncond": self.uncond, "loop.cond": self.cond})
        for name, make in SCHEDULERS.items():
            scheduler = make()
            scheduler.set_timesteps(STEPS)
            noise = self.draw(1, 4, 16, 16)
            latents = self.walk(scheduler, scheduler.timesteps, noise * scheduler.init_noise_sigma)
            self.out.update({f"loop.{name}.noise": noise, f"loop.{name}.latents": latents})
            plain = {k: v for k, v in scheduler.config.items() if isinstance(v, (int, float, str, bool))}
            self.loops[name] = dict(steps=STEPS, cfg=GUIDANCE, timesteps=[float(t) for t in scheduler.timesteps],
                                    sigmas=[float(s) for s in getattr(scheduler, "sigmas", [])],
                                    init_noise_sigma=float(scheduler.init_noise_sigma), config=plain)

    def k_samplers(self):
        """k.*: k-diffusion's samplers on the exact denoiser of N(mean, 1/4)"""
        betas = torch.linspace(BASE["beta_start"] ** 0.5, BASE["beta_end"] ** 0.5, 1000) ** 2
        kept = torch.cumprod(1 - betas, 0)
        levels = ((1 - kept) / kept) ** 0.5
        self.logs, mean = levels.log(), self.draw(1, 4, 8, 8)

        def denoiser(x, sigma, **_):
            square = sigma.view(-1, 1, 1, 1) ** 2
            return (x * 0.25 + mean * square) / (0.25 + square)

        low, high = float(levels[0]), float(levels[-1])
        at = torch.linspace(999, 0, K_STEPS)
        below = at.floor().long()
        part = at - below
        uniform = ((1 - part) * self.logs[below] + part * self.logs[(below + 1).clamp(max=999)]).exp()
        self.tables = {"discrete": torch.cat([uniform, torch.zeros(1)]), "karras": sampling.get_sigmas_karras(K_STEPS, low, high),
                       "exponential": sampling.get_sigmas_exponential(K_STEPS, low, high)}
        noise = self.draw(64, 1, 4, 8, 8)
        self.out.update({"k.mean": mean, "k.noise": noise})
        for table, sigmas in self.tables.items():
            x = self.draw(1, 4, 8, 8) * sigmas[0]
            self.out.update({f"k.sigmas.{table}": sigmas, f"k.{table}.x0": x})
            for name in SAMPLERS + ("dpmpp_2m_sde_heun",):
                draws = iter(noise)
                more = dict(solver_type="heun") if name.endswith("heun") and "sde" in name else {}
                if "ancestral" in name or "sde" in name:
                    more["noise_sampler"] = lambda *_: next(draws)
                sample = getattr(sampling, "sample_" + name.removesuffix("_heun"))
                self.out[f"k.{table}.{name}"] = sample(denoiser, x.clone(), sigmas, disable=True, **more)
        x = self.out["k.discrete.x0"]
        self.out["k.dpm_fast"] = sampling.sample_dpm_fast(denoiser, x.clone(), low, high, K_STEPS, disable=True)
        self.out["k.dpm_adaptive"] = sampling.sample_dpm_adaptive(denoiser, x.clone(), low, high, disable=True)
        tables = {k: [float(v) for v in t] for k, t in self.tables.items()}
        self.loops["k"] = dict(steps=K_STEPS, sigma_min=low, sigma_max=high, tables=tables)

    def brownian(self):
        """brownian.*: the tree of the SDE samplers, noise from torch's CPU generator"""
        sigmas = self.tables["karras"]
        for seed in (0, 42):
            tree = sampling.BrownianTreeNoiseSampler(torch.zeros(1, 4, 8, 8), sigmas[sigmas > 0].min(), sigmas.max(), seed=seed)
            self.out[f"brownian.{seed}"] = torch.cat([tree(sigmas[j], sigmas[j + 1]) for j in range(K_STEPS - 1)])

    def time_of(self, sigma):
        far = sigma.log() - self.logs
        low = far.ge(0).cumsum(0).argmax().clamp(max=998)
        part = ((self.logs[low] - sigma.log()) / (self.logs[low] - self.logs[low + 1])).clamp(0, 1)
        return (1 - part) * low + part * (low + 1)

    def inpainting(self):
        """inpaint.*, inpaint9.*: Euler on the discrete table; four channels blend what is denoised, nine are told the mask"""
        sigmas, init, noise = self.tables["discrete"], self.draw(1, 4, 16, 16), self.draw(1, 4, 16, 16)
        mask = torch.zeros(1, 1, 16, 16)
        mask[..., 5:13, 3:11] = 1
        self.out.update({"inpaint.init": init, "inpaint.noise": noise, "inpaint.mask": mask})
        blend = lambda x: x * mask + init * (1 - mask)  # noqa: E731
        for name, told in (("inpaint.latents", False), ("inpaint9.latents", True)):
            x = noise * sigmas[0] if told else init + noise * sigmas[0]
            for now, after in zip(sigmas, sigmas[1:]):
                scaled = x / (now ** 2 + 1) ** 0.5
                beside = [mask, init * (1 - mask)] if told else []
                unet = self.inpaint if told else self.unet
                denoised = x - now * self.guided(unet, torch.cat([scaled, *beside], 1), self.time_of(now))
                x = x + (x - (denoised if told else blend(denoised))) / now * (after - now)
            self.out[name] = x if told else blend(x)

    def pictures(self):
        """txt2img.*, img2img.*: DDIM without noise, 6 steps, and the last 6 of 10"""
        scheduler, scale = SCHEDULERS["ddim"](), VAE["scaling_factor"]
        scheduler.set_timesteps(6)
        noise = self.draw(1, 4, 16, 24)
        latents = self.walk(scheduler, scheduler.timesteps, noise)
        image = (self.vae.decode(latents / scale).sample / 2 + 0.5).clamp(0, 1)
        self.out.update({"txt2img.noise": noise, "txt2img.latents": latents, "txt2img.image_u8": (image * 255).round().to(torch.uint8)})
        image = self.draw(1, 3, 128, 128).clamp(-1, 1)
        begin, noise = self.vae.encode(image).latent_dist.mean * scale, self.draw(1, 4, 16, 16)
        scheduler.set_timesteps(10)
        times = scheduler.timesteps[4:]
        latents = self.walk(scheduler, times, scheduler.add_noise(begin, noise, times[:1]))
        self.out.update({"img2img.image": image, "img2img.noise": noise, "img2img.latents": latents})


def near(a, b):
    """Whether two JSON values are the same, numbers but for rounding."""
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= ROUNDING * abs(b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(near(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(near, a, b))
    return a == b


def compare(new, old):
    """One line for each tensor that is not equal to the bit, and how far off it is; False if one is further than ROUNDING."""
    equal = True
    for path in sorted(p.relative_to(old) for p in old.rglob("*") if p.suffix in (".safetensors", ".json")):
        if not (new / path).exists():
            print(f"{path}: not made")
            equal = False
        elif path.suffix == ".json":
            same = near(json.loads((new / path).read_text()), json.loads((old / path).read_text()))
            print(f"{path}: {'equal' if same else 'DIFFERS'}")
            equal &= same or path.parts[0] == "tiny-sd"  # configurations name the versions that wrote them
        else:
            ours, theirs = load_file(new / path), load_file(old / path)
            differ = [k for k in sorted({*ours, *theirs}) if k not in ours or k not in theirs or not torch.equal(ours[k], theirs[k])]
            print(f"{path}: {len(theirs) - len(differ)} of {len(theirs)} tensors equal to the bit")
            for k in differ:
                if k in ours and k in theirs and ours[k].shape == theirs[k].shape:
                    levels = ours[k].dtype == torch.uint8
                    far = (ours[k].double() - theirs[k].double()).abs().max()
                    far /= 1 if levels else theirs[k].double().square().mean().sqrt()
                    print(f"  {k}: max difference {far:.1e} {'levels' if levels else 'of the rms'}")
                    equal &= bool(far <= (1 if levels else ROUNDING))
                else:
                    print(f"  {k}: only in one of them, or of another shape")
                    equal = False
    return equal


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--check", type=pathlib.Path, metavar="FOLDER", help="compare with the values in this folder")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    print("torch", torch.__version__, "diffusers", diffusers.__version__, "transformers", transformers.__version__)
    here = pathlib.Path(__file__).parent.parent / "tests/golden"
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        golden = Golden(tokenizer(folder))
    golden.save_model(args.out / "tiny-sd")
    prompts = [case["prompt"] for case in json.loads((here / "tokens.json").read_text())]
    cases = golden.texts(prompts)
    for step in (golden.parts, golden.noise, golden.diffusers_loops, golden.k_samplers, golden.brownian, golden.inpainting,
                 golden.pictures):
        step()
    extra = [case["prompt"] for case in json.loads((here / "tokens_extra.json").read_text())]
    extra = [dict(prompt=p, ids=golden.tokens(p, add_special_tokens=False, truncation=False).input_ids) for p in extra]
    tensors = {k: v.contiguous().clone() for k, v in golden.out.items()}
    save_file(tensors, args.out / "reference.safetensors", metadata={"torch": torch.__version__})
    save_file({"conv_in.weight": golden.overlay.half().contiguous()}, args.out / "overlay-inpaint.safetensors")
    (args.out / "samplers.json").write_text(json.dumps(golden.loops, indent=1) + "\n")
    (args.out / "tokens.json").write_text(json.dumps(cases, ensure_ascii=False, indent=0) + "\n")
    rows = ",\n".join(json.dumps(case) for case in extra)
    (args.out / "tokens_extra.json").write_text(f"[\n{rows}\n]\n")
    print(len(tensors), "tensors written to", args.out)
    if args.check and not compare(args.out, args.check):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
