//! matmul on a GPU.

use super::Variant;
use crate::kernels::matmul::Matmul;

/// Slowest first.
pub const VARIANTS: &[Variant<Matmul>] = &[];
