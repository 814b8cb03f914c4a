//! layer_norm: `y = (x - mean) / sqrt(var + eps) * gamma + beta` over the channels of each row.
//!
//! Operand: `x` `[b, h, w, c]`. Weights: gamma `[c]`, beta `[c]`. Variance is the biased one, from a second pass.
//!
//! Variants, slowest first. CPU: `naive`; `lanes`, the same in SIMD. GPU: `naive`, a thread for each row; `rows`,
//! neighbouring threads share a row that stays in registers.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    fn fits(x: &[Shape], w: &[Dims]) -> bool {
        x.len() == 1 && w.len() == 2 && !x[0].is_empty() && w.iter().all(|d| *d == Dims::vector(x[0].c))
    }
}

impl Kernel for LayerNorm {
    const NAME: &'static str = "layer_norm";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        if Self::fits(x, w) {
            Ok(vec![x[0]])
        } else {
            Err(Error::other(format!("shapes do not fit: {x:?}, weights {w:?}")))
        }
    }

    fn packings(&self) -> Vec<Packing> {
        vec![Packing::VECTOR, Packing::VECTOR]
    }

    fn cost(&self, x: &[Shape], _: &[Dims]) -> Cost {
        let n = x[0].len() as u64;
        Cost { flops: 8 * n, bytes: 8 * n }
    }

    fn tolerance(&self, x: &[Shape], _: &[Dims]) -> f64 {
        // The mean is the longest sum; 4 covers the division and the affine step.
        4.0 * f64::from(f32::EPSILON) / 2.0 * (x[0].c as f64).sqrt()
    }

    fn reference(&self, x: &[Operand64<'_>], w: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let c = x[0].shape.c;
        let one = |i: &usize| {
            let row = &x[0].data[i / c * c..i / c * c + c];
            let mean = row.iter().sum::<f64>() / c as f64;
            let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / c as f64;
            (row[i % c] - mean) / (var + f64::from(self.eps)).sqrt() * w[0].data[i % c] + w[1].data[i % c]
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        let case = |rows: usize, c: usize, data, role| Case {
            name: format!("{rows}x{c}_{data:?}").to_lowercase(),
            op: Self { eps: 1e-5 }.into(),
            x: vec![Shape::tokens(1, rows, c)],
            w: vec![Dims::vector(c); 2],
            data,
            role,
        };
        let mut all = vec![
            case(1, 1, Data::Normal, Role::Test),
            case(3, 7, Data::Ramp, Role::Test),
            case(5, 33, Data::LargeMean, Role::Test),
            case(2, 40, Data::Constant, Role::Test),
            case(77, 768, Data::Outliers, Role::Test),
        ];
        all.extend([320, 640, 1280].map(|c| case(6, c, Data::Normal, Role::Test)));
        all.extend(
            [(8192, 320), (2048, 640), (512, 1280), (154, 768)].map(|(r, c)| case(r, c, Data::Normal, Role::Bench)),
        );
        all
    }
}
