//! conv2d: a 3x3 convolution, `y = act(conv(x, w) + bias + row) + residual`. (A 1x1 convolution is a matmul.)
//!
//! Operands: `x` `[b, h, w, k]`, with two sources `x0` and `x1` whose channels follow each other; then, if `row`,
//! `[b', 1, 1, n]`; then, if `residual`, `[b', h', w', n]`. Weights: `w` `[n, k, 3, 3]`, then the bias `[n]` if `bias`.

use super::{Activation, Case, Cost, Dims, Kernel, Operand64, Packing};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// Where the zeros around the picture are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pad {
    /// One on every side.
    #[default]
    Around,
    /// One below and one to the right (the VAE encoder's downsampling).
    After,
}

/// See the module's description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conv2d {
    /// Two sources instead of one.
    pub two_sources: bool,
    /// 2 instead of 1: every second output.
    pub stride2: bool,
    /// Where the zeros are.
    pub pad: Pad,
    /// Reads the nearest-neighbour upsampling of x to this height and width (2n or 2n-1), which is never built.
    pub upsample: Option<(usize, usize)>,
    /// Adds `bias`.
    pub bias: bool,
    /// Adds one row to all pixels of a sample.
    pub row: bool,
    /// The nonlinearity, applied before the residual.
    pub act: Activation,
    /// Adds a tensor of the output's shape.
    pub residual: bool,
}
