//! The CPU's timestep embedding: timesteps in, rows of cosines and sines out. A few thousand values once per picture:
//! plain f64 is accurate for any timestep and costs nothing.

use super::{Io, Variant};
use crate::kernels::timestep_embedding::TimestepEmbedding;
use crate::simd::Isa;
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<TimestepEmbedding>] = &[Variant::plain("naive", naive)];

fn naive(op: &TimestepEmbedding, _: Isa, io: &mut Io<'_>, _: &Workers) {
    let (x, half) = (io.x[0], op.width / 2);
    for (r, row) in io.y.data.chunks_mut(io.y.pitch).take(io.y.shape.rows()).enumerate() {
        let t = f64::from(x.data[r * x.pitch]);
        for i in 0..half {
            let angle = t * (-10_000_f64.ln() * i as f64 / half as f64).exp();
            row[i] = angle.cos() as f32;
            row[half + i] = angle.sin() as f32;
        }
    }
}
