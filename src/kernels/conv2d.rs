//! conv2d: a 3x3 convolution, `y = act(conv(x, w) + bias + row) + residual`. (A 1x1 convolution is a matmul.)
//!
//! Operands: `x` `[b, h, w, k]`, with two sources `x0` and `x1` whose channels follow each other; then, if `norm`,
//! `[b', 1, 3, k]` of [`group_affine`](super::group_affine): x is normalised on its way in, the zeros around it are
//! not; then, if `row`, `[b', 1, 1, n]`; then, if `residual`, `[b', h', w', n]`. Weights: `w` `[n, k, 3, 3]`, then the
//! bias `[n]` if `bias`. With `statistics` a second output holds those of y, for the next GroupNorm.
//!
//! Variants, slowest first. CPU: `naive`, the sum as it is written; `panels`, an implicit GEMM over packed filters,
//! which runs everything; `upsample9`, for what is doubled on its way in, and `winograd`, 4x4 outputs from 6x6
//! factors: both multiply less, where that pays for their transforms, which is a matter of shapes alone. GPU: `naive`,
//! a thread for four outputs; `implicit_gemm`, tiles in workgroup memory; `split_k`, the same with the sum in parts
//! where there are too few tiles to fill a device; `coop` on tensor cores.

mod cases;

use super::shapes::read_normed as read;
use super::statistics::Tiles;
use super::{
    Activation, Case, Cost, Dims, Kernel, Operand64, Packing, check_affine, check_extras, check_weights, f32_bytes,
    join_sources, rounding, unflatten,
};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// Where the zeros around the picture are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pad {
    /// One on every side.
    #[default]
    Around,
    /// One below and one to the right (the VAE encoder's downsampling).
    After,
}

/// See the module's description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conv2d {
    /// Two sources instead of one.
    pub two_sources: bool,
    /// 2 instead of 1: every second output.
    pub stride2: bool,
    /// Where the zeros are.
    pub pad: Pad,
    /// Reads the nearest-neighbour upsampling of x to this height and width (2n or 2n-1), which is never built.
    pub upsample: Option<(usize, usize)>,
    /// Adds `bias`.
    pub bias: bool,
    /// Adds one row to all pixels of a sample.
    pub row: bool,
    /// The nonlinearity, applied before the residual.
    pub act: Activation,
    /// Adds a tensor of the output's shape.
    pub residual: bool,
    /// Reads `act((x - mean) * scale + shift)` instead of x.
    pub norm: Option<Activation>,
    /// Also gives the statistics of the output, in these tiles.
    pub statistics: Option<Tiles>,
}

impl Conv2d {
    /// How many operands are sources.
    pub fn sources(&self) -> usize {
        1 + usize::from(self.two_sources)
    }

    /// 1 or 2.
    pub fn stride(&self) -> usize {
        1 + usize::from(self.stride2)
    }

    /// Zeros above and to the left.
    pub fn before(&self) -> usize {
        usize::from(self.pad == Pad::Around)
    }

    fn out_size(&self, n: usize) -> Option<usize> {
        Some((n + 1 + self.before()).checked_sub(3)? / self.stride() + 1)
    }

    fn joint(&self, x: &[Shape]) -> Result<Shape> {
        let joint = join_sources(Self::NAME, x, self.two_sources)?;
        let Some((h, w)) = self.upsample else { return Ok(joint) };
        let doubles = |from: usize, to: usize| to == 2 * from || to + 1 == 2 * from;
        if doubles(joint.h, h) && doubles(joint.w, w) {
            Ok(Shape { h, w, ..joint })
        } else {
            Err(Error::other(format!("cannot upsample {joint} to {h}x{w}: only to twice the size or one less")))
        }
    }
}

impl Kernel for Conv2d {
    const NAME: &'static str = "conv2d";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        let joint = self.joint(x)?;
        let n = check_weights(w, self.bias, joint.c, 9)?;
        let (Some(h), Some(width)) = (self.out_size(joint.h), self.out_size(joint.w)) else {
            return Err(Error::other(format!("{joint} is smaller than the filter")));
        };
        let out = Shape::new(joint.b, h, width, n);
        let rest = check_affine(&x[self.sources()..], self.norm.is_some(), joint.c)?;
        check_extras(rest, self.row, self.residual, out)?;
        Ok([out].into_iter().chain(self.statistics.map(|tiles| tiles.shape(out))).collect())
    }

    fn packings(&self) -> Vec<Packing> {
        let mut all = vec![Packing::PANELS];
        all.extend(self.bias.then_some(Packing::VECTOR));
        all
    }

    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
        let out = self.output(x, w).map_or(0, |y| y[0].len()) as u64;
        let per_output = 2 * (w[0].k * w[0].taps) as u64;
        Cost { flops: out * per_output, bytes: f32_bytes(x) + 4 * out + 2 * w[0].len() as u64 }
    }

    fn tolerance(&self, _: &[Shape], w: &[Dims]) -> f64 {
        // Normalised inputs are products with roundings of their own: c = 8. Measured: 4.8
        // where all operands have outliers.
        rounding(w[0].k * w[0].taps) * if self.norm.is_some() { 2.0 } else { 1.0 }
    }

    fn reference(&self, x: &[Operand64<'_>], w: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let src = x[0].shape;
        let (h, width) = self.upsample.unwrap_or((src.h, src.w));
        let size = |n| self.out_size(n).unwrap_or(0);
        let shape = Shape::new(1, size(h), size(width), w[0].dims.n);
        let (norm, extras) = x[self.sources()..].split_at(usize::from(self.norm.is_some()));
        let one = |i: &usize| {
            let [b, y, px, n] = unflatten(shape, *i);
            let mut v = if self.bias { w[1].data[n] } else { 0.0 };
            for tap in 0..9 {
                let (iy, ix) = (y * self.stride() + tap / 3, px * self.stride() + tap % 3);
                let inside = |i: usize, n: usize| i >= self.before() && i - self.before() < n;
                if !inside(iy, h) || !inside(ix, width) {
                    continue;
                }
                let (sy, sx) = ((iy - self.before()) * src.h / h, (ix - self.before()) * src.w / width);
                let mut k = 0;
                for s in &x[..self.sources()] {
                    for c in 0..s.shape.c {
                        v += read(self.norm, norm, s.at(b, sy, sx, c), b, k) * w[0].weight(n, k, tap);
                        k += 1;
                    }
                }
            }
            if self.row {
                v += extras[0].at(b, 0, 0, n);
            }
            self.act.reference(v) + if self.residual { extras[extras.len() - 1].at(b, y, px, n) } else { 0.0 }
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        cases::all()
    }
}
