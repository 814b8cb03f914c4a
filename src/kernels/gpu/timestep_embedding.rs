//! timestep_embedding on a GPU.

use super::Variant;
use crate::kernels::timestep_embedding::TimestepEmbedding;

/// Slowest first.
pub const VARIANTS: &[Variant<TimestepEmbedding>] = &[];
