//! Names that show a kind of file which is known and not read here, to a sentence that says so.

use super::original::{UNET, VAE};
use crate::error::escape;

/// What a U-Net's family lacks and others have.
const OTHERS: [(&str, &str); 7] = [
    ("joint_blocks.", "a transformer checkpoint (SD 3)"),
    ("double_blocks.", "a transformer checkpoint (Flux)"),
    ("single_transformer_blocks.", "a transformer checkpoint (Flux)"),
    ("encoder_hid_proj.", "a checkpoint with another text encoder (Kolors)"),
    ("time_mix", "a video checkpoint (SVD)"),
    ("time_stack.", "a video checkpoint (SVD)"),
    ("class_embedding.", "a checkpoint with classes (unCLIP)"),
];

/// Nothing for what may be a model of the family.
///
/// # Errors
/// A sentence that lacks the file's name.
pub(super) fn other_kinds(names: &[&str]) -> Result<(), String> {
    let any = |prefix: &str| names.iter().any(|n| n.starts_with(prefix));
    let part = |what: &str| names.iter().any(|n| n.starts_with(what) || n.contains(&format!(".{what}")));
    let only = "only the Stable Diffusion 1.x, 2.x and SDXL family is supported";
    if let Some((_, what)) = OTHERS.iter().find(|(marker, _)| part(marker)) {
        return Err(format!("is {what}; {only}"));
    }
    if names.iter().any(|n| matches!(*n, "edm_mean" | "edm_std")) {
        return Err(format!("is a Playground v2.5 checkpoint, whose latents have other statistics; {only}"));
    }
    if any("edm_vpred.") {
        return Err(format!("is a CosXL checkpoint, which has another noise schedule; {only}"));
    }
    if any("lora_") || names.iter().any(|n| n.contains(".lora_")) {
        return Err("is a LoRA, not a checkpoint; give the checkpoint that it belongs to".into());
    }
    if any("control_model.") || any("controlnet_cond_embedding.") {
        return Err("is a ControlNet, not a checkpoint; give the checkpoint itself".into());
    }
    if any(UNET) || any("unet.") {
        return Ok(());
    }
    if any("model_ema.") {
        return Err("holds only the averaged (EMA) weights of a U-Net under their training names; \
                    use the checkpoint as it was published for use"
            .into());
    }
    let parts = [
        ("down_blocks.", "U-Net"),
        ("encoder.down", "VAE"),
        (VAE, "VAE"),
        ("decoder.layers.", "VAE"),
        ("text_model.", "text encoder"),
    ];
    Err(match parts.into_iter().find(|(prefix, _)| any(prefix)) {
        Some((_, part)) => format!("holds only a {part}; give a whole checkpoint or its diffusers folder"),
        None => {
            let first = names.first().map_or_else(|| "nothing".into(), |n| escape(n));
            format!("is not a Stable Diffusion checkpoint: it has no {UNET}* (its first tensor: {first})")
        }
    })
}
