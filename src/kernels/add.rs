//! add: `y = a + b`. Fused into the product before it wherever that is possible.
//!
//! Operands: `a` `[b, h, w, c]` and `b`, of the same pixels, or `[b', 1, 1, c]`: one row for all pixels of a sample.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add;
