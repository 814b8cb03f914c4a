//! geglu: `y = v * gelu(g)`, where v is the first half of x's channels and g the second.
//!
//! Operand: `x` `[b, h, w, 2c]`; output `[b, h, w, c]`. Fused into the matmul before it wherever that is possible.

use super::{Activation, Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geglu;
