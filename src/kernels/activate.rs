//! activate: `y = act(x)`, element by element. Fused into the op before it wherever that is possible.
//!
//! Operand: `x` `[b, h, w, c]`.

use super::{Activation, Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activate {
    /// The nonlinearity.
    pub act: Activation,
}
