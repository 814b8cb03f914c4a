//! The CPU's concatenation: two tensors in, one with the channels of both out. Copies need no second variant.
#![allow(unsafe_code, reason = "tasks write disjoint rows of one output")]

use super::tile::Shared;
use super::{Io, Variant};
use crate::kernels::concat::Concat;
use crate::simd::Isa;
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Concat>] = &[Variant::plain("naive", naive)];

fn naive(_: &Concat, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape, pitch) = (io.x, io.y.shape, io.y.pitch);
    let out = Shared::new(io.y.data);
    workers.for_each(shape.rows(), |r, _| {
        // SAFETY: rows do not overlap, and each is one task's.
        let mut to = unsafe { std::slice::from_raw_parts_mut(out.get().add(r * pitch), shape.c) };
        let (b, pixel) = (r / shape.pixels(), r % shape.pixels());
        for src in x {
            let (here, rest) = to.split_at_mut(src.shape.c);
            let from = (b % src.shape.b * shape.pixels() + pixel) * src.pitch;
            here.copy_from_slice(&src.data[from..from + src.shape.c]);
            to = rest;
        }
    });
}
