//! The CPU's gating: value and gate halves in, value times GELU of gate out.

use super::tile::{Lanewise, map};
use super::{Io, Variant};
use crate::kernels::Activation;
use crate::kernels::geglu::Geglu;
use crate::simd::{Isa, Simd, Task, dispatch, math};
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Geglu>] = &[Variant::plain("naive", naive), Variant::plain("lanes", lanes)];

fn naive(_: &Geglu, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, c) = (io.x[0], io.y.shape.c);
    workers.for_each_row(io.y.rows(), 1, |r, row| {
        let (value, gate) = x.data[r * x.pitch..][..2 * c].split_at(c);
        for ((y, value), gate) in row.iter_mut().zip(value).zip(gate) {
            *y = value * super::gemm::scalar(Activation::Gelu, *gate);
        }
    });
}

fn lanes(_: &Geglu, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, c) = (io.x[0], io.y.shape.c);
    workers.for_each_row(io.y.rows(), 1, |r, to| {
        let (value, gate) = x.data[r * x.pitch..][..2 * c].split_at(c);
        dispatch(isa, Row { value, gate, to });
    });
}

struct Row<'a> {
    value: &'a [f32],
    gate: &'a [f32],
    to: &'a mut [f32],
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
        map(s, [self.value, self.gate], self.to, &Gate);
    }
}
