//! geglu: `y = v * gelu(g)`, where v is the first half of x's channels and g the second.
//!
//! Operand: `x` `[b, h, w, 2c]`; output `[b, h, w, c]`. Fused into the matmul before it wherever that is possible.
//!
//! Variants, slowest first. CPU: `naive`; `lanes`, the same in SIMD. GPU: `quads`, a thread for four channels.

use super::{Activation, Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role, f32_bytes};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geglu;

impl Kernel for Geglu {
    const NAME: &'static str = "geglu";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        match x {
            [x] if w.is_empty() && !x.is_empty() && x.c % 2 == 0 => Ok(vec![x.with_c(x.c / 2)]),
            _ => Err(Error::other(format!(
                "takes one operand with an even number of channels, got {x:?}, weights {w:?}"
            ))),
        }
    }

    fn packings(&self) -> Vec<Packing> {
        Vec::new()
    }

    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
        let n = self.output(x, w).map_or(0, |y| y[0].len()) as u64;
        Cost { flops: 16 * n, bytes: f32_bytes(x) + 4 * n }
    }

    fn tolerance(&self, _: &[Shape], _: &[Dims]) -> f64 {
        // Few units in the last place of a product that, with outliers, is far above the rms.
        f64::from(f32::EPSILON) / 2.0 * 256.0
    }

    fn reference(&self, x: &[Operand64<'_>], _: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let c = x[0].shape.c / 2;
        let one = |i: &usize| {
            let row = &x[0].data[i / c * 2 * c..];
            row[i % c] * Activation::Gelu.reference(row[c + i % c])
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        let case = |rows: usize, c: usize, data, role| Case {
            name: format!("{rows}x{c}_{data:?}").to_lowercase(),
            op: Self.into(),
            x: vec![Shape::tokens(1, rows, 2 * c)],
            w: Vec::new(),
            data,
            role,
        };
        vec![
            case(1, 1, Data::Normal, Role::Test),
            case(5, 31, Data::Ramp, Role::Test),
            case(3, 32, Data::Constant, Role::Test),
            case(7, 33, Data::Outliers, Role::Test),
            case(11, 1280, Data::Normal, Role::Test),
            case(2, 37, Data::LargeMean, Role::Test),
            case(8192, 1280, Data::Normal, Role::Bench),
            case(2048, 2560, Data::Normal, Role::Bench),
            case(512, 5120, Data::Normal, Role::Bench),
        ]
    }
}
