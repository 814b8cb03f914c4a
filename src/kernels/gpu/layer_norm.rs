//! layer_norm on a GPU. `naive`: a thread for each row. `rows`: neighbouring threads
//! share a row, which stays in registers.

use super::bands::{Band, a_row_fits, row_bands};
use super::{Dispatch, GpuVariant, Launch, LaunchIo, Limits, Record, Shader, THREADS, What, linear, params};
use crate::kernels::Dims;
use crate::kernels::layer_norm::LayerNorm;
use crate::tensor::Shape;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<LayerNorm>] = &[
    GpuVariant { name: "naive", supports: |_, x, _, limits| a_row_fits(x, limits), launch: naive },
    GpuVariant { name: "rows", supports: supports_rows, launch: rows },
];

params! {
    /// See `shaders/layer_norm_rows.wgsl`; the naive one has the same.
    LayerNormParams {
        /// Rows.
        rows: u32,
        /// Quads of an output row.
        quads: u32,
        /// Channels.
        c: u32,
        /// Added to the variance.
        eps: f32,
        /// First quad of x.
        x_start: u32,
        /// Quads from one row of x to the next.
        x_pitch: u32,
        /// First quad of y.
        y_start: u32,
    }
}

/// Quads of a row that a thread keeps, at most: 20 registers.
const MOST_QUADS: u32 = 5;

/// Threads of a row: a power of two such that none has more than five quads, and not more threads than quads if it can
/// be helped. 5 quads by 32 or 64 threads are just 640 and 1280 channels.
fn lanes(quads: u32) -> u32 {
    quads.div_ceil(MOST_QUADS).next_power_of_two().clamp(4, THREADS)
}

fn supports_rows(_: &LayerNorm, x: &[Shape], _: &[Dims], limits: &Limits) -> bool {
    a_row_fits(x, limits) && x.iter().all(|s| s.c.div_ceil(4) <= (THREADS * MOST_QUADS) as usize)
}

fn naive(op: &LayerNorm, io: &LaunchIo<'_>) -> Launch {
    launch(op, io, &Shader::new("layer_norm_naive", io.limits), 1)
}

fn rows(op: &LayerNorm, io: &LaunchIo<'_>) -> Launch {
    let lanes = lanes(io.y.quads());
    let per = io.y.quads().div_ceil(lanes);
    launch(op, io, &Shader::new("layer_norm_rows", io.limits).with("LANES", lanes).with("PER", per), lanes)
}

fn launch(op: &LayerNorm, io: &LaunchIo<'_>, shader: &Shader, lanes: u32) -> Launch {
    let [x] = io.x else { return Launch::default() };
    let one = |band: Band| {
        let params = LayerNormParams {
            first: 0,
            rows: band.rows.len() as u32,
            quads: io.y.quads(),
            c: io.y.shape.c as u32,
            eps: op.eps,
            x_start: band.x[0].start,
            x_pitch: x.pitch_quads(),
            y_start: band.y.start,
        };
        Dispatch {
            shader: shader.clone(),
            params: Record::new(&params),
            binds: vec![band.x[0].bind, What::W(0).into(), What::W(1).into(), band.y.bind],
            grid: linear(band.rows.len() * lanes as usize),
        }
    };
    Launch { dispatches: row_bands(io.x, &io.y, io.limits).into_iter().map(one).collect(), scratch: Vec::new() }
}
