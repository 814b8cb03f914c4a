//! Latents to pixels and back: the KL autoencoder.

use crate::error::Result;
use crate::graph::{Builder, Graph, Operand};
use crate::kernels::conv2d::Pad;
use crate::layers::{Bias, Norm, attention_block, conv2d, downsample, group_norm, linear, resnet, silu, upsample};
use crate::models::part;
use crate::tensor::Shape;

/// GroupNorm's epsilon everywhere in the VAE.
const EPS: f32 = 1e-6;

/// The shape of a VAE.
#[derive(Clone, Debug, PartialEq)]
pub struct KlConfig {
    /// Channels of each level, full resolution first.
    pub channels: Vec<usize>,
    /// ResNets per level in the encoder (the decoder has one more).
    pub blocks: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// GroupNorm groups.
    pub groups: usize,
    /// Latents are multiplied by this after encoding and divided by it before decoding.
    pub scaling: f32,
    /// What is taken from latents after encoding, before they are multiplied.
    pub shift: f32,
    /// Whether pixels can be turned into latents; some files hold the decoder alone.
    pub encodes: bool,
}

impl Default for KlConfig {
    /// SD 1.x's.
    fn default() -> Self {
        Self {
            channels: vec![128, 256, 512, 512],
            blocks: 2,
            latent_channels: 4,
            groups: 32,
            scaling: 0.18215,
            shift: 0.0,
            encodes: true,
        }
    }
}

impl KlConfig {
    /// Pixels per latent along a side: 8 for four levels.
    pub fn factor(&self) -> usize {
        1 << (self.channels.len() - 1)
    }
}

/// The *decode* plan: `latents [b, h, w, 4]`, already divided by the scaling factor, to `image [b, f h, f w, 3]` in
/// [-1, 1], not clamped.
pub fn decode(cfg: &KlConfig, b: usize, h: usize, w: usize) -> Result<Graph> {
    let mut g = Builder::new("decode", "vae");
    let g = &mut g;
    let norm = Norm { groups: cfg.groups, eps: EPS };
    let z = g.input(part::decode::LATENTS, Shape::new(b, h, w, cfg.latent_channels));
    let z = linear(g, "post_quant_conv", z, cfg.latent_channels, Bias::Yes)?;
    let image = g.scope("decoder", |g| {
        let deepest = cfg.channels.last().copied().unwrap_or(0);
        let x = conv2d(g, "conv_in", z, deepest)?;
        let mut x = mid_block(g, x, norm)?;
        for (i, &c) in cfg.channels.iter().rev().enumerate() {
            for r in 0..=cfg.blocks {
                x = resnet(g, &format!("up_blocks.{i}.resnets.{r}"), x, c, norm, None)?;
            }
            if i + 1 < cfg.channels.len() {
                let size = (2 * x.shape.h, 2 * x.shape.w);
                x = upsample(g, &format!("up_blocks.{i}.upsamplers.0.conv"), x, size)?;
            }
        }
        output(g, x, 3, norm)
    })?;
    g.output(part::decode::IMAGE, image);
    Ok(std::mem::take(g).finish())
}

/// The *encode* plan: `image [b, h, w, 3]` in [-1, 1] to `moments [b, h/f, w/f, 8]`: the mean, then the log-variance.
pub fn encode(cfg: &KlConfig, b: usize, h: usize, w: usize) -> Result<Graph> {
    let mut g = Builder::new("encode", "vae");
    let g = &mut g;
    let norm = Norm { groups: cfg.groups, eps: EPS };
    let image = g.input(part::encode::IMAGE, Shape::new(b, h, w, 3));
    let moments = g.scope("encoder", |g| {
        let mut x = conv2d(g, "conv_in", image, cfg.channels.first().copied().unwrap_or(0))?;
        for (i, &c) in cfg.channels.iter().enumerate() {
            for r in 0..cfg.blocks {
                x = resnet(g, &format!("down_blocks.{i}.resnets.{r}"), x, c, norm, None)?;
            }
            if i + 1 < cfg.channels.len() {
                x = downsample(g, &format!("down_blocks.{i}.downsamplers.0.conv"), x, Pad::After)?;
            }
        }
        let x = mid_block(g, x, norm)?;
        output(g, x, 2 * cfg.latent_channels, norm)
    })?;
    let moments = linear(g, "quant_conv", moments, 2 * cfg.latent_channels, Bias::Yes)?;
    g.output(part::encode::MOMENTS, moments);
    Ok(std::mem::take(g).finish())
}

/// ResNet, attention, ResNet at the lowest resolution.
fn mid_block(g: &mut Builder, x: Operand, norm: Norm) -> Result<Operand> {
    let c = x.shape.c;
    let x = resnet(g, "mid_block.resnets.0", x, c, norm, None)?;
    let x = attention_block(g, "mid_block.attentions.0", x, norm)?;
    resnet(g, "mid_block.resnets.1", x, c, norm, None)
}

/// Norm, SiLU and the last convolution.
fn output(g: &mut Builder, x: Operand, n: usize, norm: Norm) -> Result<Operand> {
    let x = group_norm(g, "conv_norm_out", x, norm.groups, norm.eps)?;
    let x = silu(g, "conv_norm_out", x)?;
    conv2d(g, "conv_out", x, n)
}
