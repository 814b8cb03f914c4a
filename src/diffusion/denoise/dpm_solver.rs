//! Latents and a range of noise levels in, latents at its lower end out: DPM-Solver with fixed and adaptive steps.
//!
//! Lu et al. 2022 (arXiv 2206.00927), in t = -ln sigma, with k-diffusion's noise and step control. Both end at the
//! smallest positive level, not at 0.
//!
//! All in f32 and in torch's order of operations: the adaptive step size follows from differences so small that they
//! are partly rounding, and other rounding would lead to other steps.

use super::euler::ancestral;
use super::run::Run;
use super::schedule::{exp, linspace, ln};
use crate::error::{Error, Result};

/// The predicted noise (x - D) / sigma at -ln sigma = t.
fn epsilon(run: &mut Run<'_>, x: &[f32], t: f32) -> Result<Vec<f32>> {
    let sigma = exp(-t);
    let mut e = vec![0.0; x.len()];
    run.denoise(x, f64::from(sigma), &mut e)?;
    e.iter_mut().zip(x).for_each(|(e, x)| *e = (x - *e) / sigma);
    Ok(e)
}

/// Where order 3 evaluates, in parts of the step.
const R1: f32 = 1.0 / 3.0;
const R2: f32 = 2.0 / 3.0;

fn exp_m1(h: f32) -> f32 {
    f64::from(h).exp_m1() as f32
}

/// Order 1 over the step `h`: no further evaluation. `h` is given because `t + h - t` need not be `h` in f32.
fn first(x: &[f32], e: &[f32], t: f32, h: f32) -> Vec<f32> {
    let gain = exp(-(t + h)) * exp_m1(h);
    x.iter().zip(e).map(|(x, e)| x - gain * e).collect()
}

/// The common form of the higher orders: x - gain e - slope (other - e).
fn corrected(x: &[f32], e: &[f32], other: &[f32], gain: f32, slope: f32) -> Vec<f32> {
    x.iter().zip(e).zip(other).map(|((x, e), o)| x - gain * e - slope * (o - e)).collect()
}

/// Order 2 from the noise at t and at t + r h.
fn second(x: &[f32], e: &[f32], er: &[f32], (t, next): (f32, f32), r: f32) -> Vec<f32> {
    let (sigma, growth) = (exp(-next), exp_m1(next - t));
    corrected(x, e, er, sigma * growth, sigma / (2.0 * r) * growth)
}

/// Order 3 with r1 = 1/3 and r2 = 2/3, given the noise at t and at t + h / 3: one further evaluation.
fn third(run: &mut Run<'_>, x: &[f32], e: &[f32], e1: &[f32], (t, next): (f32, f32)) -> Result<Vec<f32>> {
    let h = next - t;
    let s2 = t + R2 * h;
    let (sigma, growth) = (exp(-s2), exp_m1(R2 * h));
    let u = corrected(x, e, e1, sigma * growth, sigma * 2.0 * (growth / (R2 * h) - 1.0));
    let e2 = epsilon(run, &u, s2)?;
    let (sigma, growth) = (exp(-next), exp_m1(h));
    Ok(corrected(x, e, &e2, sigma * growth, sigma / R2 * (growth / h - 1.0)))
}

/// Where a noisy step aims, in t, and how much noise leads from there to `next`.
fn aim(run: &Run<'_>, t: f32, next: f32, end: f32) -> (f32, f64) {
    if run.plan.eta == 0.0 {
        return (next, 0.0);
    }
    let level = |t: f32| f64::from(-t).exp();
    let (down, _) = ancestral(level(t), level(next), run.plan.eta);
    let target = end.min(-down.ln() as f32);
    (target, (level(next).powi(2) - level(target).powi(2)).max(0.0).sqrt())
}

/// Both ends in t, and the number of steps asked. A single step has one level; its other end is the table's lowest.
fn range(run: &Run<'_>) -> (f32, f32, usize) {
    let sigmas = &run.plan.sigmas;
    let n = sigmas.len() - 1;
    let low = if n > 1 { sigmas[n - 1] } else { run.plan.lowest() };
    (-ln(sigmas[0]), -ln(low), n)
}

/// The clean estimate, where both ends are the same level (img2img of nearly no strength).
fn estimate(run: &mut Run<'_>, x: &mut [f32], t: f32) -> Result<()> {
    let mut clean = vec![0.0; x.len()];
    run.denoise(x, f64::from(exp(-t)), &mut clean)?;
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
    let ends = linspace(start, end, segments + 1);
    for (order, pair) in orders.into_iter().zip(ends.windows(2)) {
        let (t, next) = (pair[0], pair[1]);
        let (target, up) = aim(run, t, next, end);
        let h = target - t;
        let e = epsilon(run, x, t)?;
        let moved = match order {
            1 => corrected(x, &e, &e, exp(-target) * exp_m1(h), 0.0),
            2 => {
                let er = epsilon(run, &first(x, &e, t, 0.5 * h), t + 0.5 * h)?;
                second(x, &e, &er, (t, target), 0.5)
            }
            _ => {
                let e1 = epsilon(run, &first(x, &e, t, R1 * h), t + R1 * h)?;
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

const RELATIVE: f32 = 0.05;
const ABSOLUTE: f32 = 0.0078;
/// A step whose size would be cut below this share is tried again.
const ACCEPT: f64 = 0.81;
/// More tries than any finite model needs: a way out of the loop.
const MOST_TRIES: usize = 10_000;

/// DPM-Solver-23 with k-diffusion's step control (integral part only). Three evaluations a try; nobody knows how many.
pub(super) fn dpm_adaptive(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let (mut s, end, _) = range(run);
    let exponent = if run.plan.eta > 0.0 { 1.0 / 1.5 } else { 1.0 / 3.0 };
    let mut h = 0.05f64;
    let mut previous = x.to_vec();
    if s >= end {
        return estimate(run, x, s);
    }
    for _ in 0..MOST_TRIES {
        if s >= end - 1e-5 {
            return Ok(());
        }
        let next = end.min(s + h as f32);
        let (target, up) = aim(run, s, next, end);
        let part = R1 * (target - s);
        let e = epsilon(run, x, s)?;
        let e1 = epsilon(run, &first(x, &e, s, part), s + part)?;
        let low = second(x, &e, &e1, (s, target), R1);
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
        let tolerance = ABSOLUTE.max(RELATIVE * l.abs().max(p.abs()));
        f64::from((l - h) / tolerance).powi(2)
    };
    let sum: f64 = low.iter().zip(high).zip(previous).map(term).sum();
    (sum / low.len() as f64).sqrt()
}
