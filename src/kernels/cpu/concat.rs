//! The CPU's concatenation: two tensors in, one with the channels of both out. Copies need no second variant.

use super::{Io, Variant};
use crate::kernels::concat::Concat;
use crate::simd::Isa;
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Concat>] = &[Variant::plain("naive", naive)];

fn naive(_: &Concat, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape) = (io.x, io.y.shape);
    workers.for_each_row(io.y.rows(), 1, |r, mut to| {
        let (b, pixel) = (r / shape.pixels(), r % shape.pixels());
        for src in x {
            let (here, rest) = to.split_at_mut(src.shape.c);
            let from = (b % src.shape.b * shape.pixels() + pixel) * src.pitch;
            here.copy_from_slice(&src.data[from..from + src.shape.c]);
            to = rest;
        }
    });
}
