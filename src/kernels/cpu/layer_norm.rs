//! The CPU's layer normalisation: rows in, normalised rows out, one pass for the mean and one for the variance.

use super::tile::{Lanewise, load, map};
use super::{Io, Variant};
use crate::kernels::layer_norm::LayerNorm;
use crate::simd::{Isa, Simd, Task, dispatch};
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<LayerNorm>] = &[Variant::plain("naive", naive), Variant::plain("lanes", lanes)];

/// Rows of a task.
const ROWS: usize = 16;

fn naive(op: &LayerNorm, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, c) = (io.x[0], io.y.shape.c);
    let (gamma, beta) = (io.w[0].vector(), io.w[1].vector());
    workers.for_each_row(io.y.rows(), 1, |r, y| {
        let row = &x.data[r * x.pitch..][..c];
        let n = c as f64;
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let var = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (var + f64::from(op.eps)).sqrt();
        for (c, y) in y.iter_mut().enumerate() {
            *y = ((f64::from(row[c]) - mean) * scale * f64::from(gamma[c]) + f64::from(beta[c])) as f32;
        }
    });
}

fn lanes(op: &LayerNorm, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, to_pitch) = (io.x[0], io.y.pitch);
    let (gamma, beta) = (io.w[0].vector(), io.w[1].vector());
    workers.for_each_part(io.y.rows(), ROWS, |first, to, _| {
        let from = &x.data[first * x.pitch..];
        dispatch(isa, Normalise { from, from_pitch: x.pitch, gamma, beta, eps: op.eps, to, to_pitch });
    });
}

struct Normalise<'a> {
    from: &'a [f32],
    from_pitch: usize,
    gamma: &'a [f32],
    beta: &'a [f32],
    eps: f32,
    to: &'a mut [f32],
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
        for (from, to) in self.from.chunks(self.from_pitch).zip(self.to.chunks_mut(self.to_pitch)) {
            let (row, to) = (&from[..n], &mut to[..n]);
            // Sums are relative to the first value, so that a large mean costs no precision.
            let base = row[0];
            let mean = sum(s, row, base, 0.0, false) / n as f32;
            let var = sum(s, row, base, mean, true) / n as f32;
            let by = Row { base, mean, scale: 1.0 / (var + self.eps).sqrt() };
            map(s, [row, self.gamma, self.beta], to, &by);
        }
    }
}

/// The sum of `(x - base) - mean`, or of its square.
#[inline(always)]
fn sum<S: Simd>(s: S, row: &[f32], base: f32, mean: f32, square: bool) -> f32 {
    let (b, m, one) = (s.splat(base), s.splat(mean), s.splat(1.0));
    // Four chains, so that additions overlap.
    let mut acc = [s.splat(0.0); 4];
    let whole = row.chunks_exact(S::LANES);
    let rest = whole.remainder().iter().map(|x| (x - base) - mean);
    for (i, x) in whole.enumerate() {
        let d = s.sub(s.sub(load(s, x), b), m);
        acc[i % 4] = s.fma(d, if square { d } else { one }, acc[i % 4]);
    }
    let rest: f32 = if square { rest.map(|d| d * d).sum() } else { rest.sum() };
    s.sum(s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3]))) + rest
}
