//! AVX-512 F, BW, DQ and VL: sixteen lanes, thirty-two registers; and the same with AVX512-BF16.
#![allow(unsafe_code, reason = "intrinsics")]

use super::{Simd, Task};
use std::arch::x86_64::*;

/// Proof that the processor has AVX-512 F, BW, DQ and VL, and all that AVX2 code uses.
#[derive(Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, if it can be had.
    #[inline]
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }
}

/// Proof that the processor has AVX512-BF16 as well. Nobody here has one: `vdpbf16ps` itself is untried.
#[derive(Clone, Copy)]
pub struct Avx512Bf16(());

impl Avx512Bf16 {
    /// The proof, if it can be had.
    #[inline]
    pub fn detect() -> Option<Self> {
        (Avx512::detect().is_some() && is_x86_feature_detected!("avx512bf16")).then_some(Self(()))
    }
}

/// A mask whose first n lanes are set.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    ((1_u32 << n.min(16)) - 1) as __mmask16
}

/// Rounded to bf16, halves to even, in the upper halves; NaNs stay. Only code that holds a proof of AVX-512 calls this.
#[inline(always)]
fn bf16(x: __m512) -> __m512i {
    // SAFETY: the caller's proof.
    unsafe {
        let bits = _mm512_castps_si512(x);
        let even = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        let all = _mm512_mask_blend_epi32(nan, rounded, quiet);
        _mm512_and_si512(all, _mm512_set1_epi32(0xffff_0000_u32 as i32))
    }
}

/// Products of pairs without AVX512-BF16: two multiply-adds.
#[inline(always)]
fn dot(a: __m512, b: __m512, acc: __m512) -> __m512 {
    // SAFETY: only the set that holds a proof of AVX-512 F calls this.
    unsafe {
        let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
        let upper = |v| _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(0xffff_0000_u32 as i32)));
        let lower = |v| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(v));
        _mm512_fmadd_ps(lower(a), lower(b), _mm512_fmadd_ps(upper(a), upper(b), acc))
    }
}

/// With it: one instruction.
#[inline(always)]
fn dot_bf16(a: __m512, b: __m512, acc: __m512) -> __m512 {
    // SAFETY: only the set that holds a proof of AVX512-BF16 calls this; the types have
    // the same size and no invalid bits.
    unsafe {
        _mm512_dpbf16_ps(acc, std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b))
    }
}

/// The two sets differ in one instruction.
macro_rules! implement {
    ($set:ident, $features:literal, $dot:path) => {
        // SAFETY of all blocks below that name none: `self` proves that the processor has the instructions.
        #[allow(clippy::undocumented_unsafe_blocks, reason = "one argument for all: `self` is the proof")]
        impl Simd for $set {
            type V = __m512;
            const LANES: usize = 16;
            const TILE_ROWS: usize = 14;

            #[inline(always)]
            fn call<T: Task>(self, task: T) -> T::Out {
                #[inline(never)]
                #[target_feature(enable = $features)]
                fn apart<T: Task>(s: $set, task: T) -> T::Out {
                    task.eval(s)
                }
                unsafe { apart(self, task) }
            }

            #[inline(always)]
            fn splat(self, x: f32) -> __m512 {
                unsafe { _mm512_set1_ps(x) }
            }

            #[inline(always)]
            fn add(self, a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_add_ps(a, b) }
            }

            #[inline(always)]
            fn sub(self, a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_sub_ps(a, b) }
            }

            #[inline(always)]
            fn mul(self, a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_mul_ps(a, b) }
            }

            #[inline(always)]
            fn div(self, a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_div_ps(a, b) }
            }

            #[inline(always)]
            fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
                unsafe { _mm512_fmadd_ps(a, b, c) }
            }

            #[inline(always)]
            fn pairs(self, low: __m512, high: __m512) -> __m512 {
                unsafe { _mm512_castsi512_ps(_mm512_or_si512(bf16(high), _mm512_srli_epi32::<16>(bf16(low)))) }
            }

            #[inline(always)]
            fn dot_pairs(self, a: __m512, b: __m512, acc: __m512) -> __m512 {
                $dot(a, b, acc)
            }

            #[inline(always)]
            fn max(self, a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_max_ps(a, b) }
            }

            #[inline(always)]
            fn min(self, a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_min_ps(a, b) }
            }

            #[inline(always)]
            fn abs(self, a: __m512) -> __m512 {
                unsafe { _mm512_abs_ps(a) }
            }

            #[inline(always)]
            fn low_bits_as_exponent(self, a: __m512) -> __m512 {
                unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(a))) }
            }

            #[inline(always)]
            fn if_negative(self, x: __m512, a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_setzero_ps()), b, a) }
            }

            #[inline(always)]
            fn prefetch(self, p: *const f32) {
                unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) };
            }

            #[inline(always)]
            fn prefetch_to_write(self, p: *const f32) {
                unsafe { std::arch::asm!("prefetchw [{}]", in(reg) p, options(nostack, preserves_flags, readonly)) };
            }

            #[inline(always)]
            fn sum(self, a: __m512) -> f32 {
                unsafe {
                    let h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
                    let h = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps::<1>(h));
                    let h = _mm_add_ps(h, _mm_movehl_ps(h, h));
                    _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps::<1>(h, h)))
                }
            }

            #[inline(always)]
            unsafe fn load(self, p: *const f32) -> __m512 {
                unsafe { _mm512_loadu_ps(p) }
            }

            #[inline(always)]
            unsafe fn load_part(self, p: *const f32, n: usize) -> __m512 {
                // SAFETY: lanes beyond n are not accessed.
                unsafe { _mm512_maskz_loadu_ps(mask(n), p) }
            }

            #[inline(always)]
            unsafe fn load_f16(self, p: *const u16) -> __m512 {
                unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
            }

            #[inline(always)]
            unsafe fn store(self, p: *mut f32, v: __m512) {
                unsafe { _mm512_storeu_ps(p, v) };
            }

            #[inline(always)]
            unsafe fn store_part(self, p: *mut f32, v: __m512, n: usize) {
                // SAFETY: lanes beyond n are not accessed.
                unsafe { _mm512_mask_storeu_ps(p, mask(n), v) };
            }
        }
    };
}

implement!(Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c", dot);
implement!(Avx512Bf16, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c", dot_bf16);
