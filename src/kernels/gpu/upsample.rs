//! upsample on a GPU.

use super::Variant;
use crate::kernels::upsample::Upsample;

/// Slowest first.
pub const VARIANTS: &[Variant<Upsample>] = &[];
