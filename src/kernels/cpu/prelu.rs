//! The CPU's PReLU: a tensor and slopes in, the tensor with its negative values scaled out.

use super::tile::{load, put};
use super::{InPlace, Io, Variant};
use crate::kernels::prelu::Prelu;
use crate::simd::{Isa, Simd, Task, dispatch, math};
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Prelu>] = &[
    Variant::plain("naive", naive),
    Variant { in_place: |_, _, _| Some(InPlace::Element(0)), ..Variant::plain("lanes", lanes) },
];

/// Rows of a task.
const ROWS: usize = 64;

fn naive(_: &Prelu, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, slopes) = (io.x[0], io.w[0].vector());
    workers.for_each_row(io.y.rows(), 1, |r, row| {
        for ((y, x), slope) in row.iter_mut().zip(&x.data[r * x.pitch..]).zip(slopes) {
            *y = if *x < 0.0 { slope * x } else { *x };
        }
    });
}

fn lanes(_: &Prelu, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, slopes, c, pitch) = (io.x[0], io.w[0].vector(), io.y.shape.c, io.y.pitch);
    let here = io.in_place.is_some();
    workers.for_each_part(io.y.rows(), ROWS, |first, rows, _| {
        if !here {
            for (i, row) in rows.chunks_mut(pitch).enumerate() {
                row[..c].copy_from_slice(&x.data[(first + i) * x.pitch..][..c]);
            }
        }
        dispatch(isa, Rows { rows, pitch, slopes: &slopes[..c] });
    });
}

struct Rows<'a> {
    rows: &'a mut [f32],
    pitch: usize,
    slopes: &'a [f32],
}

impl Task for Rows<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        for row in self.rows.chunks_mut(self.pitch) {
            let vectors = row[..self.slopes.len()].chunks_mut(S::LANES).zip(self.slopes.chunks(S::LANES));
            for (x, slopes) in vectors {
                let y = math::prelu(s, load(s, x), load(s, slopes));
                put(s, x, y);
            }
        }
    }
}
