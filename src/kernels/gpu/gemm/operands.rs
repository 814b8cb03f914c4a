//! What a product binds, cut into bands where a binding would be too large, and its parameters.

use super::{Gemm, Rows};
use crate::kernels::gpu::{Bind, Const, LaunchIo, Storage, View, What, params, window};
use crate::kernels::statistics::{PIXELS, Tiles};
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
        /// Rows after which tiles begin anew.
        strip_rows: u32,
        /// Tiles above each other in them.
        strip_tiles: u32,
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
        /// Where row 0 of the statistics would be.
        statistics_base: u32,
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

impl Gemm {
    /// The output's rows in as few bands as bindings allow, none across samples if there
    /// are several; and whether they fit.
    pub(super) fn bands(&self, io: &LaunchIo<'_>, splits: usize) -> (Vec<Range<usize>>, bool) {
        let fits = |band: &Range<usize>| {
            let ranges = self.bind(io, band).0.into_iter().filter_map(|b| b.bytes);
            let partial = if splits > 1 { self.partial_bytes(io, band.len(), splits) } else { 0 };
            ranges.chain([partial]).all(|bytes| bytes <= io.limits.max_binding)
        };
        let (rows, pixels) = (io.y.shape.rows(), io.y.shape.pixels());
        let whole = 0..rows;
        if fits(&whole) {
            return (vec![whole], true);
        }
        // A picture is cut between its rows, and between tiles of statistics.
        let line = if matches!(self.rows, Rows::Linear) { 1 } else { io.y.shape.w };
        let unit = if self.statistics { common_multiple(line, PIXELS) } else { line };
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

    /// What the main kernel binds for a band (all from the fourth on are the epilogue's), and its parameters.
    pub(super) fn bind(&self, io: &LaunchIo<'_>, band: &Range<usize>) -> (Vec<Bind>, GemmParams) {
        let storage = io.limits.storage;
        let sources = 1 + usize::from(self.two_sources);
        let x0 = Windowed::new(What::X(0), &io.x[0], self.source_rows(io, &io.x[0], band), storage);
        // What an op lacks is bound to the beginning of something else and never read.
        let nothing = |what, bytes| Bind { what, start: 0, bytes: Some(bytes) };
        let no_quads =
            Windowed { bind: nothing(What::X(0), 4 * storage.bytes() as u64), base: 0, pitch: 0, samples: 1 };
        let operand = |i: usize, rows| Windowed::new(What::X(i), &io.x[i], rows, storage);
        let x1 = if self.two_sources { operand(1, self.source_rows(io, &io.x[1], band)) } else { no_quads };
        let row = if self.row { operand(sources, 0..io.x[sources].shape.rows()) } else { no_quads };
        let last = sources + usize::from(self.row);
        let residual = if self.residual { operand(last, same_rows(&io.x[last], band, io.y.shape)) } else { no_quads };
        let y = Windowed::new(What::Y, &io.y, band.clone(), storage);
        let bias = if self.bias { What::W(1).into() } else { nothing(What::W(0), 16) };
        let left = self.statistics.then(|| self.statistics_of(io, band));
        let mut binds = vec![x0.bind, x1.bind, What::W(0).into(), bias, row.bind, residual.bind, y.bind];
        binds.extend(left.map(|s| s.bind));
        let params = GemmParams {
            row_begin: band.start as u32,
            row_end: band.end as u32,
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
            statistics_base: left.map_or(0, |s| s.base),
            ..self.shape_params(io)
        };
        (binds, params)
    }

    /// The statistics of a band: those of all samples, or some of one, whose tiles begin where the band does.
    fn statistics_of(&self, io: &LaunchIo<'_>, band: &Range<usize>) -> Windowed {
        let (y, tiles) = (io.y.shape, Tiles::Pixels);
        let row = |pixel: usize| 2 * (pixel / y.pixels() * tiles.count(y) + (pixel % y.pixels()).div_ceil(PIXELS));
        Windowed::new(What::Statistics, &View::whole(tiles.shape(y)), row(band.start)..row(band.end), Storage::F32)
    }

    /// What the parameters say of shapes and switches.
    fn shape_params(&self, io: &LaunchIo<'_>) -> GemmParams {
        let src = io.x[0].shape;
        let (stride, before, upsample) = match self.rows {
            Rows::Linear => (1, 0, None),
            Rows::Conv3x3 { stride, before, upsample } => (stride, before, upsample),
        };
        let (in_h, in_w) = upsample.unwrap_or((src.h, src.w));
        let act = match self.act.into() {
            Const::U32(n) => n,
            Const::Bool(b) => b.into(),
        };
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
    fn source_rows(&self, io: &LaunchIo<'_>, x: &View, band: &Range<usize>) -> Range<usize> {
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

/// The least common multiple.
fn common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
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
