//! The CPU's gating: value and gate halves in, value times GELU of gate out.
#![allow(unsafe_code, reason = "tasks write disjoint rows of one output")]

use super::tile::{Lanewise, Shared, map};
use super::{Io, Variant};
use crate::kernels::Activation;
use crate::kernels::geglu::Geglu;
use crate::simd::{Isa, Simd, Task, dispatch, math};
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Geglu>] = &[Variant::plain("naive", naive), Variant::plain("lanes", lanes)];

fn naive(_: &Geglu, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape, pitch) = (io.x[0], io.y.shape, io.y.pitch);
    let out = Shared::new(io.y.data);
    workers.for_each(shape.rows(), |r, _| {
        let row = &x.data[r * x.pitch..][..2 * shape.c];
        for c in 0..shape.c {
            let y = row[c] * super::gemm::scalar(Activation::Gelu, row[shape.c + c]);
            // SAFETY: rows do not overlap, and each is one task's.
            unsafe { out.get().add(r * pitch + c).write(y) };
        }
    });
}

fn lanes(_: &Geglu, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape, pitch) = (io.x[0], io.y.shape, io.y.pitch);
    let out = Shared::new(io.y.data);
    workers.for_each(shape.rows(), |r, _| {
        let (value, gate) = x.data[r * x.pitch..][..2 * shape.c].split_at(shape.c);
        // SAFETY: rows do not overlap, and each is one task's.
        let to = unsafe { out.get().add(r * pitch) };
        dispatch(isa, Row { value, gate, to });
    });
}

struct Row<'a> {
    value: &'a [f32],
    gate: &'a [f32],
    to: *mut f32,
}

struct Gate;

impl Lanewise<2> for Gate {
    #[inline(always)]
    fn at<S: Simd>(&self, s: S, [value, gate]: [S::V; 2]) -> S::V {
        s.mul(value, math::gelu(s, gate))
    }
}

impl Task for Row<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        // SAFETY: both halves and the output's row have the same length.
        unsafe { map(s, self.value.len(), [self.value.as_ptr(), self.gate.as_ptr()], self.to, &Gate) };
    }
}
