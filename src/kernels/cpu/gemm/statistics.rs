//! What producers leave for a GroupNorm: from rows of a finished output, still in a cache, to (mean, M2) of each
//! channel in tiles of pixels.
//!
//! The values depend on the output alone, whoever computes them and when: not on tasks, batch or threads.
#![allow(unsafe_code, reason = "rows are read through pointers, and tasks write disjoint parts of one output")]

use crate::kernels::cpu::Out;
use crate::kernels::cpu::panels::PANEL;
use crate::kernels::cpu::tile::Shared;
use crate::kernels::statistics::Tiles;
use crate::simd::{Isa, Simd, Task, dispatch};
use crate::tensor::Shape;
use crate::workers::Workers;

/// Where the statistics of an output go.
#[derive(Clone, Copy)]
pub struct Statistics {
    to: Shared<f32>,
    to_pitch: usize,
    tiles: Tiles,
    /// The shape of the tensor that they are of.
    shape: Shape,
    /// That tensor.
    from: Shared<f32>,
    from_pitch: usize,
}

impl Statistics {
    /// Of a product's output `y` into `to`.
    pub fn new(to: &mut Out<'_>, tiles: Tiles, y: Shared<f32>, shape: Shape, pitch: usize) -> Self {
        Self { to: Shared::new(to.data), to_pitch: to.pitch, tiles, shape, from: y, from_pitch: pitch }
    }

    /// Tiles of a sample.
    pub fn tiles(&self) -> usize {
        self.tiles.count(self.shape)
    }

    /// Those of `tile`, counted through all samples, in channels `first .. first + count`.
    ///
    /// # Safety
    /// The tile's outputs in these channels must have been written by this thread, or before it was told of this task;
    /// no other thread writes these statistics.
    #[inline(always)]
    pub unsafe fn tile<S: Simd>(&self, s: S, tile: usize, first: usize, count: usize) {
        let (b, tile_of_b) = (tile / self.tiles(), tile % self.tiles());
        let pixels = self.tiles.pixels_of(self.shape, tile_of_b);
        let first_pixel = b * self.shape.pixels() + tile_of_b * self.tiles.pixels(self.shape);
        let mut c = 0;
        while c < count {
            let left = count - c;
            // SAFETY: the caller's; the tile is one of the output's.
            unsafe {
                let from = self.from.get().add(first_pixel * self.from_pitch + first + c);
                let to = self.to.get().add(tile * 2 * self.to_pitch + first + c);
                if left >= 4 * S::LANES {
                    self.columns::<S, 4>(s, from, pixels, to, usize::MAX);
                    c += 4 * S::LANES;
                } else if left >= 2 * S::LANES {
                    self.columns::<S, 2>(s, from, pixels, to, usize::MAX);
                    c += 2 * S::LANES;
                } else {
                    self.columns::<S, 1>(s, from, pixels, to, left);
                    c += S::LANES;
                }
            }
        }
    }

    /// N vectors of channels, of which only the first `n` channels exist. Two passes: a mean relative to the first
    /// value, then squared distances from it, corrected by what that mean is off.
    ///
    /// # Safety
    /// `from` must be valid for those channels of every pixel, `to` for them in two rows.
    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize>(&self, s: S, from: *const f32, pixels: usize, to: *mut f32, n: usize) {
        // SAFETY: the caller's.
        let load = |pixel: usize, v: usize| unsafe {
            let p = from.add(pixel * self.from_pitch + v * S::LANES);
            if n >= S::LANES { s.load(p) } else { s.load_part(p, n) }
        };
        let zero = [s.splat(0.0); N];
        let (mut base, mut mean, mut off, mut m2) = (zero, zero, zero, zero);
        for (v, base) in base.iter_mut().enumerate() {
            *base = load(0, v);
        }
        for pixel in 0..pixels {
            for v in 0..N {
                mean[v] = s.add(mean[v], s.sub(load(pixel, v), base[v]));
            }
        }
        let share = s.splat(1.0 / pixels as f32);
        for mean in &mut mean {
            *mean = s.mul(*mean, share);
        }
        for pixel in 0..pixels {
            for v in 0..N {
                let d = s.sub(s.sub(load(pixel, v), base[v]), mean[v]);
                off[v] = s.add(off[v], d);
                m2[v] = s.fma(d, d, m2[v]);
            }
        }
        for v in 0..N {
            let rest = s.mul(off[v], share);
            let mean = s.add(base[v], s.add(mean[v], rest));
            let m2 = s.max(s.sub(m2[v], s.mul(off[v], rest)), s.splat(0.0));
            for (i, x) in [mean, m2].into_iter().enumerate() {
                // SAFETY: the caller's.
                unsafe {
                    let p = to.add(i * self.to_pitch + v * S::LANES);
                    if n >= S::LANES { s.store(p, x) } else { s.store_part(p, x, n) }
                }
            }
        }
    }

    /// Those of all tiles, once the whole output is there.
    pub fn all(&self, isa: Isa, workers: &Workers) {
        self.some(isa, 0, self.shape.b * self.tiles(), workers);
    }

    /// Those of `count` tiles from `first` on, whose outputs are there.
    pub fn some(&self, isa: Isa, first: usize, count: usize, workers: &Workers) {
        let panels = self.shape.c.div_ceil(PANEL);
        workers.for_each(count * panels, |task, _| self.panel(isa, first + task / panels, 1, task % panels));
    }

    /// Those of `count` tiles from `first` on in the channels of one panel, by the task that has written these outputs.
    pub fn panel(&self, isa: Isa, first: usize, count: usize, panel: usize) {
        let channels = PANEL.min(self.shape.c - panel * PANEL);
        for tile in first..first + count {
            dispatch(isa, OneTile { all: *self, tile, first: panel * PANEL, count: channels });
        }
    }
}

/// A tile in some channels.
struct OneTile {
    all: Statistics,
    tile: usize,
    first: usize,
    count: usize,
}

impl Task for OneTile {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        // SAFETY: the outputs have been written, and each tile and panel is one task's.
        unsafe { self.all.tile(s, self.tile, self.first, self.count) };
    }
}

/// The statistics with plain loops in f64, for the naive variants.
pub fn naive(to: &mut Out<'_>, tiles: Tiles, y: &[f32], shape: Shape, pitch: usize) {
    let count = tiles.count(shape);
    for tile in 0..shape.b * count {
        let first = tile / count * shape.pixels() + tile % count * tiles.pixels(shape);
        let pixels = tiles.pixels_of(shape, tile % count);
        for c in 0..shape.c {
            let values = || (first..first + pixels).map(|p| f64::from(y[p * pitch + c]));
            let mean = values().sum::<f64>() / pixels as f64;
            to.data[tile * 2 * to.pitch + c] = mean as f32;
            to.data[(tile * 2 + 1) * to.pitch + c] = values().map(|v| (v - mean).powi(2)).sum::<f64>() as f32;
        }
    }
}
