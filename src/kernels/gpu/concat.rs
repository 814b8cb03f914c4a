//! concat on a GPU: one thread for each quad of the output.

use super::bands::{Band, a_row_fits, row_bands};
use super::{Dispatch, GpuVariant, Launch, LaunchIo, Limits, Record, Shader, linear, params};
use crate::kernels::concat::Concat;
use crate::kernels::{Dims, Kernel};
use crate::tensor::Shape;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<Concat>] = &[GpuVariant { name: "quads", supports, launch }];

params! {
    /// See `shaders/concat.wgsl`.
    ConcatParams {
        /// Quads of the output.
        total: u32,
        /// Quads of an output row.
        quads: u32,
        /// Channels of the output.
        c: u32,
        /// Channels of a.
        c0: u32,
        /// First quad of a.
        a_start: u32,
        /// Quads from one row of a to the next.
        a_pitch: u32,
        /// Rows after which a repeats.
        a_rows: u32,
        /// First quad of b.
        b_start: u32,
        /// Quads from one row of b to the next.
        b_pitch: u32,
        /// Rows after which b repeats.
        b_rows: u32,
        /// Quads that hold a row of b.
        b_quads: u32,
        /// First quad of y.
        y_start: u32,
    }
}

fn supports(op: &Concat, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    op.output(x, w).is_ok_and(|y| a_row_fits(&y, limits))
}

fn launch(_: &Concat, io: &LaunchIo<'_>) -> Launch {
    let [a, b] = io.x else { return Launch::default() };
    let one = |band: Band| {
        let total = band.rows.len() * io.y.quads() as usize;
        let params = ConcatParams {
            first: 0,
            total: total as u32,
            quads: io.y.quads(),
            c: io.y.shape.c as u32,
            c0: a.shape.c as u32,
            a_start: band.x[0].start,
            a_pitch: a.pitch_quads(),
            a_rows: band.x[0].rows,
            b_start: band.x[1].start,
            b_pitch: b.pitch_quads(),
            b_rows: band.x[1].rows,
            b_quads: b.quads(),
            y_start: band.y.start,
        };
        Dispatch {
            shader: Shader::new("concat", io.limits),
            params: Record::new(&params),
            binds: vec![band.x[0].bind, band.x[1].bind, band.y.bind],
            grid: linear(total),
        }
    };
    Launch { dispatches: row_bands(io.x, &io.y, io.limits).into_iter().map(one).collect(), scratch: Vec::new() }
}
