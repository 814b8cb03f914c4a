//! upsample on a GPU: one thread for each quad of the output.

use super::bands::{Slice, a_row_fits, cut, rows_that_fit, whole_fits};
use super::{Dispatch, GpuVariant, Launch, LaunchIo, Record, Shader, What, linear, params};
use crate::kernels::upsample::Upsample;
use std::ops::Range;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<Upsample>] =
    &[GpuVariant { name: "quads", supports: |_, x, _, limits| a_row_fits(x, limits), launch }];

params! {
    /// See `shaders/upsample.wgsl`.
    UpsampleParams {
        /// Quads of the output.
        total: u32,
        /// Quads of an output row.
        quads: u32,
        /// Channels.
        c: u32,
        /// Height of x.
        in_h: u32,
        /// Width of x.
        in_w: u32,
        /// Height of y.
        out_h: u32,
        /// Width of y.
        out_w: u32,
        /// First pixel of the output, counted over all samples.
        pixel0: u32,
        /// Pixel of x, counted over all samples, that the binding begins with.
        base: u32,
        /// First quad of x.
        x_start: u32,
        /// Quads from one row of x to the next.
        x_pitch: u32,
        /// First quad of y.
        y_start: u32,
    }
}

/// Ranges of output pixels: all, or some lines of one sample, or a part of one line.
fn ranges(op: &Upsample, io: &LaunchIo<'_>) -> Vec<Range<usize>> {
    let (x, total) = (&io.x[0], io.y.shape.rows());
    if whole_fits(x, io.limits) && whole_fits(&io.y, io.limits) {
        return cut(total, total, total);
    }
    let fit = rows_that_fit(x.pitch.max(io.y.pitch), io.limits);
    // n lines of y are made of at most n lines of x, which are no longer.
    if fit >= op.w { cut(total, op.h * op.w, fit / op.w * op.w) } else { cut(total, op.w, fit) }
}

/// Pixels of x that output pixels show.
fn sources(op: &Upsample, io: &LaunchIo<'_>, out: &Range<usize>) -> Range<usize> {
    let (h, w) = (io.x[0].shape.h, io.x[0].shape.w);
    let of = |at: usize| {
        let (line, px) = (at / op.w, at % op.w);
        (line / op.h * h + line % op.h * h / op.h, px * w / op.w)
    };
    let ((first, left), (last, right)) = (of(out.start), of(out.end - 1));
    if out.start / op.w == (out.end - 1) / op.w {
        first * w + left..first * w + right + 1
    } else {
        first * w..(last + 1) * w
    }
}

fn launch(op: &Upsample, io: &LaunchIo<'_>) -> Launch {
    let [x] = io.x else { return Launch::default() };
    let one = |out: Range<usize>| {
        let total = out.len() * io.y.quads() as usize;
        let from = sources(op, io, &out);
        let source = Slice::new(What::X(0), x, from.clone(), io.limits.storage);
        let y = Slice::new(What::Y, &io.y, out.clone(), io.limits.storage);
        let params = UpsampleParams {
            first: 0,
            total: total as u32,
            quads: io.y.quads(),
            c: io.y.shape.c as u32,
            in_h: x.shape.h as u32,
            in_w: x.shape.w as u32,
            out_h: op.h as u32,
            out_w: op.w as u32,
            pixel0: out.start as u32,
            base: from.start as u32,
            x_start: source.start,
            x_pitch: x.pitch_quads(),
            y_start: y.start,
        };
        Dispatch {
            shader: Shader::new("upsample", io.limits),
            params: Record::new(&params),
            binds: vec![source.bind, y.bind],
            grid: linear(total),
        }
    };
    Launch { dispatches: ranges(op, io).into_iter().map(one).collect(), scratch: Vec::new() }
}
