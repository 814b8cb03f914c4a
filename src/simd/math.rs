//! Exponentials and the activations made of them, accurate to a few units in the last place, for any instruction set.

use super::Simd;
use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// Minimax coefficients (relative error 9.1e-8) of 2^t on [-1/2, 1/2], constant first. The constant is held at 1, so
/// that exp2(0) is exactly 1; without that the error would be 7.5e-8. Their last bits are those that round best.
#[allow(clippy::approx_constant, reason = "a little less than ln 2, as the others make up for")]
const EXP2: [f32; 6] = [1.0, 0.693_147, 0.240_222_44, 0.055_507_32, 0.009_671_509, 0.001_326_473];

/// Added to x, it leaves the integer k nearest to x (halves to even) in the lowest bits of the sum's significand, 127
/// more than it is: the bits of 2^k, in the wrong place.
const TO_EXPONENT: f32 = 1.5 * 8_388_608.0 + 127.0;

/// Minimax coefficients (relative error 1.4e-8) of `exp(z^2) erfc(z) (1 + 2 z)` in
/// `q = (z - 2) / (z + 2)`, z in 0 ..= 10.2.
const ERFCX: [f32; 10] = [
    1.276_978_4,
    -0.092_763_98,
    -0.166_031_46,
    0.164_055_42,
    -0.054_203_884,
    -0.008_060_141,
    0.008_630_1,
    0.001_313_307_9,
    -0.001_228_005_5,
    -0.000_399_450_5,
];

#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, c: &[f32; N]) -> S::V {
    let mut p = s.splat(c[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        p = s.fma(p, x, s.splat(c[i]));
    }
    p
}

/// `2^x` for x up to 127. Below -126 it stays what it is there (so it is never 0), and it keeps NaN.
#[inline(always)]
pub fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    power(s, s.max(s.splat(-126.0), x))
}

/// [`exp2`] of what lies in -126 ..= 127.
#[inline(always)]
fn power<S: Simd>(s: S, x: S::V) -> S::V {
    let shifted = s.add(x, s.splat(TO_EXPONENT));
    let rest = s.sub(x, s.sub(shifted, s.splat(TO_EXPONENT)));
    s.mul(polynomial(s, rest, &EXP2), s.low_bits_as_exponent(shifted))
}

/// `e^x`, with x clamped to -87 ..= 88.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // ln 2 in two parts, the first short enough that its product with k is exact (Cody and Waite).
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = s.max(s.splat(-87.0), s.min(s.splat(88.0), x));
    let shifted = s.fma(x, s.splat(LOG2_E), s.splat(TO_EXPONENT));
    let k = s.sub(shifted, s.splat(TO_EXPONENT));
    let r = s.fma(k, s.splat(-LN2_HIGH), x);
    let r = s.fma(k, s.splat(-LN2_LOW), r);
    s.mul(polynomial(s, s.mul(r, s.splat(LOG2_E)), &EXP2), s.low_bits_as_exponent(shifted))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    s.div(x, s.add(s.splat(1.0), exp(s, s.sub(s.splat(0.0), x))))
}

/// `x / (1 + e^(-1.702 x))`.
#[inline(always)]
pub fn quick_gelu<S: Simd>(s: S, x: S::V) -> S::V {
    s.div(x, s.add(s.splat(1.0), exp(s, s.mul(x, s.splat(-1.702)))))
}

/// `max(x, 0)`; a NaN stays one.
#[inline(always)]
pub fn relu<S: Simd>(s: S, x: S::V) -> S::V {
    s.if_negative(x, s.mul(x, s.splat(0.0)), x)
}

/// `x`, below 0 `slope x`; a NaN stays one.
#[inline(always)]
pub fn prelu<S: Simd>(s: S, x: S::V, slope: S::V) -> S::V {
    s.if_negative(x, s.mul(x, slope), x)
}

/// `3 tanh(x / 3)`. The error is a few units in the last place of 1, not of the value.
#[inline(always)]
pub fn tanh3<S: Simd>(s: S, x: S::V) -> S::V {
    // tanh(a) = (1 - e^-2a) / (1 + e^-2a) for a >= 0.
    let one = s.splat(1.0);
    let e = exp(s, s.mul(s.abs(x), s.splat(-2.0 / 3.0)));
    let y = s.div(s.mul(s.splat(3.0), s.sub(one, e)), s.add(one, e));
    s.if_negative(x, s.sub(s.splat(0.0), y), y)
}

/// `x * Phi(x)`, where Phi is the normal distribution function. Below -1 the error is a few units in the last place of
/// 1, not of the value, which vanishes.
#[inline(always)]
pub fn gelu<S: Simd>(s: S, x: S::V) -> S::V {
    // Beyond 13 the tail is below every f32, and its exponential still a normal number.
    let a = s.min(s.splat(13.0), s.abs(x));
    let tail = upper_tail(s, a);
    s.mul(x, s.if_negative(x, tail, s.sub(s.splat(1.0), tail)))
}

/// `1 - Phi(a) = erfc(a / sqrt 2) / 2` for a in 0 ..= 13.
#[inline(always)]
fn upper_tail<S: Simd>(s: S, a: S::V) -> S::V {
    let two = s.splat(2.0);
    let z = s.mul(a, s.splat(FRAC_1_SQRT_2));
    // The polynomial's argument (z - 2) / (z + 2) and 1 / (4 z + 2), with one division for both.
    let (up, down) = (s.add(z, two), s.fma(z, s.splat(4.0), two));
    let both = s.div(s.splat(1.0), s.mul(up, down));
    let q = s.mul(s.sub(z, two), s.mul(down, both));
    let scaled = s.mul(polynomial(s, q, &ERFCX), s.mul(up, both));
    s.mul(scaled, power(s, s.mul(s.mul(a, a), s.splat(-0.5 * LOG2_E))))
}

#[cfg(test)]
#[allow(unsafe_code, reason = "loads and stores of vectors")]
mod tests {
    use super::*;
    use crate::simd::{Isa, Task, dispatch};

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp2,
        Exp,
        Sigmoid,
    }

    impl Function {
        fn reference(self, x: f64) -> f64 {
            match self {
                Self::Exp2 => x.exp2(),
                Self::Exp => x.exp(),
                Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            }
        }
    }

    struct Apply<'a>(Function, &'a mut [f32]);

    impl Task for Apply<'_> {
        type Out = ();

        #[inline(always)]
        fn eval<S: Simd>(self, s: S) {
            for chunk in self.1.chunks_exact_mut(S::LANES) {
                // SAFETY: a chunk holds LANES values.
                unsafe {
                    let x = s.load(chunk.as_ptr());
                    let y = match self.0 {
                        Function::Exp2 => exp2(s, x),
                        Function::Exp => exp(s, x),
                        Function::Sigmoid => sigmoid(s, x),
                    };
                    s.store(chunk.as_mut_ptr(), y);
                }
            }
        }
    }

    /// The largest error on a grid, in units of 2^-24 of the value.
    fn worst(isa: Isa, f: Function, from: f32, to: f32) -> f64 {
        let n = 1 << 16;
        let x: Vec<f32> = (0..n).map(|i| from + (to - from) * i as f32 / (n - 1) as f32).collect();
        let mut y = x.clone();
        dispatch(isa, Apply(f, &mut y));
        let error = |(x, y): (&f32, &f32)| {
            let want = f.reference(f64::from(*x));
            (f64::from(*y) - want).abs() / want.abs().max(1e-37) * 16_777_216.0
        };
        x.iter().zip(&y).map(error).fold(0.0, f64::max)
    }

    #[test]
    fn errors_are_a_few_units() {
        for isa in Isa::available() {
            let cases = [
                (Function::Exp2, -120.0, 120.0, 3.0),
                (Function::Exp, -86.0, 87.0, 4.0),
                (Function::Sigmoid, -80.0, 80.0, 6.0),
            ];
            for (f, from, to, bound) in cases {
                let got = worst(isa, f, from, to);
                assert!(got <= bound, "{isa} {f:?} on {from}..{to}: {got} units");
            }
        }
    }

    #[test]
    fn nan_stays_nan_and_nothing_comes_of_minus_infinity() {
        for isa in Isa::available() {
            let mut x = [f32::NEG_INFINITY; 16];
            dispatch(isa, Apply(Function::Exp2, &mut x));
            assert!(x[0] < 1e-37);
            let mut x = [f32::NAN; 16];
            dispatch(isa, Apply(Function::Exp2, &mut x));
            assert!(x[0].is_nan(), "{isa}");
        }
    }
}
