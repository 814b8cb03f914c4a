//! Latents and noise levels in, denoised latents out: the extended reverse-time SDE (Cui et al. 2023, arXiv
//! 2309.06169).

use super::run::{Run, combine};
use crate::error::Result;

/// Points of the sums that stand for the paper's integrals.
const POINTS: usize = 200;

/// ER-SDE-Solver-3 in variance-exploding form, with the noise scale function that the paper calls SDE 5.
///
/// One evaluation a step. The noise belongs to the method: its drift is made for as much, so there is no share to
/// choose.
pub(super) fn er_sde(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    // The level before, its clean estimate, and the slope of the clean estimate into it with the level where that
    // began.
    let mut last: Option<Past> = None;
    for (sigma, next) in run.plan.steps() {
        run.denoise(x, sigma, &mut denoised)?;
        if next == 0.0 {
            x.copy_from_slice(&denoised);
            run.end_step(x)?;
            continue;
        }
        let ratio = scale(next) / scale(sigma);
        combine(x, ratio, &[(1.0 - ratio, &denoised)]);
        let slope = last.as_ref().filter(|past| past.sigma > sigma).map(|past| {
            let (first, second) = integrals(sigma, next);
            let mut slope = denoised.clone();
            let width = sigma - past.sigma;
            combine(&mut slope, 1.0 / width, &[(-1.0 / width, &past.clean)]);
            combine(x, 1.0, &[(next - sigma + first * scale(next), &slope)]);
            if let Some((before, since)) = &past.slope {
                let bend = ((next - sigma).powi(2) / 2.0 + second * scale(next)) * 2.0 / (sigma - since);
                combine(x, 1.0, &[(bend, &slope), (-bend, before)]);
            }
            (slope, past.sigma)
        });
        run.add_noise(x, (next * next - (sigma * ratio).powi(2)).max(0.0).sqrt())?;
        last = Some(Past { sigma, clean: denoised.clone(), slope });
        run.end_step(x)?;
    }
    Ok(())
}

/// What a step leaves to the next.
struct Past {
    sigma: f64,
    clean: Vec<f32>,
    slope: Option<(Vec<f32>, f64)>,
}

/// The noise scale function: `s` would be the ODE, `s^2` the ordinary reverse-time SDE.
fn scale(sigma: f64) -> f64 {
    sigma * (sigma.powf(0.3).exp() + 10.0)
}

/// The integrals of `1 / scale` and of `(s - sigma) / scale` from `next` to `sigma`, as the published code sums them:
/// from the lower ends of equal parts.
fn integrals(sigma: f64, next: f64) -> (f64, f64) {
    let part = (sigma - next) / POINTS as f64;
    let place = |i: usize| next + i as f64 * part;
    let first: f64 = (0..POINTS).map(|i| 1.0 / scale(place(i))).sum();
    let second: f64 = (0..POINTS).map(|i| (place(i) - sigma) / scale(place(i))).sum();
    (first * part, second * part)
}
