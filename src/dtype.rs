//! The words for number formats: what files hold, what devices keep, and what products are made of.

use half::f16;

/// How a tensor's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of binary32.
    Bf16,
    /// IEEE binary64.
    F64,
    /// 4 bits of exponent, 3 of mantissa, no infinity: up to 448.
    F8E4m3,
    /// 5 bits of exponent, 2 of mantissa: the upper half of binary16.
    F8E5m2,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::F8E4m3 | Self::F8E5m2 => 1,
        }
    }

    /// `f32`, `f16`, `bf16`, `f64`, `f8_e4m3` or `f8_e5m2`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F64 => "f64",
            Self::F8E4m3 => "f8_e4m3",
            Self::F8E5m2 => "f8_e5m2",
        }
    }

    /// In which of `F32`, `F16` and `Bf16` it is read: the smallest that holds every value, and f32 for f64.
    pub const fn read_as(self) -> Self {
        match self {
            Self::F64 => Self::F32,
            Self::F8E4m3 | Self::F8E5m2 => Self::F16,
            plain => plain,
        }
    }

    /// The element that the little-endian `bytes` begin with, as f32; 0 where there are too few.
    pub fn value(self, bytes: &[u8]) -> f32 {
        fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes.first_chunk().copied().unwrap_or([0; N])
        }
        match self {
            Self::F32 => f32::from_le_bytes(first(bytes)),
            Self::F16 => f16::from_le_bytes(first(bytes)).to_f32(),
            Self::Bf16 => half::bf16::from_le_bytes(first(bytes)).to_f32(),
            Self::F64 => f64::from_le_bytes(first(bytes)) as f32,
            Self::F8E4m3 => e4m3(first::<1>(bytes)[0]),
            Self::F8E5m2 => f16::from_bits(u16::from(first::<1>(bytes)[0]) << 8).to_f32(),
        }
    }
}

/// Whether rounding these little-endian elements to f16 would make a finite value infinite.
pub fn beyond_f16(dtype: Dtype, bytes: &[u8]) -> bool {
    // From 65520, which f16 rounds up to infinity, to what is infinite already: magnitudes
    // of floats compare as integers do.
    let beyond = |bits: u32| (0x477f_f000..0x7f80_0000).contains(&(bits & 0x7fff_ffff));
    // Whole chunks without a branch, which vectorise.
    match dtype {
        Dtype::F16 => false,
        Dtype::Bf16 => bytes.chunks(4096).any(|chunk| {
            chunk.as_chunks().0.iter().fold(false, |any, b| any | beyond(u32::from(u16::from_le_bytes(*b)) << 16))
        }),
        Dtype::F32 => bytes
            .chunks(4096)
            .any(|chunk| chunk.as_chunks().0.iter().fold(false, |any, b| any | beyond(u32::from_le_bytes(*b)))),
        Dtype::F64 => bytes.chunks_exact(8).any(|b| beyond(dtype.value(b).to_bits())),
        Dtype::F8E4m3 | Dtype::F8E5m2 => false,
    }
}

/// The value of 8 bits with 4 of exponent (bias 7) and 3 of mantissa; all of them set is the only NaN.
///
/// Source: OCP 8-bit Floating Point Specification, revision 1.0, table 1.
fn e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    let size = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    if bits & 0x80 == 0 { size } else { -size }
}

/// How numbers are kept while a model runs: values between steps, and weights. Arithmetic is f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 4 bytes.
    #[default]
    F32,
    /// 2 bytes; shaders see pairs of them in u32.
    F16,
}

impl Storage {
    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// `f32` or `f16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

/// What matrix products and attention multiply; sums are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Products {
    /// f32 by f32.
    #[default]
    F32,
    /// Both rounded to bf16 before.
    Bf16,
}

/// How exact a device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Precision {
    /// Values between steps.
    pub storage: Storage,
    /// Matrices and filters.
    pub weights: Storage,
    /// What is multiplied.
    pub products: Products,
}

impl Default for Precision {
    /// What a CPU does unasked: f32, and weights as f16.
    fn default() -> Self {
        Self { storage: Storage::F32, weights: Storage::F16, products: Products::F32 }
    }
}

impl Precision {
    /// `f16` storage or `bf16` products; none where it is f32.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self { products: Products::Bf16, .. } => Some("bf16"),
            Self { storage: Storage::F16, .. } => Some("f16"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_f16_is_what_would_become_infinite() {
        let f32 = |v: f32| beyond_f16(Dtype::F32, &[1.0_f32.to_le_bytes(), v.to_le_bytes()].concat());
        assert!(f32(65_520.0) && f32(-65_520.0) && f32(f32::MAX));
        assert!(!f32(65_519.996) && !f32(f32::INFINITY) && !f32(f32::NAN) && !f32(0.0));
        let bf16 = |v: f32| beyond_f16(Dtype::Bf16, &half::bf16::from_f32(v).to_le_bytes());
        assert!(bf16(65_536.0) && !bf16(65_280.0) && !bf16(f32::NEG_INFINITY));
        let f64 = |v: f64| beyond_f16(Dtype::F64, &v.to_le_bytes());
        assert!(f64(-65_520.0) && !f64(1.0) && !f64(f64::INFINITY));
    }

    #[test]
    fn every_8_bit_value_is_exact_in_f16() {
        for dtype in [Dtype::F8E4m3, Dtype::F8E5m2] {
            for bits in 0..=u8::MAX {
                let value = dtype.value(&[bits]);
                let back = f16::from_f32(value).to_f32();
                assert!(back == value || value.is_nan() && back.is_nan(), "{dtype:?} {bits:#x}: {value}");
            }
        }
        let values = [0x00, 0x01, 0x08, 0x38, 0x7e, 0xb8].map(|b| Dtype::F8E4m3.value(&[b]));
        assert_eq!(values, [0.0, 0.001953125, 0.015625, 1.0, 448.0, -1.0]);
        let values = [0x01, 0x3c, 0x7b, 0x7c, 0xbd].map(|b| Dtype::F8E5m2.value(&[b]));
        assert_eq!(values, [2f32.powi(-16), 1.0, 57344.0, f32::INFINITY, -1.25]);
        assert!(Dtype::F8E4m3.value(&[0x7f]).is_nan() && Dtype::F8E4m3.value(&[0xff]).is_nan());
        assert_eq!(Dtype::F64.value(&(-2.5f64).to_le_bytes()), -2.5);
        assert_eq!(Dtype::F32.value(&[1, 2]), 0.0);
    }
}
