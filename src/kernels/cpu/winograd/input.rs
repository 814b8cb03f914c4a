//! The input side: from pixels of one or two sources to the factors of a strip of neighbouring tiles.

use super::Grid;
use super::forms::{Form, inputs};
use crate::kernels::cpu::In;
use crate::kernels::cpu::gemm::Product;
use crate::kernels::cpu::group_norm::Affine;
use crate::kernels::cpu::tile::{Lanewise, map};
use crate::simd::{Simd, Task};

/// Channels that a strip holds at a time: 34 x 6 pixels of 32 channels stay in the first-level cache.
pub const STRIP_CHANNELS: usize = 32;
/// How many pixels ahead of their use inputs are asked for: the way from memory takes
/// some 100 ns, a normalised pixel 20.
const AHEAD: usize = 6;

/// The factors of a strip of tiles, in one block of channels.
pub struct Factors<'a, 'b, F, const IN: usize, const P: usize, const OUT: usize> {
    /// The transforms.
    pub form: F,
    /// The convolution.
    pub p: &'a Product<'b>,
    /// How it is cut.
    pub grid: &'a Grid,
    /// The chunk's first row of tiles.
    pub first_row: usize,
    /// The strip's first row within the chunk.
    pub row: usize,
    /// Rows of tiles, one below the other: what neighbours share is read, and normalised, once.
    pub rows: usize,
    /// The strip's first tile within the row.
    pub x: usize,
    /// Its tiles.
    pub count: usize,
    /// Which block of channels.
    pub block: usize,
    /// Room for its pixels.
    pub strip: &'a mut [f32],
    /// The chunk's factors, `[block][product][tile][channel]`.
    pub to: *mut f32,
}

impl<F: Form<IN, P, OUT>, const IN: usize, const P: usize, const OUT: usize> Task for Factors<'_, '_, F, IN, P, OUT> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(mut self, s: S) {
        let len = self.grid.block_len(self.block);
        let mut c = 0;
        while c < len {
            let channels = STRIP_CHANNELS.min(len - c);
            for row in self.row..self.row + self.rows {
                self.read(s, row, self.block * self.grid.block + c, channels);
                let mut i = 0;
                while i < channels {
                    for tile in 0..self.count {
                        // SAFETY: the strip holds the pixels of all its tiles, LANES channels from i on lie within its
                        // lines, and the factors have room for whole vectors: blocks are multiples of 16.
                        unsafe { self.transform(s, (row, tile), i, c + i) };
                    }
                    i += S::LANES;
                }
            }
            c += channels;
        }
    }
}

struct Copy1;

impl Lanewise<1> for Copy1 {
    #[inline(always)]
    fn at<S: Simd>(&self, _: S, [x]: [S::V; 1]) -> S::V {
        x
    }
}

impl<F: Form<IN, P, OUT>, const IN: usize, const P: usize, const OUT: usize> Factors<'_, '_, F, IN, P, OUT> {
    /// Pixels of the strip in memory, across.
    fn width(&self) -> usize {
        self.count * (IN - 2) + 2
    }

    /// Fills the strip, `[IN][width][32]`, with channels `first .. first + n` of a row of tiles, normalised if there is
    /// a norm; zeros around the picture. The last two lines of the row above are its first two.
    #[inline(always)]
    fn read<S: Simd>(&mut self, s: S, row: usize, first: usize, n: usize) {
        let (line, begins) = (self.width() * STRIP_CHANNELS, row == self.row);
        let row = self.first_row + row;
        let (b, tile_y) = (row / self.grid.tiles_y, row % self.grid.tiles_y);
        let (h, w) = (self.p.sources[0].shape.h, self.p.sources[0].shape.w);
        let known = if begins || tile_y == 0 { 0 } else { 2 };
        self.strip.copy_within((IN - known) * line..IN * line, 0);
        for (i, line) in self.strip.chunks_exact_mut(line).take(IN).enumerate().skip(known) {
            // Wraps around below zero, which is also outside.
            let y = (tile_y * (IN - 2) + i).wrapping_sub(1);
            for (j, to) in line.chunks_exact_mut(STRIP_CHANNELS).enumerate() {
                let x = (self.x * (IN - 2) + j).wrapping_sub(1);
                prefetch(s, self.p.sources, (b, y, x.wrapping_add(AHEAD)), first);
                if y >= h || x >= w {
                    to.fill(0.0);
                    continue;
                }
                let mut before = 0;
                for src in self.p.sources {
                    let c = src.shape.c;
                    let (from, end) = (first.max(before), (first + n).min(before + c));
                    if from < end {
                        let at = ((b % src.shape.b * h + y) * w + x) * src.pitch + from - before;
                        let pixel = &src.data[at..at + end - from];
                        let to = &mut to[from - first..end - first];
                        match self.p.norm {
                            None => map(s, [pixel], to, &Copy1),
                            Some(norm) => {
                                let [mean, scale, shift] = norm.rows(b, from, pixel.len());
                                map(s, [pixel, mean, scale, shift], to, &Affine(norm.act));
                            }
                        }
                    }
                    before += c;
                }
            }
        }
    }

    /// The factors of one tile (its row, and its place in the strip) in the channels of one vector: `i` within the
    /// strip, `c` within the block.
    ///
    /// # Safety
    /// The strip must hold the tile's pixels, and the factors must have room for a vector at `c`.
    #[inline(always)]
    unsafe fn transform<S: Simd>(&self, s: S, (row, tile): (usize, usize), i: usize, c: usize) {
        let (width, at) = (self.width(), tile * (IN - 2));
        let mut d = [[s.splat(0.0); IN]; IN];
        // SAFETY: the caller's.
        unsafe {
            let from = self.strip.as_ptr().add(at * STRIP_CHANNELS + i);
            for (y, line) in d.iter_mut().enumerate() {
                for (x, d) in line.iter_mut().enumerate() {
                    *d = s.load(from.add((y * width + x) * STRIP_CHANNELS));
                }
            }
        }
        let v = inputs(s, self.form, &d);
        let (stride, row) = (self.grid.stride(), row * self.grid.tiles_x + self.x + tile);
        // SAFETY: the caller's; each tile of each block is one task's.
        unsafe {
            let to = self.to.add(self.block * self.grid.products * stride + row * self.grid.block + c);
            for (y, line) in v.iter().enumerate() {
                for (x, v) in line.iter().enumerate() {
                    s.store(to.add((y * P + x) * stride), *v);
                }
            }
        }
    }
}

/// Asks for the channels from `first` on of a pixel that will be read soon: 128 bytes from each pixel are too short a
/// run for a processor to see that more of the kind follow.
#[inline(always)]
fn prefetch<S: Simd>(s: S, sources: &[In<'_>], (b, y, x): (usize, usize, usize), mut first: usize) {
    for src in sources {
        if first < src.shape.c {
            // Beyond the picture this is some other address: nothing is read.
            let pixel = ((b % src.shape.b * src.shape.h).wrapping_add(y)).wrapping_mul(src.shape.w).wrapping_add(x);
            let at = src.data.as_ptr().wrapping_add(pixel.wrapping_mul(src.pitch).wrapping_add(first));
            s.prefetch(at);
            s.prefetch(at.wrapping_add(16));
            return;
        }
        first -= src.shape.c;
    }
}
