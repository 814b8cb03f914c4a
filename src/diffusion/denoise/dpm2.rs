//! Latents and noise levels in, denoised latents out: the midpoint method in log sigma
//! (DPM-Solver-2), plain and ancestral.

use super::euler::{ancestral, to_level};
use super::run::{Run, combine};
use crate::error::Result;

/// k-diffusion's `sample_dpm_2` without churn. Two evaluations a step, one in the last.
pub(super) fn dpm2(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    for (sigma, next) in run.plan.steps() {
        step(run, x, sigma, next)?;
        run.end_step(x)?;
    }
    Ok(())
}

/// k-diffusion's `sample_dpm_2_ancestral`: the same down to a lower level, then noise.
pub(super) fn dpm2_ancestral(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    for (sigma, next) in run.plan.steps() {
        let (down, up) = ancestral(sigma, next, run.plan.eta);
        step(run, x, sigma, down)?;
        if next > 0.0 {
            run.add_noise(x, up)?;
        }
        run.end_step(x)?;
    }
    Ok(())
}

/// One step with the slope at the geometric middle; Euler where the target is 0.
fn step(run: &mut Run<'_>, x: &mut [f32], sigma: f64, target: f64) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    run.denoise(x, sigma, &mut denoised)?;
    if target == 0.0 {
        to_level(x, &denoised, sigma, target);
        return Ok(());
    }
    let middle = (sigma * target).sqrt();
    let mut half = x.to_vec();
    to_level(&mut half, &denoised, sigma, middle);
    run.denoise(&half, middle, &mut denoised)?;
    let slope = (target - sigma) / middle;
    combine(x, 1.0, &[(slope, &half), (-slope, &denoised)]);
    Ok(())
}
