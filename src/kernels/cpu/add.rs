//! The CPU's addition: two tensors, or a tensor and a row for each sample, in; their sum out.
#![allow(unsafe_code, reason = "tasks write disjoint rows of one output")]

use super::tile::{Lanewise, Shared, map};
use super::{In, Io, Variant};
use crate::kernels::add::Add;
use crate::simd::{Isa, Simd, Task, dispatch};
use crate::tensor::Shape;
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Add>] = &[Variant::plain("naive", naive), Variant::plain("lanes", lanes)];

/// The row of an operand that serves row r of the output.
fn row<'a>(x: &In<'a>, out: Shape, r: usize) -> &'a [f32] {
    let (b, pixel) = (r / out.pixels(), r % out.pixels());
    let pixel = if x.shape.pixels() == 1 { 0 } else { pixel };
    &x.data[(b % x.shape.b * x.shape.pixels() + pixel) * x.pitch..][..x.shape.c]
}

fn naive(_: &Add, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (a, b, shape, pitch) = (io.x[0], io.x[1], io.y.shape, io.y.pitch);
    let out = Shared::new(io.y.data);
    workers.for_each(shape.rows(), |r, _| {
        for (c, (a, b)) in row(&a, shape, r).iter().zip(row(&b, shape, r)).enumerate() {
            // SAFETY: rows do not overlap, and each is one task's.
            unsafe { out.get().add(r * pitch + c).write(a + b) };
        }
    });
}

fn lanes(_: &Add, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (a, b, shape, pitch) = (io.x[0], io.x[1], io.y.shape, io.y.pitch);
    let out = Shared::new(io.y.data);
    workers.for_each(shape.rows(), |r, _| {
        // SAFETY: rows do not overlap, and each is one task's.
        let to = unsafe { out.get().add(r * pitch) };
        dispatch(isa, Row { a: row(&a, shape, r), b: row(&b, shape, r), to });
    });
}

struct Row<'a> {
    a: &'a [f32],
    b: &'a [f32],
    to: *mut f32,
}

struct Plus;

impl Lanewise<2> for Plus {
    #[inline(always)]
    fn at<S: Simd>(&self, s: S, [a, b]: [S::V; 2]) -> S::V {
        s.add(a, b)
    }
}

impl Task for Row<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        debug_assert_eq!(self.a.len(), self.b.len());
        // SAFETY: the contract gives all three rows the same length.
        unsafe { map(s, self.a.len(), [self.a.as_ptr(), self.b.as_ptr()], self.to, &Plus) };
    }
}
