//! The CPU's merge of statistics: tiles of a group in, mean, scale and shift of its channels out. A few thousand
//! values: plain f64 in index order, one group of one sample a task.
#![allow(unsafe_code, reason = "tasks write disjoint channels of one output")]

use super::tile::Shared;
use super::{In, Io, Variant};
use crate::kernels::group_affine::GroupAffine;
use crate::simd::Isa;
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<GroupAffine>] = &[Variant::plain("naive", naive)];

fn naive(op: &GroupAffine, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape, pitch) = (io.x, io.y.shape, io.y.pitch);
    let (gamma, beta) = (io.w[0].vector(), io.w[1].vector());
    let size = shape.c / op.groups;
    let out = Shared::new(io.y.data);
    workers.for_each(shape.b * op.groups, |task, _| {
        let (b, first) = (task / op.groups, task % op.groups * size);
        let (mean, scale) = merge(op, x, b, first, size);
        for c in first..first + size {
            let values = [mean, scale * f64::from(gamma[c]), f64::from(beta[c])];
            // The mean as f32 is what the consumer subtracts; what f32 cannot hold of it goes into the shift.
            let rest = (mean - f64::from(mean as f32)) * values[1];
            for (i, v) in [values[0], values[1], values[2] - rest].into_iter().enumerate() {
                // SAFETY: the channels of a group of a sample are one task's.
                unsafe { out.get().add((b * 3 + i) * pitch + c).write(v as f32) };
            }
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
