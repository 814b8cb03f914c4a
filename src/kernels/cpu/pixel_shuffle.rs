//! The CPU's pixel shuffle: channels in, pixels out. It only moves values, so one variant is enough.

use super::{Io, Variant};
use crate::kernels::pixel_shuffle::PixelShuffle;
use crate::simd::Isa;
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<PixelShuffle>] = &[Variant::plain("naive", naive)];

fn naive(op: &PixelShuffle, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (s, x, base, shape) = (op.factor, io.x[0], io.x.get(1).copied(), io.y.shape);
    workers.for_each_row(io.y.rows(), shape.w, |r, to| {
        let (line, px) = (r / shape.w, r % shape.w);
        let (b, y) = (line / shape.h, line % shape.h);
        let pixel = |b: usize| (b * (shape.h / s) + y / s) * (shape.w / s) + px / s;
        let from = &x.data[pixel(b % x.shape.b) * x.pitch + y % s * s + px % s..];
        for (to, from) in to.iter_mut().zip(from.iter().step_by(s * s)) {
            *to = *from;
        }
        if let Some(base) = base {
            let row = &base.data[pixel(b % base.shape.b) * base.pitch..];
            to.iter_mut().zip(row).for_each(|(to, base)| *to += base);
        }
    });
}
