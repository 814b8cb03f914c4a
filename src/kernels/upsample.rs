//! upsample: nearest neighbour to a given size, `y[i, j] = x[i * h / h', j * w / w']` (floor). Folded into the convolution
//! after it wherever that is possible.
//!
//! Operand: `x` `[b, h, w, c]`; output `[b, h', w', c]` with h' in {2h, 2h - 1} and w' likewise.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role};
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
