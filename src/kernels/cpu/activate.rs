//! The CPU's activations: a tensor in, the nonlinearity of each element out.
#![allow(unsafe_code, reason = "tasks write disjoint rows of one output")]

use super::tile::{Lanewise, Shared, map};
use super::{Io, Variant};
use crate::backend::cpu::workers::Workers;
use crate::kernels::Activation;
use crate::kernels::activate::Activate;
use crate::simd::{Isa, Simd, Task, dispatch, math};

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Activate>] = &[Variant::plain("naive", naive), Variant::plain("lanes", lanes)];

fn naive(op: &Activate, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape, pitch) = (io.x[0], io.y.shape, io.y.pitch);
    let out = Shared::new(io.y.data);
    workers.for_each(shape.rows(), |r, _| {
        for (c, v) in x.data[r * x.pitch..][..shape.c].iter().enumerate() {
            // SAFETY: rows do not overlap, and each is one task's.
            unsafe { out.get().add(r * pitch + c).write(super::gemm::scalar(op.act, *v)) };
        }
    });
}

fn lanes(op: &Activate, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape, pitch) = (io.x[0], io.y.shape, io.y.pitch);
    let out = Shared::new(io.y.data);
    workers.for_each(shape.rows(), |r, _| {
        // SAFETY: rows do not overlap, and each is one task's.
        let to = unsafe { out.get().add(r * pitch) };
        dispatch(isa, Row { act: op.act, from: &x.data[r * x.pitch..][..shape.c], to });
    });
}

struct Row<'a> {
    act: Activation,
    from: &'a [f32],
    to: *mut f32,
}

impl Lanewise<1> for Activation {
    #[inline(always)]
    fn at<S: Simd>(&self, s: S, [x]: [S::V; 1]) -> S::V {
        math::activate(s, *self, x)
    }
}

impl Task for Row<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        // SAFETY: the output's row is this task's and as long as the input's.
        unsafe { map(s, self.from.len(), [self.from.as_ptr()], self.to, &self.act) };
    }
}
