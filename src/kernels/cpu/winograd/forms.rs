//! The transforms of fast convolutions, along one dimension: from inputs, filters and products to products and outputs.
//!
//! A two-dimensional convolution applies each to the columns, then to the rows. `outputs(filter(g) * input(d))` is exactly
//! the convolution of d with g; only rounding differs.

use crate::simd::Simd;

/// A fast convolution of a filter with 3 taps: IN inputs and P products give OUT outputs.
pub trait Form<const IN: usize, const P: usize, const OUT: usize>: Copy + Sync {
    /// Most tiles that are read together.
    const STRIP: usize;

    /// Inputs to factors.
    fn input<S: Simd>(s: S, d: [S::V; IN]) -> [S::V; P];

    /// Taps to factors.
    fn filter<S: Simd>(s: S, g: [S::V; 3]) -> [S::V; P];

    /// Products to outputs.
    fn output<S: Simd>(s: S, m: [S::V; P]) -> [S::V; OUT];
}

/// Winograd's F(4,3) with the points 0, +-3/4, +-3/2 and infinity: 2.25 times less multiplications in one dimension, 4 times
/// in two.
///
/// These points are evenly conditioned, which halves the error of the usual 0, +-1, +-2, and the coefficients of the input
/// transform are exact in f32.
#[derive(Clone, Copy)]
pub struct Four;

const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

impl Form<6, 6, 4> for Four {
    const STRIP: usize = 8;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::V; 6]) -> [S::V; 6] {
        let c = |x: f32| s.splat(x);
        // The Lagrange polynomials of the points: (x^2 - a^2)(x^2 - b^2), x (x +- a)(x^2 - b^2), ..
        let ends = |x0, x2, x4| s.fma(x0, c(A2 * B2), s.fma(x2, c(-A2 - B2), x4));
        let (even, odd) = (s.fma(d[2], c(-B2), d[4]), s.fma(d[1], c(-B2), d[3]));
        let (near, far) = (s.fma(odd, c(A), even), s.fma(odd, c(-A), even));
        let (even, odd) = (s.fma(d[2], c(-A2), d[4]), s.fma(d[1], c(-A2), d[3]));
        [
            ends(d[0], d[2], d[4]),
            near,
            far,
            s.fma(odd, c(B), even),
            s.fma(odd, c(-B), even),
            ends(d[1], d[3], d[5]),
        ]
    }

    #[inline(always)]
    fn filter<S: Simd>(s: S, g: [S::V; 3]) -> [S::V; 6] {
        // The value of the filter's polynomial at a point, divided by the point's distances to all others.
        let pair = |x: f32, scale: f32| {
            let even = s.fma(g[2], s.splat(x * x * scale), s.mul(g[0], s.splat(scale)));
            let odd = s.splat(x * scale);
            (s.fma(g[1], odd, even), s.sub(even, s.mul(g[1], odd)))
        };
        let (a, minus_a) = pair(A, 1.0 / (2.0 * A2 * (A2 - B2)));
        let (b, minus_b) = pair(B, 1.0 / (2.0 * B2 * (B2 - A2)));
        [s.mul(g[0], s.splat(1.0 / (A2 * B2))), a, minus_a, b, minus_b, g[2]]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::V; 6]) -> [S::V; 4] {
        let c = |x: f32| s.splat(x);
        let (sum_a, difference_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (sum_b, difference_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        [
            s.add(m[0], s.add(sum_a, sum_b)),
            s.fma(difference_a, c(A), s.mul(difference_b, c(B))),
            s.fma(sum_a, c(A2), s.mul(sum_b, c(B2))),
            s.add(m[5], s.fma(difference_a, c(A2 * A), s.mul(difference_b, c(B2 * B)))),
        ]
    }
}

/// The two outputs over one pixel of a tensor that is upsampled to twice its size: 3 products instead of 6, 9 instead of 36
/// in two dimensions.
///
/// It is F(2,3) on the inputs `x[i-1], x[i], x[i], x[i+1]`, where one of the four products is always zero.
#[derive(Clone, Copy)]
pub struct Doubled;

impl Form<3, 3, 2> for Doubled {
    const STRIP: usize = 32;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::V; 3]) -> [S::V; 3] {
        [s.sub(d[0], d[1]), d[1], s.sub(d[1], d[2])]
    }

    #[inline(always)]
    fn filter<S: Simd>(s: S, g: [S::V; 3]) -> [S::V; 3] {
        [g[0], s.add(s.add(g[0], g[1]), g[2]), g[2]]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::V; 3]) -> [S::V; 2] {
        [s.add(m[0], m[1]), s.sub(m[1], m[2])]
    }
}

/// Applies `along` to the columns of a square, then to its rows.
#[inline(always)]
pub fn both<V: Copy, const N: usize, const M: usize>(x: [[V; N]; N], along: impl Fn([V; N]) -> [V; M]) -> [[V; M]; M] {
    let columns: [[V; M]; N] = std::array::from_fn(|j| along(std::array::from_fn(|i| x[i][j])));
    std::array::from_fn(|i| along(std::array::from_fn(|j| columns[j][i])))
}
