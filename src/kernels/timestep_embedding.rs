//! timestep_embedding: a timestep to the sinusoids `[cos(t f_0) .. cos(t f_{n/2-1}), sin(t f_0) ..]`, with
//! `f_i = 10000^(-i / (n/2))` (Ho et al. 2020, in the order of SD's `flip_sin_to_cos`).
//!
//! Operand: `t` `[b, 1, T, 1]`; output `[b, 1, T, n]`.
//!
//! Variants. CPU: `naive`; once a step, on a few hundred values. GPU: `quads`, a thread for four channels.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role, f32_bytes, rounding};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestepEmbedding {
    /// Width of the embedding, even.
    pub width: usize,
}

impl Kernel for TimestepEmbedding {
    const NAME: &'static str = "timestep_embedding";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        match x {
            [t] if w.is_empty() && !t.is_empty() && t.c == 1 && self.width.is_multiple_of(2) && self.width > 0 => {
                Ok(vec![t.with_c(self.width)])
            }
            _ => Err(Error::other(format!("takes [b, 1, T, 1] and an even width, got {x:?} and {}", self.width))),
        }
    }

    fn packings(&self) -> Vec<Packing> {
        Vec::new()
    }

    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
        let n = self.output(x, w).map_or(0, |y| y[0].len()) as u64;
        Cost { flops: 40 * n, bytes: f32_bytes(x) + 4 * n }
    }

    fn tolerance(&self, _: &[Shape], _: &[Dims]) -> f64 {
        rounding(1)
    }

    fn reference(&self, x: &[Operand64<'_>], _: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let half = self.width / 2;
        let one = |i: &usize| {
            let (row, c) = (i / self.width, i % self.width);
            let angle = x[0].data[row] * 10_000_f64.powf(-((c % half) as f64) / half as f64);
            if c < half { angle.cos() } else { angle.sin() }
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        let case = |times: usize, width: usize, data, role| Case {
            name: format!("{times}x{width}_{data:?}").to_lowercase(),
            op: Self { width }.into(),
            x: vec![Shape::tokens(1, times, 1)],
            w: Vec::new(),
            data,
            role,
        };
        vec![
            case(1, 2, Data::Normal, Role::Test),
            case(3, 6, Data::LargeMean, Role::Test),
            case(5, 320, Data::LargeMean, Role::Test),
            case(7, 32, Data::Ramp, Role::Test),
            case(20, 320, Data::LargeMean, Role::Bench),
        ]
    }
}
