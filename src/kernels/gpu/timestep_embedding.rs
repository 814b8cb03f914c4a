//! timestep_embedding on a GPU: one thread for each quad of the output, angles in integers.

use super::bands::{Band, a_row_fits, row_bands};
use super::{Dispatch, GpuVariant, Launch, LaunchIo, Limits, Record, Shader, linear, params};
use crate::kernels::timestep_embedding::TimestepEmbedding;
use crate::kernels::{Dims, Kernel};
use crate::tensor::Shape;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<TimestepEmbedding>] = &[GpuVariant { name: "quads", supports, launch }];

params! {
    /// See `shaders/timestep_embedding.wgsl`.
    TimestepParams {
        /// Quads of the output.
        total: u32,
        /// Quads of an output row.
        quads: u32,
        /// Width of the embedding.
        c: u32,
        /// The ratio of neighbouring frequencies, as a fraction of 64 bits: the lower half.
        ratio_low: u32,
        /// The upper half.
        ratio_high: u32,
        /// First quad of t.
        x_start: u32,
        /// Quads from one row of t to the next.
        x_pitch: u32,
        /// First quad of y.
        y_start: u32,
    }
}

fn supports(op: &TimestepEmbedding, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    op.output(x, w).is_ok_and(|y| a_row_fits(&y, limits))
}

/// `10000^(-1 / half)` as a fraction of 64 bits.
fn ratio(half: usize) -> u64 {
    (10_000_f64.powf(-1.0 / half.max(1) as f64) * 2_f64.powi(64)) as u64
}

fn launch(op: &TimestepEmbedding, io: &LaunchIo<'_>) -> Launch {
    let [x] = io.x else { return Launch::default() };
    let ratio = ratio(op.width / 2);
    let one = |band: Band| {
        let total = band.rows.len() * io.y.quads() as usize;
        let params = TimestepParams {
            first: 0,
            total: total as u32,
            quads: io.y.quads(),
            c: op.width as u32,
            ratio_low: ratio as u32,
            ratio_high: (ratio >> 32) as u32,
            x_start: band.x[0].start,
            x_pitch: x.pitch_quads(),
            y_start: band.y.start,
        };
        Dispatch {
            shader: Shader::new("timestep_embedding", io.limits),
            params: Record::new(&params),
            binds: vec![band.x[0].bind, band.y.bind],
            grid: linear(total),
        }
    };
    Launch { dispatches: row_bands(io.x, &io.y, io.limits).into_iter().map(one).collect(), scratch: Vec::new() }
}
