//! Latents and noise levels in, denoised latents out: CFG++ (Chung et al. 2024, arXiv 2406.08070), plain and ancestral.
//!
//! The guided estimate says where to go, the one without the prompt what noise x holds: so guidance never pushes x off
//! the levels that the model knows, and is small, 0.5 to 2.

use super::euler::ancestral;
use super::run::{Run, combine};
use crate::error::Result;

/// Euler's method with the noise of the unconditional estimate, `D + (x - U) / sigma target`; with a share of fresh
/// noise its ancestral form. One evaluation of both halves a step, at any guidance.
pub(super) fn euler_cfg_pp(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let (mut guided, mut uncond) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    for (sigma, next) in run.plan.steps() {
        run.denoise_apart(x, sigma, &mut guided, &mut uncond)?;
        let (down, up) = ancestral(sigma, next, run.plan.eta);
        let kept = down / sigma;
        combine(x, kept, &[(1.0, &guided), (-kept, &uncond)]);
        if next > 0.0 {
            run.add_noise(x, up)?;
        }
        run.end_step(x)?;
    }
    Ok(())
}
