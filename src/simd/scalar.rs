//! Lane arrays: plain Rust that LLVM turns into whatever vectors the target has.
#![allow(unsafe_code, reason = "loads and stores go through pointers, as in the other instruction sets")]

use super::{Simd, Task, pair};

/// Available everywhere.
#[derive(Clone, Copy)]
pub struct Scalar;

const N: usize = 8;

/// Eight lanes, aligned so that LLVM treats them as whole vectors.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub struct Lanes([f32; N]);

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> Lanes {
    let mut out = [0.0; N];
    let mut i = 0;
    while i < N {
        out[i] = f(i);
        i += 1;
    }
    Lanes(out)
}

impl Simd for Scalar {
    type V = Lanes;
    const LANES: usize = N;
    // Sixteen registers of four lanes hold 2 x 2 vectors of eight; AArch64 has thirty-two.
    const TILE_ROWS: usize = if cfg!(target_arch = "aarch64") { 4 } else { 2 };

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Out {
        #[inline(never)]
        fn apart<T: Task>(task: T) -> T::Out {
            task.eval(Scalar)
        }
        apart(task)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        Lanes([x; N])
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| a.0[i] + b.0[i])
    }

    #[inline(always)]
    fn pairs(self, low: Lanes, high: Lanes) -> Lanes {
        each(|i| pair(low.0[i], high.0[i]))
    }

    #[inline(always)]
    fn dot_pairs(self, a: Lanes, b: Lanes, acc: Lanes) -> Lanes {
        each(|i| {
            let (a, b) = (a.0[i].to_bits(), b.0[i].to_bits());
            let upper = |bits: u32| f32::from_bits(bits & 0xffff_0000);
            // Products of bf16 are exact, so that a multiplication and an addition round as one.
            acc.0[i] + upper(a) * upper(b) + upper(a << 16) * upper(b << 16)
        })
    }

    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| a.0[i] - b.0[i])
    }

    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| a.0[i] * b.0[i])
    }

    #[inline(always)]
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| a.0[i] / b.0[i])
    }

    #[inline(always)]
    fn fma(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        // Without a fused instruction `mul_add` calls a slow library function.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            each(|i| a.0[i].mul_add(b.0[i], c.0[i]))
        } else {
            each(|i| a.0[i] * b.0[i] + c.0[i])
        }
    }

    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| if a.0[i] > b.0[i] { a.0[i] } else { b.0[i] })
    }

    #[inline(always)]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| if a.0[i] < b.0[i] { a.0[i] } else { b.0[i] })
    }

    #[inline(always)]
    fn abs(self, a: Lanes) -> Lanes {
        each(|i| a.0[i].abs())
    }

    #[inline(always)]
    fn low_bits_as_exponent(self, a: Lanes) -> Lanes {
        each(|i| f32::from_bits(a.0[i].to_bits() << 23))
    }

    #[inline(always)]
    fn if_negative(self, x: Lanes, a: Lanes, b: Lanes) -> Lanes {
        each(|i| if x.0[i] < 0.0 { a.0[i] } else { b.0[i] })
    }

    #[inline(always)]
    fn prefetch(self, _: *const f32) {}

    #[inline(always)]
    fn prefetch_to_write(self, _: *const f32) {}

    #[inline(always)]
    fn sum(self, a: Lanes) -> f32 {
        let [a, b, c, d, e, f, g, h] = a.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Lanes {
        // SAFETY: the caller vouches for N values; arrays of f32 need no more alignment than f32.
        Lanes(unsafe { p.cast::<[f32; N]>().read() })
    }

    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> Lanes {
        // SAFETY: only lanes below n are read, for which the caller vouches.
        each(|i| if i < n { unsafe { p.add(i).read() } } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Lanes {
        // SAFETY: the caller vouches for N values.
        let h = unsafe { p.cast::<[u16; N]>().read() };
        each(|i| widen(h[i]))
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Lanes) {
        // SAFETY: the caller vouches for N values.
        unsafe { p.cast::<[f32; N]>().write(v.0) };
    }

    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, v: Lanes, n: usize) {
        for (i, x) in v.0.iter().enumerate().take(n) {
            // SAFETY: the caller vouches for n values.
            unsafe { p.add(i).write(*x) };
        }
    }
}

/// f16 to f32 without branches, so that it vectorises: the exponent is rebased by a multiplication, which also
/// normalises subnormals; what was infinite or NaN gets the largest exponent.
#[inline(always)]
fn widen(h: u16) -> f32 {
    let magnitude = (u32::from(h) & 0x7fff) << 13;
    // 2^112: the difference of the exponents' biases.
    let scaled = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
    let special = if magnitude >= 0x7c00 << 13 { 0x7f80_0000 } else { 0 };
    f32::from_bits(scaled.to_bits() | special | (u32::from(h) & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_is_widened() {
        for h in 0..=u16::MAX {
            let want = half::f16::from_bits(h).to_f32();
            let got = widen(h);
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{h:#x}: {got} {want}");
        }
    }
}
