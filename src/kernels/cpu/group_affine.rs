//! The CPU's merge of statistics: tiles of a group in, mean, scale and shift of its channels out. A few thousand
//! values: plain f64 in index order, one group of one sample a task.

use super::{In, Io, Variant};
use crate::kernels::group_affine::GroupAffine;
use crate::simd::Isa;
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<GroupAffine>] = &[Variant::plain("naive", naive)];

fn naive(op: &GroupAffine, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape) = (io.x, io.y.shape);
    let (gamma, beta) = (io.w[0].vector(), io.w[1].vector());
    let size = shape.c / op.groups;
    let merged = workers.gather(shape.b * op.groups, |task| {
        let (b, first) = (task / op.groups, task % op.groups * size);
        merge(op, x, b, first, size)
    });
    workers.for_each_row(io.y.rows(), 1, |r, row| {
        let (b, i) = (r / 3, r % 3);
        for (c, y) in row.iter_mut().enumerate() {
            let (mean, scale) = merged[b * op.groups + c / size];
            let scale = scale * f64::from(gamma[c]);
            // The mean as f32 is what the consumer subtracts; what f32 cannot hold of it goes into the shift.
            let rest = (mean - f64::from(mean as f32)) * scale;
            *y = [mean, scale, f64::from(beta[c]) - rest][i] as f32;
        }
    });
}

/// Mean and 1 / deviation of channels `first .. first + size`. With the mean known, M2 = sum of
/// (M2_i + n_i (mean_i - mean)^2): Chan's formula for many parts at once.
fn merge(op: &GroupAffine, x: &[In<'_>], b: usize, first: usize, size: usize) -> (f64, f64) {
    let tiles = x[0].shape.h;
    let n = (op.size.0 * op.size.1 * size) as f64;
    let sum = |f: &dyn Fn(f64, f64, f64) -> f64| {
        let mut sum = 0.0;
        for tile in 0..tiles {
            let pixels = op.pixels(tile) as f64;
            let mut before = 0;
            for src in x {
                let own = first.max(before)..(first + size).min(before + src.shape.c);
                let row = |i: usize| ((b % src.shape.b * tiles + tile) * 2 + i) * src.pitch;
                for c in own {
                    let (mean, m2) = (src.data[row(0) + c - before], src.data[row(1) + c - before]);
                    sum += f(pixels, f64::from(mean), f64::from(m2));
                }
                before += src.shape.c;
            }
        }
        sum
    };
    let mean = sum(&|pixels, mean, _| pixels * mean) / n;
    let m2 = sum(&|pixels, m, m2| m2 + pixels * (m - mean) * (m - mean));
    (mean, 1.0 / (m2 / n + f64::from(op.eps)).sqrt())
}
