//! The CPU's nearest-neighbour upsampling: a tensor in, each pixel's row copied up to four times out.
#![allow(unsafe_code, reason = "tasks write disjoint rows of one output")]

use super::tile::Shared;
use super::{Io, Variant};
use crate::kernels::upsample::Upsample;
use crate::simd::Isa;
use crate::workers::Workers;

/// Slowest first. Copies need no second variant.
pub(crate) static VARIANTS: &[Variant<Upsample>] = &[Variant::plain("naive", naive)];

fn naive(_: &Upsample, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape, pitch) = (io.x[0], io.y.shape, io.y.pitch);
    let out = Shared::new(io.y.data);
    workers.for_each(shape.b * shape.h, |line, _| {
        let (b, y) = (line / shape.h, line % shape.h * x.shape.h / shape.h);
        for px in 0..shape.w {
            let from = ((b * x.shape.h + y) * x.shape.w + px * x.shape.w / shape.w) * x.pitch;
            // SAFETY: lines of the output do not overlap, and each is one task's.
            let to = unsafe { std::slice::from_raw_parts_mut(out.get().add((line * shape.w + px) * pitch), shape.c) };
            to.copy_from_slice(&x.data[from..from + shape.c]);
        }
    });
}
