//! The CPU's 3x3 convolutions: operands and packed weights in, one output through the shared product.

use super::gemm::{self, Product, Window};
use super::{Io, Scratch, Variant};
use crate::backend::cpu::workers::Workers;
use crate::kernels::Dims;
use crate::kernels::conv2d::Conv2d;
use crate::simd::Isa;
use crate::tensor::Shape;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Conv2d>] = &[
    Variant { name: "naive", supports: |_, _, _| true, scratch: |_, _, _| Scratch::default(), run: naive },
    Variant { name: "panels", supports: |_, _, _| true, scratch, run: panels },
];

fn scratch(op: &Conv2d, x: &[Shape], _: &[Dims]) -> Scratch {
    let (h, w) = op.upsample.unwrap_or((x[0].h, x[0].w));
    // At most as many outputs as (upsampled) inputs.
    let rows = x.iter().map(|s| s.b).max().unwrap_or(1) * h * w;
    gemm::scratch(&x[..op.sources()], rows)
}

fn product<'a>(op: &Conv2d, io: &Io<'a>) -> Product<'a> {
    let (row, residual) = gemm::extras(io, op.sources(), op.row, op.residual);
    Product {
        sources: &io.x[..op.sources()],
        window: Window { side: 3, stride: op.stride(), before: op.before(), upsample: op.upsample },
        w: io.w[0],
        bias: op.bias.then(|| io.w[1].vector()),
        row,
        residual,
        act: op.act,
        shape: io.y.shape,
    }
}

fn naive(op: &Conv2d, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let p = product(op, io);
    gemm::naive(&p, io.y.data, io.y.pitch, workers);
}

fn panels(op: &Conv2d, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let p = product(op, io);
    gemm::run(&p, isa, io.y.data, io.y.pitch, io.scratch, workers);
}
