//! Latents and timesteps in, denoised latents out: DDIM, and PLMS, which is DDIM on extrapolated noise.

use super::plan::{Settings, Tables};
use super::run::{Run, combine};
use super::schedule::Schedule;
use super::timesteps::{self, Point};
use crate::error::Result;

/// DDIM (Song et al. 2021, equation 12). One evaluation a step; fresh noise only where eta is above 0.
pub(super) fn ddim(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut epsilon = vec![0.0; x.len()];
    for pair in run.plan.points.windows(2) {
        let noise = if pair[0].alpha_bar == 0.0 {
            from_noise(run, x, pair[0], pair[1])?
        } else {
            run.epsilon(x, pair[0], &mut epsilon)?;
            step(x, &epsilon, pair[0], pair[1], run.plan.eta)
        };
        if noise > 0.0 {
            run.add_noise(x, noise)?;
        }
        run.end_step(x)?;
    }
    Ok(())
}

/// The step from where there is no signal (zero terminal SNR), out of the clean estimate: noise tells nothing there.
fn from_noise(run: &mut Run<'_>, x: &mut [f32], from: Point, to: Point) -> Result<f64> {
    let (mut epsilon, mut clean) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    run.noise_and_clean(x, from, &mut epsilon, &mut clean)?;
    let noise = fresh(from, to, run.plan.eta);
    let direction = (1.0 - to.alpha_bar - noise * noise).max(0.0).sqrt();
    combine(x, 0.0, &[(to.alpha_bar.sqrt(), &clean), (direction, &epsilon)]);
    Ok(noise)
}

/// How much of the noise at `to` is fresh.
fn fresh(from: Point, to: Point, eta: f64) -> f64 {
    let (a, b) = (from.alpha_bar, to.alpha_bar);
    if a < 1.0 { eta * ((1.0 - b) / (1.0 - a) * (1.0 - a / b)).max(0.0).sqrt() } else { 0.0 }
}

/// Moves x from one place to the next along `epsilon`; returns how much noise is to be added there.
fn step(x: &mut [f32], epsilon: &[f32], from: Point, to: Point, eta: f64) -> f64 {
    let (a, b) = (from.alpha_bar, to.alpha_bar);
    let noise = fresh(from, to, eta);
    let kept = (b / a).sqrt();
    let direction = (1.0 - b - noise * noise).max(0.0).sqrt() - kept * (1.0 - a).sqrt();
    combine(x, kept, &[(direction, epsilon)]);
    noise
}

/// The tables of PLMS: DDIM's, which begin a hair above no signal at all.
pub(super) fn plms_tables(schedule: &Schedule, settings: &Settings) -> Tables {
    let mut tables = timesteps::tables(schedule, settings);
    tables.points.iter_mut().for_each(|p| *p = p.with_signal(schedule));
    tables
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
