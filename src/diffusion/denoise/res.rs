//! Latents and noise levels in, denoised latents out: the refined exponential solver (Zhang et al. 2023, arXiv
//! 2308.02157).

use super::euler::{ancestral, to_level};
use super::run::{Run, combine};
use crate::error::Result;

/// The second-order multistep form, in lambda = -ln sigma, as NVIDIA's Cosmos (Apache-2.0) has it. One evaluation a
/// step.
///
/// With a share of fresh noise it goes down to a lower level than the next, and noise leads up again (as Euler a).
pub(super) fn res_multistep(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    // The clean estimate before, the level where it was made, and the level that its step went down to.
    let mut last: Option<(Vec<f32>, f64, f64)> = None;
    for (sigma, next) in run.plan.steps() {
        run.denoise(x, sigma, &mut denoised)?;
        let (down, up) = ancestral(sigma, next, run.plan.eta);
        match &last {
            Some((old, before, reached)) if down > 0.0 && down < sigma && reached < before => {
                let h = sigma.ln() - down.ln();
                // phi_1 and phi_2 of -h, and where the old estimate lies in units of the step (negative).
                let phi1 = -(-h).exp_m1() / h;
                let phi2 = (1.0 - phi1) / h;
                let place = (reached.ln() - before.ln()) / h;
                let (own, olds) = (phi1 - phi2 / place, phi2 / place);
                combine(x, down / sigma, &[(h * own, &denoised), (h * olds, old)]);
            }
            _ => to_level(x, &denoised, sigma, down),
        }
        if next > 0.0 {
            run.add_noise(x, up)?;
        }
        last = Some((denoised.clone(), sigma, down));
        run.end_step(x)?;
    }
    Ok(())
}
