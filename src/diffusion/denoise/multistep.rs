//! Latents and noise levels in, denoised latents out: multistep methods on the slope `d = (x - D) / sigma`.

use super::run::{Run, combine};
use crate::error::Result;

/// Gradient estimation (Permenter and Yuan 2023, arXiv 2306.04848): Euler along `d + (gamma - 1) (d - d_old)`, gamma 2.
/// One evaluation a step.
pub(super) fn gradient_estimation(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    extrapolated(run, x, &[&[1.0], &[2.0, -1.0]])
}

/// iPNDM (Zhang and Chen 2022, arXiv 2204.13902): Adams-Bashforth of order 1 to 4 with the weights of equal steps,
/// whatever the steps are, as the diff-sampler collection (Apache-2.0) has it. Unlike PLMS it evaluates once in its
/// first step.
pub(super) fn ipndm(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    extrapolated(
        run,
        x,
        &[
            &[1.0],
            &[3.0 / 2.0, -1.0 / 2.0],
            &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        ],
    )
}

/// Euler along a mean of the last slopes, whose weights (newest first) depend on how many there are; the last step is
/// the clean estimate.
fn extrapolated(run: &mut Run<'_>, x: &mut [f32], weights: &[&[f64]]) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    // Newest first.
    let mut slopes: Vec<Vec<f32>> = Vec::new();
    for (sigma, next) in run.plan.steps() {
        run.denoise(x, sigma, &mut denoised)?;
        if next == 0.0 {
            x.copy_from_slice(&denoised);
        } else {
            let slope = |(x, d): (&f32, &f32)| ((f64::from(*x) - f64::from(*d)) / sigma) as f32;
            slopes.insert(0, x.iter().zip(&denoised).map(slope).collect());
            slopes.truncate(weights.len());
            let step = weights[slopes.len() - 1].iter().map(|w| w * (next - sigma));
            let terms: Vec<(f64, &[f32])> = step.zip(slopes.iter().map(Vec::as_slice)).collect();
            combine(x, 1.0, &terms);
        }
        run.end_step(x)?;
    }
    Ok(())
}
