//! The CPU's group normalisation: one or two sources in, the normalised (and activated) tensor out.
//!
//! Three passes: statistics of each channel in tiles of 64 pixels; their merge into a mean, a scale and a shift for
//! each channel; the affine map. All sums are relative to a value of the same channel, so
//! that a large mean costs no precision.

use super::activate::activate;
use super::tile::{Lanewise, load, map, put};
use super::{In, Io, Scratch, Variant};
use crate::kernels::group_norm::GroupNorm;
use crate::kernels::statistics::PIXELS;
use crate::kernels::{Activation, Dims};
use crate::simd::{Isa, Simd, Task, dispatch};
use crate::tensor::Shape;
use crate::workers::{RowsMut, Workers};

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<GroupNorm>] =
    &[Variant::plain("naive", naive), Variant { scratch, ..Variant::plain("tiled", tiled) }];

/// Pixels of a tile. Part of the rounding: results depend on it. What producers leave has the same tiles.
const TILE: usize = PIXELS;
/// f32 values kept for each channel of a tile: a value of the channel, the mean relative to it, M2.
const STATS: usize = 3;

/// Where a channel is: its source and its index there.
fn locate<'a>(x: &'a [In<'a>], c: usize) -> (&'a In<'a>, usize) {
    if c < x[0].shape.c { (&x[0], c) } else { (&x[1], c - x[0].shape.c) }
}

fn first_of(x: &In<'_>, b: usize) -> usize {
    b % x.shape.b * x.shape.pixels()
}

/// One group of one sample is a task: mean, variance from a second pass. Then the map, row by row.
fn naive(op: &GroupNorm, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let ((x, given), shape) = (io.x.split_at(op.sources()), io.y.shape);
    let size = shape.c / op.groups;
    let (gamma, beta) = (io.w[0].vector(), io.w[1].vector());
    let value = |b: usize, pixel: usize, c: usize| {
        let (src, c) = locate(x, c);
        f64::from(src.data[(first_of(src, b) + pixel) * src.pitch + c])
    };
    let merged = workers.gather(shape.b * op.groups, |task| {
        let (b, group) = (task / op.groups, task % op.groups);
        let channels = group * size..(group + 1) * size;
        let all = || (0..shape.pixels()).flat_map(|p| channels.clone().map(move |c| (p, c)));
        let n = (shape.pixels() * size) as f64;
        let measured = || {
            let mean = all().map(|(p, c)| value(b, p, c)).sum::<f64>() / n;
            let var = all().map(|(p, c)| (value(b, p, c) - mean).powi(2)).sum::<f64>() / n;
            (mean, 1.0 / (var + f64::from(op.eps)).sqrt())
        };
        let count = tiles(shape);
        if op.given {
            let mut stats = vec![0.0; count * STATS * shape.c];
            (0..count).for_each(|tile| take(given, b, tile, &mut stats[tile * STATS * shape.c..], shape.c));
            merge(op, shape, &stats, channels.start, size)
        } else {
            measured()
        }
    });
    workers.for_each_row(io.y.rows(), 1, |r, row| {
        let (b, pixel) = (r / shape.pixels(), r % shape.pixels());
        for (c, y) in row.iter_mut().enumerate() {
            let (mean, scale) = merged[b * op.groups + c / size];
            let centred = value(b, pixel, c) - mean;
            *y = op.act.reference(centred * scale * f64::from(gamma[c]) + f64::from(beta[c])) as f32;
        }
    });
}

fn tiles(shape: Shape) -> usize {
    shape.pixels().div_ceil(TILE)
}

fn scratch(op: &GroupNorm, x: &[Shape], _: &[Dims]) -> Scratch {
    let b = x.iter().map(|s| s.b).max().unwrap_or(1);
    let c: usize = x[..op.sources()].iter().map(|s| s.c).sum();
    Scratch { shared: b * c * STATS * (tiles(x[0]) + 1), per_worker: 0 }
}

fn tiled(op: &GroupNorm, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let ((x, given), shape, count) = (io.x.split_at(op.sources()), io.y.shape, tiles(io.y.shape));
    let (stats, affine) = io.scratch.split_at_mut(shape.b * shape.c * STATS * count);
    let of_tile = STATS * shape.c;
    workers.for_each_row(RowsMut::new(stats, shape.b * count, of_tile, of_tile), 1, |task, to| {
        let (b, first) = (task / count, task % count * TILE);
        let pixels = TILE.min(shape.pixels() - first);
        if op.given {
            return take(given, b, task % count, to, shape.c);
        }
        let mut c = 0;
        for src in x {
            let from = &src.data[(first_of(src, b) + first) * src.pitch..];
            let (channels, to) = (src.shape.c, &mut to[c..]);
            dispatch(isa, Statistics { from, pitch: src.pitch, pixels, channels, to, stride: shape.c });
            c += src.shape.c;
        }
    });
    let (stats, size) = (&*stats, shape.c / op.groups);
    let merged = workers.gather(shape.b * op.groups, |task| {
        let (b, group) = (task / op.groups, task % op.groups);
        merge(op, shape, &stats[b * count * of_tile..], group * size, size)
    });
    let (gamma, beta) = (io.w[0].vector(), io.w[1].vector());
    workers.for_each_row(RowsMut::new(affine, shape.b * STATS, shape.c, shape.c), STATS, |r, row| {
        let (b, i) = (r / STATS, r % STATS);
        for (c, to) in row.iter_mut().enumerate() {
            let (mean, scale) = merged[b * op.groups + c / size];
            // The mean as f32, subtracted first, and what f32 cannot hold of it in the shift.
            let scale = scale * f64::from(gamma[c]);
            let shift = f64::from(beta[c]) - (mean - f64::from(mean as f32)) * scale;
            *to = [mean, scale, shift][i] as f32;
        }
    });
    let (affine, pitch) = (&*affine, io.y.pitch);
    workers.for_each_part(io.y.rows(), TILE, |first, to, _| {
        dispatch(isa, Apply { x, shape, first, affine, act: op.act, to, pitch });
    });
}

/// A tile's statistics as they were given, as this file keeps them: the mean is its own base.
fn take(given: &[In<'_>], b: usize, tile: usize, to: &mut [f32], channels: usize) {
    let mut c = 0;
    for src in given {
        let row = |i: usize| &src.data[((b % src.shape.b * src.shape.h + tile) * 2 + i) * src.pitch..][..src.shape.c];
        to[c..][..src.shape.c].copy_from_slice(row(0));
        to[channels + c..][..src.shape.c].fill(0.0);
        to[2 * channels + c..][..src.shape.c].copy_from_slice(row(1));
        c += src.shape.c;
    }
}

/// Merges the statistics of a group's channels and tiles: (mean, 1 / deviation), in f64 and in index order.
///
/// With the means known, M2 = sum of (M2_i + n_i (mean_i - mean)^2): Chan's formula for many parts at once.
fn merge(op: &GroupNorm, shape: Shape, stats: &[f32], first: usize, size: usize) -> (f64, f64) {
    let count = tiles(shape);
    let pixels = |tile: usize| TILE.min(shape.pixels() - tile * TILE) as f64;
    let row = |tile: usize, i: usize| &stats[(tile * STATS + i) * shape.c + first..][..size];
    let mean_of = |(base, offset): (&f32, &f32)| f64::from(*base) + f64::from(*offset);
    let n = (shape.pixels() * size) as f64;
    let mut mean = 0.0;
    for tile in 0..count {
        mean += pixels(tile) * row(tile, 0).iter().zip(row(tile, 1)).map(mean_of).sum::<f64>();
    }
    mean /= n;
    let mut m2 = 0.0;
    for tile in 0..count {
        let means = row(tile, 0).iter().zip(row(tile, 1)).map(mean_of);
        m2 += pixels(tile) * means.map(|m| (m - mean) * (m - mean)).sum::<f64>();
        m2 += row(tile, 2).iter().map(|v| f64::from(*v)).sum::<f64>();
    }
    (mean, 1.0 / (m2 / n + f64::from(op.eps)).sqrt())
}

/// Statistics of all channels of one source in one tile.
struct Statistics<'a> {
    from: &'a [f32],
    pitch: usize,
    pixels: usize,
    channels: usize,
    to: &'a mut [f32],
    stride: usize,
}

impl Task for Statistics<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(mut self, s: S) {
        let mut c = 0;
        while c < self.channels {
            let left = self.channels - c;
            if left >= 4 * S::LANES {
                self.columns::<S, 4>(s, c, 4 * S::LANES);
                c += 4 * S::LANES;
            } else {
                self.columns::<S, 1>(s, c, left.min(S::LANES));
                c += S::LANES;
            }
        }
    }
}

impl Statistics<'_> {
    /// N vectors of channels from `c` on, of which the first `n` exist.
    #[inline(always)]
    fn columns<S: Simd, const N: usize>(&mut self, s: S, c: usize, n: usize) {
        let row = |pixel: usize| &self.from[pixel * self.pitch + c..][..n];
        let (mut base, mut mean, mut m2) = ([s.splat(0.0); N], [s.splat(0.0); N], [s.splat(0.0); N]);
        for (v, base) in base.iter_mut().enumerate() {
            *base = load(s, &row(0)[v * S::LANES..]);
        }
        for pixel in 0..self.pixels {
            let row = row(pixel);
            for v in 0..N {
                mean[v] = s.add(mean[v], s.sub(load(s, &row[v * S::LANES..]), base[v]));
            }
        }
        for mean in &mut mean {
            *mean = s.mul(*mean, s.splat(1.0 / self.pixels as f32));
        }
        for pixel in 0..self.pixels {
            let row = row(pixel);
            for v in 0..N {
                let d = s.sub(s.sub(load(s, &row[v * S::LANES..]), base[v]), mean[v]);
                m2[v] = s.fma(d, d, m2[v]);
            }
        }
        for (i, row) in [base, mean, m2].into_iter().enumerate() {
            let to = &mut self.to[i * self.stride + c..][..n];
            for (v, x) in row.into_iter().enumerate() {
                put(s, &mut to[v * S::LANES..], x);
            }
        }
    }
}

/// The affine map on some rows.
struct Apply<'a> {
    x: &'a [In<'a>],
    shape: Shape,
    first: usize,
    affine: &'a [f32],
    act: Activation,
    to: &'a mut [f32],
    pitch: usize,
}

/// `act((x - mean) * scale + shift)`.
pub(super) struct Affine(pub Activation);

impl Lanewise<4> for Affine {
    #[inline(always)]
    fn at<S: Simd>(&self, s: S, [x, mean, scale, shift]: [S::V; 4]) -> S::V {
        activate(s, self.0, s.fma(s.sub(x, mean), scale, shift))
    }
}

impl Task for Apply<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let channels = self.shape.c;
        for (r, to) in self.to.chunks_mut(self.pitch).enumerate() {
            let (b, pixel) = ((self.first + r) / self.shape.pixels(), (self.first + r) % self.shape.pixels());
            let mut c = 0;
            for src in self.x {
                let n = src.shape.c;
                let from = &src.data[(first_of(src, b) + pixel) * src.pitch..];
                let row = |i: usize| &self.affine[(b * STATS + i) * channels + c..];
                map(s, [from, row(0), row(1), row(2)], &mut to[c..c + n], &Affine(self.act));
                c += n;
            }
        }
    }
}
