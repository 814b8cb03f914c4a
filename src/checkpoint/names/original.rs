//! The original (CompVis) layout of U-Net and VAE, both ways.
//!
//! It numbers the U-Net's blocks through (`input_blocks.7`), so a number's level and layer follow from the keys that
//! are there: a block that holds `.0.op.` is a downsampler and ends its level, one that holds `.1.conv.` or `.2.conv.`
//! ends with an upsampler. Models of one ResNet a level exist with gaps (three numbers a level) and without; both are
//! read.

use super::{Canonical, Portion, number, openclip, swap, swap_back, taesd};
use crate::models::text::MlpActivation;
use crate::models::unet::{UnetConfig, UnetVisit};
use crate::models::{Autoencoder, Networks, Predictor};
use std::collections::BTreeMap;

/// In front of the U-Net's names.
pub(super) const UNET: &str = "model.diffusion_model.";
/// In front of the VAE's.
pub(super) const VAE: &str = "first_stage_model.";
/// In front of the text encoder's.
pub(super) const CLIP: &str = "cond_stage_model.transformer.";

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
const UNET_ENDS: [(&str, &str); 11] = [
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("time_embed.cond_proj", "time_embedding.cond_proj"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
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
/// Where the numbered blocks of a U-Net in the original layout belong: `(level, layer)` by number.
pub(super) struct Blocks {
    input: Vec<(usize, usize)>,
    output: Vec<(usize, usize)>,
}

impl Blocks {
    /// From all names of a file.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
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

    /// A tensor below [`UNET`]; some writers keep diffusers' names there, at least for a part.
    pub(super) fn name(&self, rest: &str) -> Option<String> {
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
        if ["down_blocks.", "mid_block.", "up_blocks."].iter().any(|p| rest.starts_with(p)) {
            return Some(rest.into());
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
pub(super) fn vae_levels<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.filter_map(|n| number(n.strip_prefix("decoder.up.")?)).map(|(n, _)| n + 1).max().unwrap_or(0)
}

/// A VAE tensor of the original layout, prefix stripped.
pub(super) fn vae_name(name: &str, levels: usize) -> Option<String> {
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

/// Canonical names to original ones.
pub struct Original<'a> {
    networks: &'a Networks,
    /// What stands in front inside the U-Net, canonical and original.
    blocks: Vec<(String, String)>,
}

impl<'a> Original<'a> {
    /// The names of a model's networks.
    pub fn new(networks: &'a Networks) -> Self {
        let blocks = match &networks.predictor {
            Some(Predictor::Unet(unet)) => numbered(unet),
            None => Vec::new(),
        };
        Self { networks, blocks }
    }

    /// The tensor of the original layout that a canonical name belongs to, and what of it that is; none where there is
    /// no such tensor.
    pub fn name(&self, name: &str) -> Option<Canonical> {
        let (part, rest) = name.split_once('.')?;
        let whole = |name: String| Some(Canonical { name, view: Portion::Whole });
        match (part, &self.networks.autoencoder) {
            ("unet", _) => whole(format!("{UNET}{}", self.unet(rest)?)),
            ("vae", Some(Autoencoder::Kl(vae))) => whole(format!("{VAE}{}", vae_original(rest, vae.channels.len())?)),
            ("vae", Some(Autoencoder::Tiny(_))) if self.networks.predictor.is_some() => {
                whole(format!("{VAE}{}", taesd::back(rest)?))
            }
            ("vae", Some(Autoencoder::Tiny(_))) => whole(taesd::back(rest)?),
            ("text_encoder", _) => self.text(0, rest),
            ("text_encoder_2", _) => self.text(1, rest),
            _ => None,
        }
    }

    fn text(&self, n: usize, rest: &str) -> Option<Canonical> {
        let xl = self.networks.added().is_some();
        if self.networks.text.get(n)?.activation == MlpActivation::QuickGelu {
            let prefix = if xl { format!("conditioner.embedders.{n}.transformer.") } else { CLIP.into() };
            return Some(Canonical { name: format!("{prefix}text_model.{rest}"), view: Portion::Whole });
        }
        let prefix = if xl { format!("conditioner.embedders.{n}.model.") } else { "cond_stage_model.model.".into() };
        let (name, view) = openclip::back(rest)?;
        Some(Canonical { name: format!("{prefix}{name}"), view })
    }

    fn unet(&self, rest: &str) -> Option<String> {
        let inside = self.blocks.iter().find_map(|(canonical, original)| {
            let tail = rest.strip_prefix(canonical.as_str())?.strip_prefix('.')?;
            match canonical.contains(".resnets.") {
                true => Some(format!("{original}.{}", swap_back(tail, &RESNET)?)),
                false => Some(format!("{original}.{tail}")),
            }
        });
        inside.or_else(|| swap_back(rest, &UNET_ENDS))
    }
}

/// Every ResNet, transformer and change of resolution with its number, without gaps.
fn numbered(unet: &UnetConfig) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let (mut input, mut output, mut middle, mut inside) = (0, 0, 0, 1);
    for visit in unet.walk() {
        match visit {
            UnetVisit::Resnet { name, attention, leaves, takes, .. } => {
                let (block, first) = match (leaves, takes) {
                    (true, _) => {
                        input += 1;
                        (format!("input_blocks.{input}"), 0)
                    }
                    (false, true) => {
                        output += 1;
                        (format!("output_blocks.{}", output - 1), 0)
                    }
                    (false, false) => ("middle_block".into(), middle),
                };
                // The middle counts inside its one block.
                middle += if leaves || takes { 0 } else { 1 + usize::from(attention.is_some()) };
                all.push((name, format!("{block}.{first}")));
                inside = 1 + usize::from(attention.is_some());
                if let Some(attention) = attention {
                    all.push((attention.name, format!("{block}.{}", first + 1)));
                }
            }
            UnetVisit::Downsample { name } => {
                input += 1;
                all.push((name, format!("input_blocks.{input}.0.op")));
            }
            UnetVisit::Upsample { name } => {
                all.push((name, format!("output_blocks.{}.{inside}.conv", output.max(1) - 1)));
            }
        }
    }
    all
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
