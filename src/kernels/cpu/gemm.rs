//! The product that linear layers and convolutions share: packed weights times rows of pixels, read where they lie.
//!
//! An implicit GEMM: the inputs of an output row are a list of *pieces* (a tap of the filter, a source), and each piece
//! of each row has a pointer: into a source, or to a row of zeros where the filter looks past the edge. Upsampling,
//! stride, batches that repeat and a second source change pointers only.
//!
//! A task is a range of output rows by a group of panels. Its loops: blocks of k (about 512, cut by shape alone, so
//! that rounding depends on nothing else), panels (whose first tile expands them to f32 for the others), register
//! tiles. Sums of a panel stay in the worker's scratch between blocks; bias, activation, residual and gating are
//! applied on the way to the output.
#![allow(unsafe_code, reason = "rows are read through pointers, and tasks write disjoint parts of one output")]

pub mod bf16;
mod blocks;
mod finish;
mod naive;
mod normed;
pub mod over;
pub mod statistics;

pub use finish::{Line, write};
pub use naive::naive;

use super::panels::{PANEL, Packed, Panel};
use super::tile::weights::{Lines, WeightTile};
use super::tile::{Old, Shared, Split};
use super::{In, InPlace, Io, Scratch};
use crate::kernels::Activation;
use crate::kernels::statistics::Tiles;
use crate::simd::{Isa, Simd, Task, dispatch, dispatch_bf16};
use crate::tensor::Shape;
use crate::workers::Workers;
use crate::workers::tuning::Tuning;
use blocks::{BLOCK, Block, Blocks, PIECES};
use finish::Finish;
use statistics::Statistics;

/// Most panels of a task.
const GROUP: usize = 10;
/// Bytes of weights that the last-level cache is taken to hold.
const CACHED_WEIGHTS: usize = 8 << 20;

/// How output pixels read input pixels.
#[derive(Clone, Copy)]
pub struct Window {
    /// Rows and columns of the filter: 1 or 3.
    pub side: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros above and to the left.
    pub before: usize,
    /// The size that sources are upsampled to.
    pub upsample: Option<(usize, usize)>,
}

/// A GroupNorm that is applied to the sources as they are read.
#[derive(Clone, Copy)]
pub struct SourceNorm<'a> {
    /// Mean, scale and shift of each channel, `[b', 1, 3, k]`.
    pub affine: In<'a>,
    /// The nonlinearity that follows it.
    pub act: Activation,
}

impl<'a> SourceNorm<'a> {
    /// Mean, scale and shift of channels `first .. first + count` of a sample.
    #[inline(always)]
    pub fn rows(&self, b: usize, first: usize, count: usize) -> [&'a [f32]; 3] {
        let In { data, shape, pitch } = self.affine;
        [0, 1, 2].map(|i| &data[(b % shape.b * 3 + i) * pitch + first..][..count])
    }
}

/// What is added at the end.
#[derive(Clone, Copy)]
pub enum Residual<'a> {
    /// A tensor of the output's pixels.
    Tensor(In<'a>),
    /// What is in the output before it is written.
    Output,
}

/// A linear layer or a convolution, with everything around it.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    /// One or two sources, whose channels follow each other.
    pub sources: &'a [In<'a>],
    /// How they are read.
    pub window: Window,
    /// What happens to them on the way in.
    pub norm: Option<SourceNorm<'a>>,
    /// Weights.
    pub w: &'a Packed,
    /// Added to every row.
    pub bias: Option<&'a [f32]>,
    /// Added to the rows of a sample.
    pub row: Option<In<'a>>,
    /// Added at the end.
    pub residual: Option<Residual<'a>>,
    /// The nonlinearity.
    pub act: Activation,
    /// The output's shape.
    pub shape: Shape,
    /// The tiles of its statistics, where there are any.
    pub tiles: Tiles,
}

/// Scratch for a product with these sources: a row of zeros for all, with a norm the normalised sources of `batch`
/// samples, and for each worker pointers, one block of B and sums.
pub fn scratch(sources: &[Shape], rows: usize, norm: bool, batch: usize) -> Scratch {
    let normed: usize = sources.iter().map(|s| normed::len(s.with_b(batch))).sum();
    let rows = rows.min(Tuning::LARGEST.rows);
    Scratch {
        shared: zeros_len(sources.iter().map(|s| s.c)) + if norm { normed } else { 0 },
        per_worker: table_len(rows) + BLOCK * PANEL + rows * GROUP * PANEL,
    }
}

/// f32 elements of a row of zeros that is as long as any source's, whole cache lines.
fn zeros_len(channels: impl Iterator<Item = usize>) -> usize {
    channels.max().unwrap_or(0).next_multiple_of(16)
}

/// f32 elements that hold a chunk's pointers, whole cache lines.
fn table_len(rows: usize) -> usize {
    (rows * PIECES * size_of::<*const f32>() / size_of::<f32>()).next_multiple_of(16)
}

/// Computes `p` into `io.y`. `io.scratch` is what [`scratch`] declared.
///
/// A norm costs a pass over the sources here: register tiles read them many times.
pub fn run(p: &Product<'_>, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    tasks(p, isa, io, workers, |part| dispatch(isa, part));
}

/// The same in bf16, with scratch that [`bf16::scratch`] declared.
pub fn run_bf16(p: &Product<'_>, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    tasks(p, isa, io, workers, |part| dispatch_bf16(isa, bf16::Pairs(part)));
}

/// Cuts a product into tasks.
fn tasks(p: &Product<'_>, isa: Isa, io: &mut Io<'_>, workers: &Workers, run: impl Fn(ProductTask<'_, '_>) + Sync) {
    let rows = p.shape.rows();
    if rows == 0 || p.shape.c == 0 {
        return;
    }
    let (zeros, room) = io.scratch.split_at_mut(zeros_len(p.sources.iter().map(|s| s.shape.c)));
    zeros.fill(0.0);
    let normed = p.norm.map(|norm| normed::sources(p, &norm, isa, room, workers));
    let p = &Product { sources: normed.as_ref().map_or(p.sources, |all| &all[..p.sources.len()]), ..*p };
    let (out, pitch) = (Shared::new(io.y.data), io.y.pitch);
    let panels = p.w.panel_count();
    let chunks = Split::at_most(rows, workers.tuning().rows);
    // Enough tasks for all workers to end together; with few rows only panels can be shared out.
    let wanted = (workers.threads() * 4).div_ceil(chunks.parts);
    let groups = Split::at_most(panels, panels.div_ceil(wanted).clamp(1, GROUP));
    let by_rows = reads_weights_again(p, chunks.parts, groups.parts);
    workers.for_each(chunks.parts * groups.parts, |task, scratch| {
        let (chunk, group) = match by_rows {
            true => (task / groups.parts, task % groups.parts),
            false => (task % chunks.parts, task / chunks.parts),
        };
        let (first_row, rows) = chunks.part(chunk);
        let (first_panel, panels) = groups.part(group);
        run(ProductTask { p, first_row, rows, first_panel, panels, zeros: &*zeros, scratch, out, pitch });
    });
    if let Some(to) = &mut io.statistics {
        Statistics::new(to, p.tiles, out, p.shape, pitch).all(isa, workers);
    }
}

/// Whether neighbouring tasks share their rows, so that the weights are read again for every chunk of rows, rather than
/// their weights, so that the sources are read again for every group of panels: whichever moves fewer bytes. Weights
/// that no cache holds are read once.
fn reads_weights_again(p: &Product<'_>, chunks: usize, groups: usize) -> bool {
    let weights = p.w.bytes();
    let sources: usize = p.sources.iter().map(|x| x.shape.rows() * x.pitch * size_of::<f32>()).sum();
    weights <= CACHED_WEIGHTS && weights * chunks < sources * groups
}

/// One task.
pub struct ProductTask<'a, 'b> {
    p: &'a Product<'b>,
    first_row: usize,
    rows: usize,
    first_panel: usize,
    panels: usize,
    zeros: &'a [f32],
    scratch: &'a mut [f32],
    out: Shared<f32>,
    pitch: usize,
}

impl Task for ProductTask<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let (table, rest) = self.scratch.split_at_mut(table_len(self.rows));
        let (expanded, sums) = rest.split_at_mut(BLOCK * PANEL);
        let table: *mut *const f32 = table.as_mut_ptr().cast();
        let sums = &mut sums[..self.panels * self.rows * PANEL];
        let tiles = Split::at_most(self.rows, S::TILE_ROWS);
        let channels = [self.p.sources[0].shape.c, self.p.sources.last().map_or(0, |x| x.shape.c)];
        let taps = self.p.window.side * self.p.window.side;
        let mut blocks = Blocks::new(&channels[..self.p.sources.len()], taps).peekable();
        let mut old = Old::Ignore;
        while let Some(block) = blocks.next() {
            // Sums wait for the next block; of the only one they leave at once, and one tile's place is enough.
            let kept = block.from > 0 || blocks.peek().is_some();
            // SAFETY: the table has room for `rows` pointers of each of at most PIECES pieces.
            unsafe { point(self.p, self.zeros, &block, self.first_row, self.rows, table) };
            for i in 0..self.panels {
                let lines = Lines::new::<S>(self.p.w.panel(self.first_panel + i, block.from, block.len), expanded);
                let c = sums[i * self.rows * PANEL..(i + 1) * self.rows * PANEL].as_mut_ptr();
                for t in 0..tiles.parts {
                    let (row, m) = tiles.part(t);
                    // SAFETY: table, B and C hold what the tiles read and write, by their sizes above.
                    unsafe {
                        let c = if kept { c.add(row * PANEL) } else { sums.as_mut_ptr() };
                        let (mut b, mut old) = (lines, old);
                        let at = Finish { first_row: self.first_row + row, m, panel: self.first_panel + i };
                        if blocks.peek().is_none() {
                            at.ask(s, self.p, self.out.get(), self.pitch);
                        }
                        for (p, piece) in block.pieces().iter().enumerate() {
                            let k = piece.len;
                            let table = table.add(p * self.rows + row);
                            WeightTile { m, k, table, b, expanded: t > 0, c, old }.run(s);
                            (b, old) = (b.after::<S>(k), Old::Add);
                        }
                        if blocks.peek().is_none() {
                            at.store(s, self.p, c, self.out.get(), self.pitch);
                        }
                    }
                }
            }
            old = Old::Add;
        }
    }
}

/// Writes `table[piece * rows + r]`: where the inputs of output row `first + r` begin.
///
/// # Safety
/// The table must have room for `rows` of each piece's pointers.
unsafe fn point(p: &Product<'_>, zeros: &[f32], block: &Block, first: usize, rows: usize, table: *mut *const f32) {
    let Window { side, stride, before, upsample } = p.window;
    for (i, piece) in block.pieces().iter().enumerate() {
        let src = &p.sources[piece.source];
        let (h, w) = upsample.unwrap_or((src.shape.h, src.shape.w));
        let (tap_y, tap_x) = (piece.tap / side, piece.tap % side);
        let pixels = p.shape.pixels();
        let (mut b, pixel) = (first / pixels, first % pixels);
        let (mut y, mut x) = (pixel / p.shape.w, pixel % p.shape.w);
        for r in 0..rows {
            // Wraps around below zero, which is also outside.
            let (iy, ix) = ((y * stride + tap_y).wrapping_sub(before), (x * stride + tap_x).wrapping_sub(before));
            let row = if iy < h && ix < w {
                let (sy, sx) = if upsample.is_some() { (iy / 2, ix / 2) } else { (iy, ix) };
                let at = ((b % src.shape.b * src.shape.h + sy) * src.shape.w + sx) * src.pitch;
                &src.data[at + piece.first..at + src.shape.c]
            } else {
                &zeros[piece.first..src.shape.c]
            };
            // SAFETY: the caller's.
            unsafe { table.add(i * rows + r).write(row.as_ptr()) };
            x += 1;
            if x == p.shape.w {
                (x, y) = (0, y + 1);
            }
            if y == p.shape.h {
                (y, b) = (0, b + 1);
            }
        }
    }
}

/// An activation of one value.
pub fn scalar(act: Activation, x: f32) -> f32 {
    act.reference(f64::from(x)) as f32
}

/// Whose place the output may take: the residual's, of which every value is read by the task that overwrites it.
pub fn in_place(sources: usize, norm: bool, row: bool, residual: bool) -> Option<InPlace> {
    residual.then(|| InPlace::Element(sources + usize::from(norm) + usize::from(row)))
}

/// The operands that follow the sources, each if it is there: a norm, a row, a residual.
pub fn extras<'a>(
    io: &Io<'a>,
    sources: usize,
    norm: Option<Activation>,
    row: bool,
    residual: bool,
) -> (Option<SourceNorm<'a>>, Option<In<'a>>, Option<Residual<'a>>) {
    let mut rest = io.x[sources..].iter().copied();
    let norm = norm.and_then(|act| rest.next().map(|affine| SourceNorm { affine, act }));
    let row = if row { rest.next() } else { None };
    let residual = match io.in_place {
        _ if !residual => None,
        Some(InPlace::Element(_)) => Some(Residual::Output),
        _ => rest.next().map(Residual::Tensor),
    };
    (norm, row, residual)
}
