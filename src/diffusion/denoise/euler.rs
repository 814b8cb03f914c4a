//! Latents and noise levels in, denoised latents out: Euler's method, plain and ancestral.

use super::run::{Run, combine};
use crate::error::Result;

/// Euler steps along d = (x - D) / sigma (Karras et al. 2022, algorithm 2, without churn). One evaluation a step.
pub(super) fn euler(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    for (sigma, next) in run.plan.steps() {
        run.denoise(x, sigma, &mut denoised)?;
        to_level(x, &denoised, sigma, next);
        run.end_step(x)?;
    }
    Ok(())
}

/// Euler steps to a lower level than the next, then noise up to it (k-diffusion's `sample_euler_ancestral`).
pub(super) fn euler_ancestral(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    for (sigma, next) in run.plan.steps() {
        run.denoise(x, sigma, &mut denoised)?;
        let (down, up) = ancestral(sigma, next, run.plan.eta);
        to_level(x, &denoised, sigma, down);
        if next > 0.0 {
            run.add_noise(x, up)?;
        }
        run.end_step(x)?;
    }
    Ok(())
}

/// One Euler step: x + (x - D) / sigma (target - sigma).
pub(super) fn to_level(x: &mut [f32], denoised: &[f32], sigma: f64, target: f64) {
    let kept = target / sigma;
    combine(x, kept, &[(1.0 - kept, denoised)]);
}

/// The level to step down to and the noise to add, so that the result is at `next`
/// (k-diffusion's `get_ancestral_step`).
pub(super) fn ancestral(sigma: f64, next: f64, eta: f64) -> (f64, f64) {
    let full = (next * next * (sigma * sigma - next * next) / (sigma * sigma)).max(0.0).sqrt();
    let up = next.min(eta * full);
    ((next * next - up * up).max(0.0).sqrt(), up)
}
