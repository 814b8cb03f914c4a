//! The CPU's nearest-neighbour upsampling: a tensor in, each pixel's row copied up to four times out.

use super::{Io, Variant};
use crate::kernels::upsample::Upsample;
use crate::simd::Isa;
use crate::workers::Workers;

/// Slowest first. Copies need no second variant.
pub(crate) static VARIANTS: &[Variant<Upsample>] = &[Variant::plain("naive", naive)];

fn naive(_: &Upsample, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape) = (io.x[0], io.y.shape);
    workers.for_each_row(io.y.rows(), shape.w, |r, to| {
        let (line, px) = (r / shape.w, r % shape.w);
        let (b, y) = (line / shape.h, line % shape.h * x.shape.h / shape.h);
        let from = ((b * x.shape.h + y) * x.shape.w + px * x.shape.w / shape.w) * x.pitch;
        to.copy_from_slice(&x.data[from..from + shape.c]);
    });
}
