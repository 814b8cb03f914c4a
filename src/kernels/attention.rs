//! attention: `softmax(q k^T / sqrt(d)) v` for each head; the scores are never stored as a whole.
//!
//! Operands: `q` `[b, h, w, heads * d]`, `k` and `v` `[b', h', w', heads * d]`; rows are tokens, a head is d neighbouring
//! channels. Column views are allowed for all three. With `causal`, token i sees tokens 0 ..= i.

use super::{Case, Cost, Dims, Kernel, Operand64, Packing};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Heads; they divide the channels.
    pub heads: usize,
    /// Each token sees itself and what comes before it.
    pub causal: bool,
}
