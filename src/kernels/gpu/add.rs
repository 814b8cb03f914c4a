//! add on a GPU: one thread for each quad of the output.

use super::{Dispatch, Io, Launch, Record, Shader, Variant, What, linear, params};
use crate::kernels::add::Add;

/// Slowest first.
pub const VARIANTS: &[Variant<Add>] = &[Variant { name: "quads", supports: |_, _, _, _| true, launch }];

params! {
    /// See `shaders/add.wgsl`.
    AddParams {
        /// Quads of the output.
        total: u32,
        /// Quads of an output row.
        quads: u32,
        /// Channels.
        c: u32,
        /// Rows after which a repeats.
        a_rows: u32,
        /// Quads from one row of a to the next.
        a_pitch: u32,
        /// First quad of a row of a.
        a_offset: u32,
        /// Rows of the output that share a row of b.
        b_share: u32,
        /// Rows after which b repeats.
        b_rows: u32,
        /// Quads from one row of b to the next.
        b_pitch: u32,
        /// First quad of a row of b.
        b_offset: u32,
    }
}

fn launch(_: &Add, io: &Io<'_>) -> Launch {
    let [a, b] = io.x else { return Launch::default() };
    let pixels = io.y.shape.pixels();
    // A row for all pixels of a sample.
    let shared = (b.shape.h, b.shape.w) == (1, 1);
    let total = io.y.shape.rows() * io.y.quads() as usize;
    let params = AddParams {
        first: 0,
        total: total as u32,
        quads: io.y.quads(),
        c: io.y.shape.c as u32,
        a_rows: a.shape.rows() as u32,
        a_pitch: a.pitch_quads(),
        a_offset: a.offset_quads(),
        b_share: if shared { pixels as u32 } else { 1 },
        b_rows: b.shape.rows() as u32,
        b_pitch: b.pitch_quads(),
        b_offset: b.offset_quads(),
    };
    Dispatch {
        shader: Shader::new("add", io.limits),
        params: Record::new(&params),
        binds: vec![What::X(0).into(), What::X(1).into(), What::Y.into()],
        grid: linear(total),
    }
    .into()
}
