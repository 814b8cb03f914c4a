//! The CPU's activations: a tensor in, the nonlinearity of each element out.

use super::tile::{Lanewise, map};
use super::{Io, Variant};
use crate::kernels::Activation;
use crate::kernels::activate::Activate;
use crate::simd::{Isa, Simd, Task, dispatch, math};
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Activate>] = &[Variant::plain("naive", naive), Variant::plain("lanes", lanes)];

fn naive(op: &Activate, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let x = io.x[0];
    workers.for_each_row(io.y.rows(), 1, |r, row| {
        for (y, x) in row.iter_mut().zip(&x.data[r * x.pitch..]) {
            *y = super::gemm::scalar(op.act, *x);
        }
    });
}

fn lanes(op: &Activate, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let x = io.x[0];
    workers.for_each_row(io.y.rows(), 1, |r, to| {
        dispatch(isa, Row { act: op.act, from: &x.data[r * x.pitch..], to });
    });
}

/// The nonlinearity of a vector.
#[inline(always)]
pub(super) fn activate<S: Simd>(s: S, act: Activation, x: S::V) -> S::V {
    match act {
        Activation::None => x,
        Activation::Silu => math::silu(s, x),
        Activation::Gelu => math::gelu(s, x),
        Activation::QuickGelu => math::quick_gelu(s, x),
        Activation::Relu => math::relu(s, x),
        Activation::Tanh3 => math::tanh3(s, x),
        Activation::ToUnit => s.fma(x, s.splat(0.5), s.splat(0.5)),
        Activation::FromUnit => s.fma(x, s.splat(2.0), s.splat(-1.0)),
        Activation::LeakyRelu => math::prelu(s, x, s.splat(0.2)),
        Activation::Fifth => s.mul(x, s.splat(0.2)),
    }
}

struct Row<'a> {
    act: Activation,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Lanewise<1> for Activation {
    #[inline(always)]
    fn at<S: Simd>(&self, s: S, [x]: [S::V; 1]) -> S::V {
        activate(s, *self, x)
    }
}

impl Task for Row<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        map(s, [self.from], self.to, &self.act);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activated(isa: Isa, act: Activation, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        dispatch(isa, Row { act, from: x, to: &mut y });
        y
    }

    #[test]
    fn errors_are_a_few_units() {
        for isa in Isa::available() {
            // The last: in units of 1, where the function itself is next to nothing.
            let cases = [
                (Activation::Silu, -80.0, 80.0, false, 6.0),
                (Activation::QuickGelu, -1.0, 40.0, false, 8.0),
                (Activation::Gelu, -1.0, 20.0, false, 8.0),
                (Activation::Gelu, -20.0, 1.0, true, 4.0),
                (Activation::Relu, -4.0, 4.0, false, 0.0),
                (Activation::Tanh3, -40.0, 40.0, true, 16.0),
                (Activation::FromUnit, -4.0, 4.0, true, 8.0),
                (Activation::LeakyRelu, -4.0, 4.0, false, 1.0),
                (Activation::Fifth, -4.0, 4.0, false, 1.0),
            ];
            for (act, from, to, absolute, bound) in cases {
                let n = 1 << 16;
                let x: Vec<f32> = (0..n).map(|i| from + (to - from) * i as f32 / (n - 1) as f32).collect();
                let error = |(x, y): (&f32, &f32)| {
                    let want = act.reference(f64::from(*x));
                    (f64::from(*y) - want).abs() / if absolute { 1.0 } else { want.abs().max(1e-37) } * 16_777_216.0
                };
                let got = x.iter().zip(&activated(isa, act, &x)).map(error).fold(0.0, f64::max);
                assert!(got <= bound, "{isa} {act:?} on {from}..{to}: {got} units");
            }
        }
    }

    #[test]
    fn nan_stays_nan_and_extremes_stay_finite() {
        for isa in Isa::available() {
            for act in [Activation::Silu, Activation::Gelu, Activation::QuickGelu] {
                let y = activated(isa, act, &[f32::NAN, 1e30, -1e30, 0.0, 100.0, -100.0, 1e-30, -0.0, 0.5]);
                assert!(y[0].is_nan(), "{isa} {act:?}");
                let extremes = y[1] == 1e30 && y[2].abs() < 1e-3 && y[4] == 100.0 && y[5].abs() < 1e-30;
                assert!(extremes, "{isa} {act:?} {y:?}");
            }
            for act in [Activation::Relu, Activation::LeakyRelu, Activation::Tanh3] {
                let y = activated(isa, act, &[f32::NAN, 1e30, -1e30, 0.0]);
                assert!(y[0].is_nan() && y[1] >= 3.0 && y[2].is_finite() && y[3] == 0.0, "{isa} {act:?} {y:?}");
            }
        }
    }
}
