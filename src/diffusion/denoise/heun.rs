//! Latents and noise levels in, denoised latents out: Heun's method.

use super::euler::to_level;
use super::run::{Run, combine};
use crate::error::Result;

/// Heun steps (Karras et al. 2022, algorithm 2, without churn). Two evaluations a step, one in the last.
pub(super) fn heun(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    for (sigma, next) in run.plan.steps() {
        step(run, x, sigma, next)?;
        run.end_step(x)?;
    }
    Ok(())
}

/// One step: the mean of the slopes at both ends; Euler where the second end is 0.
pub(super) fn step(run: &mut Run<'_>, x: &mut [f32], sigma: f64, next: f64) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    run.denoise(x, sigma, &mut denoised)?;
    if next == 0.0 {
        to_level(x, &denoised, sigma, next);
        return Ok(());
    }
    let mut ahead = x.to_vec();
    to_level(&mut ahead, &denoised, sigma, next);
    let mut there = vec![0.0; x.len()];
    run.denoise(&ahead, next, &mut there)?;
    let (a, b) = ((next - sigma) / (2.0 * sigma), (next - sigma) / (2.0 * next));
    combine(x, 1.0 + a, &[(-a, &denoised), (b, &ahead), (-b, &there)]);
    Ok(())
}
