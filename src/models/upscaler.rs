//! A picture to a larger one, in one pass: SRVGGNetCompact ("Compact", Wang et al. 2021) and RRDBNet (ESRGAN, Wang et
//! al. 2018; Real-ESRGAN).
//!
//! Values are 0 to 1 on both sides, red, green, blue.

use crate::error::Result;
use crate::graph::{Builder, Graph, Operand};
use crate::kernels::pixel_shuffle::PixelShuffle;
use crate::kernels::prelu::Prelu;
use crate::kernels::{Activation, Dims};
use crate::layers::linear::activate;
use crate::layers::{add, concat, conv2d, upsample};
use crate::models::part;
use crate::tensor::Shape;

/// The shape of an upscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upscaler {
    /// Convolutions at the input's size, and pixels out of the last one's channels.
    Compact(CompactConfig),
    /// Residual dense blocks at the input's size, and convolutions between steps of twice the size.
    Rrdb(RrdbConfig),
}

/// The shape of a Compact network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactConfig {
    /// Channels inside.
    pub features: usize,
    /// Convolutions between the first and the last.
    pub convs: usize,
    /// Output pixels of an input pixel along a side.
    pub scale: usize,
}

/// The shape of an RRDB network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RrdbConfig {
    /// Channels between blocks.
    pub features: usize,
    /// Channels that each convolution of a dense block adds.
    pub growth: usize,
    /// Blocks of three dense blocks.
    pub blocks: usize,
    /// How often the size doubles.
    pub doublings: usize,
    /// Pixels along a side that become channels on the way in: 1, 2 or 4.
    pub unshuffle: usize,
}

impl Upscaler {
    /// Output pixels of an input pixel along a side.
    pub fn scale(&self) -> usize {
        match self {
            Self::Compact(c) => c.scale,
            Self::Rrdb(r) => (1 << r.doublings) / r.unshuffle,
        }
    }

    /// Input pixels along a side that a picture's sides are multiples of.
    pub fn multiple(&self) -> usize {
        match self {
            Self::Compact(_) => 1,
            Self::Rrdb(r) => r.unshuffle,
        }
    }

    /// 3x3 convolutions in a row at the input's size: an output depends on input pixels that are so far away at most,
    /// and one or two more for what follows at larger sizes.
    pub fn depth(&self) -> usize {
        match self {
            Self::Compact(c) => c.convs + 2,
            Self::Rrdb(r) => (15 * r.blocks + 3 + r.doublings.min(1) + 1) * r.unshuffle,
        }
    }

    /// Its graph for a picture of `h` x `w` pixels, multiples of [`Upscaler::multiple`].
    ///
    /// # Errors
    /// A size that is no multiple.
    pub fn graph(&self, b: usize, h: usize, w: usize) -> Result<Graph> {
        match self {
            Self::Compact(cfg) => compact(cfg, b, h, w),
            Self::Rrdb(cfg) => rrdb(cfg, b, h, w),
        }
    }
}

/// `image [b, h, w, 3]` to `image [b, s h, s w, 3]`.
fn compact(cfg: &CompactConfig, b: usize, h: usize, w: usize) -> Result<Graph> {
    let mut g = Builder::new("upscale", "upscaler");
    let g = &mut g;
    let image = g.input(part::upscale::IMAGE, Shape::new(b, h, w, 3));
    let out = g.scope("body", |g| {
        let mut x = image;
        for n in 0..=cfg.convs {
            x = conv2d(g, &(2 * n).to_string(), x, cfg.features)?;
            x = prelu(g, &(2 * n + 1).to_string(), x)?;
        }
        conv2d(g, &(2 * cfg.convs + 2).to_string(), x, 3 * cfg.scale * cfg.scale)
    })?;
    let shuffle = PixelShuffle { factor: cfg.scale, base: true };
    let large = g.push("pixel_shuffle", shuffle, &[out, image], vec![])?;
    g.output(part::upscale::LARGE, large);
    Ok(std::mem::take(g).finish())
}

fn prelu(g: &mut Builder, name: &str, x: Operand) -> Result<Operand> {
    let slopes = g.weight(&format!("{name}.weight"), Dims::vector(x.shape.c));
    g.push(name, Prelu, &[x], vec![slopes])
}

/// `image [b, h/u, w/u, 3 u^2]`, pixels as channels (torch.nn.PixelUnshuffle), to `image [b, s h, s w, 3]`.
fn rrdb(cfg: &RrdbConfig, b: usize, h: usize, w: usize) -> Result<Graph> {
    let u = cfg.unshuffle;
    let mut g = Builder::new("upscale", "upscaler");
    let g = &mut g;
    let image = g.input(part::upscale::IMAGE, Shape::new(b, h / u, w / u, 3 * u * u));
    let first = conv2d(g, "conv_first", image, cfg.features)?;
    let mut x = first;
    for n in 0..cfg.blocks {
        x = g.scope(&format!("body.{n}"), |g| {
            let dense = (1..=3).try_fold(x, |x, n| g.scope(&format!("rdb{n}"), |g| dense(g, x, cfg.growth)))?;
            shrunk_sum(g, dense, x)
        })?;
    }
    let body = conv2d(g, "conv_body", x, cfg.features)?;
    let mut x = add(g, "sum", first, body)?;
    for n in 1..=cfg.doublings {
        x = upsample(g, &format!("conv_up{n}"), x, (2 * x.shape.h, 2 * x.shape.w))?;
        x = activate(g, &format!("lrelu_up{n}"), x, Activation::LeakyRelu)?;
    }
    let x = conv2d(g, "conv_hr", x, cfg.features)?;
    let x = activate(g, "lrelu", x, Activation::LeakyRelu)?;
    let large = conv2d(g, "conv_last", x, 3)?;
    g.output(part::upscale::LARGE, large);
    Ok(std::mem::take(g).finish())
}

/// Five convolutions, each of all that came before it.
fn dense(g: &mut Builder, x: Operand, growth: usize) -> Result<Operand> {
    let mut seen = x;
    for n in 1..=4 {
        let more = conv2d(g, &format!("conv{n}"), seen, growth)?;
        let more = activate(g, &format!("lrelu{n}"), more, Activation::LeakyRelu)?;
        seen = concat(g, &format!("cat{n}"), seen, more)?;
    }
    let last = conv2d(g, "conv5", seen, x.shape.c)?;
    shrunk_sum(g, last, x)
}

/// `0.2 y + x`.
fn shrunk_sum(g: &mut Builder, y: Operand, x: Operand) -> Result<Operand> {
    let small = activate(g, "scale", y, Activation::Fifth)?;
    add(g, "sum", x, small)
}
