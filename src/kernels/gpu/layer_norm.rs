//! layer_norm on a GPU.

use super::Variant;
use crate::kernels::layer_norm::LayerNorm;

/// Slowest first.
pub const VARIANTS: &[Variant<LayerNorm>] = &[];
