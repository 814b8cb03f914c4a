//! Weights as the shaders read them: from a checkpoint's tensors to k-major quads. See
//! [`crate::kernels::gpu`] for the layout.

use crate::backend::rounded::Rounded;
use crate::checkpoint::Model;
use crate::dtype::{Dtype, beyond_f16};
use crate::error::{Error, Result, escape};
use crate::graph::plan::PlanWeight;
use crate::kernels::gpu::{Storage, columns};
use crate::kernels::{Dims, Packing};
use crate::weights::expr::Reader;
use half::f16;

/// Rounded up to whole quads.
const fn quads(n: usize) -> usize {
    n.next_multiple_of(4)
}

/// Where output n stands among the columns.
fn column(dims: Dims, packing: Packing, n: usize) -> usize {
    if !packing.is_gated() {
        return n;
    }
    let half = dims.n / 2;
    let (c, gate) = if n < half { (n, 0) } else { (n - half, 4) };
    c / 4 * 8 + gate + c % 4
}

/// Packs values in torch's order. What f16 cannot hold becomes infinite: the caller decides what is stored as f16.
///
/// # Errors
/// Another number of values.
pub(crate) fn pack(dims: Dims, packing: Packing, storage: Storage, values: &[f32]) -> Result<Vec<u8>> {
    if values.len() != dims.len() {
        return Err(Error::other(format!("{} values given for a weight of {dims:?}", values.len())));
    }
    if packing.is_vector() {
        let mut out = vec![0.0_f32; columns(dims, packing)];
        for (n, v) in values.iter().enumerate() {
            out[column(dims, packing, n)] = *v;
        }
        return Ok(bytemuck::cast_slice(&out).to_vec());
    }
    match storage {
        Storage::F32 => Ok(bytemuck::cast_slice(&matrix(dims, packing, values, |v| v)).to_vec()),
        Storage::F16 => {
            Ok(bytemuck::cast_slice(&matrix(dims, packing, values, |v| f16::from_f32(v).to_bits())).to_vec())
        }
    }
}

/// Output columns that are transposed together: whole cache lines are written.
const BLOCK: usize = 32;

fn matrix<T: Copy + Default>(dims: Dims, packing: Packing, values: &[f32], convert: impl Fn(f32) -> T) -> Vec<T> {
    let (width, k4, row) = (columns(dims, packing), quads(dims.k), dims.k * dims.taps);
    let mut out = vec![T::default(); width * k4 * dims.taps];
    for n0 in (0..dims.n).step_by(BLOCK) {
        let block = n0..(n0 + BLOCK).min(dims.n);
        for k in 0..dims.k {
            for tap in 0..dims.taps {
                let to = &mut out[(tap * k4 + k) * width..][..width];
                for n in block.clone() {
                    to[column(dims, packing, n)] = convert(values[n * row + k * dims.taps + tap]);
                }
            }
        }
    }
    out
}

/// A weight that was read.
pub(super) enum Read {
    /// As the shaders read it.
    Packed(Vec<u8>),
    /// It is to be f16 and holds values beyond it.
    Beyond,
}

/// Reads and packs a plan's weight, matrices as `storage`.
///
/// # Errors
/// The file cannot be read, or its tensors have another size than the architecture says.
pub(super) fn read(want: &PlanWeight, model: &Model, storage: Storage, rounded: &Rounded) -> Result<Read> {
    let (expr, dims) = (&want.weight.expr, want.weight.dims);
    let mut reader = Reader::new(&*model.source, &model.name);
    let row = dims.k * dims.taps;
    reader.check(expr, dims.n, row)?;
    let values = reader.rows(expr, 0..dims.n, row)?;
    if !want.packing.is_vector() && storage == Storage::F16 {
        if beyond_f16(Dtype::F32, bytemuck::cast_slice(&values)) {
            return Ok(Read::Beyond);
        }
        rounded.round(reader.dtype(expr)?, expr.is_patched(&*model.source));
    }
    let packed = pack(dims, want.packing, storage, &values);
    packed.map(Read::Packed).map_err(|e| e.at(escape(&expr.names().join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::gpu::packed_bytes;

    #[test]
    fn a_filter_is_k_major() {
        // [n, k, taps] = n * 100 + k * 10 + tap.
        let dims = Dims { n: 3, k: 2, taps: 9 };
        let values: Vec<f32> = (0..dims.len()).map(|i| (i / 18 * 100 + i / 9 % 2 * 10 + i % 9) as f32).collect();
        let packed = pack(dims, Packing::PANELS, Storage::F32, &values).unwrap();
        let packed: &[f32] = bytemuck::cast_slice(&packed);
        assert_eq!(packed.len() as u64 * 4, packed_bytes(dims, Packing::PANELS, Storage::F32));
        let at = |tap: usize, k: usize, n: usize| packed[(tap * 4 + k) * 4 + n];
        assert_eq!((at(0, 0, 0), at(0, 0, 2), at(8, 1, 1), at(3, 1, 2)), (0.0, 200.0, 118.0, 213.0));
        assert_eq!((at(0, 0, 3), at(5, 2, 0), at(5, 3, 1)), (0.0, 0.0, 0.0));
    }

    #[test]
    fn gated_columns_alternate_by_quads() {
        let dims = Dims::matrix(10, 1);
        let values: Vec<f32> = (0..10).map(|i| (i + 1) as f32).collect();
        let packed = pack(dims, Packing::Vector { gated: true }, Storage::F32, &values).unwrap();
        let packed: &[f32] = bytemuck::cast_slice(&packed);
        assert_eq!(packed, [1., 2., 3., 4., 6., 7., 8., 9., 5., 0., 0., 0., 10., 0., 0., 0.]);
    }
}
