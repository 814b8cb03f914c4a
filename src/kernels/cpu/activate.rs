//! The CPU's activations: a tensor in, the nonlinearity of each element out.
#![allow(unsafe_code, reason = "tasks write disjoint rows of one output")]

use super::tile::{Lanewise, Shared, map};
use super::{Io, Variant};
use crate::kernels::Activation;
use crate::kernels::activate::Activate;
use crate::simd::{Isa, Simd, Task, dispatch, math};
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Activate>] = &[Variant::plain("naive", naive), Variant::plain("lanes", lanes)];

fn naive(op: &Activate, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape, pitch) = (io.x[0], io.y.shape, io.y.pitch);
    let out = Shared::new(io.y.data);
    workers.for_each(shape.rows(), |r, _| {
        for (c, v) in x.data[r * x.pitch..][..shape.c].iter().enumerate() {
            // SAFETY: rows do not overlap, and each is one task's.
            unsafe { out.get().add(r * pitch + c).write(super::gemm::scalar(op.act, *v)) };
        }
    });
}

fn lanes(op: &Activate, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let (x, shape, pitch) = (io.x[0], io.y.shape, io.y.pitch);
    let out = Shared::new(io.y.data);
    workers.for_each(shape.rows(), |r, _| {
        // SAFETY: rows do not overlap, and each is one task's.
        let to = unsafe { out.get().add(r * pitch) };
        dispatch(isa, Row { act: op.act, from: &x.data[r * x.pitch..][..shape.c], to });
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
    }
}

struct Row<'a> {
    act: Activation,
    from: &'a [f32],
    to: *mut f32,
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
        // SAFETY: the output's row is this task's and as long as the input's.
        unsafe { map(s, self.from.len(), [self.from.as_ptr()], self.to, &self.act) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activated(isa: Isa, act: Activation, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        dispatch(isa, Row { act, from: x, to: y.as_mut_ptr() });
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
        }
    }
}
