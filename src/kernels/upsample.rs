//! upsample: nearest neighbour to a given size, `y[i, j] = x[i * h / h', j * w / w']` (floor). Folded into the
//! convolution after it wherever that is possible.
//!
//! Operand: `x` `[b, h, w, c]`; output `[b, h', w', c]` with h' in {2h, 2h - 1} and w' likewise.
//!
//! Variants. CPU: `naive`; rows are copied as fast as memory goes. GPU: `quads`, a thread for four channels.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role, f32_bytes, unflatten};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upsample {
    /// Output height.
    pub h: usize,
    /// Output width.
    pub w: usize,
}

impl Kernel for Upsample {
    const NAME: &'static str = "upsample";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        let doubles = |from: usize, to: usize| to == 2 * from || to + 1 == 2 * from;
        match x {
            [x] if w.is_empty() && !x.is_empty() && doubles(x.h, self.h) && doubles(x.w, self.w) => {
                Ok(vec![Shape { h: self.h, w: self.w, ..*x }])
            }
            _ => Err(Error::other(format!(
                "cannot upsample {x:?} to {}x{} (twice the size, or one less)",
                self.h, self.w
            ))),
        }
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
        let src = x[0].shape;
        let shape = Shape { h: self.h, w: self.w, ..src };
        let one = |i: &usize| {
            let [b, y, px, c] = unflatten(shape, *i);
            x[0].at(b, y * src.h / self.h, px * src.w / self.w, c)
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        let case = |b: usize, from: (usize, usize), to: (usize, usize), c: usize, role| Case {
            name: format!("b{b}_{}x{}_to_{}x{}_{c}", from.0, from.1, to.0, to.1),
            op: Self { h: to.0, w: to.1 }.into(),
            x: vec![Shape::new(b, from.0, from.1, c)],
            w: Vec::new(),
            data: Data::Ramp,
            role,
        };
        vec![
            case(1, (1, 1), (1, 1), 1, Role::Test),
            case(1, (1, 1), (2, 2), 3, Role::Test),
            case(2, (3, 5), (6, 10), 7, Role::Test),
            case(2, (3, 5), (5, 9), 33, Role::Test),
            case(1, (4, 4), (8, 7), 1280, Role::Test),
            case(2, (32, 32), (64, 64), 640, Role::Bench),
        ]
    }
}
