#!/usr/bin/env python3
"""One peer, one piece of work, in a process of its own: loads, warms up, times; the last line of its output is JSON.

Started by compare_peers.py inside its virtual environment. `--export` writes OpenVINO's files instead.
"""
import argparse
import json
import os
import sys
import time
import warnings

PROMPT = "a red apple on a blue background"


def timed(args, work):
    """Seconds of each run after one that warms up."""
    work()
    runs = []
    for _ in range(args.runs):
        start = time.perf_counter()
        result = work()
        runs.append(time.perf_counter() - start)
    return runs, result




def torch_inputs(args):
    """Seeded inputs of each part: a guided step is a batch of two."""
    import torch
    torch.manual_seed(1)
    side = args.size // 8
    return {
        "step": (torch.randn(2, 4, side, side), torch.tensor([500.0, 500.0]), torch.randn(2, 77, 768)),
        "decode": (torch.randn(1, 4, side, side),),
        "text": (torch.randint(0, 49405, (2, 77)),),
    }


def torch_modules(args, dtype):
    """A module for each part, of plain tensors in and out."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    class Unet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = UNet2DConditionModel.from_pretrained(args.diffusers, subfolder="unet", torch_dtype=dtype)

        def forward(self, latents, timestep, context):
            return self.unet(latents, timestep, context, return_dict=False)[0]

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = AutoencoderKL.from_pretrained(args.diffusers, subfolder="vae", torch_dtype=dtype)
            self.vae.encoder = None

        def forward(self, latents):
            return self.vae.decode(latents, return_dict=False)[0]

    class Text(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.text = CLIPTextModel.from_pretrained(args.diffusers, subfolder="text_encoder", torch_dtype=dtype)

        def forward(self, ids):
            return self.text(ids, return_dict=False)[0]

    return {"step": Unet, "decode": Decoder, "text": Text}


def run_torch(args):
    import torch
    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    channels_last = args.peer == "torch-cl"
    begun = time.perf_counter()
    with torch.inference_mode():
        if args.part == "txt2img":
            from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline
            pipe = StableDiffusionPipeline.from_pretrained(
                args.diffusers, torch_dtype=dtype, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
            pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
            pipe.set_progress_bar_config(disable=True)
            if channels_last:
                pipe.unet.to(memory_format=torch.channels_last)
                pipe.vae.to(memory_format=torch.channels_last)
            load = time.perf_counter() - begun
            start = time.perf_counter()
            pipe(PROMPT, num_inference_steps=args.steps, guidance_scale=7.5, height=args.size, width=args.size,
                 generator=torch.Generator().manual_seed(1))
            return {"runs_s": [time.perf_counter() - start], "load_s": load}
        module = torch_modules(args, dtype)[args.part]().eval()
        inputs = [x.to(dtype) if x.is_floating_point() else x for x in torch_inputs(args)[args.part]]
        if channels_last:
            module = module.to(memory_format=torch.channels_last)
            inputs = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs]
        load = time.perf_counter() - begun
        runs, y = timed(args, lambda: module(*inputs))
    return {"runs_s": runs, "load_s": load, "output_rms": y.float().pow(2).mean().sqrt().item()}


def openvino_file(args, part):
    return os.path.join(args.openvino, f"{part}-{args.size}.xml")


def export_openvino(args):
    """Traces each part with torch and stores it as OpenVINO's own files, weights as f16."""
    import openvino
    import torch
    os.makedirs(args.openvino, exist_ok=True)
    for part in args.part.split(","):
        path = openvino_file(args, part)
        if not os.path.exists(path):
            module = torch_modules(args, torch.float32)[part]().eval()
            inputs = torch_inputs(args)[part]
            with torch.no_grad():
                model = openvino.convert_model(module, example_input=inputs, input=[tuple(x.shape) for x in inputs])
            openvino.save_model(model, path, compress_to_fp16=True)
            print(path, file=sys.stderr)


def run_openvino(args):
    import numpy
    import openvino
    begun = time.perf_counter()
    core = openvino.Core()
    config = {"INFERENCE_NUM_THREADS": args.threads, "PERFORMANCE_HINT": "LATENCY",
              "INFERENCE_PRECISION_HINT": "bf16" if args.precision == "bf16" else "f32"}

    def compiled(part):
        model = core.compile_model(openvino_file(args, part), "CPU", config)
        return lambda *inputs: model(list(inputs))[0]

    if args.part != "txt2img":
        model = compiled(args.part)
        inputs = [x.numpy() for x in torch_inputs(args)[args.part]]
        load = time.perf_counter() - begun
        runs, y = timed(args, lambda: model(*inputs))
        return {"runs_s": runs, "load_s": load, "output_rms": float(numpy.sqrt(numpy.mean(numpy.square(y))))}

    import torch
    from diffusers import EulerAncestralDiscreteScheduler
    from transformers import CLIPTokenizer
    text, unet, decode = compiled("text"), compiled("step"), compiled("decode")
    tokenizer = CLIPTokenizer.from_pretrained(args.diffusers, subfolder="tokenizer")
    scheduler = EulerAncestralDiscreteScheduler.from_pretrained(args.diffusers, subfolder="scheduler")
    load = time.perf_counter() - begun
    start = time.perf_counter()
    ids = tokenizer(["", PROMPT], padding="max_length", max_length=77, truncation=True, return_tensors="np").input_ids
    context = text(ids)
    scheduler.set_timesteps(args.steps)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 4, args.size // 8, args.size // 8, generator=generator) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(torch.cat([latents] * 2), t).numpy()
        uncond, cond = torch.from_numpy(unet(x, numpy.full(2, float(t), numpy.float32), context)).chunk(2)
        latents = scheduler.step(uncond + 7.5 * (cond - uncond), t, latents, generator=generator).prev_sample
    decode((latents / 0.18215).numpy())
    return {"runs_s": [time.perf_counter() - start], "load_s": load}


def run_sdcpp(args):
    """stable-diffusion.cpp makes whole pictures only; the parts' times are read from its log."""
    from stable_diffusion_cpp import StableDiffusion
    begun = time.perf_counter()
    model = StableDiffusion(model_path=args.checkpoint, n_threads=args.threads, rng_type="cuda", verbose=True)
    load = time.perf_counter() - begun
    start = time.perf_counter()
    steps = args.steps if args.part == "txt2img" else 1
    model.generate_image(prompt=PROMPT, negative_prompt="", cfg_scale=7.5, sample_method="euler_a", sample_steps=steps,
                         width=args.size, height=args.size, seed=1)
    return {"runs_s": [time.perf_counter() - start], "load_s": load, "steps": steps}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=["torch", "torch-cl", "openvino", "sdcpp"], required=True)
    parser.add_argument("--part", required=True)
    parser.add_argument("--export", action="store_true")
    for name in ("threads", "size", "steps", "runs"):
        parser.add_argument("--" + name, type=int, required=True)
    for name in ("precision", "diffusers", "checkpoint", "openvino"):
        parser.add_argument("--" + name, required=True)
    args = parser.parse_args()
    # Tracers and loaders warn at length about what does not matter here.
    warnings.filterwarnings("ignore")
    if args.export:
        return export_openvino(args)
    run = {"torch": run_torch, "torch-cl": run_torch, "openvino": run_openvino, "sdcpp": run_sdcpp}[args.peer]
    print("\n" + json.dumps(run(args)), flush=True)


if __name__ == "__main__":
    main()
