//! Filters, products and the output side: from the input factors of a chunk's tiles to pixels of one panel of outputs.

use super::forms::{Form, filters, outputs};
use super::{Grid, SKEW};
use crate::kernels::cpu::gemm::{Line, Product, Residual, write};
use crate::kernels::cpu::panels::{PANEL, Panel};
use crate::kernels::cpu::tile::{Old, Rows, Shared, Split, Tile};
use crate::simd::{Simd, Task};

/// How many tiles ahead of their use residuals are asked for: the way from memory takes some 100 ns, a tile as long.
const AHEAD: usize = 2;

/// Neighbouring tiles of one panel.
pub struct Outputs<'a, 'b, F, const IN: usize, const P: usize, const OUT: usize> {
    /// The transforms.
    pub form: F,
    /// The convolution.
    pub p: &'a Product<'b>,
    /// How it is cut.
    pub grid: &'a Grid,
    /// The chunk's first row of tiles.
    pub first_row: usize,
    /// The first tile within the chunk.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Which 32 output channels.
    pub panel: usize,
    /// The chunk's input factors.
    pub factors: &'a [f32],
    /// Room for the factors of filters, and for sums.
    pub scratch: &'a mut [f32],
    /// The whole output.
    pub out: Shared<f32>,
    /// Elements from one of its rows to the next.
    pub pitch: usize,
}

impl<F: Form<IN, P, OUT>, const IN: usize, const P: usize, const OUT: usize> Task for Outputs<'_, '_, F, IN, P, OUT> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let filter_stride = self.grid.block * PANEL + SKEW;
        let sum_stride = self.count * PANEL + SKEW;
        let (filters, sums) = self.scratch.split_at_mut(self.grid.products * filter_stride);
        let sums = &mut sums[..self.grid.products * sum_stride];
        let tiles = Split::at_most(self.count, S::TILE_ROWS.min(12));
        let mut old = Old::Ignore;
        for block in 0..self.grid.blocks() {
            let k = self.grid.block_len(block);
            let from = block * self.grid.block;
            let taps: [Panel<'_>; 9] =
                std::array::from_fn(|tap| self.p.w.panel(self.panel, tap * self.grid.k + from, k));
            s.call(Filters::<F, IN, P, OUT> { form: self.form, taps, filters, stride: filter_stride });
            for product in 0..self.grid.products {
                let a = (block * self.grid.products + product) * self.grid.stride() + self.first * self.grid.block;
                for t in 0..tiles.parts {
                    let (row, m) = tiles.part(t);
                    let rows: [*const f32; 12] =
                        std::array::from_fn(|r| self.factors[a + (row + r.min(m - 1)) * self.grid.block..].as_ptr());
                    let ahead = self.factors[a..].as_ptr().wrapping_add((row + m) * self.grid.block);
                    let rows = Rows::Streamed { table: rows.as_ptr(), ahead };
                    let b = filters[product * filter_stride..].as_ptr();
                    let c = sums[product * sum_stride + row * PANEL..].as_mut_ptr();
                    // SAFETY: factors, filters and sums hold m rows, k lines and m lines by their sizes.
                    unsafe { Tile { m, k, rows, b, c, old }.run(s) };
                }
            }
            old = Old::Add;
        }
        let (form, grid, panel) = (self.form, self.grid, self.panel);
        let place = Place { form, grid, panel, stride: sum_stride, out: self.out, pitch: self.pitch };
        let first = self.first_row * self.grid.tiles_x + self.first;
        for tile in 0..self.count {
            place.prefetch(s, self.p, first + tile + AHEAD);
            // SAFETY: sums hold the tile; its outputs in this panel are this task's.
            unsafe { place.finish(s, self.p, sums.as_ptr().add(tile * PANEL), first + tile) };
        }
    }
}

/// The factors of one block of filters: `[product][k][32]`.
struct Filters<'a, F, const IN: usize, const P: usize, const OUT: usize> {
    form: F,
    taps: [Panel<'a>; 9],
    filters: &'a mut [f32],
    stride: usize,
}

impl<F: Form<IN, P, OUT>, const IN: usize, const P: usize, const OUT: usize> Task for Filters<'_, F, IN, P, OUT> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let len = match self.taps[0] {
            Panel::F16(b) => b.len(),
            Panel::F32(b) => b.len(),
        };
        debug_assert!(self.filters.len() >= (P * P - 1) * self.stride + len);
        let mut at = 0;
        while at < len {
            // SAFETY: all taps have equal lengths, whole lines of 32; there is room for as much of each product.
            unsafe {
                let mut g = [[s.splat(0.0); 3]; 3];
                for (y, line) in g.iter_mut().enumerate() {
                    for (x, g) in line.iter_mut().enumerate() {
                        *g = match self.taps[y * 3 + x] {
                            Panel::F16(b) => s.load_f16(b.as_ptr().add(at)),
                            Panel::F32(b) => s.load(b.as_ptr().add(at)),
                        };
                    }
                }
                let u = filters(s, self.form, &g);
                for (y, line) in u.iter().enumerate() {
                    for (x, u) in line.iter().enumerate() {
                        s.store(self.filters.as_mut_ptr().add((y * P + x) * self.stride + at), *u);
                    }
                }
            }
            at += S::LANES;
        }
    }
}

/// Where finished tiles go.
struct Place<'a, F> {
    form: F,
    grid: &'a Grid,
    panel: usize,
    stride: usize,
    out: Shared<f32>,
    pitch: usize,
}

impl<F> Place<'_, F> {
    /// Asks for the residual's pixels of a tile that will be finished soon: each is too short a run for a processor to
    /// see that more of the kind follow.
    #[inline(always)]
    fn prefetch<S: Simd, const IN: usize, const P: usize, const OUT: usize>(&self, s: S, p: &Product<'_>, tile: usize)
    where
        F: Form<IN, P, OUT>,
    {
        let (data, pitch, batch) = match p.residual {
            None => return,
            Some(Residual::Output) => (self.out.get().cast_const(), self.pitch, p.shape.b),
            Some(Residual::Tensor(x)) => (x.data.as_ptr(), x.pitch, x.shape.b),
        };
        let (row, x) = (tile / self.grid.tiles_x, tile % self.grid.tiles_x * OUT);
        let (b, y) = (row / self.grid.tiles_y, row % self.grid.tiles_y * OUT);
        for dy in 0..OUT {
            // Beyond the picture this is some other address: nothing is read.
            let pixel = (b % batch * p.shape.h + y + dy) * p.shape.w + x;
            let from = data.wrapping_add(pixel * pitch + self.panel * PANEL);
            for dx in 0..OUT {
                let from = from.wrapping_add(dx * pitch);
                s.prefetch(from);
                s.prefetch(from.wrapping_add(16));
            }
        }
    }

    /// Transforms the sums of a tile and writes its pixels.
    ///
    /// # Safety
    /// `sums` must hold a line of each product; no other task writes the tile's outputs in this panel.
    #[inline(always)]
    unsafe fn finish<S: Simd, const IN: usize, const P: usize, const OUT: usize>(
        &self,
        s: S,
        p: &Product<'_>,
        sums: *const f32,
        tile: usize,
    ) where
        F: Form<IN, P, OUT>,
    {
        let (row, x) = (tile / self.grid.tiles_x, tile % self.grid.tiles_x * OUT);
        let (b, y) = (row / self.grid.tiles_y, row % self.grid.tiles_y * OUT);
        let first = self.panel * PANEL;
        let columns = PANEL.min(p.shape.c - first);
        let mut i = 0;
        while i < columns {
            let n = S::LANES.min(columns - i);
            // SAFETY: the caller's; the loops stay inside of the output.
            unsafe {
                let mut m = [[s.splat(0.0); P]; P];
                for (y, line) in m.iter_mut().enumerate() {
                    for (x, m) in line.iter_mut().enumerate() {
                        *m = s.load(sums.add((y * P + x) * self.stride + i));
                    }
                }
                let out = outputs(s, self.form, &m);
                for (dy, line) in out.iter().enumerate().take(p.shape.h - y) {
                    for (dx, v) in line.iter().enumerate().take(p.shape.w - x) {
                        let at = (b * p.shape.h + y + dy) * p.shape.w + x + dx;
                        let to = self.out.get().add(at * self.pitch + first);
                        let v = Line::new(p, at, first, columns, to).finish(s, *v, i, n);
                        write(s, to.add(i), v, n);
                    }
                }
            }
            i += S::LANES;
        }
    }
}
