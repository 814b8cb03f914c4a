//! conv2d on a GPU: an implicit GEMM over taps and channels; see `gemm.rs`.

use super::GpuVariant;
use super::gemm::{self, Gemm, Product, Rows};
use crate::kernels::conv2d::Conv2d;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<Conv2d>] = &[
    GpuVariant { name: "naive", supports: gemm::naive_supports, launch: gemm::naive },
    GpuVariant { name: "implicit_gemm", supports: gemm::tiled_supports, launch: gemm::tiled },
    GpuVariant { name: "split_k", supports: gemm::split_supports, launch: gemm::split },
    GpuVariant { name: "coop", supports: gemm::coop_supports, launch: gemm::coop },
];

impl Product for Conv2d {
    fn gemm(&self) -> Gemm {
        Gemm {
            rows: Rows::Conv3x3 { stride: self.stride(), before: self.before(), upsample: self.upsample },
            two_sources: self.two_sources,
            bias: self.bias,
            row: self.row,
            act: self.act,
            geglu: false,
            residual: self.residual,
            statistics: self.statistics.is_some(),
        }
    }
}
