//! The CPU's linear layers: operands and packed weights in, one output through the shared product.

use super::gemm::{self, Product, Window};
use super::{InPlace, Io, Scratch, Variant};
use crate::backend::cpu::workers::Workers;
use crate::kernels::Dims;
use crate::kernels::matmul::Matmul;
use crate::kernels::statistics::Tiles;
use crate::simd::Isa;
use crate::tensor::Shape;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Matmul>] = &[
    Variant { in_place, ..Variant::plain("naive", naive) },
    Variant { in_place, scratch, ..Variant::plain("panels", panels) },
    Variant { in_place, scratch: scratch_bf16, ..Variant::plain("bf16", bf16) },
];

fn in_place(op: &Matmul) -> Option<InPlace> {
    gemm::in_place(op.sources(), op.norm.is_some(), op.row, op.residual)
}

fn scratch(op: &Matmul, x: &[Shape], _: &[Dims]) -> Scratch {
    let batch = x.iter().map(|s| s.b).max().unwrap_or(1);
    gemm::scratch(&x[..op.sources()], batch * x[0].pixels(), op.norm.is_some(), batch)
}

fn scratch_bf16(op: &Matmul, x: &[Shape], _: &[Dims]) -> Scratch {
    let batch = x.iter().map(|s| s.b).max().unwrap_or(1);
    gemm::bf16::scratch(&x[..op.sources()], batch * x[0].pixels(), op.norm.is_some(), batch)
}

fn product<'a>(op: &Matmul, io: &Io<'a>) -> Product<'a> {
    let (norm, row, residual) = gemm::extras(io, op.sources(), op.norm, op.row, op.residual);
    Product {
        sources: &io.x[..op.sources()],
        window: Window { side: 1, stride: 1, before: 0, upsample: None },
        norm,
        w: io.w[0],
        bias: op.bias.then(|| io.w[1].vector()),
        row,
        residual,
        act: op.act,
        shape: io.y.shape,
        tiles: op.statistics.unwrap_or(Tiles::Rows),
    }
}

fn naive(op: &Matmul, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let p = product(op, io);
    gemm::naive(&p, io, workers);
}

fn panels(op: &Matmul, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let p = product(op, io);
    gemm::run(&p, isa, io, workers);
}

fn bf16(op: &Matmul, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let p = product(op, io);
    gemm::run_bf16(&p, isa, io, workers);
}
