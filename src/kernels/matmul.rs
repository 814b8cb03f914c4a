//! matmul: `y = act(x w^T + bias + row) + residual`, the linear layer and the 1x1 convolution.
//!
//! Operands: `x` `[b, h, w, k]`, with two sources `x0` and `x1` whose channels follow each other (a concatenation that
//! is never built); then, if `norm`, `[b', 1, 3, k]` of [`group_affine`](super::group_affine): x is normalised on its
//! way in; then, if `row`, `[b', 1, 1, n]`; then, if `residual`, `[b', h, w, n]`. Weights: `w` `[n, k]`, then the bias
//! `[n]` if `bias`. With `statistics` a second output holds those of y, for the next GroupNorm. With `geglu` the rows
//! of `w` (and the bias) are value and gate halves, and `y = v * gelu(g)` has n/2 channels.
//!
//! Variants, slowest first. CPU: `naive`, the sum as it is written; `panels`, register tiles over packed weights,
//! blocks of k in the cache; `bf16`, the same with pairs of bf16, only where it is asked for. GPU: `naive`, a thread
//! for four outputs; `tiled`, tiles in workgroup memory; `split_k`, the same with the sum in parts where there are too
//! few tiles to fill a device; `coop` on tensor cores.

mod cases;

use super::shapes::read_normed as read;
use super::statistics::Tiles;
use super::{
    Activation, Case, Cost, Dims, Kernel, Operand64, Packing, check_affine, check_extras, check_weights, f32_bytes,
    join_sources, rounding, unflatten,
};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matmul {
    /// Two sources instead of one.
    pub two_sources: bool,
    /// Adds `bias`.
    pub bias: bool,
    /// Adds one row to all pixels of a sample.
    pub row: bool,
    /// The nonlinearity, applied before the residual.
    pub act: Activation,
    /// Halves the channels: value times GELU of gate. Excludes `row`, `act` and `residual`.
    pub geglu: bool,
    /// Adds a tensor of the output's shape.
    pub residual: bool,
    /// Reads `act((x - mean) * scale + shift)` instead of x.
    pub norm: Option<Activation>,
    /// Also gives the statistics of the output, in these tiles.
    pub statistics: Option<Tiles>,
}

impl Matmul {
    /// How many operands are sources.
    pub fn sources(&self) -> usize {
        1 + usize::from(self.two_sources)
    }

    /// What the reference adds up for output channel n of a row, before the activation.
    fn sum(&self, x: &[Operand64<'_>], w: &[Operand64<'_>], [b, y, px]: [usize; 3], n: usize) -> f64 {
        let mut sum = if self.bias { w[1].data[n] } else { 0.0 };
        let (sources, rest) = x.split_at(self.sources());
        let mut k = 0;
        for src in sources {
            for c in 0..src.shape.c {
                sum += read(self.norm, rest, src.at(b, y, px, c), b, k) * w[0].weight(n, k, 0);
                k += 1;
            }
        }
        sum
    }
}

impl Kernel for Matmul {
    const NAME: &'static str = "matmul";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        let joint = join_sources(Self::NAME, x, self.two_sources)?;
        let n = check_weights(w, self.bias, joint.c, 1)?;
        if self.geglu && (n % 2 != 0 || self.row || self.residual || self.act != Activation::None) {
            return Err(Error::other(format!(
                "gating needs an even width and nothing else fused, got {n} and {self:?}"
            )));
        }
        let out = joint.with_c(if self.geglu { n / 2 } else { n });
        let rest = check_affine(&x[self.sources()..], self.norm.is_some(), joint.c)?;
        check_extras(rest, self.row, self.residual, out)?;
        Ok([out].into_iter().chain(self.statistics.map(|tiles| tiles.shape(out))).collect())
    }

    fn packings(&self) -> Vec<Packing> {
        let mut all = vec![Packing::Panels { gated: self.geglu }];
        all.extend(self.bias.then_some(Packing::Vector { gated: self.geglu }));
        all
    }

    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
        let rows = x.iter().map(|s| s.b).max().unwrap_or(0) * x[0].pixels();
        let out = (rows * w[0].n) as u64 / if self.geglu { 2 } else { 1 };
        Cost { flops: 2 * (rows * w[0].n * w[0].k) as u64, bytes: f32_bytes(x) + 4 * out + 2 * w[0].len() as u64 }
    }

    fn tolerance(&self, _: &[Shape], w: &[Dims]) -> f64 {
        // Gating multiplies two sums: each can be several times its rms and magnifies the other's error.
        // So do normalised inputs: c = 8. Measured: 4.8 where all operands have outliers.
        rounding(w[0].k) * if self.geglu { 3.0 } else { 1.0 } * if self.norm.is_some() { 2.0 } else { 1.0 }
    }

    fn reference(&self, x: &[Operand64<'_>], w: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let n = w[0].dims.n / if self.geglu { 2 } else { 1 };
        let shape = x[0].shape.with_c(n);
        let extras = &x[self.sources() + usize::from(self.norm.is_some())..];
        let one = |i: &usize| {
            let [b, y, px, c] = unflatten(shape, *i);
            let mut v = self.sum(x, w, [b, y, px], c);
            if self.geglu {
                return v * Activation::Gelu.reference(self.sum(x, w, [b, y, px], n + c));
            }
            if self.row {
                v += extras[0].at(b, 0, 0, c);
            }
            self.act.reference(v) + if self.residual { extras[extras.len() - 1].at(b, y, px, c) } else { 0.0 }
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        cases::all()
    }
}
