//! Convolutions with fewer multiplications: operands and packed weights in, the output of a 3x3 convolution out.
//!
//! The picture is cut into square tiles. For each tile and input channel the inputs become P x P factors ([`forms`]),
//! and so does each filter; their products, summed over the input channels, become the tile's outputs. The sums are
//! P x P matrix products with the same register tiles as everything else.
//!
//! Tiles are worked on in chunks whose factors stay in the last-level cache. For each chunk all workers first transform
//! the inputs, into shared scratch; then a task is a panel of output channels: blocks of input channels whose filters
//! are transformed from the packed weights, P x P products, and at the end the outputs. Factors of filters are never
//! kept: they are four times as large as the filters and would be f32.
#![allow(unsafe_code, reason = "rows are read through pointers, and tasks write disjoint parts of scratch and output")]

pub mod forms;
mod input;
mod products;

use super::gemm::Product;
use super::gemm::statistics::Statistics;
use super::panels::PANEL;
use super::tile::{Shared, Split};
use super::{Io, Scratch};
use crate::kernels::statistics::{ROWS, Tiles};
use crate::simd::{Isa, dispatch};
use crate::tensor::Shape;
use crate::workers::Workers;
use crate::workers::tuning::Tuning;
use forms::Form;
use input::{Factors, STRIP_CHANNELS};
use products::Outputs;

/// Most input channels of a block. Part of the rounding: sums are cut here.
const BLOCK: usize = 80;
/// Elements between neighbouring products beyond what they hold, so that they do not share cache sets.
const SKEW: usize = 32;

/// How a convolution is cut. A pure function of shapes; only `blocks` and the tile's size touch rounding.
#[derive(Clone, Copy, Debug)]
struct Grid {
    /// Products: P x P.
    products: usize,
    /// Input channels of all sources.
    k: usize,
    /// Input channels of a block, a multiple of 16; the last block may be shorter.
    block: usize,
    /// Tiles across.
    tiles_x: usize,
    /// Tiles down.
    tiles_y: usize,
    /// Rows of tiles that make up a tile of statistics.
    unit: usize,
    /// Units of all samples, cut into chunks.
    chunks: Split,
    /// Most rows of tiles of a chunk.
    chunk_rows: usize,
    /// Most tiles of a task.
    task_tiles: usize,
}

impl Grid {
    fn new<const IN: usize, const P: usize, const OUT: usize>(
        size: (usize, usize),
        k: usize,
        batch: usize,
        tuning: Tuning,
    ) -> Self {
        let (tiles_y, tiles_x) = (size.0.div_ceil(IN - 2), size.1.div_ceil(IN - 2));
        // Even blocks: 128 becomes twice 64, not 80 and 48.
        let block = k.div_ceil(k.div_ceil(BLOCK)).next_multiple_of(16);
        let unit = ROWS / OUT;
        let most = (tuning.chunk_bytes / (P * P * k * size_of::<f32>() * tiles_x * unit)).max(1);
        let chunks = Split::at_most(batch * tiles_y.div_ceil(unit), most);
        let chunk_rows = (most * unit).min(batch * tiles_y);
        // Forms with fewer products have more tiles.
        let task_tiles = (tuning.tiles * 36 / (P * P)).min(chunk_rows * tiles_x);
        Self { products: P * P, k, block, tiles_x, tiles_y, unit, chunks, chunk_rows, task_tiles }
    }

    /// The first row of tiles of a unit, counted through all samples; of the one after the last, all rows.
    fn row_of(&self, unit: usize) -> usize {
        let units = self.tiles_y.div_ceil(self.unit);
        unit / units * self.tiles_y + unit % units * self.unit
    }

    fn blocks(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    /// Channels of a block.
    fn block_len(&self, block: usize) -> usize {
        self.block.min(self.k - block * self.block)
    }

    /// Elements from the input factors of one product to the next.
    fn stride(&self) -> usize {
        self.chunk_rows * self.tiles_x * self.block + SKEW
    }

    fn scratch(&self, strip: usize) -> Scratch {
        let filters = self.products * (self.block * PANEL + SKEW);
        let sums = self.products * (self.task_tiles * PANEL + SKEW);
        Scratch { shared: self.blocks() * self.products * self.stride(), per_worker: strip.max(filters + sums) }
    }
}

/// Scratch for a convolution of these sources.
pub fn scratch<F: Form<IN, P, OUT>, const IN: usize, const P: usize, const OUT: usize>(
    sources: &[Shape],
    batch: usize,
) -> Scratch {
    let k = sources.iter().map(|s| s.c).sum();
    let strip = IN * (F::STRIP * (IN - 2) + 2) * STRIP_CHANNELS;
    Grid::new::<IN, P, OUT>((sources[0].h, sources[0].w), k, batch, Tuning::LARGEST).scratch(strip)
}

/// Computes `p` into `io.y`. `io.scratch` is what [`scratch`] declared. The window's stride and padding are 1.
pub fn run<F: Form<IN, P, OUT>, const IN: usize, const P: usize, const OUT: usize>(
    form: F,
    p: &Product<'_>,
    isa: Isa,
    io: &mut Io<'_>,
    workers: &Workers,
) {
    let size = (p.sources[0].shape.h, p.sources[0].shape.w);
    let k = p.sources.iter().map(|s| s.shape.c).sum();
    let grid = Grid::new::<IN, P, OUT>(size, k, p.shape.b, workers.tuning());
    let (out, pitch, panels) = (Shared::new(io.y.data), io.y.pitch, p.w.panel_count());
    let statistics = io.statistics.as_mut().map(|to| Statistics::new(to, p.tiles, out, p.shape, pitch));
    // Chunks are whole rows: they do not end where tiles of pixels do.
    let (statistics, at_end) = if p.tiles == Tiles::Rows { (statistics, None) } else { (None, statistics) };
    let strips = Split::at_most(grid.tiles_x, F::STRIP);
    for chunk in 0..grid.chunks.parts {
        let (first_unit, units) = grid.chunks.part(chunk);
        let first_row = grid.row_of(first_unit);
        let rows = grid.row_of(first_unit + units) - first_row;
        let factors = Shared::new(io.scratch);
        // Strips as high as leaves enough of them for all workers to end together.
        let columns = strips.parts * grid.blocks();
        let strip_rows = Split::at_most(rows, (rows * columns / (workers.threads() * 8)).max(1));
        workers.for_each(strip_rows.parts * columns, |task, strip| {
            let (block, task) = (task % grid.blocks(), task / grid.blocks());
            let (row, rows) = strip_rows.part(task / strips.parts);
            let (x, count) = strips.part(task % strips.parts);
            let to = factors.get();
            dispatch(isa, Factors { form, p, grid: &grid, first_row, row, rows, x, count, block, strip, to });
        });
        let factors: &[f32] = io.scratch;
        // Enough tasks for all workers to end together.
        let wanted = (workers.threads() * 3).div_ceil(panels);
        let tiles = rows * grid.tiles_x;
        let most = tiles.div_ceil(wanted).max(16).min(grid.task_tiles);
        let outputs = |panel, first, count, scratch: &mut [f32]| {
            let part = Outputs { form, p, grid: &grid, first_row, first, count, panel, factors, scratch, out, pitch };
            dispatch(isa, part);
        };
        // Tasks of whole units leave the statistics of what is still in their cache, if that makes enough of them.
        let whole = Split::at_most(units, (most / (grid.unit * grid.tiles_x)).max(1));
        match statistics {
            Some(statistics) if whole.parts >= wanted => workers.for_each(panels * whole.parts, |task, scratch| {
                let (panel, (unit, count)) = (task / whole.parts, whole.part(task % whole.parts));
                let first = (grid.row_of(first_unit + unit) - first_row) * grid.tiles_x;
                let end = (grid.row_of(first_unit + unit + count) - first_row) * grid.tiles_x;
                let parts = Split::at_most(end - first, grid.task_tiles);
                for i in 0..parts.parts {
                    let (tile, count) = parts.part(i);
                    outputs(panel, first + tile, count, scratch);
                }
                statistics.panel(isa, first_unit + unit, count, panel);
            }),
            _ => {
                let parts = Split::at_most(tiles, most);
                workers.for_each(panels * parts.parts, |task, scratch| {
                    let (panel, (first, count)) = (task / parts.parts, parts.part(task % parts.parts));
                    outputs(panel, first, count, scratch);
                });
                if let Some(statistics) = statistics {
                    statistics.some(isa, first_unit, units, workers);
                }
            }
        }
    }
    if let Some(statistics) = at_end {
        statistics.all(isa, workers);
    }
}
