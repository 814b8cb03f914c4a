//! The CPU's layer normalisation: rows in, normalised rows out, one pass for the mean and one for the variance.
#![allow(unsafe_code, reason = "rows are read through pointers, and tasks write disjoint rows of one output")]

use super::tile::{Lanewise, Shared, map};
use super::{Io, Variant};
use crate::kernels::layer_norm::LayerNorm;
use crate::simd::{Isa, Simd, Task, dispatch};
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<LayerNorm>] = &[Variant::plain("naive", naive), Variant::plain("lanes", lanes)];

/// Rows of a task.
const ROWS: usize = 16;

fn naive(op: &LayerNorm, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape, pitch) = (io.x[0], io.y.shape, io.y.pitch);
    let (gamma, beta) = (io.w[0].vector(), io.w[1].vector());
    let out = Shared::new(io.y.data);
    workers.for_each(shape.rows(), |r, _| {
        let row = &x.data[r * x.pitch..][..shape.c];
        let n = shape.c as f64;
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let var = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (var + f64::from(op.eps)).sqrt();
        // SAFETY: rows do not overlap, and each is one task's.
        let y = unsafe { std::slice::from_raw_parts_mut(out.get().add(r * pitch), shape.c) };
        for (c, y) in y.iter_mut().enumerate() {
            *y = ((f64::from(row[c]) - mean) * scale * f64::from(gamma[c]) + f64::from(beta[c])) as f32;
        }
    });
}

fn lanes(op: &LayerNorm, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape, pitch) = (io.x[0], io.y.shape, io.y.pitch);
    let (gamma, beta) = (io.w[0].vector(), io.w[1].vector());
    let out = Shared::new(io.y.data);
    workers.for_each(shape.rows().div_ceil(ROWS), |task, _| {
        let first = task * ROWS;
        let rows = ROWS.min(shape.rows() - first);
        // SAFETY: groups of rows do not overlap, and each is one task's.
        let to = unsafe { out.get().add(first * pitch) };
        let from = &x.data[first * x.pitch..];
        dispatch(isa, Normalise { from, from_pitch: x.pitch, rows, gamma, beta, eps: op.eps, to, to_pitch: pitch });
    });
}

struct Normalise<'a> {
    from: &'a [f32],
    from_pitch: usize,
    rows: usize,
    gamma: &'a [f32],
    beta: &'a [f32],
    eps: f32,
    to: *mut f32,
    to_pitch: usize,
}

/// What a row's values are mapped with.
struct Row {
    base: f32,
    mean: f32,
    scale: f32,
}

impl Lanewise<3> for Row {
    #[inline(always)]
    fn at<S: Simd>(&self, s: S, [x, gamma, beta]: [S::V; 3]) -> S::V {
        let centred = s.sub(s.sub(x, s.splat(self.base)), s.splat(self.mean));
        s.fma(s.mul(centred, s.splat(self.scale)), gamma, beta)
    }
}

impl Task for Normalise<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let n = self.gamma.len();
        for r in 0..self.rows {
            let row = &self.from[r * self.from_pitch..][..n];
            // Sums are relative to the first value, so that a large mean costs no precision.
            let base = row[0];
            let mean = sum(s, row, base, 0.0, false) / n as f32;
            let var = sum(s, row, base, mean, true) / n as f32;
            let by = Row { base, mean, scale: 1.0 / (var + self.eps).sqrt() };
            // SAFETY: the row, gamma and beta have n values; the output's row is this task's.
            unsafe {
                let to = self.to.add(r * self.to_pitch);
                map(s, n, [row.as_ptr(), self.gamma.as_ptr(), self.beta.as_ptr()], to, &by);
            }
        }
    }
}

/// The sum of `(x - base) - mean`, or of its square.
#[inline(always)]
fn sum<S: Simd>(s: S, row: &[f32], base: f32, mean: f32, square: bool) -> f32 {
    let (b, m, one) = (s.splat(base), s.splat(mean), s.splat(1.0));
    // Four chains, so that additions overlap.
    let mut acc = [s.splat(0.0); 4];
    let whole = row.len() / S::LANES;
    for i in 0..whole {
        // SAFETY: a whole vector lies within the row.
        let d = s.sub(s.sub(unsafe { s.load(row.as_ptr().add(i * S::LANES)) }, b), m);
        acc[i % 4] = s.fma(d, if square { d } else { one }, acc[i % 4]);
    }
    let rest = row[whole * S::LANES..].iter().map(|x| (x - base) - mean);
    let rest: f32 = if square { rest.map(|d| d * d).sum() } else { rest.sum() };
    s.sum(s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3]))) + rest
}
