//! add on a GPU: one thread for each quad of the output.

use super::bands::{Band, Slice, a_row_fits, cut, row_bands, rows_that_fit, whole_fits};
use super::{Dispatch, GpuVariant, Launch, LaunchIo, Record, Shader, What, linear, params};
use crate::kernels::add::Add;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<Add>] =
    &[GpuVariant { name: "quads", supports: |_, x, _, limits| a_row_fits(x, limits), launch }];

params! {
    /// See `shaders/add.wgsl`.
    AddParams {
        /// Quads of the output.
        total: u32,
        /// Quads of an output row.
        quads: u32,
        /// Channels.
        c: u32,
        /// First quad of a.
        a_start: u32,
        /// Rows after which a repeats.
        a_rows: u32,
        /// Quads from one row of a to the next.
        a_pitch: u32,
        /// First quad of b.
        b_start: u32,
        /// Rows of the output that share a row of b.
        b_share: u32,
        /// Rows after which b repeats.
        b_rows: u32,
        /// Quads from one row of b to the next.
        b_pitch: u32,
        /// First quad of y.
        y_start: u32,
    }
}

/// Bands where b has one row for all pixels of a sample: all rows, or rows of one sample.
fn shared_bands(io: &LaunchIo<'_>) -> Vec<Band> {
    let (a, b, storage) = (&io.x[0], &io.x[1], io.limits.storage);
    let (total, pixels) = (io.y.shape.rows(), io.y.shape.pixels());
    let all = [a, b, &io.y].iter().all(|v| whole_fits(v, io.limits));
    let fit = rows_that_fit(a.pitch.max(b.pitch).max(io.y.pitch), io.limits);
    let ranges = if all { cut(total, total, total) } else { cut(total, pixels, fit) };
    let one = |rows: std::ops::Range<usize>| {
        let from = if all { 0 } else { rows.start % a.shape.rows() };
        let sample = if all { 0 } else { rows.start / pixels % b.shape.b };
        let a_rows = from..from + rows.len().min(a.shape.rows());
        let b_rows = if all { 0..b.shape.b } else { sample..sample + 1 };
        Band {
            x: vec![Slice::new(What::X(0), a, a_rows, storage), Slice::new(What::X(1), b, b_rows, storage)],
            y: Slice::new(What::Y, &io.y, rows.clone(), storage),
            rows,
        }
    };
    ranges.into_iter().map(one).collect()
}

fn launch(_: &Add, io: &LaunchIo<'_>) -> Launch {
    let [a, b] = io.x else { return Launch::default() };
    let pixels = io.y.shape.pixels();
    let shared = (b.shape.h, b.shape.w) == (1, 1);
    let bands = if shared { shared_bands(io) } else { row_bands(io.x, &io.y, io.limits) };
    let one = |band: Band| {
        let total = band.rows.len() * io.y.quads() as usize;
        let params = AddParams {
            first: 0,
            total: total as u32,
            quads: io.y.quads(),
            c: io.y.shape.c as u32,
            a_start: band.x[0].start,
            a_rows: band.x[0].rows,
            a_pitch: a.pitch_quads(),
            b_start: band.x[1].start,
            b_share: if shared { pixels as u32 } else { 1 },
            b_rows: band.x[1].rows,
            b_pitch: b.pitch_quads(),
            y_start: band.y.start,
        };
        Dispatch {
            shader: Shader::new("add", io.limits),
            params: Record::new(&params),
            binds: vec![band.x[0].bind, band.x[1].bind, band.y.bind],
            grid: linear(total),
        }
    };
    Launch { dispatches: bands.into_iter().map(one).collect(), scratch: Vec::new() }
}
