//! The transforms of fast convolutions, along one dimension: from inputs, filters and products to products and outputs.
//!
//! A two-dimensional convolution applies each to the columns, then to the rows. `outputs(filter(g) * input(d))` is
//! exactly the convolution of d with g; only rounding differs.

use crate::simd::Simd;

/// A fast convolution of a filter with 3 taps: IN inputs and P products give OUT outputs.
pub trait Form<const IN: usize, const P: usize, const OUT: usize>: Copy + Sync {
    /// Most tiles that are read together.
    const STRIP: usize;

    /// Inputs to factors.
    fn input<S: Simd>(self, s: S, d: [S::V; IN]) -> [S::V; P];

    /// Taps to factors.
    fn filter<S: Simd>(self, s: S, g: [S::V; 3]) -> [S::V; P];

    /// Products to outputs.
    fn output<S: Simd>(self, s: S, m: [S::V; P]) -> [S::V; OUT];
}

/// Winograd's F(4,3) with the points 0, +-3/4, +-3/2 and infinity: 2.25 times less multiplications in one dimension, 4
/// times in two.
///
/// These points are evenly conditioned, which halves the error of the usual 0, +-1, +-2, and the coefficients of the
/// input transform are exact in f32.
#[derive(Clone, Copy)]
pub struct Four;

const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

impl Form<6, 6, 4> for Four {
    const STRIP: usize = 8;

    #[inline(always)]
    fn input<S: Simd>(self, s: S, d: [S::V; 6]) -> [S::V; 6] {
        // The Lagrange polynomials of the points: (x^2 - a^2)(x^2 - b^2), x (x +- a)(x^2 - b^2), ..
        let (product, sum) = (s.splat(A2 * B2), s.splat(-A2 - B2));
        let (even_a, odd_a) = (s.fma(d[2], s.splat(-B2), d[4]), s.fma(d[1], s.splat(-B2), d[3]));
        let (even_b, odd_b) = (s.fma(d[2], s.splat(-A2), d[4]), s.fma(d[1], s.splat(-A2), d[3]));
        [
            s.fma(d[0], product, s.fma(d[2], sum, d[4])),
            s.fma(odd_a, s.splat(A), even_a),
            s.fma(odd_a, s.splat(-A), even_a),
            s.fma(odd_b, s.splat(B), even_b),
            s.fma(odd_b, s.splat(-B), even_b),
            s.fma(d[1], product, s.fma(d[3], sum, d[5])),
        ]
    }

    #[inline(always)]
    fn filter<S: Simd>(self, s: S, g: [S::V; 3]) -> [S::V; 6] {
        // The value of the filter's polynomial at a point, divided by the point's distances to all others.
        const AT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
        const AT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));
        let even_a = s.fma(g[2], s.splat(A2 * AT_A), s.mul(g[0], s.splat(AT_A)));
        let even_b = s.fma(g[2], s.splat(B2 * AT_B), s.mul(g[0], s.splat(AT_B)));
        [
            s.mul(g[0], s.splat(1.0 / (A2 * B2))),
            s.fma(g[1], s.splat(A * AT_A), even_a),
            s.fma(g[1], s.splat(-A * AT_A), even_a),
            s.fma(g[1], s.splat(B * AT_B), even_b),
            s.fma(g[1], s.splat(-B * AT_B), even_b),
            g[2],
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(self, s: S, m: [S::V; 6]) -> [S::V; 4] {
        let (sum_a, difference_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (sum_b, difference_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        [
            s.add(m[0], s.add(sum_a, sum_b)),
            s.fma(difference_a, s.splat(A), s.mul(difference_b, s.splat(B))),
            s.fma(sum_a, s.splat(A2), s.mul(sum_b, s.splat(B2))),
            s.add(m[5], s.fma(difference_a, s.splat(A2 * A), s.mul(difference_b, s.splat(B2 * B)))),
        ]
    }
}

/// The two outputs over one pixel of a tensor that is upsampled to twice its size: 3 products instead of 6, 9 instead
/// of 36 in two dimensions.
///
/// It is F(2,3) on the inputs `x[i-1], x[i], x[i], x[i+1]`, where one of the four products is always zero.
#[derive(Clone, Copy)]
pub struct Doubled;

impl Form<3, 3, 2> for Doubled {
    const STRIP: usize = 32;

    #[inline(always)]
    fn input<S: Simd>(self, s: S, d: [S::V; 3]) -> [S::V; 3] {
        [s.sub(d[0], d[1]), d[1], s.sub(d[1], d[2])]
    }

    #[inline(always)]
    fn filter<S: Simd>(self, s: S, g: [S::V; 3]) -> [S::V; 3] {
        [g[0], s.add(s.add(g[0], g[1]), g[2]), g[2]]
    }

    #[inline(always)]
    fn output<S: Simd>(self, s: S, m: [S::V; 3]) -> [S::V; 2] {
        [s.add(m[0], m[1]), s.sub(m[1], m[2])]
    }
}

/// The square transforms: along the columns, then along the rows. Loops and no closures: what is not certain to be
/// inlined would be compiled without the instruction set.
macro_rules! square {
    ($(#[$doc:meta])* $name:ident: $method:ident, $from:expr, $to:expr) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name<S: Simd, F: Form<IN, P, OUT>, const IN: usize, const P: usize, const OUT: usize>(
            s: S,
            form: F,
            x: &[[S::V; $from]; $from],
        ) -> [[S::V; $to]; $to] {
            let zero = s.splat(0.0);
            let mut columns = [[zero; $from]; $to];
            let mut j = 0;
            while j < $from {
                let mut column = [zero; $from];
                let mut i = 0;
                while i < $from {
                    column[i] = x[i][j];
                    i += 1;
                }
                let y = form.$method(s, column);
                let mut i = 0;
                while i < $to {
                    columns[i][j] = y[i];
                    i += 1;
                }
                j += 1;
            }
            let mut y = [[zero; $to]; $to];
            let mut i = 0;
            while i < $to {
                y[i] = form.$method(s, columns[i]);
                i += 1;
            }
            y
        }
    };
}

square!(
    /// The factors of a tile's inputs.
    inputs: input, IN, P
);
square!(
    /// The factors of a filter.
    filters: filter, 3, P
);
square!(
    /// The outputs of a tile's products.
    outputs: output, P, OUT
);
