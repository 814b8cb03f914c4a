//! conv2d on a GPU.

use super::Variant;
use crate::kernels::conv2d::Conv2d;

/// Slowest first.
pub const VARIANTS: &[Variant<Conv2d>] = &[];
