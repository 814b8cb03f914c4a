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
            Dtype::F64 | Dtype::F8E4m3 | Dtype::F8E5m2 => {}
        }
    }
    out.extend(bytes.chunks_exact(dtype.bytes()).map(|b| dtype.value(b)));
}

/// Replaces `out` by `values` as little-endian elements of `dtype`, rounded to nearest even; beyond the largest 8-bit
/// value it is that value.
pub fn encode(dtype: Dtype, values: &[f32], out: &mut Vec<u8>) {
    out.clear();
    out.reserve_exact(values.len() * dtype.bytes());
    match dtype {
        Dtype::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        Dtype::F16 => out.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes())),
        Dtype::Bf16 => out.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes())),
        Dtype::F64 => out.extend(values.iter().flat_map(|v| f64::from(*v).to_le_bytes())),
        Dtype::F8E4m3 => out.extend(values.iter().map(|v| nearest(dtype, 0x7e, *v))),
        Dtype::F8E5m2 => out.extend(values.iter().map(|v| nearest(dtype, 0x7b, *v))),
    }
}

/// The 8 bits whose value is nearest, of two the even ones; `largest` are those of the largest finite value. Positive
/// values are ordered as their bits are.
fn nearest(dtype: Dtype, largest: u8, value: f32) -> u8 {
    let sign = if value.is_sign_negative() { 0x80 } else { 0 };
    if value.is_nan() {
        return sign | 0x7f;
    }
    let size = value.abs();
    let (mut low, mut high) = (0, largest);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if dtype.value(&[middle]) <= size { low = middle } else { high = middle - 1 }
    }
    let next = (low + 1).min(largest);
    let (down, up) = (size - dtype.value(&[low]), dtype.value(&[next]) - size);
    let upwards = up < down || (up == down && low % 2 == 1);
    sign | if upwards { next } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_decodes_the_same_aligned_and_not() {
        let mut bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64, Dtype::F8E4m3, Dtype::F8E5m2] {
            let (mut aligned, mut shifted, mut back) = (Vec::new(), Vec::new(), Vec::new());
            decode_f32(dtype, &bytes, &mut aligned);
            bytes.insert(0, 0);
            decode_f32(dtype, &bytes[1..], &mut shifted);
            bytes.remove(0);
            let same = aligned.iter().zip(&shifted).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && aligned.len() == bytes.len() / dtype.bytes(), "{dtype:?}");
            encode(dtype, &aligned, &mut back);
            let numbers = aligned.iter().zip(back.chunks(dtype.bytes()).zip(bytes.chunks(dtype.bytes())));
            // An f64 of these bytes is more than an f32 can tell, and 8 bits have no infinity to go back to.
            let whole = |v: &f32| dtype != Dtype::F64 && (v.is_finite() || dtype.bytes() > 1 && v.is_infinite());
            assert!(numbers.filter(|(v, _)| whole(v)).all(|(_, (a, b))| a == b), "{dtype:?}");
        }
    }

    #[test]
    fn rounding_is_to_nearest_even_and_overflow_is_infinite() {
        let mut out = Vec::new();
        encode(Dtype::F16, &[1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 70_000.0], &mut out);
        assert_eq!(out, [0x00, 0x3c, 0x02, 0x3c, 0x00, 0x7c]);
        // Between 1 and 1.125 half-way, a little more, beyond, and half of the least value.
        encode(Dtype::F8E4m3, &[1.0625, 1.07, -1e9, 2f32.powi(-10)], &mut out);
        assert_eq!(out, [0x38, 0x39, 0xfe, 0x00]);
        encode(Dtype::F64, &[0.5], &mut out);
        assert_eq!(out, 0.5f64.to_le_bytes());
    }
}
