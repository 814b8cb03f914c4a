//! Latents and noise levels in, denoised latents out: DPM-Solver++, singlestep ancestral (2S a) and multistep (2M).
//!
//! Lu et al. 2022, in lambda = -ln sigma, as k-diffusion writes them.

use super::euler::{ancestral, to_level};
use super::run::{Run, combine};
use crate::error::Result;

/// k-diffusion's `sample_dpmpp_2s_ancestral`. Two evaluations a step, one in the last.
pub(super) fn dpmpp_2s_ancestral(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    for (sigma, next) in run.plan.steps() {
        run.denoise(x, sigma, &mut denoised)?;
        let (down, up) = ancestral(sigma, next, run.plan.eta);
        if down == 0.0 {
            to_level(x, &denoised, sigma, down);
        } else {
            let h = sigma.ln() - down.ln();
            let middle = (sigma.ln() - 0.5 * h).exp();
            let mut half = x.to_vec();
            combine(&mut half, middle / sigma, &[(-(-0.5 * h).exp_m1(), &denoised)]);
            run.denoise(&half, middle, &mut denoised)?;
            combine(x, down / sigma, &[(-(-h).exp_m1(), &denoised)]);
        }
        if next > 0.0 {
            run.add_noise(x, up)?;
        }
        run.end_step(x)?;
    }
    Ok(())
}

/// k-diffusion's `sample_dpmpp_2m`. One evaluation a step.
pub(super) fn dpmpp_2m(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    // The previous clean estimate and the width of its step.
    let mut last: Option<(Vec<f32>, f64)> = None;
    for (sigma, next) in run.plan.steps() {
        run.denoise(x, sigma, &mut denoised)?;
        // The last step goes to sigma 0, where h is infinite and x = D.
        let h = sigma.ln() - next.ln();
        let gain = -(-h).exp_m1();
        match &last {
            Some((old, h_last)) if next > 0.0 && *h_last > 0.0 => {
                let slope = h / (2.0 * h_last);
                combine(x, next / sigma, &[(gain * (1.0 + slope), &denoised), (-gain * slope, old)]);
            }
            _ => combine(x, next / sigma, &[(gain, &denoised)]),
        }
        last = Some((denoised.clone(), h));
        run.end_step(x)?;
    }
    Ok(())
}
