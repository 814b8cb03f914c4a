//! attention on a GPU.

use super::Variant;
use crate::kernels::attention::Attention;

/// Slowest first.
pub const VARIANTS: &[Variant<Attention>] = &[];
