//! Stored bytes to f32 and back.

use crate::dtype::Dtype;
use bytemuck::try_cast_slice;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Replaces `out` by the elements of little-endian `bytes`. A last partial element is dropped.
pub fn decode_f32(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) {
    out.clear();
    let bytes = &bytes[..bytes.len() - bytes.len() % dtype.bytes()];
    // Whole slices where they can be reinterpreted in place: memory order is little-endian and the vector is aligned.
    if cfg!(target_endian = "little") {
        match dtype {
            Dtype::F32 => {
                if let Ok(values) = try_cast_slice::<u8, f32>(bytes) {
                    return out.extend_from_slice(values);
                }
            }
            Dtype::F16 => {
                if let Ok(values) = try_cast_slice::<u8, f16>(bytes) {
                    out.resize(values.len(), 0.0);
                    return values.convert_to_f32_slice(out);
                }
            }
            Dtype::Bf16 => {
                if let Ok(values) = try_cast_slice::<u8, bf16>(bytes) {
                    out.resize(values.len(), 0.0);
                    return values.convert_to_f32_slice(out);
                }
            }
        }
    }
    match dtype {
        Dtype::F32 => out.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        Dtype::F16 => out.extend(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())),
        Dtype::Bf16 => out.extend(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
    }
}

/// Replaces `out` by `values` as little-endian elements of `dtype`, rounded to nearest even.
pub fn encode(dtype: Dtype, values: &[f32], out: &mut Vec<u8>) {
    out.clear();
    out.reserve_exact(values.len() * dtype.bytes());
    match dtype {
        Dtype::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        Dtype::F16 => out.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes())),
        Dtype::Bf16 => out.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_decodes_the_same_aligned_and_not() {
        let mut bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
            let (mut aligned, mut shifted, mut back) = (Vec::new(), Vec::new(), Vec::new());
            decode_f32(dtype, &bytes, &mut aligned);
            bytes.insert(0, 0);
            decode_f32(dtype, &bytes[1..], &mut shifted);
            bytes.remove(0);
            let same = aligned.iter().zip(&shifted).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && aligned.len() == bytes.len() / dtype.bytes(), "{dtype:?}");
            encode(dtype, &aligned, &mut back);
            let numbers = aligned.iter().zip(back.chunks(dtype.bytes()).zip(bytes.chunks(dtype.bytes())));
            assert!(numbers.filter(|(v, _)| !v.is_nan()).all(|(_, (a, b))| a == b), "{dtype:?}");
        }
    }

    #[test]
    fn rounding_is_to_nearest_even_and_overflow_is_infinite() {
        let mut out = Vec::new();
        encode(Dtype::F16, &[1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 70_000.0], &mut out);
        assert_eq!(out, [0x00, 0x3c, 0x02, 0x3c, 0x00, 0x7c]);
    }
}
