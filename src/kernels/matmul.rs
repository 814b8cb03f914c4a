//! matmul: `y = act(x w^T + bias + row) + residual`, the linear layer and the 1x1 convolution.
//!
//! Operands: `x` `[b, h, w, k]`, with two sources `x0` and `x1` whose channels follow each other (a concatenation that is
//! never built); then, if `row`, `[b', 1, 1, n]`; then, if `residual`, `[b', h, w, n]`. Weights: `w` `[n, k]`, then the
//! bias `[n]` if `bias`. With `geglu` the rows of `w` (and the bias) are value and gate halves, and `y = v * gelu(g)` has
//! n/2 channels.

use super::{Activation, Case, Cost, Dims, Kernel, Operand64, Packing};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matmul {
    /// Two sources instead of one.
    pub two_sources: bool,
    /// Adds `bias`.
    pub bias: bool,
    /// Adds one row to all pixels of a sample.
    pub row: bool,
    /// The nonlinearity, applied before the residual.
    pub act: Activation,
    /// Halves the channels: value times GELU of gate. Excludes `row`, `act` and `residual`.
    pub geglu: bool,
    /// Adds a tensor of the output's shape.
    pub residual: bool,
}
