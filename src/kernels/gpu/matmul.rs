//! matmul on a GPU; see `gemm.rs`.

use super::GpuVariant;
use super::gemm::{self, Gemm, Product, Rows};
use crate::kernels::matmul::Matmul;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<Matmul>] = &[
    GpuVariant { name: "naive", supports: gemm::naive_supports, launch: gemm::naive },
    GpuVariant { name: "tiled", supports: gemm::tiled_supports, launch: gemm::tiled },
    GpuVariant { name: "split_k", supports: gemm::split_supports, launch: gemm::split },
    GpuVariant { name: "coop", supports: gemm::coop_supports, launch: gemm::coop },
];

impl Product for Matmul {
    fn gemm(&self) -> Gemm {
        Gemm {
            rows: Rows::Linear,
            two_sources: self.two_sources,
            bias: self.bias,
            row: self.row,
            act: self.act,
            geglu: self.geglu,
            residual: self.residual,
            statistics: self.statistics.is_some(),
        }
    }
}
