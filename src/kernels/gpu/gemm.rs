//! What matmul and conv2d share on a GPU: both are one product, whose left rows a slot of the shader gathers
//! (`rows_linear`, `rows_conv3x3`).
//!
//! Rounding depends on the order of the sum alone, which tiles, bands and batches leave as it is; the number of splits is a
//! function of one sample's shape.

use super::{Bind, Dispatch, Io, Launch, Limits, Record, Shader, Storage, View, What, linear, params, window};
use crate::kernels::{Activation, Dims, Kernel};
use crate::tensor::Shape;
use std::ops::Range;

params! {
    /// See `shaders/common/gemm_params.wgsl`.
    GemmParams {
        /// First row that is computed.
        row_begin: u32,
        /// One past the last.
        row_end: u32,
        /// Pixels of a sample of the output.
        pixels: u32,
        /// Quads of an output row.
        quads: u32,
        /// Channels of the output.
        c: u32,
        /// Quads of a row of w.
        w_quads: u32,
        /// Channels of both sources.
        k: u32,
        /// The same in quads.
        k_quads: u32,
        /// Channels of the first source.
        k0: u32,
        /// 1 or 9.
        taps: u32,
        /// Tiles side by side.
        tiles_n: u32,
        /// Parts of the sum.
        splits: u32,
        /// Slabs in each.
        split_slabs: u32,
        /// As `Const::from(Activation)` numbers them.
        act: u32,
        /// 0 or 1.
        has_bias: u32,
        /// 0 or 1.
        has_row: u32,
        /// 0 or 1.
        has_residual: u32,
        /// Where row 0 of the first source would be, in quads of its binding.
        x0_base: u32,
        /// Quads from row to row.
        x0_pitch: u32,
        /// Its batch.
        x0_samples: u32,
        /// The same of the second source.
        x1_base: u32,
        /// Quads from row to row.
        x1_pitch: u32,
        /// Its batch.
        x1_samples: u32,
        /// Quads from row to row of what is added to all pixels of a sample.
        row_pitch: u32,
        /// Its first quad.
        row_offset: u32,
        /// Its batch.
        row_samples: u32,
        /// Where row 0 of the residual would be.
        residual_base: u32,
        /// Quads from row to row.
        residual_pitch: u32,
        /// Its batch.
        residual_samples: u32,
        /// Where row 0 of the output would be.
        y_base: u32,
        /// Pixels of a row of the output's picture.
        out_w: u32,
        /// 1 or 2.
        stride: u32,
        /// Zeros above and to the left.
        before: u32,
        /// 1 where the picture is doubled.
        upsample: u32,
        /// Height of the picture that the convolution sees.
        in_h: u32,
        /// Its width.
        in_w: u32,
        /// Width of the picture in memory.
        src_w: u32,
        /// Its pixels.
        src_pixels: u32,
    }
}

/// Channels of a slab of the FMA kernels.
const SLAB: usize = 16;

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
}

/// An op that is a product.
pub(super) trait Product: Kernel {
    /// As such.
    fn gemm(&self) -> Gemm;
}

/// `naive` of any product: whether its bindings can be made small enough.
pub(super) fn naive_supports<K: Product>(op: &K, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    fits(op, x, w, limits, 1)
}

/// One thread for each quad.
pub(super) fn naive<K: Product>(op: &K, io: &Io<'_>) -> Launch {
    op.gemm().naive(io)
}

/// Register tiles load whole quads.
pub(super) fn tiled_supports<K: Product>(op: &K, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    op.gemm().whole_quads(x) && fits(op, x, w, limits, 1)
}

/// Register tiles.
pub(super) fn tiled<K: Product>(op: &K, io: &Io<'_>) -> Launch {
    op.gemm().tiled(io, 1)
}

/// Few rows and a long sum.
pub(super) fn split_supports<K: Product>(op: &K, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    let Ok(y) = op.output(x, w) else { return false };
    let splits = op.gemm().splits(y[0].pixels(), w);
    splits > 1 && op.gemm().whole_quads(x) && fits(op, x, w, limits, splits)
}

/// Register tiles, with the sum in parts that a second dispatch adds.
pub(super) fn split<K: Product>(op: &K, io: &Io<'_>) -> Launch {
    op.gemm().tiled(io, op.gemm().splits(io.y.shape.pixels(), io.w))
}

fn fits<K: Product>(op: &K, x: &[Shape], w: &[Dims], limits: &Limits, splits: usize) -> bool {
    op.output(x, w).is_ok_and(|y| op.gemm().fits(x, w, y[0], limits, splits))
}

/// Rows and columns that a workgroup computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub m: usize,
    pub n: usize,
}

impl Gemm {
    /// Whether a quad of channels never straddles the two sources.
    pub fn whole_quads(&self, x: &[Shape]) -> bool {
        !self.two_sources || x[0].c.is_multiple_of(4)
    }

    /// Whether every binding can be made small enough.
    pub fn fits(&self, x: &[Shape], w: &[Dims], y: Shape, limits: &Limits, splits: usize) -> bool {
        let x: Vec<View> = x.iter().map(|s| View::whole(*s)).collect();
        let io = Io { x: &x, w, y: View::whole(y), limits };
        let weights = self.w_quads(w) * w[0].k.next_multiple_of(4) * w[0].taps * 4 * limits.weights.bytes();
        weights as u64 <= limits.max_binding && self.bands(&io, splits).1
    }

    /// Quads of a row of w: with GEGLU both halves are rounded up.
    fn w_quads(&self, w: &[Dims]) -> usize {
        if self.geglu { 2 * (w[0].n / 2).div_ceil(4) } else { w[0].n.div_ceil(4) }
    }

    /// Into how many parts the sum is split, so that few rows keep a large device busy: a function of one sample's shape.
    pub fn splits(&self, pixels: usize, w: &[Dims]) -> usize {
        // Workgroups a sample that are enough, slabs below which a part does not pay, parts beyond which adding them does not.
        const ENOUGH: usize = 160;
        const LEAST: usize = 16;
        const MOST: usize = 16;
        let tiles = pixels.div_ceil(64) * self.w_quads(w).div_ceil(16);
        let slabs = slabs(&w[0]);
        let wanted = (ENOUGH / tiles).min(slabs / LEAST).clamp(1, MOST);
        slabs.div_ceil(slabs.div_ceil(wanted))
    }

    /// Large tiles where one sample fills a large device with them, else small ones. Both add in the same order.
    pub fn tile(&self, pixels: usize, w: &[Dims]) -> Tile {
        let n = 4 * self.w_quads(w);
        let large = pixels.div_ceil(128) * n.div_ceil(128) >= 128;
        Tile { m: if large { 128 } else { 64 }, n: if large || self.geglu { 128 } else { 64 } }
    }

    /// One thread for each quad.
    pub fn naive(&self, io: &Io<'_>) -> Launch {
        let mut launch = Launch::default();
        for band in self.bands(io, 1).0 {
            let (binds, params) = self.bind(io, &band, 1);
            launch.dispatches.push(Dispatch {
                shader: self.shader("gemm_naive", io.limits).with("GEGLU", self.geglu),
                params: Record::new(&params),
                binds,
                grid: linear(band.len() * io.y.quads() as usize),
            });
        }
        launch
    }

    /// Register tiles, with the sum in `splits` parts.
    pub fn tiled(&self, io: &Io<'_>, splits: usize) -> Launch {
        let tile = self.tile(io.y.shape.pixels(), io.w);
        let shader = self
            .shader("gemm_tiled", io.limits)
            .with("BM", tile.m as u32)
            .with("BN", tile.n as u32)
            .with("GEGLU", self.geglu);
        self.tiles(io, tile, splits, &shader)
    }

    /// Tiles of a given shader, and the reduction where the sum is split.
    pub fn tiles(&self, io: &Io<'_>, tile: Tile, splits: usize, shader: &Shader) -> Launch {
        let mut launch = Launch::default();
        for band in self.bands(io, splits).0 {
            let (mut binds, mut params) = self.bind(io, &band, splits);
            params.tiles_n = self.w_quads(io.w).div_ceil(tile.n / 4) as u32;
            let groups = band.len().div_ceil(tile.m) as u32 * params.tiles_n;
            let epilogue = binds.split_off(3);
            let (store, end) = if splits == 1 {
                ("store_output", epilogue.clone())
            } else {
                ("store_partial", vec![What::ScratchOut(0).into()])
            };
            binds.extend(end);
            launch.dispatches.push(Dispatch {
                shader: shader.clone().slot("store", store),
                params: Record::new(&params),
                binds,
                grid: [groups, 1, splits as u32],
            });
            if splits > 1 {
                let bytes = self.partial_bytes(io, band.len(), splits);
                launch.scratch = vec![launch.scratch.first().map_or(bytes, |b| bytes.max(*b))];
                launch.dispatches.push(self.reduce(io, &band, &params, epilogue));
            }
        }
        launch
    }

    fn reduce(&self, io: &Io<'_>, band: &Range<usize>, params: &GemmParams, epilogue: Vec<Bind>) -> Dispatch {
        let mut binds = vec![What::Scratch(0).into()];
        binds.extend(epilogue);
        Dispatch {
            shader: Shader::new("gemm_reduce", io.limits).with("GEGLU", self.geglu).with("EPILOGUE", 2),
            params: Record::new(params),
            binds,
            grid: linear(band.len() * io.y.quads() as usize),
        }
    }

    /// A shader with the rows slot bound.
    fn shader(&self, file: &'static str, limits: &Limits) -> Shader {
        let rows = match self.rows {
            Rows::Linear => "rows_linear",
            Rows::Conv3x3 { .. } => "rows_conv3x3",
        };
        Shader::new(file, limits).slot("rows", rows)
    }

    fn partial_bytes(&self, io: &Io<'_>, rows: usize, splits: usize) -> u64 {
        (splits * rows * self.w_quads(io.w) * 16) as u64
    }

    /// The output's rows in as few bands as bindings allow, none across samples if there are several; and whether they fit.
    fn bands(&self, io: &Io<'_>, splits: usize) -> (Vec<Range<usize>>, bool) {
        let fits = |band: &Range<usize>| {
            let ranges = self.bind(io, band, splits).0.into_iter().filter_map(|b| b.bytes);
            let partial = if splits > 1 { self.partial_bytes(io, band.len(), splits) } else { 0 };
            ranges.chain([partial]).all(|bytes| bytes <= io.limits.max_binding)
        };
        let (rows, pixels) = (io.y.shape.rows(), io.y.shape.pixels());
        let whole = 0..rows;
        if fits(&whole) {
            return (vec![whole], true);
        }
        // A picture is cut between its rows.
        let unit = if matches!(self.rows, Rows::Linear) { 1 } else { io.y.shape.w };
        let mut size = pixels;
        loop {
            let sample = |s: usize| (0..pixels).step_by(size).map(move |p| s + p..s + pixels.min(p + size));
            let bands: Vec<Range<usize>> = (0..rows).step_by(pixels).flat_map(sample).collect();
            let good = bands.iter().all(fits);
            if good || size == unit {
                return (bands, good);
            }
            size = (size / 2).next_multiple_of(unit);
        }
    }

    /// What the main kernel binds for a band (the last four are the epilogue's), and its parameters.
    fn bind(&self, io: &Io<'_>, band: &Range<usize>, splits: usize) -> (Vec<Bind>, GemmParams) {
        let storage = io.limits.storage;
        let sources = 1 + usize::from(self.two_sources);
        let x0 = Windowed::new(What::X(0), &io.x[0], self.source_rows(io, &io.x[0], band), storage);
        // What an op lacks is bound to the beginning of something else and never read.
        let nothing = |what, bytes| Bind { what, start: 0, bytes: Some(bytes) };
        let no_quads = Windowed { bind: nothing(What::X(0), 4 * storage.bytes() as u64), base: 0, pitch: 0, samples: 1 };
        let operand = |i: usize, rows| Windowed::new(What::X(i), &io.x[i], rows, storage);
        let x1 = if self.two_sources { operand(1, self.source_rows(io, &io.x[1], band)) } else { no_quads };
        let row = if self.row { operand(sources, 0..io.x[sources].shape.rows()) } else { no_quads };
        let last = sources + usize::from(self.row);
        let residual = if self.residual {
            operand(last, same_rows(&io.x[last], band, io.y.shape))
        } else {
            no_quads
        };
        let y = Windowed::new(What::Y, &io.y, band.clone(), storage);
        let bias = if self.bias { What::W(1).into() } else { nothing(What::W(0), 16) };
        let binds = vec![x0.bind, x1.bind, What::W(0).into(), bias, row.bind, residual.bind, y.bind];
        let params = GemmParams {
            row_begin: band.start as u32,
            row_end: band.end as u32,
            splits: splits as u32,
            split_slabs: slabs(&io.w[0]).div_ceil(splits) as u32,
            x0_base: x0.base,
            x0_pitch: x0.pitch,
            x0_samples: x0.samples,
            x1_base: x1.base,
            x1_pitch: x1.pitch,
            x1_samples: x1.samples,
            row_pitch: row.pitch,
            row_offset: row.base,
            row_samples: row.samples,
            residual_base: residual.base,
            residual_pitch: residual.pitch,
            residual_samples: residual.samples,
            y_base: y.base,
            ..self.shape_params(io)
        };
        (binds, params)
    }

    /// What the parameters say of shapes and switches.
    fn shape_params(&self, io: &Io<'_>) -> GemmParams {
        let src = io.x[0].shape;
        let (stride, before, upsample) = match self.rows {
            Rows::Linear => (1, 0, None),
            Rows::Conv3x3 { stride, before, upsample } => (stride, before, upsample),
        };
        let (in_h, in_w) = upsample.unwrap_or((src.h, src.w));
        let super::Const::U32(act) = self.act.into() else { unreachable!("activations are numbers") };
        GemmParams {
            pixels: io.y.shape.pixels() as u32,
            quads: io.y.quads(),
            c: io.y.shape.c as u32,
            w_quads: self.w_quads(io.w) as u32,
            k: io.w[0].k as u32,
            k_quads: io.w[0].k.div_ceil(4) as u32,
            k0: src.c as u32,
            taps: io.w[0].taps as u32,
            act,
            has_bias: self.bias.into(),
            has_row: self.row.into(),
            has_residual: self.residual.into(),
            out_w: io.y.shape.w as u32,
            stride: stride as u32,
            before: before as u32,
            upsample: upsample.is_some().into(),
            in_h: in_h as u32,
            in_w: in_w as u32,
            src_w: src.w as u32,
            src_pixels: src.pixels() as u32,
            ..bytemuck::Zeroable::zeroed()
        }
    }

    /// The rows of a source that a band of the output reads: all, or some of one sample.
    fn source_rows(&self, io: &Io<'_>, x: &View, band: &Range<usize>) -> Range<usize> {
        let (y, src) = (io.y.shape, x.shape);
        let Rows::Conv3x3 { stride, before, upsample } = self.rows else { return same_rows(x, band, y) };
        if band.len() == y.rows() {
            return 0..src.rows();
        }
        let sample = band.start / y.pixels();
        let line = |row: usize| row % y.pixels() / y.w;
        let (h, _) = upsample.unwrap_or((src.h, src.w));
        let halve = |line: usize| if upsample.is_some() { line / 2 } else { line };
        let top = halve((line(band.start) * stride).saturating_sub(before).min(h - 1));
        let bottom = halve((line(band.end - 1) * stride + 2).saturating_sub(before).min(h - 1));
        let first = sample % src.b * src.pixels();
        first + top * src.w..first + (bottom + 1) * src.w
    }
}

/// Slabs of a sum.
fn slabs(w: &Dims) -> usize {
    w.taps * w.k.next_multiple_of(4).div_ceil(SLAB)
}

/// The rows of an operand with the output's pixels that belong to a band: all, or some of one sample.
fn same_rows(x: &View, band: &Range<usize>, y: Shape) -> Range<usize> {
    if band.len() == y.rows() {
        return 0..x.shape.rows();
    }
    let first = band.start / y.pixels() % x.shape.b * y.pixels() + band.start % y.pixels();
    first..first + band.len()
}

/// An operand's binding as the shader addresses it.
#[derive(Clone, Copy)]
struct Windowed {
    bind: Bind,
    /// The quad of the binding at which the operand's row 0 would begin, modulo 2^32.
    base: u32,
    pitch: u32,
    samples: u32,
}

impl Windowed {
    fn new(what: What, view: &View, rows: Range<usize>, storage: Storage) -> Self {
        let before = (rows.start as u32).wrapping_mul(view.pitch_quads());
        let (bind, element) = window(what, view, rows, storage);
        let base = ((element / 4) as u32).wrapping_sub(before);
        Self { bind, base, pitch: view.pitch_quads(), samples: view.shape.b as u32 }
    }
}
