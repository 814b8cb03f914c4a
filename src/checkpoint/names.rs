//! The names of a checkpoint's tensors, in any layout, to the one canonical naming, and back to the original layout.
//!
//! Canonical is diffusers' naming with the component in front. The original (CompVis) layout numbers the U-Net's blocks
//! through (`input_blocks.7`), so a number's level and layer follow from the keys that are there: a block that holds
//! `.0.op.` is a downsampler and ends its level, one that holds `.1.conv.` or `.2.conv.` ends with an upsampler.

use crate::error::escape;
use crate::models::unet::UnetConfig;
use crate::models::{Autoencoder, Networks, Predictor};
use std::collections::BTreeMap;

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";
const CLIP: &str = "cond_stage_model.transformer.";

/// Original and diffusers' names inside a U-Net ResNet.
const RESNET: [(&str, &str); 6] = [
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];
/// The same for what surrounds the U-Net's levels.
const UNET_ENDS: [(&str, &str); 8] = [
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
    ("middle_block.1", "mid_block.attentions.0"),
    ("middle_block.0", "mid_block.resnets.0"),
    ("middle_block.2", "mid_block.resnets.1"),
];
/// The VAE's middle and ends, below `encoder.` or `decoder.`.
const VAE_ENDS: [(&str, &str); 6] = [
    ("conv_in", "conv_in"),
    ("conv_out", "conv_out"),
    ("norm_out", "conv_norm_out"),
    ("mid.attn_1", "mid_block.attentions.0"),
    ("mid.block_1", "mid_block.resnets.0"),
    ("mid.block_2", "mid_block.resnets.1"),
];
/// Inside the VAE's ResNets.
const VAE_RESNET: [(&str, &str); 5] =
    [("norm1", "norm1"), ("conv1", "conv1"), ("norm2", "norm2"), ("conv2", "conv2"), ("nin_shortcut", "conv_shortcut")];
/// Inside the VAE's attention.
const VAE_ATTENTION: [(&str, &str); 5] =
    [("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")];
/// Diffusers' own older names of the same.
const VAE_ATTENTION_OLD: [(&str, &str); 4] =
    [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];

/// Replaces the leading path `from` by `to` for the first pair that fits.
fn swap(rest: &str, pairs: &[(&str, &str)]) -> Option<String> {
    pairs.iter().find_map(|(from, to)| {
        let tail = rest.strip_prefix(from)?;
        tail.starts_with('.').then(|| format!("{to}{tail}"))
    })
}

/// The same from right to left.
fn swap_back(rest: &str, pairs: &[(&str, &str)]) -> Option<String> {
    pairs.iter().find_map(|(to, from)| {
        let tail = rest.strip_prefix(from)?;
        tail.starts_with('.').then(|| format!("{to}{tail}"))
    })
}

/// `12.rest` to `(12, rest)`. Numbers are capped: no model of the family has a thousand blocks.
fn number(text: &str) -> Option<(usize, &str)> {
    let (n, rest) = text.split_once('.')?;
    Some((n.parse().ok().filter(|&n| n < 1000)?, rest))
}

/// Where the numbered blocks of a U-Net in the original layout belong: `(level, layer)` by number.
struct Blocks {
    input: Vec<(usize, usize)>,
    output: Vec<(usize, usize)>,
}

impl Blocks {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        // By number, whether the block ends its level.
        let (mut input, mut output) = (BTreeMap::new(), BTreeMap::new());
        for name in names.filter_map(|n| n.strip_prefix(UNET)) {
            if let Some((n, rest)) = name.strip_prefix("input_blocks.").and_then(number) {
                *input.entry(n).or_insert(false) |= rest.starts_with("0.op.");
            } else if let Some((n, rest)) = name.strip_prefix("output_blocks.").and_then(number) {
                *output.entry(n).or_insert(false) |= rest.starts_with("1.conv.") || rest.starts_with("2.conv.");
            }
        }
        input.remove(&0);
        let mut input = Self::places(&input, 1);
        input.insert(0, (0, 0));
        Self { input, output: Self::places(&output, 0) }
    }

    fn places(ends: &BTreeMap<usize, bool>, first: usize) -> Vec<(usize, usize)> {
        let count = ends.last_key_value().map_or(first, |(&n, _)| n + 1);
        let mut at = (0, 0);
        (first..count)
            .map(|n| {
                let here = at;
                // A missing block counts as a plain one, so that the error names it and not its neighbours.
                at = if ends.get(&n) == Some(&true) { (at.0 + 1, 0) } else { (at.0, at.1 + 1) };
                here
            })
            .collect()
    }

    fn name(&self, rest: &str) -> Option<String> {
        if let Some((n, rest)) = rest.strip_prefix("input_blocks.").and_then(number).filter(|&(n, _)| n > 0) {
            let &(level, layer) = self.input.get(n)?;
            if let Some(tail) = rest.strip_prefix("0.op.") {
                return Some(format!("down_blocks.{level}.downsamplers.0.conv.{tail}"));
            }
            return Self::inside(&format!("down_blocks.{level}"), layer, rest);
        }
        if let Some((n, rest)) = rest.strip_prefix("output_blocks.").and_then(number) {
            let &(level, layer) = self.output.get(n)?;
            if let Some(tail) = rest.strip_prefix("1.conv.").or_else(|| rest.strip_prefix("2.conv.")) {
                return Some(format!("up_blocks.{level}.upsamplers.0.conv.{tail}"));
            }
            return Self::inside(&format!("up_blocks.{level}"), layer, rest);
        }
        let end = swap(rest, &UNET_ENDS)?;
        match end.strip_prefix("mid_block.resnets.").and_then(number) {
            Some((n, inner)) => Some(format!("mid_block.resnets.{n}.{}", swap(inner, &RESNET)?)),
            None => Some(end),
        }
    }

    fn inside(block: &str, layer: usize, rest: &str) -> Option<String> {
        match number(rest)? {
            (0, inner) => Some(format!("{block}.resnets.{layer}.{}", swap(inner, &RESNET)?)),
            (1, inner) => Some(format!("{block}.attentions.{layer}.{inner}")),
            _ => None,
        }
    }
}

/// The number of decoder levels: the original layout counts them from the full resolution, diffusers from the smallest.
fn vae_levels<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.filter_map(|n| number(n.strip_prefix("decoder.up.")?)).map(|(n, _)| n + 1).max().unwrap_or(0)
}

/// A VAE tensor of the original layout, prefix stripped.
fn vae_name(name: &str, levels: usize) -> Option<String> {
    if name.starts_with("quant_conv.") || name.starts_with("post_quant_conv.") {
        return Some(format!("vae.{name}"));
    }
    let (side, rest) = name.split_once('.')?;
    if !matches!(side, "encoder" | "decoder") {
        return None;
    }
    let inner = if let Some((level, rest)) = rest.strip_prefix("down.").and_then(number) {
        vae_level(&format!("down_blocks.{level}"), rest)?
    } else if let Some((level, rest)) = rest.strip_prefix("up.").and_then(number) {
        vae_level(&format!("up_blocks.{}", levels.checked_sub(level + 1)?), rest)?
    } else {
        let end = swap(rest, &VAE_ENDS)?;
        if let Some(inner) = end.strip_prefix("mid_block.attentions.0.") {
            format!("mid_block.attentions.0.{}", swap(inner, &VAE_ATTENTION)?)
        } else {
            end
        }
    };
    Some(format!("vae.{side}.{inner}"))
}

fn vae_level(block: &str, rest: &str) -> Option<String> {
    if let Some(tail) = rest.strip_prefix("downsample.") {
        return Some(format!("{block}.downsamplers.0.{tail}"));
    }
    if let Some(tail) = rest.strip_prefix("upsample.") {
        return Some(format!("{block}.upsamplers.0.{tail}"));
    }
    let (layer, inner) = number(rest.strip_prefix("block.")?)?;
    Some(format!("{block}.resnets.{layer}.{}", swap(inner, &VAE_RESNET)?))
}

/// A tensor of a diffusers component (`unet`, `vae`, `text_encoder`), with or without older names.
pub fn component(part: &str, name: &str) -> Option<String> {
    let name = match part {
        "text_encoder" => name.strip_prefix("text_model.").unwrap_or(name),
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

/// The canonical names of a single file's tensors; none for what the model does not
/// need (schedule buffers, EMA copies).
///
/// # Errors
/// A sentence when the names show a kind of file that is known and not read.
pub fn single_file(names: &[&str]) -> Result<Vec<Option<String>>, String> {
    refuse_other_kinds(names)?;
    let blocks = Blocks::new(names.iter().copied());
    let levels = vae_levels(names.iter().filter_map(|n| n.strip_prefix(VAE)));
    Ok(names
        .iter()
        .map(|name| {
            if let Some(rest) = name.strip_prefix(UNET) {
                blocks.name(rest).map(|n| format!("unet.{n}"))
            } else if let Some(rest) = name.strip_prefix(VAE) {
                vae_name(rest, levels)
            } else if let Some(rest) = name.strip_prefix(CLIP) {
                component("text_encoder", rest)
            } else {
                let (part, rest) = name.split_once('.')?;
                matches!(part, "unet" | "vae" | "text_encoder").then(|| component(part, rest))?
            }
        })
        .collect())
}

/// The canonical names of a file that holds a VAE: `first_stage_model.`, `vae.`, or bare in either layout.
pub fn vae_file(names: &[&str]) -> Vec<Option<String>> {
    let prefix = [VAE, "vae."].into_iter().find(|p| names.iter().any(|n| n.starts_with(p))).unwrap_or("");
    let bare: Vec<Option<&str>> = names.iter().map(|n| n.strip_prefix(prefix)).collect();
    let levels = vae_levels(bare.iter().copied().flatten());
    let diffusers = bare.iter().flatten().any(|n| n.contains("mid_block."));
    bare.into_iter().map(|name| if diffusers { component("vae", name?) } else { vae_name(name?, levels) }).collect()
}

fn refuse_other_kinds(names: &[&str]) -> Result<(), String> {
    let any = |prefix: &str| names.iter().any(|n| n.starts_with(prefix));
    let unet = |part: &str| any(&format!("{UNET}{part}"));
    let only = "only the Stable Diffusion 1.x family is";
    if any("conditioner.embedders.") || any("text_encoder_2.") || unet("label_emb.") {
        return Err(format!("is an SDXL checkpoint; SDXL is not supported, {only}"));
    }
    if any("cond_stage_model.model.") {
        return Err("is an SD 2.x checkpoint in the original layout; use its diffusers folder instead".into());
    }
    if unet("joint_blocks.") || unet("double_blocks.") || any("double_blocks.") || any("joint_blocks.") {
        return Err(format!("is a transformer checkpoint (SD 3, Flux); {only} supported"));
    }
    if any("lora_") || names.iter().any(|n| n.contains(".lora_")) {
        return Err("is a LoRA, not a checkpoint; give the checkpoint that it belongs to".into());
    }
    if any("control_model.") || any("controlnet_cond_embedding.") {
        return Err("is a ControlNet, not a checkpoint; give the checkpoint itself".into());
    }
    if !any(UNET) && !any("unet.") {
        let part = [("down_blocks.", "U-Net"), ("encoder.down", "VAE"), (VAE, "VAE"), ("text_model.", "text encoder")]
            .into_iter()
            .find(|(prefix, _)| any(prefix));
        return Err(match part {
            Some((_, part)) => format!("holds only a {part}; give a whole checkpoint or its diffusers folder"),
            None => {
                let first = names.first().map_or_else(|| "nothing".into(), |n| escape(n));
                format!("is not a Stable Diffusion checkpoint: it has no {UNET}* (its first tensor: {first})")
            }
        });
    }
    Ok(())
}

/// A canonical name in the original layout.
pub fn original(name: &str, networks: &Networks) -> Option<String> {
    let (part, rest) = name.split_once('.')?;
    match (part, &networks.predictor, &networks.autoencoder) {
        ("unet", Some(Predictor::Unet(unet)), _) => Some(format!("{UNET}{}", unet_original(rest, unet)?)),
        ("vae", _, Some(Autoencoder::Kl(vae))) => Some(format!("{VAE}{}", vae_original(rest, vae.channels.len())?)),
        ("text_encoder", ..) => Some(format!("{CLIP}text_model.{rest}")),
        _ => None,
    }
}

fn unet_original(rest: &str, unet: &UnetConfig) -> Option<String> {
    let inner = |kind: &str, tail: &str| match kind {
        "resnets" => Some(format!("0.{}", swap_back(tail, &RESNET)?)),
        "attentions" => Some(format!("1.{tail}")),
        _ => None,
    };
    if let Some((level, kind, layer, tail)) = rest.strip_prefix("down_blocks.").and_then(place) {
        let first = level * (unet.blocks + 1) + 1;
        return Some(match kind {
            "downsamplers" => format!("input_blocks.{}.0.op.{}", first + unet.blocks, tail.strip_prefix("conv.")?),
            _ => format!("input_blocks.{}.{}", first + layer, inner(kind, tail)?),
        });
    }
    if let Some((level, kind, layer, tail)) = rest.strip_prefix("up_blocks.").and_then(place) {
        let first = level * (unet.blocks + 1);
        let attention = unet.levels.get(unet.levels.len().checked_sub(level + 1)?)?.attention;
        return Some(match kind {
            "upsamplers" => format!("output_blocks.{}.{}.{tail}", first + unet.blocks, 1 + usize::from(attention)),
            _ => format!("output_blocks.{}.{}", first + layer, inner(kind, tail)?),
        });
    }
    let end = swap_back(rest, &UNET_ENDS)?;
    match end.strip_prefix("middle_block.").and_then(number) {
        Some((n, tail)) if n != 1 => Some(format!("middle_block.{n}.{}", swap_back(tail, &RESNET)?)),
        _ => Some(end),
    }
}

fn vae_original(rest: &str, levels: usize) -> Option<String> {
    let Some((side @ ("encoder" | "decoder"), rest)) = rest.split_once('.') else { return Some(rest.into()) };
    for (block, short) in [("down_blocks.", "down"), ("up_blocks.", "up")] {
        let Some((level, kind, layer, tail)) = rest.strip_prefix(block).and_then(place) else { continue };
        let level = if short == "up" { levels.checked_sub(level + 1)? } else { level };
        return Some(match kind {
            "resnets" => format!("{side}.{short}.{level}.block.{layer}.{}", swap_back(tail, &VAE_RESNET)?),
            _ => format!("{side}.{short}.{level}.{}.{tail}", kind.strip_suffix("rs")?),
        });
    }
    let end = swap_back(rest, &VAE_ENDS)?;
    Some(match end.strip_prefix("mid.attn_1.") {
        Some(tail) => format!("{side}.mid.attn_1.{}", swap_back(tail, &VAE_ATTENTION)?),
        None => format!("{side}.{end}"),
    })
}

/// `2.resnets.0.conv1.weight` to `(2, "resnets", 0, "conv1.weight")`.
fn place(text: &str) -> Option<(usize, &str, usize, &str)> {
    let (level, rest) = number(text)?;
    let (kind, rest) = rest.split_once('.')?;
    let (layer, tail) = number(rest)?;
    Some((level, kind, layer, tail))
}
