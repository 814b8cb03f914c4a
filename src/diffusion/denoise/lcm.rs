//! Latents and noise levels in, denoised latents out: latent consistency models (Luo et al. 2023).

use super::plan::index_in;
use super::run::{Run, combine};
use super::schedule::{Schedule, exp, linspace, ln};
use crate::error::Result;

/// Timesteps that the published models were distilled on.
const ORIGINAL_STEPS: usize = 50;

/// Jumps to the clean estimate and noises it to the next level. One evaluation a step; no noise after the last.
pub(super) fn lcm(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut denoised = vec![0.0; x.len()];
    for (sigma, next) in run.plan.steps() {
        run.denoise(x, sigma, &mut denoised)?;
        x.copy_from_slice(&denoised);
        if next > 0.0 {
            run.add_noise(x, next)?;
        }
        run.end_step(x)?;
    }
    Ok(())
}

/// The distilled timesteps 19, 39, ..., 999 (rising), and the levels of `steps` steps: even in timesteps from the last
/// distilled one to the first, log sigma linear between them, then 0.
pub(super) fn table(schedule: &Schedule, steps: usize) -> (Vec<f32>, Vec<f32>) {
    let stride = (schedule.sigmas().len() / ORIGINAL_STEPS).max(1);
    let indices: Vec<usize> = (stride - 1..schedule.sigmas().len()).step_by(stride).collect();
    let levels: Vec<f32> = indices.iter().map(|&i| schedule.sigmas()[i]).collect();
    let last = levels.len() - 1;
    let at = |place: f32| {
        let place = place.clamp(0.0, last as f32);
        let (low, w) = (place.floor() as usize, place - place.floor());
        exp((1.0 - w) * ln(levels[low]) + w * ln(levels[(low + 1).min(last)]))
    };
    let top = index_in(&levels, schedule.sigma_max());
    let mut sigmas: Vec<f32> = linspace(top, 0.0, steps).into_iter().map(at).collect();
    sigmas.push(0.0);
    (indices.into_iter().map(|i| i as f32).collect(), sigmas)
}

/// The boundary condition of consistency models: D = c_skip x + c_out D with sigma_data 0.5 and timesteps scaled by 10.
pub(super) fn boundary(t: f32, x: &[f32], denoised: &mut [f32]) {
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
}
