//! add: `y = a + b`. Fused into the product before it wherever that is possible.
//!
//! Operands: `a` `[b, h, w, c]` and `b`, of the same pixels, or `[b', 1, 1, c]`: one row for all pixels of a sample.
//!
//! Variants, slowest first. CPU: `naive`; `lanes`, the same in SIMD. GPU: `quads`, a thread for four channels; it
//! waits for memory alone.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role, f32_bytes, joint_batch, rounding, unflatten};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add;

impl Kernel for Add {
    const NAME: &'static str = "add";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        let [a, b] = x else {
            return Err(Error::other(format!("takes two operands, got {x:?}")));
        };
        let batch = joint_batch(Self::NAME, x)?;
        let row = (b.h, b.w) == (1, 1);
        if a.is_empty() || a.c != b.c || !(row || (a.h, a.w) == (b.h, b.w)) || !w.is_empty() {
            return Err(Error::other(format!("operands do not fit: {a} and {b}, weights {w:?}")));
        }
        Ok(vec![a.with_b(batch)])
    }

    fn packings(&self) -> Vec<Packing> {
        Vec::new()
    }

    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
        let n = self.output(x, w).map_or(0, |y| y[0].len()) as u64;
        Cost { flops: n, bytes: f32_bytes(x) + 4 * n }
    }

    fn tolerance(&self, _: &[Shape], _: &[Dims]) -> f64 {
        rounding(2)
    }

    fn reference(&self, x: &[Operand64<'_>], _: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let one = |i: &usize| {
            let [b, y, px, c] = unflatten(x[0].shape, *i);
            let row = (x[1].shape.h, x[1].shape.w) == (1, 1);
            x[0].at(b, y, px, c) + if row { x[1].at(b, 0, 0, c) } else { x[1].at(b, y, px, c) }
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        let case = |a: Shape, b: Shape, data, role| Case {
            name: format!("b{}_{}x{}_{}_b{}_{}x{}", a.b, a.h, a.w, a.c, b.b, b.h, b.w),
            op: Self.into(),
            x: vec![a, b],
            w: Vec::new(),
            data,
            role,
        };
        let s = Shape::new;
        vec![
            case(s(1, 1, 1, 1), s(1, 1, 1, 1), Data::Normal, Role::Test),
            case(s(2, 3, 5, 31), s(2, 3, 5, 31), Data::Ramp, Role::Test),
            case(s(1, 3, 5, 33), s(4, 3, 5, 33), Data::Normal, Role::Test),
            case(s(4, 3, 5, 7), s(2, 1, 1, 7), Data::Ramp, Role::Test),
            case(s(1, 2, 3, 320), s(2, 1, 1, 320), Data::Outliers, Role::Test),
            case(s(2, 64, 64, 320), s(2, 64, 64, 320), Data::Normal, Role::Bench),
            case(s(2, 64, 64, 320), s(2, 1, 1, 320), Data::Normal, Role::Bench),
        ]
    }
}
