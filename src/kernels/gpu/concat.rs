//! concat on a GPU.

use super::Variant;
use crate::kernels::concat::Concat;

/// Slowest first.
pub const VARIANTS: &[Variant<Concat>] = &[];
