//! Latents and noise levels in, denoised latents out: latent consistency models (Luo et al. 2023).
//!
//! Two timetables: the webui's, which goes evenly to the lowest of the 50 timesteps that such models were distilled on,
//! and diffusers' ([`ScheduleKind::Lcm`]), which leaves from evenly spread ones and ends at the clean estimate.

use super::plan::{Settings, Tables, Timing};
use super::run::{Run, combine};
use super::schedule::{Schedule, exp, interpolated_index, linspace, ln};
use super::sigmas::{self, ScheduleKind};
use super::timesteps::Timesteps;
use crate::error::Result;

/// Timesteps that the published models were distilled on.
const ORIGINAL_STEPS: usize = 50;

/// Jumps to the clean estimate and noises it to the next level. One evaluation a step; no noise after the last.
pub(super) fn lcm(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    for (sigma, next) in run.plan.steps() {
        run.denoise_then(x, sigma, &mut denoised, |t, clean| boundary(t, x, clean))?;
        x.copy_from_slice(&denoised);
        if next > 0.0 {
            run.add_noise(x, next)?;
        }
        run.end_step(x)?;
    }
    Ok(())
}

/// Levels of any schedule, asked at the nearest timestep that the model knows; without one the webui's own.
pub(super) fn tables(schedule: &Schedule, settings: &Settings) -> Tables {
    let (times, own) = table(schedule, settings.steps);
    match (settings.timesteps, settings.schedule) {
        (Timesteps::Only(_), _) | (_, ScheduleKind::Lcm) => sigmas::tables(schedule, settings),
        (_, ScheduleKind::Automatic) => Tables { sigmas: own, timing: Timing::Nearest(times), ..Tables::default() },
        _ => Tables { timing: Timing::Nearest(times), ..sigmas::tables(schedule, settings) },
    }
}

/// The distilled timesteps 19, 39, ..., 999, rising.
fn distilled(schedule: &Schedule) -> Vec<usize> {
    let stride = (schedule.sigmas().len() / ORIGINAL_STEPS).max(1);
    (stride - 1..schedule.sigmas().len()).step_by(stride).collect()
}

/// diffusers' timesteps of `n` steps, falling: every (m / n)-th of the lowest `share` of the distilled ones, from the
/// top.
pub(crate) fn places(schedule: &Schedule, n: usize, share: f64) -> Vec<usize> {
    let mut all = distilled(schedule);
    all.truncate(((all.len() as f64 * share) as usize).max(1));
    all.reverse();
    let stride = all.len() as f64 / n as f64;
    (0..n).map(|i| all[((i as f64 * stride) as usize).min(all.len() - 1)]).collect()
}

/// The distilled timesteps, and the levels of `steps` steps: even in timesteps from the last distilled one to the
/// first, log sigma linear between them, then 0.
fn table(schedule: &Schedule, steps: usize) -> (Vec<f32>, Vec<f32>) {
    let indices = distilled(schedule);
    let levels: Vec<f32> = indices.iter().map(|&i| schedule.sigmas()[i]).collect();
    let last = levels.len() - 1;
    let at = |place: f32| {
        let place = place.clamp(0.0, last as f32);
        let (low, w) = (place.floor() as usize, place - place.floor());
        exp((1.0 - w) * ln(levels[low]) + w * ln(levels[(low + 1).min(last)]))
    };
    let logs: Vec<f32> = levels.iter().map(|&s| ln(s)).collect();
    let top = interpolated_index(&logs, schedule.sigma_max());
    let mut sigmas: Vec<f32> = linspace(top, 0.0, steps).into_iter().map(at).collect();
    sigmas.push(0.0);
    (indices.into_iter().map(|i| i as f32).collect(), sigmas)
}

/// The boundary condition of consistency models: D = c_skip x + c_out D with sigma_data 0.5 and timesteps scaled by 10.
///
/// x is the sampler's, in variance-exploding scale: c_skip is at most 7e-6 at the distilled timesteps.
fn boundary(t: f32, x: &[f32], denoised: &mut [f32]) {
    let scaled = 10.0 * f64::from(t);
    let root = scaled * scaled + 0.25;
    combine(denoised, scaled / root.sqrt(), &[(0.25 / root, x)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::training::ScheduleConfig;

    #[test]
    fn the_distilled_table() {
        let schedule = Schedule::new(&ScheduleConfig::default()).unwrap();
        let (times, sigmas) = table(&schedule, 4);
        assert_eq!((times.len(), times[0], times[49], sigmas.len()), (50, 19.0, 999.0, 5));
        // linspace(999, 19, 4): 999, 672.33, 345.67, 19; the ends are table entries.
        assert!((sigmas[0] / schedule.sigmas()[999] - 1.0).abs() < 1e-6);
        assert!((sigmas[3] / schedule.sigmas()[19] - 1.0).abs() < 1e-6);
        assert!((sigmas[1] / schedule.sigma_at(672.33) - 1.0).abs() < 1e-2);
    }

    /// `tables` of the tiny SDXL's samplers.json, by diffusers 0.42.1.
    #[test]
    fn diffusers_places() {
        let schedule = Schedule::new(&ScheduleConfig::default()).unwrap();
        let whole: [&[usize]; 4] =
            [&[999], &[999, 679, 339], &[999, 839, 679, 499, 339, 179], &[999, 879, 759, 639, 499, 379, 259, 139]];
        let part: [&[usize]; 3] = [&[599], &[599, 459, 299, 159], &[599, 539, 459, 379, 299, 239, 159, 79]];
        whole.iter().for_each(|want| assert_eq!(places(&schedule, want.len(), 1.0), *want));
        part.iter().for_each(|want| assert_eq!(places(&schedule, want.len(), 0.6), *want));
        assert_eq!(places(&schedule, 1, 0.001), [19]);
    }
}
