//! Latents to pixels and back in a twentieth of the work: the tiny autoencoder (TAESD, Bohan 2023).
//!
//! It works on latents as the sampler has them. Inside, pixels are 0 to 1; at its borders they are -1 to 1 as
//! everywhere.

use crate::error::Result;
use crate::graph::{Builder, Graph, Operand};
use crate::kernels::Activation;
use crate::kernels::conv2d::Pad;
use crate::layers::conv::{downsample_no_bias, upsample_no_bias};
use crate::layers::linear::activate;
use crate::layers::{add, conv2d};
use crate::models::part;
use crate::tensor::Shape;

/// The shape of a tiny autoencoder.
#[derive(Clone, Debug, PartialEq)]
pub struct TinyConfig {
    /// Channels everywhere inside.
    pub channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Blocks of each level of the encoder, full resolution first; none where there is no encoder.
    pub encoder: Vec<usize>,
    /// Blocks of each level of the decoder, lowest resolution first.
    pub decoder: Vec<usize>,
    /// Latents are multiplied by this after encoding (1: they are the sampler's already).
    pub scaling: f32,
}

impl Default for TinyConfig {
    /// TAESD.
    fn default() -> Self {
        Self { channels: 64, latent_channels: 4, encoder: vec![1, 3, 3, 3], decoder: vec![3, 3, 3, 1], scaling: 1.0 }
    }
}

impl TinyConfig {
    /// Pixels per latent along a side.
    pub fn factor(&self) -> usize {
        1 << self.decoder.len().saturating_sub(1)
    }
}

/// The *decode* plan: `latents [b, h, w, 4]` to `image [b, f h, f w, 3]` in [-1, 1], not clamped.
pub fn decode(cfg: &TinyConfig, b: usize, h: usize, w: usize) -> Result<Graph> {
    let mut g = Builder::new("decode", "vae");
    let g = &mut g;
    let z = g.input(part::decode::LATENTS, Shape::new(b, h, w, cfg.latent_channels));
    let image = g.scope("decoder.layers", |g| {
        let x = activate(g, "clamp", z, Activation::Tanh3)?;
        let x = conv2d(g, "0", x, cfg.channels)?;
        let mut x = activate(g, "1", x, Activation::Relu)?;
        let mut n = 2;
        for (level, &blocks) in cfg.decoder.iter().enumerate() {
            for _ in 0..blocks {
                x = block(g, &n.to_string(), x)?;
                n += 1;
            }
            if level + 1 < cfg.decoder.len() {
                // Number n is the upsampling, which has no weights.
                x = upsample_no_bias(g, &(n + 1).to_string(), x, (2 * x.shape.h, 2 * x.shape.w))?;
                n += 2;
            }
        }
        let x = conv2d(g, &n.to_string(), x, 3)?;
        activate(g, "from_unit", x, Activation::FromUnit)
    })?;
    g.output(part::decode::IMAGE, image);
    Ok(std::mem::take(g).finish())
}

/// The *encode* plan: `image [b, h, w, 3]` in [-1, 1] to `moments [b, h/f, w/f, 4]`: the latents, which have no
/// variance.
pub fn encode(cfg: &TinyConfig, b: usize, h: usize, w: usize) -> Result<Graph> {
    let mut g = Builder::new("encode", "vae");
    let g = &mut g;
    let image = g.input(part::encode::IMAGE, Shape::new(b, h, w, 3));
    let latents = g.scope("encoder.layers", |g| {
        let x = activate(g, "to_unit", image, Activation::ToUnit)?;
        let mut x = conv2d(g, "0", x, cfg.channels)?;
        let mut n = 1;
        for (level, &blocks) in cfg.encoder.iter().enumerate() {
            if level > 0 {
                x = downsample_no_bias(g, &n.to_string(), x, Pad::Around)?;
                n += 1;
            }
            for _ in 0..blocks {
                x = block(g, &n.to_string(), x)?;
                n += 1;
            }
        }
        conv2d(g, &n.to_string(), x, cfg.latent_channels)
    })?;
    g.output(part::encode::MOMENTS, latents);
    Ok(std::mem::take(g).finish())
}

/// Three convolutions and what went in: `relu(conv(relu(conv(relu(conv(x))))) + x)`.
fn block(g: &mut Builder, name: &str, x: Operand) -> Result<Operand> {
    g.scope(name, |g| {
        let c = x.shape.c;
        let h = conv2d(g, "conv.0", x, c)?;
        let h = activate(g, "conv.1", h, Activation::Relu)?;
        let h = conv2d(g, "conv.2", h, c)?;
        let h = activate(g, "conv.3", h, Activation::Relu)?;
        let h = conv2d(g, "conv.4", h, c)?;
        let sum = add(g, "sum", x, h)?;
        activate(g, "fuse", sum, Activation::Relu)
    })
}
