//! Latents and timesteps in, denoised latents out: DDIM, and PLMS, which is DDIM on extrapolated noise.

use super::run::{Run, combine};
use super::timesteps::Point;
use crate::error::Result;

/// DDIM (Song et al. 2021, equation 12). One evaluation a step; fresh noise only where eta is above 0.
pub(super) fn ddim(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut epsilon = vec![0.0; x.len()];
    for pair in run.plan.points.windows(2) {
        run.epsilon(x, pair[0], &mut epsilon)?;
        let noise = step(x, &epsilon, pair[0], pair[1], run.plan.eta);
        if noise > 0.0 {
            run.add_noise(x, noise)?;
        }
        run.end_step(x)?;
    }
    Ok(())
}

/// Moves x from one place to the next along `epsilon`; returns how much noise is to be added there.
fn step(x: &mut [f32], epsilon: &[f32], from: Point, to: Point, eta: f64) -> f64 {
    let (a, b) = (from.alpha_bar, to.alpha_bar);
    let noise = if a < 1.0 { eta * ((1.0 - b) / (1.0 - a) * (1.0 - a / b)).max(0.0).sqrt() } else { 0.0 };
    let kept = (b / a).sqrt();
    let direction = (1.0 - b - noise * noise).max(0.0).sqrt() - kept * (1.0 - a).sqrt();
    combine(x, kept, &[(direction, epsilon)]);
    noise
}

/// PLMS (Liu et al. 2022): Adams-Bashforth on the predicted noise, orders 2 to 4, after one Heun-like first step.
///
/// That first step evaluates twice, so N steps are N + 1 evaluations (a single step stays single, as in diffusers).
pub(super) fn plms(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let points = &run.plan.points;
    // Newest first.
    let mut past: Vec<Vec<f32>> = Vec::new();
    for (i, pair) in points.windows(2).enumerate() {
        let mut epsilon = vec![0.0; x.len()];
        run.epsilon(x, pair[0], &mut epsilon)?;
        let weights: &[f64] = match past.len() {
            0 => &[],
            1 => &[1.5, -0.5],
            2 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        };
        let mut mean = epsilon.clone();
        if i == 0 && points.len() > 2 {
            let mut ahead = x.to_vec();
            step(&mut ahead, &epsilon, pair[0], pair[1], 0.0);
            let mut there = vec![0.0; x.len()];
            run.epsilon(&ahead, pair[1], &mut there)?;
            combine(&mut mean, 0.5, &[(0.5, &there)]);
        } else if let [first, rest @ ..] = weights {
            let terms: Vec<(f64, &[f32])> = rest.iter().copied().zip(past.iter().map(Vec::as_slice)).collect();
            combine(&mut mean, *first, &terms);
        }
        step(x, &mean, pair[0], pair[1], 0.0);
        past.insert(0, epsilon);
        past.truncate(3);
        run.end_step(x)?;
    }
    Ok(())
}
