#!/usr/bin/env python3
"""Nothing goes in, reference values of samplers on a known denoiser come out (tests/golden/sampler_values.json).

    pip install torch diffusers
    tools/export_samplers.py tests/golden/sampler_values.json

The denoiser is the best one for a Gaussian of variance 1/4 around a mean; without the prompt the mean is another. Schedulers
that diffusers has are run by diffusers in float32. The others are written down here once more, in float64, from their papers:

    ER SDE                arXiv 2309.06169, algorithm of order 3 (variance exploding), the authors' code sums 100 points, ComfyUI 200
    RES multistep         arXiv 2308.02157, second order
    Euler CFG++           arXiv 2406.08070, in variance-exploding form
    gradient estimation   arXiv 2306.04848, gamma 2
    iPNDM                 arXiv 2204.13902, as the diff-sampler collection runs it
"""
import json
import math
import sys

import diffusers
import diffusers.schedulers.scheduling_euler_ancestral_discrete as euler_ancestral
import diffusers.schedulers.scheduling_lcm as lcm
import diffusers.schedulers.scheduling_tcd as tcd
import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
)

SHAPE = (2, 4, 2, 1)
BASE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
GUIDANCE = 3.0
STEPS = 6

random = np.random.default_rng(7)
START, MEAN, UNCOND = (random.standard_normal(SHAPE).astype(np.float32) for _ in range(3))
DRAWS = random.standard_normal((STEPS, *SHAPE)).astype(np.float32)
# Uneven, and so short that every order shows.
SIGMAS = np.array([14.5, 7.0, 3.0, 1.2, 0.5, 0.1, 0.0])


def clean(x, sigma, mean):
    """The denoiser, x = clean + sigma noise."""
    return (0.25 * x + sigma**2 * mean) / (0.25 + sigma**2)


# ------------------------------------------------------------------ written down once more, x = clean + sigma noise
def guided(x, sigma, scale):
    u, c = clean(x, sigma, UNCOND.astype(float)), clean(x, sigma, MEAN.astype(float))
    return u + scale * (c - u), u


def down_up(sigma, following, eta):
    up = min(following, eta * math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2))
    return math.sqrt(following**2 - up**2), up


def er_sde(x, draws):
    scale = lambda s: s * (np.exp(s**0.3) + 10.0)
    estimates, slopes = [], []
    for i, (s, t) in enumerate(zip(SIGMAS, SIGMAS[1:])):
        estimates.append(guided(x, s, GUIDANCE)[0])
        if t == 0:
            return estimates[-1]
        r = scale(t) / scale(s)
        new = r * x + (1 - r) * estimates[-1]
        grid = t + np.arange(200) / 200 * (s - t)
        if i >= 1:
            slopes.append((estimates[i] - estimates[i - 1]) / (s - SIGMAS[i - 1]))
            new = new + (t - s + scale(t) * np.sum(1 / scale(grid)) * (s - t) / 200) * slopes[-1]
        if i >= 2:
            bend = (slopes[-1] - slopes[-2]) / ((s - SIGMAS[i - 2]) / 2)
            new = new + ((t - s) ** 2 / 2 + scale(t) * np.sum((grid - s) / scale(grid)) * (s - t) / 200) * bend
        x = new + math.sqrt(t**2 - (s * r) ** 2) * next(draws)
    return x


def res_multistep(eta):
    def run(x, draws):
        old = None
        for s, t in zip(SIGMAS, SIGMAS[1:]):
            estimate = guided(x, s, GUIDANCE)[0]
            down, up = down_up(s, t, eta)
            if old is None or down == 0:
                x = x + (x - estimate) / s * (down - s)
            else:
                h = math.log(s / down)
                phi1 = (math.exp(-h) - 1) / -h
                phi2 = (phi1 - 1) / -h
                c2 = (-math.log(old[1]) + math.log(old[2])) / h
                x = math.exp(-h) * x + h * ((phi1 - phi2 / c2) * estimate + phi2 / c2 * old[0])
            old = (estimate, s, down)
            if t > 0 and up > 0:
                x = x + up * next(draws)
        return x

    return run


def euler_cfg_pp(eta, scale):
    def run(x, draws):
        for s, t in zip(SIGMAS, SIGMAS[1:]):
            estimate, uncond = guided(x, s, scale)
            down, up = down_up(s, t, eta)
            x = estimate + down * (x - uncond) / s
            if t > 0 and up > 0:
                x = x + up * next(draws)
        return x

    return run


def extrapolated(weights):
    def run(x, _):
        slopes = []
        for s, t in zip(SIGMAS, SIGMAS[1:]):
            estimate = guided(x, s, GUIDANCE)[0]
            slopes = [(x - estimate) / s] + slopes[: len(weights) - 1]
            x = x + (t - s) * sum(w * d for w, d in zip(weights[len(slopes) - 1], slopes)) if t > 0 else estimate
        return x

    return run


ADAMS = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]]
OWN = {
    "er_sde": er_sde,
    "res_multistep": res_multistep(0.0),
    "res_multistep_ancestral": res_multistep(1.0),
    "euler_cfg_pp": euler_cfg_pp(0.0, 1.4),
    "euler_ancestral_cfg_pp": euler_cfg_pp(1.0, 1.4),
    "gradient_estimation": extrapolated([[1], [2, -1]]),
    "ipndm": extrapolated(ADAMS),
}
SCALES = {"euler_cfg_pp": 1.4, "euler_ancestral_cfg_pp": 1.4}


# ------------------------------------------------------------------ diffusers, x = sqrt(abar) clean + sqrt(1 - abar) noise
def raw(x, abar, mean, prediction):
    """What a network of this kind says of scaled latents."""
    a, b = math.sqrt(abar), math.sqrt(1 - abar)
    if a == 0:
        estimate, noise = mean.double().expand(x.shape), x.double()
    else:
        estimate = clean(x.double() / a, b / a, mean.double())
        noise = (x.double() - a * estimate) / b
    return {"epsilon": noise, "v_prediction": a * noise - b * estimate, "sample": estimate}[prediction].float()


def rescaled(m, c, phi):
    ratio = c.std(dim=(1, 2, 3), keepdim=True) / m.std(dim=(1, 2, 3), keepdim=True)
    return phi * m * ratio + (1 - phi) * m


def loop(scheduler, steps, guidance=GUIDANCE, rescale=0.0, at=None, **step):
    scheduler.set_timesteps(timesteps=at) if at else scheduler.set_timesteps(steps)
    draws = iter(torch.tensor(DRAWS))
    for module in (euler_ancestral, lcm, tcd):
        module.randn_tensor = lambda *_, **__: next(draws)
    x = torch.tensor(START) * scheduler.init_noise_sigma
    levels = getattr(scheduler, "sigmas", None)
    for i, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, t)
        abar = 1 / (1 + float(levels[i]) ** 2) if levels is not None else float(scheduler.alphas_cumprod[int(t)])
        u, c = (raw(scaled, abar, torch.tensor(m), scheduler.config.prediction_type) for m in (UNCOND, MEAN))
        m = c if guidance == 1.0 else u + guidance * (c - u)
        x = scheduler.step(rescaled(m, c, rescale) if rescale else m, t, x, **step).prev_sample
    config = {k: v for k, v in scheduler.config.items() if isinstance(v, (int, float, str, bool)) and not k.startswith("_")}
    kept = ("prediction_type", "timestep_spacing", "steps_offset", "rescale_betas_zero_snr", "set_alpha_to_one")
    return dict(
        steps=len(scheduler.timesteps), cfg=guidance, guidance_rescale=rescale,
        timesteps=[float(t) for t in scheduler.timesteps], sigmas=[] if levels is None else [float(s) for s in levels],
        init_noise_sigma=float(scheduler.init_noise_sigma), **step,
        config={"_class_name": type(scheduler).__name__, **{k: config[k] for k in kept if k in config}},
        latents=x.flatten().tolist(),
    )


def loops():
    ddim = lambda **more: DDIMScheduler(**BASE, clip_sample=False, set_alpha_to_one=False, **more)
    zero = dict(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    out = {}
    for kind in ("epsilon", "v_prediction", "sample"):
        spaced = dict(prediction_type=kind, timestep_spacing="trailing")
        out[f"euler.{kind}"] = loop(EulerDiscreteScheduler(**BASE, **spaced), 4)
        out[f"ddim.{kind}"] = loop(ddim(**spaced), 4)
        if kind != "sample":  # which that scheduler lacks
            out[f"ancestral.{kind}"] = loop(EulerAncestralDiscreteScheduler(**BASE, **spaced), 4)
        out[f"lcm.{kind}"] = loop(LCMScheduler(**BASE, prediction_type=kind), 4, 1.0)
        out[f"tcd.{kind}"] = loop(TCDScheduler(**BASE, prediction_type=kind), 4, 1.0, eta=0.3)
    for eta in (0.0, 0.6, 1.0):
        out[f"tcd.eta{eta}"] = loop(TCDScheduler(**BASE), 5, 1.0, eta=eta)
    out["hyper"] = loop(LCMScheduler(**BASE), 1, 1.0, at=[800])
    out["rescale"] = loop(EulerDiscreteScheduler(**BASE), STEPS, rescale=0.7)
    out["zero.ddim"] = loop(ddim(**zero), 5, rescale=0.7)
    out["zero.tcd"] = loop(TCDScheduler(**BASE, prediction_type="v_prediction", rescale_betas_zero_snr=True), 4, 1.0, eta=0.3)
    out["zero.euler"] = loop(EulerDiscreteScheduler(**BASE, **zero), STEPS, rescale=0.7)
    return out


def main():
    values = {}
    for name, run in OWN.items():
        x = run(START.astype(float) * SIGMAS[0], iter(DRAWS.astype(float)))
        values[name] = dict(guidance=SCALES.get(name, GUIDANCE), latents=x.flatten().tolist())
    flat = lambda a: [float(v) for v in a.flatten()]
    parts = dict(
        made_with=f"diffusers {diffusers.__version__}, torch {torch.__version__}", start=flat(START), mean=flat(MEAN),
        uncond=flat(UNCOND), draws=[flat(d) for d in DRAWS], sigmas=SIGMAS.tolist(),
    )
    lines = [f'"{k}": {json.dumps(v)}' for k, v in parts.items()]
    for key, entries in (("own", values), ("diffusers", loops())):
        body = ",\n".join(f'  "{k}": {json.dumps(v)}' for k, v in entries.items())
        lines.append(f'"{key}": {{\n{body}\n}}')
    with open(sys.argv[1], "w") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
