//! concat: the channels of a, then those of b. Convolutions, norms and products read two sources instead, wherever the
//! rewrite applies; this op is what remains.
//!
//! Operands: `a` `[b, h, w, c0]`, `b` `[b', h, w, c1]`; output `[b, h, w, c0 + c1]`.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat;
