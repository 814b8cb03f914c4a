//! pixel_shuffle on a GPU: one thread for each quad of the output.

use super::bands::{Slice, cut, rows_that_fit, whole_fits};
use super::{Dispatch, GpuVariant, Launch, LaunchIo, Limits, Record, Shader, View, What, linear, params};
use crate::kernels::pixel_shuffle::PixelShuffle;
use crate::kernels::{Dims, Kernel};
use crate::tensor::Shape;
use std::ops::Range;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<PixelShuffle>] = &[GpuVariant { name: "quads", supports, launch }];

params! {
    /// See `shaders/pixel_shuffle.wgsl`.
    PixelShuffleParams {
        /// Quads of the output.
        total: u32,
        /// Quads of an output row.
        quads: u32,
        /// Channels of the output.
        c: u32,
        /// Output pixels of an input pixel along a side.
        factor: u32,
        /// Pixels of an output line.
        width: u32,
        /// First quad of x.
        x_start: u32,
        /// Quads from one row of x to the next.
        x_pitch: u32,
        /// Rows after which x repeats.
        x_rows: u32,
        /// First quad of the base.
        base_start: u32,
        /// Quads from one row of the base to the next.
        base_pitch: u32,
        /// Rows after which the base repeats.
        base_rows: u32,
        /// First quad of y.
        y_start: u32,
    }
}

/// Whether `factor` output lines and the line that they are made of surely fit into bindings.
fn supports(op: &PixelShuffle, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    let fits = |s: &Shape, lines: usize| {
        let view = View::whole(*s);
        whole_fits(&view, limits) || rows_that_fit(view.pitch, limits) >= lines * s.w
    };
    op.output(x, w).is_ok_and(|y| fits(&y[0], op.factor) && x.iter().all(|s| fits(s, 1)))
}

/// Ranges of lines of the input: all, or some of one sample.
fn lines(op: &PixelShuffle, io: &LaunchIo<'_>) -> Vec<Range<usize>> {
    let (h, w) = (io.y.shape.h / op.factor, io.y.shape.w / op.factor);
    let total = io.y.shape.b * h;
    if io.x.iter().chain([&io.y]).all(|v| whole_fits(v, io.limits)) {
        return cut(total, total, total);
    }
    let of = |view: &View, pixels: usize| rows_that_fit(view.pitch, io.limits) / (pixels * w);
    let most = io.x.iter().map(|x| of(x, 1)).min().unwrap_or(1).min(of(&io.y, op.factor * op.factor));
    cut(total, h, most)
}

fn launch(op: &PixelShuffle, io: &LaunchIo<'_>) -> Launch {
    let Some(x) = io.x.first() else { return Launch::default() };
    let base = io.x.get(1).unwrap_or(x);
    let (w, each) = (io.y.shape.w / op.factor, op.factor * op.factor);
    let storage = io.limits.storage;
    let one = |lines: Range<usize>| {
        let rows = lines.start * w..lines.end * w;
        let seen = |n: usize, v: &View| {
            let all = v.shape.rows();
            let start = if rows.len() >= all { 0 } else { rows.start % all };
            Slice::new(What::X(n), v, start..start + rows.len().min(all), storage)
        };
        let (from, to) = (seen(0, x), Slice::new(What::Y, &io.y, rows.start * each..rows.end * each, storage));
        let under = seen(usize::from(op.base), base);
        let total = rows.len() * each * io.y.quads() as usize;
        let params = PixelShuffleParams {
            first: 0,
            total: total as u32,
            quads: io.y.quads(),
            c: io.y.shape.c as u32,
            factor: op.factor as u32,
            width: io.y.shape.w as u32,
            x_start: from.start,
            x_pitch: x.pitch_quads(),
            x_rows: from.rows,
            base_start: under.start,
            base_pitch: base.pitch_quads(),
            base_rows: under.rows,
            y_start: to.start,
        };
        Dispatch {
            shader: Shader::new("pixel_shuffle", io.limits).with("BASE", op.base),
            params: Record::new(&params),
            binds: vec![from.bind, under.bind, to.bind],
            grid: linear(total),
        }
    };
    Launch { dispatches: lines(op, io).into_iter().map(one).collect(), scratch: Vec::new() }
}
