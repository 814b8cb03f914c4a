//! The CPU's linear layers: operands and packed weights in, one output through the shared product.

use super::gemm::{self, Product, Window};
use super::{InPlace, Io, Scratch, Variant};
use crate::kernels::Dims;
use crate::kernels::matmul::Matmul;
use crate::kernels::statistics::Tiles;
use crate::simd::Isa;
use crate::tensor::Shape;
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Matmul>] = &[
    Variant { in_place, scratch: staging, ..Variant::plain("naive", naive) },
    Variant { in_place, scratch, ..Variant::plain("panels", panels) },
    Variant { in_place, scratch: scratch_bf16, ..Variant::plain("bf16", bf16) },
];

fn in_place(op: &Matmul, x: &[Shape], w: &[Dims]) -> Option<InPlace> {
    if is_over(op, x, w) {
        return Some(InPlace::Rows(0));
    }
    gemm::in_place(op.sources(), op.norm.is_some(), op.row, op.residual)
}

/// Whether it can write over its source: one with wider rows, and nothing else is read
/// beside weights. Worth it for many rows.
fn is_over(op: &Matmul, x: &[Shape], w: &[Dims]) -> bool {
    let alone = Matmul { bias: op.bias, act: op.act, ..Matmul::default() };
    *op == alone && w[0].n < w[0].k && x[0].rows() > gemm::over::STAGED
}

fn scratch(op: &Matmul, x: &[Shape], w: &[Dims]) -> Scratch {
    scratch_with(op, x, w, gemm::scratch)
}

fn scratch_bf16(op: &Matmul, x: &[Shape], w: &[Dims]) -> Scratch {
    scratch_with(op, x, w, gemm::bf16::scratch)
}

fn staging(op: &Matmul, x: &[Shape], w: &[Dims]) -> Scratch {
    let shared = if is_over(op, x, w) { gemm::over::STAGED * w[0].n } else { 0 };
    Scratch { shared, per_worker: 0 }
}

fn scratch_with(op: &Matmul, x: &[Shape], w: &[Dims], own: fn(&[Shape], usize, bool, usize) -> Scratch) -> Scratch {
    let batch = x.iter().map(|s| s.b).max().unwrap_or(1);
    let own = own(&x[..op.sources()], batch * x[0].pixels(), op.norm.is_some(), batch);
    Scratch { shared: own.shared + staging(op, x, w).shared, ..own }
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
    with(op, io, |p, io| gemm::naive(p, io, workers));
}

fn panels(op: &Matmul, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    with(op, io, |p, io| gemm::run(p, isa, io, workers));
}

fn bf16(op: &Matmul, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    with(op, io, |p, io| gemm::run_bf16(p, isa, io, workers));
}

fn with(op: &Matmul, io: &mut Io<'_>, run: impl Fn(&Product<'_>, &mut Io<'_>)) {
    let p = product(op, io);
    match io.in_place {
        Some(InPlace::Rows(_)) => gemm::over::run(&p, io, run),
        _ => run(&p, io),
    }
}
