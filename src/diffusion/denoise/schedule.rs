//! A model's schedule configuration in, its tables out: betas, alphas, sigmas, and the way between sigma and timestep.

use crate::error::{Error, Kind, Result};
use crate::models::training::{ScheduleConfig, ZeroSnr};

/// The tables of a training schedule, and the conversions between timestep and noise level.
///
/// They are computed in f32 where torch does, because the seeds of the SDE noise depend on a sigma's last digits.
#[derive(Clone, Debug)]
pub struct Schedule {
    config: ScheduleConfig,
    alphas_cumprod: Vec<f32>,
    sigmas: Vec<f32>,
    log_sigmas: Vec<f32>,
}

impl Schedule {
    /// Computes the tables; an unusable configuration (it comes from a file) is a `BadFile` error.
    pub fn new(config: &ScheduleConfig) -> Result<Self> {
        let usable = |b: f64| b.is_finite() && b > 0.0 && b < 1.0;
        if !usable(config.beta_start) || !usable(config.beta_end) || !(2..=1_000_000).contains(&config.train_steps) {
            let (from, to, steps) = (config.beta_start, config.beta_end, config.train_steps);
            return Err(Error::new(
                Kind::BadFile,
                format!(
                    "scheduler: beta_start {from}, beta_end {to}, {steps} steps is no schedule; betas lie in (0, 1)"
                ),
            ));
        }
        let mut alphas_cumprod = cumulative_alphas(config);
        let mut floor = 0.0;
        if let Some(convention) = config.zero_snr {
            floor = convention.floor();
            rescale_zero_snr(&mut alphas_cumprod);
            if convention == ZeroSnr::Webui {
                alphas_cumprod.iter_mut().for_each(|a| *a = a.max(floor));
            }
        }
        let level = |a: f32| ((1.0 - a) / a).sqrt();
        let sigmas: Vec<f32> = alphas_cumprod.iter().map(|&a| level(a.max(floor))).collect();
        let log_sigmas = sigmas.iter().map(|&s| ln(s)).collect();
        Ok(Self { config: config.clone(), alphas_cumprod, sigmas, log_sigmas })
    }

    /// What the schedule was made of.
    pub fn config(&self) -> &ScheduleConfig {
        &self.config
    }

    /// The cumulative product of 1 - beta, by integer timestep; 0 at the end where diffusers' zero terminal SNR says
    /// so.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// Noise levels `sqrt((1 - abar) / abar)` by integer timestep, rising.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// The table's smallest noise level (0.0292 for SD 1.x).
    pub fn sigma_min(&self) -> f32 {
        self.sigmas[0]
    }

    /// The table's largest noise level (14.6146 for SD 1.x).
    pub fn sigma_max(&self) -> f32 {
        self.sigmas[self.sigmas.len() - 1]
    }

    /// The last timestep, 999 for SD 1.x.
    pub fn last_time(&self) -> f32 {
        (self.sigmas.len() - 1) as f32
    }

    /// The noise level at a fractional timestep: log sigma is linear between table
    /// entries (k-diffusion, `external.py`).
    pub fn sigma_at(&self, t: f32) -> f32 {
        let t = t.clamp(0.0, self.last_time());
        let (low, high, w) = (t.floor() as usize, t.ceil() as usize, t - t.floor());
        exp((1.0 - w) * self.log_sigmas[low] + w * self.log_sigmas[high])
    }

    /// The fractional timestep of a noise level, the inverse of [`Schedule::sigma_at`], held inside of the table.
    pub fn time_of(&self, sigma: f32) -> f32 {
        interpolated_index(&self.log_sigmas, sigma)
    }

    /// The noise level at a fractional timestep with sigma itself linear between entries (diffusers, `np.interp`).
    pub fn sigma_linear(&self, t: f64) -> f32 {
        let t = t.clamp(0.0, f64::from(self.last_time()));
        let low = (t.floor() as usize).min(self.sigmas.len() - 2);
        let (a, b) = (f64::from(self.sigmas[low]), f64::from(self.sigmas[low + 1]));
        (a + (b - a) * (t - low as f64)) as f32
    }
}

/// Where `sigma` lies in a rising table of log sigmas, as a fractional index inside of it (k-diffusion's `sigma_to_t`).
pub(super) fn interpolated_index(log_sigmas: &[f32], sigma: f32) -> f32 {
    let log = ln(sigma);
    let low = log_sigmas.partition_point(|&l| l <= log).saturating_sub(1).min(log_sigmas.len() - 2);
    let w = (log_sigmas[low] - log) / (log_sigmas[low] - log_sigmas[low + 1]);
    let w = w.clamp(0.0, 1.0);
    (1.0 - w) * low as f32 + w * (low + 1) as f32
}

/// torch's f32 logarithm: correctly rounded, give or take the last bit.
pub(super) fn ln(x: f32) -> f32 {
    f64::from(x).ln() as f32
}

/// torch's f32 exponential.
pub(super) fn exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}

/// `torch.linspace` in f32: it counts from both ends towards the middle.
pub(super) fn linspace(start: f32, end: f32, n: usize) -> Vec<f32> {
    let step = if n > 1 { (end - start) / (n - 1) as f32 } else { 0.0 };
    let at = |i: usize| if i < n / 2 || n == 1 { start + step * i as f32 } else { end - step * (n - 1 - i) as f32 };
    (0..n).map(at).collect()
}

/// Products of 1 - beta; torch keeps the running product of an f32 `cumprod` in f64.
fn cumulative_alphas(config: &ScheduleConfig) -> Vec<f32> {
    let (start, end, n) = (config.beta_start, config.beta_end, config.train_steps);
    let betas: Vec<f32> = if config.scaled_linear {
        linspace(start.sqrt() as f32, end.sqrt() as f32, n).iter().map(|b| b * b).collect()
    } else {
        linspace(start as f32, end as f32, n)
    };
    let mut product = 1.0f64;
    let mut next = |beta: f32| {
        product *= f64::from(1.0 - beta);
        product as f32
    };
    betas.into_iter().map(&mut next).collect()
}

/// Shifts and scales sqrt(abar) so that the last step has no signal: 0 (Lin et al. 2023, algorithm 1).
fn rescale_zero_snr(alphas_cumprod: &mut [f32]) {
    let root = |a: f32| f64::from(a).sqrt();
    let n = alphas_cumprod.len();
    let (first, last) = (root(alphas_cumprod[0]), root(alphas_cumprod[n - 1]));
    for a in alphas_cumprod.iter_mut() {
        *a = ((root(*a) - last) * first / (first - last)).powi(2) as f32;
    }
    alphas_cumprod[n - 1] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_sd1() {
        let schedule = Schedule::new(&ScheduleConfig::default()).unwrap();
        // diffusers 0.42.1, as `samplers.json` has them: to the last bit of torch's power function.
        assert_eq!(schedule.sigma_max(), 14.614_647);
        assert!((schedule.sigma_min() - 0.029_167_535).abs() < 2e-9);
        assert!((schedule.alphas_cumprod()[0] - 0.99915).abs() < 1e-7);
        assert!((schedule.alphas_cumprod()[999] - 0.0046601).abs() < 1e-7);
    }

    #[test]
    fn time_and_sigma_are_inverse() {
        let schedule = Schedule::new(&ScheduleConfig::default()).unwrap();
        for t in [0.0, 0.5, 1.0, 20.3, 500.0, 748.77, 998.9, 999.0] {
            assert!((schedule.time_of(schedule.sigma_at(t)) - t).abs() < 2e-3, "{t}");
        }
        assert_eq!(schedule.time_of(1e6), 999.0);
        assert_eq!(schedule.time_of(0.0), 0.0);
    }

    #[test]
    fn both_conventions_of_zero_terminal_snr() {
        for (convention, top, last) in [(ZeroSnr::Diffusers, 4096.0, 0.0), (ZeroSnr::Webui, 4518.76, 4.897_345_3e-8)] {
            let config = ScheduleConfig { zero_snr: Some(convention), ..ScheduleConfig::default() };
            let schedule = Schedule::new(&config).unwrap();
            assert!((schedule.sigma_max() - top).abs() < 5e-3, "{}", schedule.sigma_max());
            assert_eq!(schedule.alphas_cumprod()[999], last);
            assert!((schedule.alphas_cumprod()[0] - 0.99915).abs() < 1e-6);
            // diffusers 0.42.1, as `zsnr.alphas_cumprod` of the tiny SDXL has it.
            assert!((f64::from(schedule.alphas_cumprod()[998]) / 1.968e-7 - 1.0).abs() < 1e-3);
            for (t, sigma) in [(998, 2254.2), (899, 18.13), (499, 1.768)] {
                assert!((schedule.sigmas()[t] / sigma - 1.0).abs() < 1e-3, "{t}");
            }
            assert!(schedule.sigmas().is_sorted() && schedule.sigmas().iter().all(|s| s.is_finite()));
        }
    }

    #[test]
    fn hostile_configurations() {
        let mut config = ScheduleConfig { zero_snr: Some(ZeroSnr::Diffusers), ..ScheduleConfig::default() };
        config.beta_end = f64::NAN;
        assert!(Schedule::new(&config).is_err());
        assert!(Schedule::new(&ScheduleConfig { train_steps: 0, ..ScheduleConfig::default() }).is_err());
    }
}
