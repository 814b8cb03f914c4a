//! What matmul and conv2d share on a GPU: both are one product, whose left rows a slot of the shader gathers
//! (`rows_linear`, `rows_conv3x3`).
//!
//! Rounding depends on the order of the sum alone, which tiles, bands and batches leave as it is; the number of splits
//! is a function of one sample's shape.

mod choice;
mod coop;
mod operands;

pub(super) use coop::{coop, coop_supports};

use super::{Bind, Dispatch, Launch, LaunchIo, Limits, Record, Shader, View, What, linear};
use crate::kernels::statistics::PIXELS;
use crate::kernels::{Activation, Dims, Kernel};
use crate::tensor::Shape;
use choice::Rate;
use operands::GemmParams;
use std::ops::Range;

/// An op that is a product.
pub(super) trait Product: Kernel {
    /// As such.
    fn gemm(&self) -> Gemm;
}

/// How a row of the product finds what it reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rows {
    /// The same row of each source.
    Linear,
    /// Nine pixels around its own.
    Conv3x3 {
        /// 1 or 2.
        stride: usize,
        /// Zeros above and to the left.
        before: usize,
        /// Height and width of the doubled picture.
        upsample: Option<(usize, usize)>,
    },
}

/// A matmul or conv2d as a product of rows and a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gemm {
    pub rows: Rows,
    pub two_sources: bool,
    pub bias: bool,
    pub row: bool,
    pub act: Activation,
    pub geglu: bool,
    pub residual: bool,
    /// In `Tiles::Pixels`.
    pub statistics: bool,
}

/// What a workgroup computes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    /// Rows.
    m: usize,
    /// Columns.
    n: usize,
    /// Channels of a slab, which never crosses taps.
    k: usize,
}

/// Rows in which tiles begin anew.
struct Strips {
    /// Rows of a strip.
    rows: usize,
    /// Strips.
    count: usize,
    /// Tiles of a strip, above each other.
    tiles: usize,
}

/// One thread for each quad: any shapes whose bindings can be made small enough, without statistics.
pub(super) fn naive_supports<K: Product>(op: &K, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    !op.gemm().statistics && fits(op, x, w, limits, 1)
}

/// See [`naive_supports`].
pub(super) fn naive<K: Product>(op: &K, io: &LaunchIo<'_>) -> Launch {
    op.gemm().naive(io)
}

/// Register tiles, which load whole quads.
pub(super) fn tiled_supports<K: Product>(op: &K, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    op.gemm().whole_quads(x) && fits(op, x, w, limits, 1)
}

/// See [`tiled_supports`].
pub(super) fn tiled<K: Product>(op: &K, io: &LaunchIo<'_>) -> Launch {
    op.gemm().tiled(io, 1)
}

/// Register tiles for few rows and a long sum, which is computed in parts that a second dispatch adds.
pub(super) fn split_supports<K: Product>(op: &K, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    let Ok(y) = op.output(x, w) else { return false };
    let (_, splits) = op.gemm().fma(y[0].pixels(), w);
    splits > 1 && op.gemm().whole_quads(x) && fits(op, x, w, limits, splits)
}

/// See [`split_supports`].
pub(super) fn split<K: Product>(op: &K, io: &LaunchIo<'_>) -> Launch {
    op.gemm().tiled(io, op.gemm().fma(io.y.shape.pixels(), io.w).1)
}

/// Whether every binding can be made small enough.
fn fits<K: Product>(op: &K, x: &[Shape], w: &[Dims], limits: &Limits, splits: usize) -> bool {
    let Ok(y) = op.output(x, w) else { return false };
    let gemm = op.gemm();
    let x: Vec<View> = x.iter().map(|s| View::whole(*s)).collect();
    let io = LaunchIo { x: &x, w, y: View::whole(y[0]), limits };
    let elements = 4 * gemm.w_quads(w) * w[0].k.next_multiple_of(4) * w[0].taps;
    (elements * limits.weights.bytes()) as u64 <= limits.max_binding && gemm.bands(&io, splits).1
}

/// Channels of a slab of `matmul_tiled.wgsl`.
const FMA_SLAB: usize = 16;

impl Gemm {
    /// Whether a quad of channels never straddles the two sources.
    fn whole_quads(&self, x: &[Shape]) -> bool {
        !self.two_sources || x[0].c.is_multiple_of(4)
    }

    /// Quads of a row of w: with GEGLU both halves are rounded up.
    fn w_quads(&self, w: &[Dims]) -> usize {
        if self.geglu { 2 * (w[0].n / 2).div_ceil(4) } else { w[0].n.div_ceil(4) }
    }

    /// Columns of the product: with GEGLU both halves.
    fn columns(&self, w: &[Dims]) -> usize {
        4 * self.w_quads(w)
    }

    /// Into how many parts the sum is split, so that few rows keep a large device busy:
    /// a function of one sample's shape.
    fn splits(&self, pixels: usize, w: &[Dims], tile: Tile, rate: Rate) -> usize {
        let tiles = choice::tiles(tile, pixels, self.columns(w));
        choice::splits(tile, tiles, slabs(&w[0], tile.k), rate)
    }

    /// The tile by FMA for one sample's shape.
    fn fma_tile(&self, pixels: usize, w: &[Dims]) -> Tile {
        let tile = |m, n| Tile { m, n, k: FMA_SLAB };
        match choice::fills(tile(128, 128), pixels, self.columns(w)) {
            true => tile(128, 128),
            // With GEGLU a thread needs a quad of values and one of gates.
            false if self.geglu => tile(64, 128),
            false => tile(64, 64),
        }
    }

    /// The same, and the parts of the sum.
    fn fma(&self, pixels: usize, w: &[Dims]) -> (Tile, usize) {
        let tile = self.fma_tile(pixels, w);
        (tile, self.splits(pixels, w, tile, Rate::Fma))
    }

    fn naive(&self, io: &LaunchIo<'_>) -> Launch {
        let mut launch = Launch::default();
        for band in self.bands(io, 1).0 {
            let (binds, params) = self.bind(io, &band);
            launch.dispatches.push(Dispatch {
                shader: self.shader("matmul_naive", io),
                params: Record::new(&params),
                binds,
                grid: linear(band.len() * io.y.quads() as usize),
            });
        }
        launch
    }

    /// Tiles by FMA, with the sum in `splits` parts.
    fn tiled(&self, io: &LaunchIo<'_>, splits: usize) -> Launch {
        let tile = self.fma_tile(io.y.shape.pixels(), io.w);
        let shader = self.shader("matmul_tiled", io).with("BM", tile.m as u32).with("BN", tile.n as u32);
        self.tiles(io, tile, splits, &shader)
    }

    /// Tiles of a given shader, and the reduction where the sum is split.
    fn tiles(&self, io: &LaunchIo<'_>, tile: Tile, splits: usize, shader: &Shader) -> Launch {
        let mut launch = Launch::default();
        for band in self.bands(io, splits).0 {
            let (mut binds, shape) = self.bind(io, &band);
            let whole = self.strips(io, &band, tile.m, splits == 1 && self.statistics);
            let params = GemmParams {
                tiles_n: self.w_quads(io.w).div_ceil(tile.n / 4) as u32,
                strip_rows: whole.rows as u32,
                strip_tiles: whole.tiles as u32,
                splits: splits as u32,
                split_slabs: slabs(&io.w[0], tile.k).div_ceil(splits) as u32,
                ..shape
            };
            let epilogue = binds.split_off(3);
            let (store, end) = match splits {
                1 => ("store_output", epilogue.clone()),
                _ => ("store_partial", vec![What::ScratchOut(0).into()]),
            };
            binds.extend(end);
            launch.dispatches.push(Dispatch {
                shader: shader.clone().slot("store", store).slot("statistics", self.statistics_slot(splits == 1)),
                params: Record::new(&params),
                binds,
                grid: [(whole.count * whole.tiles) as u32 * params.tiles_n, 1, splits as u32],
            });
            if splits > 1 {
                let bytes = self.partial_bytes(io, band.len(), splits);
                launch.scratch = vec![launch.scratch.first().map_or(bytes, |b| bytes.max(*b))];
                launch.dispatches.push(self.reduce(io, &band, &params, epilogue));
            }
        }
        launch
    }

    fn reduce(&self, io: &LaunchIo<'_>, band: &Range<usize>, params: &GemmParams, epilogue: Vec<Bind>) -> Dispatch {
        let mut binds = vec![What::Scratch(0).into()];
        binds.extend(epilogue);
        let strips = self.strips(io, band, PIXELS, self.statistics);
        let params = GemmParams {
            tiles_n: io.y.quads().div_ceil(16),
            strip_rows: strips.rows as u32,
            strip_tiles: strips.tiles as u32,
            ..*params
        };
        let shader = Shader::new("matmul_reduce", io.limits).slot("statistics", self.statistics_slot(true));
        Dispatch {
            shader: shader.with("GEGLU", self.geglu).with("EPILOGUE", 2),
            params: Record::new(&params),
            binds,
            grid: [(strips.count * strips.tiles) as u32 * params.tiles_n, 1, 1],
        }
    }

    /// A shader with the rows slot bound.
    fn shader(&self, file: &'static str, io: &LaunchIo<'_>) -> Shader {
        let rows = match self.rows {
            Rows::Linear => "rows_linear",
            Rows::Conv3x3 { .. } => "rows_conv3x3",
        };
        let odd = !io.w[0].k.is_multiple_of(4);
        Shader::new(file, io.limits).slot("rows", rows).with("GEGLU", self.geglu).with("ODD", odd)
    }

    /// How tiles of `height` rows lie in a band: through all of its samples, or in each anew.
    fn strips(&self, io: &LaunchIo<'_>, band: &Range<usize>, height: usize, anew: bool) -> Strips {
        let rows = if anew { io.y.shape.pixels().min(band.len()) } else { band.len() };
        Strips { rows, count: band.len().div_ceil(rows), tiles: rows.div_ceil(height) }
    }

    /// What leaves statistics in the dispatch that stores the output, or in one that does not.
    fn statistics_slot(&self, stores: bool) -> &'static str {
        if stores && self.statistics { "statistics_output" } else { "statistics_none" }
    }

    /// Bytes of the parts of a split sum.
    fn partial_bytes(&self, io: &LaunchIo<'_>, rows: usize, splits: usize) -> u64 {
        (splits * rows * self.w_quads(io.w) * 16) as u64
    }
}

/// Slabs of a sum.
fn slabs(w: &Dims, slab: usize) -> usize {
    w.taps * w.k.next_multiple_of(4).div_ceil(slab)
}
