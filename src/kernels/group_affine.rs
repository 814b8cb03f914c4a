//! group_affine: from the statistics that producers left to what a consumer needs to apply a GroupNorm while it reads.
//!
//! With it a GroupNorm needs no pass over its input: `y = act((x - mean) * scale + shift)` is computed by the next
//! product on its way in.
//!
//! Operands: statistics `[b, tiles, 2, c]` of one source or of two whose channels follow each other (see
//! [`Tiles::Rows`]). Weights: gamma `[c]`, beta `[c]`. Output `[b, 1, 3, c]`: for each channel the mean of its group,
//! then `scale = gamma / sqrt(var + eps)`, then `shift = beta`. The mean stays apart: folded into the shift it would
//! cost precision where it is large. Tiles are merged in index order by Chan's formula, in f64 on the CPU.
//!
//! Variants. CPU: `naive`; a few thousand values are not worth another. GPU: none, there a norm keeps a pass of its
//! own.

use super::statistics::Tiles;
use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role, f32_bytes, joint_batch, rounding, unflatten};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// The shape of what a consumer reads: mean, scale and shift of each channel.
pub const fn affine(b: usize, c: usize) -> Shape {
    Shape::new(b, 1, 3, c)
}

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupAffine {
    /// Two sources instead of one.
    pub two_sources: bool,
    /// Rows and columns of pixels of the tensor that the statistics are of.
    pub size: (usize, usize),
    /// Groups; they divide the channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl GroupAffine {
    /// Pixels of a tile.
    pub fn pixels(&self, tile: usize) -> usize {
        Tiles::Rows.pixels_of(Shape::new(1, self.size.0, self.size.1, 1), tile)
    }
}

impl Kernel for GroupAffine {
    const NAME: &'static str = "group_affine";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        let b = joint_batch(Self::NAME, x)?;
        let c: usize = x.iter().map(|s| s.c).sum();
        let wrong = |s: &Shape| s.is_empty() || *s != Tiles::Rows.shape(Shape::new(s.b, self.size.0, self.size.1, s.c));
        if x.len() != 1 + usize::from(self.two_sources) || x.iter().any(wrong) {
            return Err(Error::other(format!("takes statistics of {:?} pixels, got {x:?}", self.size)));
        }
        if w.len() != 2 || w.iter().any(|d| *d != Dims::vector(c)) {
            return Err(Error::other(format!("takes gamma and beta of {c} channels, got {w:?}")));
        }
        if self.groups == 0 || !c.is_multiple_of(self.groups) {
            return Err(Error::other(format!("{} groups do not divide the {c} channels", self.groups)));
        }
        Ok(vec![affine(b, c)])
    }

    fn packings(&self) -> Vec<Packing> {
        vec![Packing::VECTOR, Packing::VECTOR]
    }

    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
        let n = self.output(x, w).map_or(0, |y| y[0].len()) as u64;
        Cost { flops: 3 * x.iter().map(|s| s.len() as u64).sum::<u64>(), bytes: f32_bytes(x) + 4 * n }
    }

    fn tolerance(&self, _: &[Shape], _: &[Dims]) -> f64 {
        // Sums are f64; each output is rounded once.
        rounding(1)
    }

    fn reference(&self, x: &[Operand64<'_>], w: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let c: usize = x.iter().map(|s| s.shape.c).sum();
        let b = x.iter().map(|s| s.shape.b).max().unwrap_or(1);
        let size = c / self.groups;
        let value = |b, tile, what, c: usize| match c.checked_sub(x[0].shape.c) {
            None => x[0].at(b, tile, what, c),
            Some(c) => x[1].at(b, tile, what, c),
        };
        let one = |i: &usize| {
            let [b, _, what, c] = unflatten(affine(b, c), *i);
            let group = c / size * size..(c / size + 1) * size;
            let parts = || {
                let tiles = 0..x[0].shape.h;
                tiles.flat_map(|t| group.clone().map(move |c| (t, c)))
            };
            let n = (self.size.0 * self.size.1 * size) as f64;
            let mean = parts().map(|(t, c)| self.pixels(t) as f64 * value(b, t, 0, c)).sum::<f64>() / n;
            let m2 = |(t, c)| value(b, t, 1, c) + self.pixels(t) as f64 * (value(b, t, 0, c) - mean).powi(2);
            let var = parts().map(m2).sum::<f64>() / n;
            match what {
                0 => mean,
                1 => w[0].data[c] / (var + f64::from(self.eps)).sqrt(),
                _ => w[1].data[c],
            }
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        let one = |size, c, groups, role| case(size, &[(1, c)], groups, role);
        let mut all = vec![
            one((1, 1), 1, 1, Role::Test),
            one((4, 3), 6, 2, Role::Test),
            one((5, 7), 33, 3, Role::Test),
            one((23, 2), 34, 17, Role::Test),
            case((9, 8), &[(1, 5), (4, 3)], 2, Role::Test),
            case((3, 6), &[(2, 31), (1, 11)], 6, Role::Test),
            case((3, 3), &[(2, 640), (2, 320)], 32, Role::Test),
        ];
        all.extend([(64, 320), (8, 1280), (512, 128)].map(|(side, c)| one((side, side), c, 32, Role::Bench)));
        all
    }
}

/// One case; `x` are batches and channels of the sources.
fn case(size: (usize, usize), x: &[(usize, usize)], groups: usize, role: Role) -> Case {
    let shape = |&(b, c): &(usize, usize)| Tiles::Rows.shape(Shape::new(b, size.0, size.1, c));
    let mut name = format!("{}x{}_g{groups}", size.0, size.1);
    for (b, c) in x {
        name += &format!("_{c}of{b}");
    }
    let c = x.iter().map(|s| s.1).sum();
    let op = GroupAffine { two_sources: x.len() == 2, size, groups, eps: 1e-5 };
    let w = vec![Dims::vector(c); 2];
    // M2 is never negative.
    Case { name, op: op.into(), x: x.iter().map(shape).collect(), w, data: Data::Positive, role }
}
