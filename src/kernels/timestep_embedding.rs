//! timestep_embedding: a timestep to the sinusoids `[cos(t f_0) .. cos(t f_{n/2-1}), sin(t f_0) ..]`, with
//! `f_i = 10000^(-i / (n/2))` (Ho et al. 2020, in the order of SD's `flip_sin_to_cos`).
//!
//! Operand: `t` `[b, 1, T, 1]`; output `[b, 1, T, n]`.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestepEmbedding {
    /// Width of the embedding, even.
    pub width: usize,
}
