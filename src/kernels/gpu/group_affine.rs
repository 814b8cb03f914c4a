//! group_affine on a GPU: not there, because the rewrite `norm_read` is off on GPUs
//! ([`crate::graph::target::Caps::gpu`]).

use super::GpuVariant;
use crate::kernels::group_affine::GroupAffine;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<GroupAffine>] = &[];
