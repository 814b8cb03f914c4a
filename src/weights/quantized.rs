//! Rows of 8-bit integers, each with its own scale, to f16.
//!
//! A tensor `NAME` of type I8 and `NAME.scale` (F32, one value per index of dimension 0) stand for `i8 * scale`. The
//! file has half the size of f16; the largest value of a row is met to 1/254 of itself, smaller
//! ones with the same absolute error.

use super::bytes::Bytes;
use crate::error::{Error, Kind, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// What follows a tensor's name in the name of its scales.
pub const SCALE: &str = ".scale";
/// No scale may take the 256 values of a byte beyond f16's largest finite one.
const LARGEST: f32 = 65_504.0 / 128.0;

/// Replaces `out` by the f16 elements of a tensor of `shape` whose integers and scales begin at the two file positions.
///
/// # Errors
/// Bad file: a scale that is no positive number or too large; or what kept the file from being read.
pub fn read(bytes: &Bytes, (values_at, scales_at): (u64, u64), shape: &[usize], out: &mut Vec<u8>) -> Result<()> {
    let rows = shape.first().copied().unwrap_or(0);
    let row: usize = shape.iter().skip(1).product();
    let values = bytes.vec_at(values_at, (rows * row) as u64)?;
    let scales = bytes.vec_at(scales_at, 4 * rows as u64)?;
    out.clear();
    out.try_reserve_exact(2 * values.len())
        .map_err(|_| Error::new(Kind::OutOfMemory, format!("no memory for {} bytes of weights", 2 * values.len())))?;
    let (mut wide, mut halves) = (vec![0.0; row], vec![f16::ZERO; row]);
    for (r, (values, scale)) in values.chunks_exact(row.max(1)).zip(scales.chunks_exact(4)).enumerate() {
        let scale = f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]);
        if !(scale > 0.0 && scale <= LARGEST) {
            let why =
                format!("the scale of row {r} of its 8-bit rows is {scale}; the file is damaged, download it again");
            return Err(bytes.bad(why));
        }
        for (wide, value) in wide.iter_mut().zip(values) {
            *wide = f32::from(i8::from_le_bytes([*value])) * scale;
        }
        halves.convert_from_f32_slice(&wide);
        out.extend(halves.iter().flat_map(|h| h.to_le_bytes()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(values: &[i8], scales: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
        let mut data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        data.extend(scales.iter().flat_map(|s| s.to_le_bytes()));
        let (mut out, mut wide) = (vec![9; 3], Vec::new());
        read(&Bytes::memory("test", data), (0, values.len() as u64), shape, &mut out)?;
        crate::weights::decode_f32(crate::dtype::Dtype::F16, &out, &mut wide);
        Ok(wide)
    }

    #[test]
    fn every_row_has_its_own_scale() {
        let values = [-128, 127, 0, 1, -1, 3];
        assert_eq!(read_all(&values, &[0.5, 2.0], &[2, 3, 1]).unwrap(), [-64.0, 63.5, 0.0, 2.0, -2.0, 6.0]);
        // Rounded once, from the exact product.
        assert_eq!(read_all(&[127], &[0.1], &[1]).unwrap(), [f16::from_f32(127.0 * 0.1).to_f32()]);
        assert_eq!(read_all(&[-128, 127], &[LARGEST], &[1, 2]).unwrap()[0], -65_504.0);
    }

    #[test]
    fn a_broken_scale_is_refused_by_row() {
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 512.0] {
            let error = read_all(&[1, 2], &[1.0, scale], &[2, 1]).unwrap_err().to_string();
            assert!(error.contains("row 1") && error.contains("test"), "{error}");
        }
    }
}
