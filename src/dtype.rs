//! The words for number formats.

/// How a tensor's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of binary32.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// `f32`, `f16` or `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
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
    }
}
