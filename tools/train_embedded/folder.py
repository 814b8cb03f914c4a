"""A diffusers folder in, its parts out, and back: reading and writing the exported model."""
import json
from pathlib import Path

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from tokenizer import Tokenizer

INDEX = {
    "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1", "feature_extractor": [None, None],
    "safety_checker": [None, None], "requires_safety_checker": False, "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
}


def read_unet(folder):
    return UNet2DConditionModel.from_pretrained(folder, subfolder="unet").float().eval()


def read_vae(folder):
    return AutoencoderKL.from_pretrained(folder, subfolder="vae").float().eval()


def read_text(folder):
    return CLIPTextModel.from_pretrained(Path(folder) / "text_encoder").float().eval()


def read_tokenizer(folder):
    return Tokenizer(Path(folder) / "tokenizer")


def read_schedule(folder):
    return DDIMScheduler.from_pretrained(folder, subfolder="scheduler")


def write(folder, unet, vae, text, schedule):
    """Writes the three networks in f16, the schedule and the index; the tokenizer is copied by the caller. Safe serialisation."""
    folder = Path(folder)
    for network, name in ((unet, "unet"), (vae, "vae"), (text, "text_encoder")):
        network.half().save_pretrained(folder / name, safe_serialization=True)
    _restore_prefix(folder / "text_encoder/model.safetensors")
    _patch(folder / "text_encoder/config.json", model_type="clip_text_model")
    schedule.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(INDEX, indent=2))


def _restore_prefix(path):
    """transformers 5 leaves out the `text_model.` that every Stable Diffusion 1.x text encoder's names start with."""
    tensors = {k if k.startswith("text_model.") else f"text_model.{k}": v.contiguous() for k, v in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def _patch(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=2))
