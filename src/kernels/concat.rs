//! concat: the channels of a, then those of b. Convolutions, norms and products read two sources instead, wherever the
//! rewrite applies; this op is what remains.
//!
//! Operands: `a` `[b, h, w, c0]`, `b` `[b', h, w, c1]`; output `[b, h, w, c0 + c1]`.
//!
//! Variants. CPU: `naive`; rows are copied as fast as memory goes. GPU: `quads`, a thread for four channels.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role, f32_bytes, join_sources, unflatten};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat;

impl Kernel for Concat {
    const NAME: &'static str = "concat";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        if x.len() != 2 || !w.is_empty() {
            return Err(Error::other(format!("takes two operands, got {x:?}, weights {w:?}")));
        }
        Ok(vec![join_sources(Self::NAME, x, true)?])
    }

    fn packings(&self) -> Vec<Packing> {
        Vec::new()
    }

    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
        let n = self.output(x, w).map_or(0, |y| y[0].len()) as u64;
        Cost { flops: 0, bytes: f32_bytes(x) + 4 * n }
    }

    fn tolerance(&self, _: &[Shape], _: &[Dims]) -> f64 {
        0.0
    }

    fn reference(&self, x: &[Operand64<'_>], _: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let shape = x[0].shape.with_c(x[0].shape.c + x[1].shape.c);
        let one = |i: &usize| {
            let [b, y, px, c] = unflatten(shape, *i);
            if c < x[0].shape.c { x[0].at(b, y, px, c) } else { x[1].at(b, y, px, c - x[0].shape.c) }
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        let case = |b: (usize, usize), side: usize, c: (usize, usize), role| Case {
            name: format!("b{}_{side}x{side}_{}_b{}_{}", b.0, c.0, b.1, c.1),
            op: Self.into(),
            x: vec![Shape::new(b.0, side, side, c.0), Shape::new(b.1, side, side, c.1)],
            w: Vec::new(),
            data: Data::Ramp,
            role,
        };
        vec![
            case((1, 1), 1, (1, 1), Role::Test),
            case((1, 2), 3, (5, 31), Role::Test),
            case((4, 2), 2, (33, 7), Role::Test),
            case((2, 2), 2, (1280, 640), Role::Test),
            case((2, 2), 64, (640, 320), Role::Bench),
        ]
    }
}
