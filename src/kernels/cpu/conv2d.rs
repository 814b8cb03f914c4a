//! The CPU's 3x3 convolutions: operands and packed weights in, one output through the shared product.

use super::gemm::{self, Product, Window};
use super::winograd::forms::{Doubled, Form, Four};
use super::{InPlace, Io, Scratch, Variant, winograd};
use crate::kernels::Dims;
use crate::kernels::conv2d::{Conv2d, Pad};
use crate::kernels::statistics::Tiles;
use crate::simd::Isa;
use crate::tensor::Shape;
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Conv2d>] = &[
    Variant { in_place, ..Variant::plain("naive", naive) },
    Variant { in_place, scratch, ..Variant::plain("panels", panels) },
    Variant {
        name: "upsample9",
        supports: |op, x, w| pays("upsample9", op, x, w),
        scratch: |op, x, _| winograd::scratch::<Doubled, 3, 3, 2>(&x[..op.sources()], batch(x)),
        in_place,
        run: |op, isa, io, workers| fast(op, Doubled, isa, io, workers),
    },
    Variant {
        name: "winograd",
        supports: |op, x, w| pays("winograd", op, x, w),
        scratch: |op, x, _| winograd::scratch::<Four, 6, 6, 4>(&x[..op.sources()], batch(x)),
        in_place,
        run: |op, isa, io, workers| fast(op, Four, isa, io, workers),
    },
];

fn in_place(op: &Conv2d, _: &[Shape], _: &[Dims]) -> Option<InPlace> {
    gemm::in_place(op.sources(), op.norm.is_some(), op.row, op.residual)
}

fn batch(x: &[Shape]) -> usize {
    x.iter().map(|s| s.b).max().unwrap_or(1)
}

/// Vector instructions of a fast form relative to the direct one (counted 16 times, which cancels): `products` of a
/// tile, `filter` to transform 16 filters, `input` and `output` to transform a tile in 16 channels.
///
/// A function of the shape of one sample: batches must not change rounding.
fn share(w: &[Dims], tiles: usize, pixels: usize, [products, filter, input, output]: [usize; 4]) -> f64 {
    let (k, n) = (w[0].k, w[0].n.next_multiple_of(32));
    let direct = (9 * pixels + 27) * k * n;
    let fast = (products * tiles + filter) * k * n + tiles * (input * k + output * n);
    fast as f64 / direct as f64
}

/// The fast form that could compute a convolution, and its instructions relative to the direct one's: below 1 it does.
pub fn fast_share(op: &Conv2d, x: &[Shape], w: &[Dims]) -> Option<(&'static str, f64)> {
    if op.stride2 || op.pad != Pad::Around || x.is_empty() || w[0].k < 8 {
        return None;
    }
    let tiles = x[0].h.div_ceil(4) * x[0].w.div_ceil(4);
    match op.upsample {
        None => Some(("winograd", share(w, tiles, x[0].pixels(), [36, 150, 270, 250]))),
        Some(size) if size == (2 * x[0].h, 2 * x[0].w) => {
            Some(("upsample9", share(w, x[0].pixels(), 4 * x[0].pixels(), [9, 35, 50, 50])))
        }
        Some(_) => None,
    }
}

fn pays(form: &str, op: &Conv2d, x: &[Shape], w: &[Dims]) -> bool {
    fast_share(op, x, w).is_some_and(|(name, share)| name == form && share < 1.0)
}

fn scratch(op: &Conv2d, x: &[Shape], _: &[Dims]) -> Scratch {
    let (h, w) = op.upsample.unwrap_or((x[0].h, x[0].w));
    // At most as many outputs as (upsampled) inputs.
    gemm::scratch(&x[..op.sources()], batch(x) * h * w, op.norm.is_some(), batch(x))
}

fn product<'a>(op: &Conv2d, io: &Io<'a>) -> Product<'a> {
    let (norm, row, residual) = gemm::extras(io, op.sources(), op.norm, op.row, op.residual);
    Product {
        sources: &io.x[..op.sources()],
        window: Window { side: 3, stride: op.stride(), before: op.before(), upsample: op.upsample },
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

fn naive(op: &Conv2d, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let p = product(op, io);
    gemm::naive(&p, io, workers);
}

fn panels(op: &Conv2d, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let p = product(op, io);
    gemm::run(&p, isa, io, workers);
}

fn fast<F: Form<IN, P, OUT>, const IN: usize, const P: usize, const OUT: usize>(
    op: &Conv2d,
    form: F,
    isa: Isa,
    io: &mut Io<'_>,
    workers: &Workers,
) {
    let p = product(op, io);
    winograd::run(form, &p, isa, io, workers);
}
