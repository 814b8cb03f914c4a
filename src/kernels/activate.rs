//! activate: `y = act(x)`, element by element. Fused into the op before it wherever that is possible.
//!
//! Operand: `x` `[b, h, w, c]`.
//!
//! Variants, slowest first. CPU: `naive`; `lanes`, the same in SIMD with polynomials for exp and erf. GPU: `quads`, a
//! thread for four channels; it waits for memory alone.

use super::{Activation, Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role, f32_bytes};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activate {
    /// The nonlinearity.
    pub act: Activation,
}

impl Kernel for Activate {
    const NAME: &'static str = "activate";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        match x {
            [x] if w.is_empty() && !x.is_empty() => Ok(vec![*x]),
            _ => Err(Error::other(format!("takes one operand, got {x:?}, weights {w:?}"))),
        }
    }

    fn packings(&self) -> Vec<Packing> {
        Vec::new()
    }

    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
        let n = self.output(x, w).map_or(0, |y| y[0].len()) as u64;
        Cost { flops: 8 * n, bytes: f32_bytes(x) + 4 * n }
    }

    fn tolerance(&self, _: &[Shape], _: &[Dims]) -> f64 {
        // Few units in the last place of a value that, among outliers, can be 40 times the rms.
        f64::from(f32::EPSILON) / 2.0 * 256.0
    }

    fn reference(&self, x: &[Operand64<'_>], _: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        at.iter().map(|i| self.act.reference(x[0].data[*i])).collect()
    }

    fn cases() -> Vec<Case> {
        let case = |act: Activation, rows: usize, c: usize, data, role| Case {
            name: format!("{act:?}_{rows}x{c}_{data:?}").to_lowercase(),
            op: Self { act }.into(),
            x: vec![Shape::tokens(1, rows, c)],
            w: Vec::new(),
            data,
            role,
        };
        let mut all = Vec::new();
        for act in std::iter::once(Activation::None).chain(Activation::ALL) {
            all.push(case(act, 1, 1, Data::Normal, Role::Test));
            all.push(case(act, 3, 17, Data::Outliers, Role::Test));
            all.push(case(act, 5, 31, Data::Ramp, Role::Test));
            all.push(case(act, 2, 1280, Data::LargeMean, Role::Test));
            all.push(case(act, 8192, 320, Data::Normal, Role::Bench));
        }
        all
    }
}
