//! The CPU's addition: two tensors, or a tensor and a row for each sample, in; their sum out.

use super::tile::{Lanewise, map};
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
    let (a, b, shape) = (io.x[0], io.x[1], io.y.shape);
    workers.for_each_row(io.y.rows(), 1, |r, y| {
        for ((y, a), b) in y.iter_mut().zip(row(&a, shape, r)).zip(row(&b, shape, r)) {
            *y = a + b;
        }
    });
}

fn lanes(_: &Add, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (a, b, shape) = (io.x[0], io.x[1], io.y.shape);
    workers.for_each_row(io.y.rows(), 1, |r, to| {
        dispatch(isa, Row { a: row(&a, shape, r), b: row(&b, shape, r), to });
    });
}

struct Row<'a> {
    a: &'a [f32],
    b: &'a [f32],
    to: &'a mut [f32],
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
        map(s, [self.a, self.b], self.to, &Plus);
    }
}
