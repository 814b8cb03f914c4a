//! activate on a GPU.

use super::Variant;
use crate::kernels::activate::Activate;

/// Slowest first.
pub const VARIANTS: &[Variant<Activate>] = &[];
