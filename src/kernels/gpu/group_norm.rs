//! group_norm on a GPU.

use super::Variant;
use crate::kernels::group_norm::GroupNorm;

/// Slowest first.
pub const VARIANTS: &[Variant<GroupNorm>] = &[];
