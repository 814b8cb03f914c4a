//! Latents and a range of noise levels in, latents at its lower end out: DPM-Solver with fixed and adaptive steps.
//!
//! Lu et al. 2022 (arXiv 2206.00927), in t = -ln sigma, with k-diffusion's noise and step control. Both end at the
//! smallest positive level, not at 0.

use super::euler::ancestral;
use super::run::{Run, combine};
use crate::error::{Error, Result};

/// The predicted noise (x - D) / sigma at -ln sigma = t.
fn epsilon(run: &mut Run<'_>, x: &[f32], t: f64) -> Result<Vec<f32>> {
    let sigma = (-t).exp();
    let mut e = vec![0.0; x.len()];
    run.denoise(x, sigma, &mut e)?;
    combine(&mut e, -1.0 / sigma, &[(1.0 / sigma, x)]);
    Ok(e)
}

/// Order 1: no further evaluation.
fn first(x: &[f32], e: &[f32], (t, next): (f64, f64)) -> Vec<f32> {
    let mut out = x.to_vec();
    combine(&mut out, 1.0, &[(-(-next).exp() * (next - t).exp_m1(), e)]);
    out
}

/// Order 2 from the noise at t and at t + r h.
fn second(x: &[f32], e: &[f32], er: &[f32], (t, next): (f64, f64), r: f64) -> Vec<f32> {
    let gain = (-next).exp() * (next - t).exp_m1();
    let slope = gain / (2.0 * r);
    let mut out = x.to_vec();
    combine(&mut out, 1.0, &[(slope - gain, e), (-slope, er)]);
    out
}

/// Order 3 with r1 = 1/3 and r2 = 2/3, given the noise at t and at t + h / 3: one further evaluation.
fn third(run: &mut Run<'_>, x: &[f32], e: &[f32], e1: &[f32], (t, next): (f64, f64)) -> Result<Vec<f32>> {
    let (h, r2) = (next - t, 2.0 / 3.0);
    let s2 = t + r2 * h;
    let gain = (-s2).exp() * (r2 * h).exp_m1();
    let slope = (-s2).exp() * 2.0 * ((r2 * h).exp_m1() / (r2 * h) - 1.0);
    let mut u = x.to_vec();
    combine(&mut u, 1.0, &[(slope - gain, e), (-slope, e1)]);
    let e2 = epsilon(run, &u, s2)?;
    let gain = (-next).exp() * h.exp_m1();
    let slope = (-next).exp() / r2 * (h.exp_m1() / h - 1.0);
    let mut out = x.to_vec();
    combine(&mut out, 1.0, &[(slope - gain, e), (-slope, &e2)]);
    Ok(out)
}

/// Where a noisy step aims, in t, and how much noise leads from there to `next`.
fn aim(run: &Run<'_>, t: f64, next: f64, end: f64) -> (f64, f64) {
    if run.plan.eta == 0.0 {
        return (next, 0.0);
    }
    let (down, _) = ancestral((-t).exp(), (-next).exp(), run.plan.eta);
    let target = end.min(-down.ln());
    let up = ((-2.0 * next).exp() - (-2.0 * target).exp()).max(0.0).sqrt();
    (target, up)
}

/// Both ends in t, and the number of steps asked. A single step has one level; its other end is the table's lowest.
fn range(run: &Run<'_>) -> (f64, f64, usize) {
    let sigmas = &run.plan.sigmas;
    let n = sigmas.len() - 1;
    let low = if n > 1 { sigmas[n - 1] } else { run.plan.lowest() };
    (-f64::from(sigmas[0]).ln(), -f64::from(low).ln(), n)
}

/// The clean estimate, where both ends are the same level (img2img of nearly no strength).
fn estimate(run: &mut Run<'_>, x: &mut [f32], t: f64) -> Result<()> {
    let mut clean = vec![0.0; x.len()];
    run.denoise(x, (-t).exp(), &mut clean)?;
    x.copy_from_slice(&clean);
    run.end_step(x)
}

/// DPM-Solver-fast: steps of order 3 and a lower one at the end, as many evaluations as steps asked.
pub(super) fn dpm_fast(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let (start, end, n) = range(run);
    let segments = n / 3 + 1;
    let mut orders = vec![3; segments - 1];
    match n % 3 {
        0 => {
            orders.truncate(segments - 2);
            orders.extend([2, 1]);
        }
        rest => orders.push(rest),
    }
    if start >= end {
        return estimate(run, x, start);
    }
    for (i, order) in orders.into_iter().enumerate() {
        let at = |i: usize| start + (end - start) * i as f64 / segments as f64;
        let (t, next) = (at(i), at(i + 1));
        let (target, up) = aim(run, t, next, end);
        let h = target - t;
        let e = epsilon(run, x, t)?;
        let moved = match order {
            1 => first(x, &e, (t, target)),
            2 => {
                let er = epsilon(run, &first(x, &e, (t, t + h / 2.0)), t + h / 2.0)?;
                second(x, &e, &er, (t, target), 0.5)
            }
            _ => {
                let e1 = epsilon(run, &first(x, &e, (t, t + h / 3.0)), t + h / 3.0)?;
                third(run, x, &e, &e1, (t, target))?
            }
        };
        x.copy_from_slice(&moved);
        if up > 0.0 {
            run.add_noise(x, up)?;
        }
        run.end_step(x)?;
    }
    Ok(())
}

const RELATIVE: f64 = 0.05;
const ABSOLUTE: f64 = 0.0078;
/// A step whose size would be cut below this share is tried again.
const ACCEPT: f64 = 0.81;
/// More tries than any finite model needs: a way out of the loop.
const MOST_TRIES: usize = 10_000;

/// DPM-Solver-23 with k-diffusion's step control (integral part only). Three evaluations a try; nobody knows how many.
pub(super) fn dpm_adaptive(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let (mut s, end, _) = range(run);
    let exponent = if run.plan.eta > 0.0 { 1.0 / 1.5 } else { 1.0 / 3.0 };
    let mut h = 0.05;
    let mut previous = x.to_vec();
    if s >= end {
        return estimate(run, x, s);
    }
    for _ in 0..MOST_TRIES {
        if s >= end - 1e-5 {
            return Ok(());
        }
        let next = end.min(s + h);
        let (target, up) = aim(run, s, next, end);
        let third_of = (target - s) / 3.0;
        let e = epsilon(run, x, s)?;
        let e1 = epsilon(run, &first(x, &e, (s, s + third_of)), s + third_of)?;
        let low = second(x, &e, &e1, (s, target), 1.0 / 3.0);
        let high = third(run, x, &e, &e1, (s, target))?;
        let error = error(&low, &high, &previous);
        if !error.is_finite() {
            // No smaller step helps a model that answers with NaN: leave through the check.
            run.end_step(&high)?;
            run.end_step(&low)?;
        }
        let factor = 1.0 + ((1.0 / (error + 1e-8)).powf(exponent) - 1.0).atan();
        if factor >= ACCEPT {
            previous = low;
            x.copy_from_slice(&high);
            if up > 0.0 {
                run.add_noise(x, up)?;
            }
            s = next;
            run.end_step(x)?;
        }
        h *= factor;
    }
    Err(Error::other("dpm adaptive: the step size fell towards 0; choose another sampler"))
}

/// The difference of the two orders, in units of the tolerance.
fn error(low: &[f32], high: &[f32], previous: &[f32]) -> f64 {
    let term = |((l, h), p): ((&f32, &f32), &f32)| {
        let tolerance = ABSOLUTE.max(RELATIVE * f64::from(l.abs().max(p.abs())));
        ((f64::from(*l) - f64::from(*h)) / tolerance).powi(2)
    };
    let sum: f64 = low.iter().zip(high).zip(previous).map(term).sum();
    (sum / low.len() as f64).sqrt()
}
