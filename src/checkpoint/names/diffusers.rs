//! The names of diffusers' components: ours but for older ones and for what is in front.

use super::swap;

/// Diffusers' own older names of the same.
const VAE_ATTENTION_OLD: [(&str, &str); 4] =
    [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];

/// A tensor of a diffusers component (`unet`, `vae`, `text_encoder`), with or without older names.
pub fn component(part: &str, name: &str) -> Option<String> {
    let name = match part {
        "text_encoder" | "text_encoder_2" => name.strip_prefix("text_model.").unwrap_or(name),
        _ => name,
    };
    if name.ends_with("position_ids") {
        return None;
    }
    let attention = name.split_once("mid_block.attentions.0.").filter(|_| part == "vae");
    if let Some((side, inner)) = attention
        && let Some(new) = swap(inner, &VAE_ATTENTION_OLD)
    {
        return Some(format!("vae.{side}mid_block.attentions.0.{new}"));
    }
    Some(format!("{part}.{name}"))
}
