//! geglu on a GPU.

use super::Variant;
use crate::kernels::geglu::Geglu;

/// Slowest first.
pub const VARIANTS: &[Variant<Geglu>] = &[];
