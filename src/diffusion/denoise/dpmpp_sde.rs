//! Latents and noise levels in, denoised latents out: the stochastic DPM-Solver++ family, on a Brownian path.
//!
//! As k-diffusion writes them, in lambda = -ln sigma.

use super::euler::{ancestral, to_level};
use super::run::{Run, combine};
use super::schedule::{exp, ln};
use crate::error::Result;

/// k-diffusion's `sample_dpmpp_sde` with r = 1/2. Two evaluations a step, one in the last.
pub(super) fn dpmpp_sde(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    for pair in run.plan.sigmas.windows(2) {
        let (sigma, next) = (f64::from(pair[0]), f64::from(pair[1]));
        run.denoise(x, sigma, &mut denoised)?;
        if next == 0.0 {
            to_level(x, &denoised, sigma, next);
        } else {
            // The levels that the path is asked for go through f32 logarithms, as in torch: the tree's noise depends on
            // their last digits.
            let (t, t_next) = (-ln(pair[0]), -ln(pair[1]));
            let asked = [exp(-t), exp(-(t + (t_next - t) * 0.5)), exp(-t_next)];
            let middle = f64::from(asked[1]);
            let (down, up) = ancestral(sigma, middle, run.plan.eta);
            let mut half = x.to_vec();
            combine(&mut half, down / sigma, &[(1.0 - down / sigma, &denoised)]);
            run.add_brownian(&mut half, (asked[0], asked[1]), up)?;
            // With r = 1/2 the second step takes the middle's estimate alone.
            run.denoise(&half, middle, &mut denoised)?;
            let (down, up) = ancestral(sigma, next, run.plan.eta);
            combine(x, down / sigma, &[(1.0 - down / sigma, &denoised)]);
            run.add_brownian(x, (asked[0], asked[2]), up)?;
        }
        run.end_step(x)?;
    }
    Ok(())
}

/// k-diffusion's `sample_dpmpp_2m_sde`, midpoint. One evaluation a step.
pub(super) fn dpmpp_2m_sde(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    two_m(run, x, |big_h| -0.5 * (-big_h).exp_m1())
}

/// The same with Heun's correction.
pub(super) fn dpmpp_2m_sde_heun(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    two_m(run, x, |big_h| (-big_h).exp_m1() / big_h + 1.0)
}

/// `correction(h (1 + eta))` weighs the change of the clean estimate since the last step.
fn two_m(run: &mut Run<'_>, x: &mut [f32], correction: fn(f64) -> f64) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    let mut last: Option<(Vec<f32>, f64)> = None;
    for pair in run.plan.sigmas.windows(2) {
        let (sigma, next) = (f64::from(pair[0]), f64::from(pair[1]));
        run.denoise(x, sigma, &mut denoised)?;
        if next == 0.0 {
            x.copy_from_slice(&denoised);
            run.end_step(x)?;
            continue;
        }
        let h = sigma.ln() - next.ln();
        let eta_h = run.plan.eta * h;
        let (kept, gain) = (next / sigma * (-eta_h).exp(), -(-h - eta_h).exp_m1());
        match &last {
            Some((old, h_last)) if *h_last > 0.0 && h > 0.0 => {
                let slope = correction(h + eta_h) * h / h_last;
                combine(x, kept, &[(gain + slope, &denoised), (-slope, old)]);
            }
            _ => combine(x, kept, &[(gain, &denoised)]),
        }
        if run.plan.eta > 0.0 {
            run.add_brownian(x, (pair[0], pair[1]), next * (-(-2.0 * eta_h).exp_m1()).sqrt())?;
        }
        last = Some((denoised.clone(), h));
        run.end_step(x)?;
    }
    Ok(())
}

/// k-diffusion's `sample_dpmpp_3m_sde`. One evaluation a step.
pub(super) fn dpmpp_3m_sde(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    // Newest first: clean estimates with the widths of their steps.
    let mut past: Vec<(Vec<f32>, f64)> = Vec::new();
    for pair in run.plan.sigmas.windows(2) {
        let (sigma, next) = (f64::from(pair[0]), f64::from(pair[1]));
        run.denoise(x, sigma, &mut denoised)?;
        if next == 0.0 {
            x.copy_from_slice(&denoised);
            run.end_step(x)?;
            continue;
        }
        let h = sigma.ln() - next.ln();
        let big_h = h * (1.0 + run.plan.eta);
        let (kept, gain) = ((-big_h).exp(), -(-big_h).exp_m1());
        let f2 = (-big_h).exp_m1() / big_h + 1.0;
        let f3 = f2 / big_h - 0.5;
        // Equal levels (tables of many steps) leave nothing to extrapolate from.
        let usable = if h > 0.0 { past.iter().take_while(|(_, h)| *h > 0.0).count() } else { 0 };
        match usable {
            0 => combine(x, kept, &[(gain, &denoised)]),
            1 => {
                let slope = f2 * h / past[0].1;
                combine(x, kept, &[(gain + slope, &denoised), (-slope, &past[0].0)]);
            }
            _ => {
                let (r0, r1) = (past[0].1 / h, past[1].1 / h);
                // Weights of a = (D - D1) / r0 and b = (D1 - D2) / r1 in f2 d1 - f3 d2.
                let on_a = f2 * (1.0 + r0 / (r0 + r1)) - f3 / (r0 + r1);
                let on_b = -f2 * r0 / (r0 + r1) + f3 / (r0 + r1);
                let (a, b) = (on_a / r0, on_b / r1);
                combine(x, kept, &[(gain + a, &denoised), (b - a, &past[0].0), (-b, &past[1].0)]);
            }
        }
        if run.plan.eta > 0.0 {
            let scale = next * (-(-2.0 * h * run.plan.eta).exp_m1()).sqrt();
            run.add_brownian(x, (pair[0], pair[1]), scale)?;
        }
        past.insert(0, (denoised.clone(), h));
        past.truncate(2);
        run.end_step(x)?;
    }
    Ok(())
}
