//! attention: `softmax(q k^T / sqrt(d)) v` for each head; the scores are never stored as a whole.
//!
//! Operands: `q` `[b, h, w, heads * d]`, `k` and `v` `[b', h', w', heads * d]`; rows are tokens, a head is d
//! neighbouring channels. Column views are allowed for all three. With `causal`, token i sees tokens 0 ..= i.
//! With `mask` a fourth, `[b'', heads or 1, queries or 1, keys]`, is added to the scaled scores: a bias by position
//! (one plane a head), or [`HIDDEN`] where a key is not seen (one row for the padding of a text). It is finite, and
//! each query sees a key.
//!
//! Variants, slowest first. CPU: `naive`, one row after the other, is the formula; `flash` has 32 queries in SIMD lanes
//! and a softmax that goes on from block to block, so that scores stay in the first-level cache; `flash_bf16` is that
//! with pairs of bf16, where a processor multiplies them. GPU: `naive` has no tile and runs any width of a head;
//! `flash` keeps a tile of scores in workgroup memory; `coop` has tensor cores do both products, in two sweeps because
//! a fragment cannot be rescaled, and takes no mask.

mod cases;

use super::{Case, Cost, Dims, Kernel, Operand64, Packing, f32_bytes, joint_batch, rounding};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// What a mask adds to hide a key: its weight is then zero in f32, and f16 holds it.
pub const HIDDEN: f32 = -60_000.0;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Heads; they divide the channels.
    pub heads: usize,
    /// Each token sees itself and what comes before it.
    pub causal: bool,
    /// A fourth operand is added to the scores.
    pub mask: bool,
}

/// Whether a mask `[b'', heads or 1, queries or 1, keys]` fits.
fn check_mask(heads: usize, mask: Shape, queries: usize, keys: usize) -> Result<()> {
    if [1, heads].contains(&mask.h) && [1, queries].contains(&mask.w) && mask.c == keys {
        return Ok(());
    }
    Err(Error::other(format!("the mask must be [b, 1 or {heads}, 1 or {queries}, {keys}], got {mask}")))
}

impl Kernel for Attention {
    const NAME: &'static str = "attention";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        let ([q, k, v], mask) = match (x, self.mask) {
            ([q, k, v], false) => ([q, k, v], None),
            ([q, k, v, mask], true) => ([q, k, v], Some(*mask)),
            _ => {
                let also = if self.mask { " and a mask" } else { "" };
                return Err(Error::other(format!("takes q, k and v{also}, got {x:?}")));
            }
        };
        let b = joint_batch(Self::NAME, x)?;
        let same = (k.h, k.w, k.c) == (v.h, v.w, v.c) && k.c == q.c;
        if !same || q.is_empty() || k.is_empty() || !w.is_empty() {
            return Err(Error::other(format!("q, k and v do not fit: {q}, {k}, {v}, weights {w:?}")));
        }
        if self.heads == 0 || q.c % self.heads != 0 {
            return Err(Error::other(format!("{} heads do not divide the {} channels of q", self.heads, q.c)));
        }
        if self.causal && q.pixels() != k.pixels() {
            return Err(Error::other(format!("causal attention needs as many keys as queries, got {q} and {k}")));
        }
        mask.map_or(Ok(()), |m| check_mask(self.heads, m, q.pixels(), k.pixels()))?;
        Ok(vec![q.with_b(b)])
    }

    fn packings(&self) -> Vec<Packing> {
        Vec::new()
    }

    fn cost(&self, x: &[Shape], _: &[Dims]) -> Cost {
        let b = x.iter().map(|s| s.b).max().unwrap_or(0);
        let pairs = x[0].pixels() * x[1].pixels();
        let seen = if self.causal { pairs.div_ceil(2) } else { pairs };
        Cost { flops: 4 * (b * seen * x[0].c) as u64, bytes: f32_bytes(x) + 4 * x[0].with_b(b).len() as u64 }
    }

    fn tolerance(&self, x: &[Shape], _: &[Dims]) -> f64 {
        // A score of size s is off by s 2^-24, which exp turns into a relative error of its weight; scores of outliers
        // reach 20 sqrt(d). With few keys nothing averages that out, so their number does not enter below 64.
        4.0 * rounding(x[1].pixels().max(x[0].c / self.heads).max(64))
    }

    fn reference(&self, x: &[Operand64<'_>], _: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let (q, k, v) = (&x[0], &x[1], &x[2]);
        let d = q.shape.c / self.heads;
        let keys = k.shape.pixels();
        let token = |x: &Operand64<'_>, b, t: usize, c| x.at(b, t / x.shape.w, t % x.shape.w, c);
        let bias = |b, head: usize, t: usize, j| match x.get(3) {
            Some(m) => m.at(b, head % m.shape.h, t % m.shape.w, j),
            None => 0.0,
        };
        // Neighbouring outputs share their weights.
        let (mut known, mut weights) = (None, vec![0.0; keys]);
        let mut one = |i: &usize| {
            let (c, t) = (i % q.shape.c, i / q.shape.c % q.shape.pixels());
            let (b, head) = (i / (q.shape.c * q.shape.pixels()), c / d);
            let seen = if self.causal { t + 1 } else { keys };
            if known != Some((b, t, head)) {
                known = Some((b, t, head));
                for (j, w) in weights[..seen].iter_mut().enumerate() {
                    let dot: f64 = (head * d..head * d + d).map(|c| token(q, b, t, c) * token(k, b, j, c)).sum();
                    *w = dot / (d as f64).sqrt() + bias(b, head, t, j);
                }
                let most = weights[..seen].iter().copied().fold(f64::NEG_INFINITY, f64::max);
                weights[..seen].iter_mut().for_each(|w| *w = (*w - most).exp());
                let sum: f64 = weights[..seen].iter().sum();
                weights[..seen].iter_mut().for_each(|w| *w /= sum);
            }
            weights[..seen].iter().enumerate().map(|(j, w)| w * token(v, b, j, c)).sum()
        };
        at.iter().map(&mut one).collect()
    }

    fn cases() -> Vec<Case> {
        cases::all()
    }
}
