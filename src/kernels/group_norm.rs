//! group_norm: `y = act((x - mean) / sqrt(var + eps) * gamma + beta)` over each (sample, group of channels).
//!
//! Operands: `x` `[b, h, w, c]`, or two sources whose channels follow each other (groups may straddle them). Weights:
//! gamma `[c]`, beta `[c]`. Variance is the biased one. Statistics are (mean, M2) per channel for fixed tiles of pixels,
//! merged in index order (Chan) in f64: never E[x^2] - E[x]^2.

use super::{Activation, Case, Cost, Dims, Kernel, Operand64, Packing};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Two sources instead of one.
    pub two_sources: bool,
    /// Groups; they divide the channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// The nonlinearity.
    pub act: Activation,
}
