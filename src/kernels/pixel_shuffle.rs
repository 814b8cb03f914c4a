//! pixel_shuffle: channels become pixels, `y[i s + di, j s + dj, c] = x[i, j, c s^2 + di s + dj] + base[i, j, c]`
//! (torch.nn.PixelShuffle; Shi et al. 2016), the nearest-neighbour upsampling of `base` added where there is one.
//!
//! Operands: `x` `[b, h, w, c s^2]`, then, if `base`, `[b', h, w, c]`; output `[b, h s, w s, c]`.
//!
//! Variants. CPU: `naive`; each output is read and written once. GPU: `quads`, a thread for four channels.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role, f32_bytes, joint_batch, unflatten};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelShuffle {
    /// Output pixels of an input pixel along a side: `s`.
    pub factor: usize,
    /// Adds the upsampling of a second operand.
    pub base: bool,
}

impl Kernel for PixelShuffle {
    const NAME: &'static str = "pixel_shuffle";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        let s = self.factor;
        let wrong = || Error::other(format!("cannot make {s} x {s} pixels of {x:?}, weights {w:?}"));
        let first = x.first().filter(|_| x.len() == 1 + usize::from(self.base) && w.is_empty()).ok_or_else(wrong)?;
        if s == 0 || first.is_empty() || !first.c.is_multiple_of(s * s) {
            return Err(wrong());
        }
        let c = first.c / (s * s);
        if x.iter().skip(1).any(|base| (base.h, base.w, base.c) != (first.h, first.w, c)) {
            return Err(wrong());
        }
        Ok(vec![Shape::new(joint_batch(Self::NAME, x)?, first.h * s, first.w * s, c)])
    }

    fn packings(&self) -> Vec<Packing> {
        Vec::new()
    }

    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
        let n = self.output(x, w).map_or(0, |y| y[0].len()) as u64;
        Cost { flops: n * u64::from(self.base), bytes: f32_bytes(x) + 4 * n }
    }

    fn tolerance(&self, _: &[Shape], _: &[Dims]) -> f64 {
        // One rounding of a sum, of which a value can be 60 times the rms; without one nothing is rounded.
        if self.base { f64::from(f32::EPSILON) / 2.0 * 64.0 } else { 0.0 }
    }

    fn reference(&self, x: &[Operand64<'_>], _: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let (s, from) = (self.factor, x[0].shape);
        let shape = Shape::new(1, from.h * s, from.w * s, from.c / (s * s));
        let one = |i: &usize| {
            let [b, y, px, c] = unflatten(shape, *i);
            let v = x[0].at(b, y / s, px / s, (c * s + y % s) * s + px % s);
            if self.base { v + x[1].at(b, y / s, px / s, c) } else { v }
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        let case = |b: (usize, usize), (h, w): (usize, usize), c: usize, factor: usize, data, role| Case {
            name: format!("b{}_b{}_{h}x{w}_{c}x{factor}_{data:?}", b.0, b.1).to_lowercase(),
            op: Self { factor, base: b.1 > 0 }.into(),
            x: [Shape::new(b.0, h, w, c * factor * factor)]
                .into_iter()
                .chain((b.1 > 0).then_some(Shape::new(b.1, h, w, c)))
                .collect(),
            w: Vec::new(),
            data,
            role,
        };
        vec![
            case((1, 0), (1, 1), 1, 1, Data::Ramp, Role::Test),
            case((1, 0), (3, 5), 3, 2, Data::Ramp, Role::Test),
            case((2, 1), (5, 3), 3, 4, Data::Normal, Role::Test),
            case((1, 2), (2, 7), 5, 3, Data::Outliers, Role::Test),
            case((2, 0), (3, 2), 33, 2, Data::Ramp, Role::Test),
            case((1, 1), (512, 512), 3, 4, Data::Normal, Role::Bench),
        ]
    }
}
