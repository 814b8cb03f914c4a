//! prelu on a GPU: one thread for each quad of the output.

use super::bands::{Band, a_row_fits, row_bands};
use super::{Dispatch, GpuVariant, Launch, LaunchIo, Record, Shader, What, linear, params};
use crate::kernels::prelu::Prelu;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<Prelu>] =
    &[GpuVariant { name: "quads", supports: |_, x, _, limits| a_row_fits(x, limits), launch }];

params! {
    /// See `shaders/prelu.wgsl`.
    PreluParams {
        /// Quads of the output.
        total: u32,
        /// Quads of an output row.
        quads: u32,
        /// Channels.
        c: u32,
        /// First quad of x.
        x_start: u32,
        /// Quads from one row of x to the next.
        x_pitch: u32,
        /// First quad of y.
        y_start: u32,
    }
}

fn launch(_: &Prelu, io: &LaunchIo<'_>) -> Launch {
    let [x] = io.x else { return Launch::default() };
    let one = |band: Band| {
        let total = band.rows.len() * io.y.quads() as usize;
        let params = PreluParams {
            first: 0,
            total: total as u32,
            quads: io.y.quads(),
            c: io.y.shape.c as u32,
            x_start: band.x[0].start,
            x_pitch: x.pitch_quads(),
            y_start: band.y.start,
        };
        Dispatch {
            shader: Shader::new("prelu", io.limits),
            params: Record::new(&params),
            binds: vec![band.x[0].bind, What::W(0).into(), band.y.bind],
            grid: linear(total),
        }
    };
    Launch { dispatches: row_bands(io.x, &io.y, io.limits).into_iter().map(one).collect(), scratch: Vec::new() }
}
