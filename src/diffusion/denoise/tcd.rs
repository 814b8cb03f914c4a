//! Latents and timesteps in, denoised latents out: trajectory consistency distillation (Zheng et al. 2024, algorithm
//! 4).
//!
//! Where a consistency model jumps to the clean estimate, this one jumps along the trajectory to a place `s` beyond the
//! next, and is noised back to the next.

use super::lcm;
use super::plan::{Settings, Tables};
use super::run::{Run, combine};
use super::schedule::Schedule;
use super::timesteps::{self, Point, Timesteps};
use crate::error::Result;

/// diffusers' `TCDScheduler`. One evaluation a step; the last step ends at timestep 0, where a little noise is left.
///
/// eta is the paper's gamma: how far beyond the next place the jump goes. 0 is DDIM, 1 jumps to timestep 0.
pub(super) fn tcd(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let (mut epsilon, mut clean) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let steps = run.plan.points.len() - 1;
    for (i, pair) in run.plan.points.windows(2).enumerate() {
        run.noise_and_clean(x, pair[0], &mut epsilon, &mut clean)?;
        // A product of floats of torch's, on the edge of an integer sometimes.
        let beyond = ((1.0 - run.plan.eta) as f32 * pair[1].t).floor();
        let there = run.plan.alpha_bar(beyond as usize);
        combine(x, 0.0, &[(there.sqrt(), &clean), ((1.0 - there).sqrt(), &epsilon)]);
        if run.plan.eta > 0.0 && i + 1 < steps {
            let kept = pair[1].alpha_bar / there;
            combine(x, kept.sqrt(), &[]);
            run.add_noise(x, (1.0 - kept).max(0.0).sqrt())?;
        }
        run.end_step(x)?;
    }
    Ok(())
}

/// The places of consistency models, or the timesteps of a spacing; the end is timestep 0.
pub(super) fn tables(schedule: &Schedule, settings: &Settings) -> Tables {
    if let Timesteps::Spaced(_) | Timesteps::Only(_) = settings.timesteps {
        let mut tables = timesteps::tables(schedule, settings);
        if let Some(end) = tables.points.last_mut() {
            *end = Point::at(schedule, 0);
        }
        return tables;
    }
    let times = lcm::places(schedule, settings.steps, settings.share().unwrap_or(1.0));
    let points = times.into_iter().chain([0]).map(|t| Point::at(schedule, t)).collect();
    Tables { points, whole: true, ..Tables::default() }
}
