"""Settings in, the untrained text encoder, U-Net, VAE and noise schedule out: diffusers' and transformers' own classes."""
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel

SCALING = 0.18215             # Stable Diffusion's; the latents' own scale is folded into the VAE (encode_latents.fold)
LATENT = 16                   # latents are 16 x 16 in every preset
SCHEDULE = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1,
}


def vae(settings):
    """The KL autoencoder: one level per entry of `model.vae`, each but the first halves the side."""
    m = settings.model
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, act_fn="silu", sample_size=settings.size, block_out_channels=m.vae,
        layers_per_block=m.vae_layers, norm_num_groups=m.vae_groups, down_block_types=["DownEncoderBlock2D"] * len(m.vae),
        up_block_types=["UpDecoderBlock2D"] * len(m.vae), scaling_factor=SCALING,
    )


def unet(settings):
    """The U-Net: attention on every level but the last, as Stable Diffusion."""
    m = settings.model
    attending = len(m.unet) - 1
    return UNet2DConditionModel(
        sample_size=LATENT, in_channels=4, out_channels=4, cross_attention_dim=m.text_width, act_fn="silu", block_out_channels=m.unet,
        layers_per_block=m.unet_layers, norm_num_groups=32, attention_head_dim=m.unet_heads,
        down_block_types=["CrossAttnDownBlock2D"] * attending + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * attending,
    )


def text(settings, vocabulary):
    """CLIP's text transformer for `vocabulary` tokens, of which the last two are start and end."""
    m = settings.model
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=vocabulary, max_position_embeddings=77, hidden_act="quick_gelu", hidden_size=m.text_width,
        projection_dim=m.text_width, intermediate_size=4 * m.text_width, num_hidden_layers=m.text_layers,
        num_attention_heads=m.text_heads, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1,
    ))


def schedule(settings):
    """DDIM on Stable Diffusion's schedule, for a network that predicts what `settings` says: `epsilon` or `v_prediction`."""
    return DDIMScheduler(**SCHEDULE, prediction_type=settings.diffusion.prediction)


def plain_attention(network):
    """Attention as two matrix products: in bfloat16 on a CPU torch's fused attention spends 40% of a training step in its backward pass
    (in float32 it is the faster one)."""
    network.set_attn_processor(AttnProcessor())
    return network


def dtype(settings):
    """What the networks compute in: bfloat16, but float32 on a CPU without AVX-512, where bfloat16 is emulated (14 times slower)."""
    slow = torch.device(settings.device).type == "cpu" and "AVX512" not in torch.backends.cpu.get_cpu_capability()
    return torch.float32 if slow else torch.bfloat16


def autocast(settings):
    """bfloat16 arithmetic on the preset's device, where it is fast (dtype)."""
    fast = dtype(settings) == torch.bfloat16
    return torch.autocast(torch.device(settings.device).type, torch.bfloat16, enabled=fast)


def to_unit(pictures, device):
    """uint8 [n, h, w, 3] to float [n, 3, h, w] in [-1, 1]."""
    return torch.as_tensor(pictures).to(device).float().permute(0, 3, 1, 2) / 127.5 - 1


def to_bytes(images):
    """float [n, 3, h, w] in [-1, 1] to uint8 [n, h, w, 3] as numpy."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
