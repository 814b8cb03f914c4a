//! group_affine on a GPU: no variant yet. Plans for GPUs are made without the rewrite `norm_read`, which alone brings it in.

use super::Variant;
use crate::kernels::group_affine::GroupAffine;

/// None.
pub const VARIANTS: &[Variant<GroupAffine>] = &[];
