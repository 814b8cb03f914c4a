//! prelu: `y = x`, below 0 `slope x`, with a slope of its own for each channel (He et al. 2015).
//!
//! Operand: `x` `[b, h, w, c]`. Weights: the slopes `[c]`.
//!
//! Variants, slowest first. CPU: `naive`; `lanes`, the same in SIMD and in place. GPU: `quads`, a thread for four
//! channels.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role, f32_bytes};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prelu;

impl Kernel for Prelu {
    const NAME: &'static str = "prelu";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        match (x, w) {
            ([x], [slopes]) if *slopes == Dims::vector(x.c) && !x.is_empty() => Ok(vec![*x]),
            _ => Err(Error::other(format!("takes one operand and a slope for each channel, got {x:?}, weights {w:?}"))),
        }
    }

    fn packings(&self) -> Vec<Packing> {
        vec![Packing::VECTOR]
    }

    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
        let n = self.output(x, w).map_or(0, |y| y[0].len()) as u64;
        Cost { flops: n, bytes: f32_bytes(x) + 4 * n }
    }

    fn tolerance(&self, _: &[Shape], _: &[Dims]) -> f64 {
        // One rounding of a value that, among outliers, can be 60 times the rms.
        f64::from(f32::EPSILON) / 2.0 * 64.0
    }

    fn reference(&self, x: &[Operand64<'_>], w: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let one = |i: &usize| {
            let v = x[0].data[*i];
            if v < 0.0 { w[0].data[*i % x[0].shape.c] * v } else { v }
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        let case = |b: usize, rows: usize, c: usize, data, role| Case {
            name: format!("b{b}_{rows}x{c}_{data:?}").to_lowercase(),
            op: Self.into(),
            x: vec![Shape::tokens(b, rows, c)],
            w: vec![Dims::vector(c)],
            data,
            role,
        };
        vec![
            case(1, 1, 1, Data::Normal, Role::Test),
            case(2, 3, 17, Data::Outliers, Role::Test),
            case(1, 5, 31, Data::Ramp, Role::Test),
            case(3, 2, 64, Data::Normal, Role::Test),
            case(1, 512 * 512, 64, Data::Normal, Role::Bench),
        ]
    }
}
