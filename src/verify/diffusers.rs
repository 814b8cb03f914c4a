//! A diffusers scheduler's name and configuration in, the plan that repeats its loop out (for `verify`).
//!
//! `generate` follows the webui and the original scripts; diffusers differs from them in how levels are interpolated,
//! in the start's scale and in which timestep goes with a level. Those differences are all in the tables.

use crate::diffusion::denoise::plan::Plan;
use crate::diffusion::denoise::samplers::find;
use crate::diffusion::denoise::schedule::Schedule;
use crate::diffusion::denoise::timesteps::{Point, ddim_spaced, spaced, spaced_multistep};
use crate::diffusion::denoise::unipc::UniPc;
use crate::error::{Error, Result, escape};
use crate::models::training::Spacing;

/// What a loop of reference values was made with. The fields are diffusers' configuration keys.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopConfig {
    kind: Scheduler,
    /// `timestep_spacing`.
    pub spacing: Spacing,
    /// `steps_offset`.
    pub steps_offset: usize,
    /// `use_karras_sigmas`.
    pub karras: bool,
    /// `use_exponential_sigmas`.
    pub exponential: bool,
    /// `set_alpha_to_one` (DDIM and PNDM).
    pub set_alpha_to_one: bool,
    /// `solver_order` of UniPC.
    pub unipc_order: usize,
    /// UniPC's `solver_type` is `bh1` and not `bh2`.
    pub unipc_bh1: bool,
}

/// One loop, ready to run: `plan.start` on unit noise gives its first latents, in the sampler's own scale.
pub struct Loop {
    /// Tables and sampler.
    pub plan: Plan,
    /// diffusers' `scheduler.timesteps`: where the U-Net is asked, in order.
    pub timesteps: Vec<f32>,
    /// diffusers' `scheduler.sigmas`, with its repetitions; empty for DDIM and PNDM.
    pub sigmas: Vec<f32>,
    /// diffusers' `scheduler.init_noise_sigma`.
    pub init_noise_sigma: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheduler {
    Ddim,
    Pndm,
    Euler,
    Heun,
    Kdpm2,
    Lms,
    DpmSolver,
    UniPc,
}

const NAMES: &[(&str, Scheduler, &str)] = &[
    ("ddim", Scheduler::Ddim, "DDIM"),
    ("pndm", Scheduler::Pndm, "PLMS"),
    ("euler", Scheduler::Euler, "Euler"),
    ("heun", Scheduler::Heun, "Heun"),
    ("dpm2", Scheduler::Kdpm2, "DPM2"),
    ("lms", Scheduler::Lms, "LMS"),
    ("dpmpp_2m", Scheduler::DpmSolver, "DPM++ 2M"),
    ("unipc", Scheduler::UniPc, "UniPC"),
];

impl LoopConfig {
    /// The configuration that a loop's name stands for: `euler_karras` is Euler with Karras sigmas.
    ///
    /// ddim, pndm and euler mean leading spacing with offset 1; the others and all
    /// with a suffix are linspace, offset 0.
    pub fn named(name: &str) -> Result<Self> {
        let unknown = || {
            let all: Vec<&str> = NAMES.iter().map(|(n, ..)| *n).collect();
            Error::usage(format!("unknown loop '{}': known are {}", escape(name), all.join(", ")))
        };
        let starts = |(n, ..): &&(&str, Scheduler, &str)| name == *n || name.starts_with(&format!("{n}_"));
        let (base, kind, _) = NAMES.iter().find(starts).ok_or_else(unknown)?;
        let plain = name == *base && matches!(kind, Scheduler::Ddim | Scheduler::Pndm | Scheduler::Euler);
        let mut config = Self {
            kind: *kind,
            spacing: if plain { Spacing::Leading } else { Spacing::Linspace },
            steps_offset: usize::from(plain),
            karras: false,
            exponential: false,
            set_alpha_to_one: false,
            unipc_order: UniPc::DIFFUSERS.order,
            unipc_bh1: UniPc::DIFFUSERS.bh1,
        };
        for suffix in name[base.len()..].split('_').skip(1) {
            match suffix {
                "karras" => config.karras = true,
                "exponential" => config.exponential = true,
                "leading" => (config.spacing, config.steps_offset) = (Spacing::Leading, 1),
                "linspace" => config.spacing = Spacing::Linspace,
                "trailing" => config.spacing = Spacing::Trailing,
                _ => return Err(unknown()),
            }
        }
        Ok(config)
    }

    /// The loop of `steps` steps on a model's schedule.
    pub fn build(&self, schedule: &Schedule, steps: usize) -> Result<Loop> {
        if !(1..=1000).contains(&steps) {
            return Err(Error::usage(format!("{steps} steps: use 1 to 1000")));
        }
        let name = NAMES.iter().find(|(_, kind, _)| *kind == self.kind).map_or("Euler", |(.., name)| name);
        let mut plan = Plan::bare(schedule, find(name)?);
        plan.unipc = UniPc { order: self.unipc_order.clamp(1, 3), bh1: self.unipc_bh1 };
        match self.kind {
            Scheduler::Ddim | Scheduler::Pndm => {
                let (offset, to_one) = (self.steps_offset, self.set_alpha_to_one);
                let plan = plan.with_points(ddim_spaced(schedule, self.spacing, steps, offset, to_one));
                Ok(finished(plan, Vec::new(), 1.0))
            }
            Scheduler::DpmSolver | Scheduler::UniPc => Ok(self.multistep(schedule, plan, steps)),
            _ => Ok(self.k_like(schedule, plan, steps)),
        }
    }

    /// Euler, Heun, LMS and KDPM2: fractional timesteps, sigma linear between table entries.
    fn k_like(&self, schedule: &Schedule, plan: Plan, n: usize) -> Loop {
        let train = schedule.sigmas().len();
        let times: Vec<f32> = match self.spacing {
            Spacing::Linspace => {
                (0..n).rev().map(|i| ((train - 1) as f64 * i as f64 / (n - 1).max(1) as f64) as f32).collect()
            }
            spacing => {
                let offset = self.steps_offset;
                spaced(schedule, spacing, n, offset).into_iter().map(|t| t as f32).collect()
            }
        };
        let mut sigmas: Vec<f32> = times.iter().map(|&t| schedule.sigma_linear(f64::from(t))).collect();
        let mut asked = times;
        if self.karras || self.exponential {
            sigmas = self.respaced(sigmas[n - 1], sigmas[0], n);
            asked = sigmas.iter().map(|&s| schedule.time_of(s)).collect();
        }
        let max = sigmas[0];
        let leading = self.spacing == Spacing::Leading;
        let init = if leading { (f64::from(max).powi(2) + 1.0).sqrt() } else { f64::from(max) };
        sigmas.push(0.0);
        let twice = sigmas[1..n].iter().flat_map(|&s| [s, s]);
        let shown = match self.kind {
            Scheduler::Heun => [max].into_iter().chain(twice).chain([0.0]).collect(),
            Scheduler::Kdpm2 => [max].into_iter().chain(twice).chain([0.0; 3]).collect(),
            _ => sigmas.clone(),
        };
        finished(plan.with_sigmas(sigmas, &asked, init), shown, init)
    }

    /// DPMSolverMultistep and UniPC: integer timesteps, and latents in variance-preserving scale.
    fn multistep(&self, schedule: &Schedule, plan: Plan, n: usize) -> Loop {
        let times = spaced_multistep(schedule, self.spacing, n, self.steps_offset);
        let mut asked: Vec<f32> = times.into_iter().map(|t| t as f32).collect();
        let mut sigmas: Vec<f32> = asked.iter().map(|&t| schedule.sigma_linear(f64::from(t))).collect();
        if self.karras || self.exponential {
            sigmas = self.respaced(schedule.sigma_min(), schedule.sigma_max(), n);
            // Exponential timesteps are cut to integers, Karras ones rounded.
            let whole = |t: f32| if self.karras { t.round_ties_even() } else { t.trunc() };
            asked = sigmas.iter().map(|&s| whole(schedule.time_of(s))).collect();
        }
        sigmas.push(0.0);
        if self.kind == Scheduler::UniPc {
            let places = asked.iter().chain([&0.0]).zip(&sigmas);
            let points = places.map(|(&t, &s)| Point::from_sigma(t, s)).collect();
            return finished(plan.with_points(points), sigmas, 1.0);
        }
        // Our DPM++ 2M works on x = clean + sigma noise: unit noise there is sqrt(sigma^2 + 1) here.
        let scale = (f64::from(sigmas[0]).powi(2) + 1.0).sqrt();
        finished(plan.with_sigmas(sigmas.clone(), &asked, scale), sigmas, 1.0)
    }

    /// Karras or exponential levels, in f64 as numpy computes them.
    fn respaced(&self, min: f32, max: f32, n: usize) -> Vec<f32> {
        let (min, max) = (f64::from(min), f64::from(max));
        let ramp = |i: usize| if n > 1 { i as f64 / (n - 1) as f64 } else { 0.0 };
        let karras = |r: f64| {
            let (low, high) = (min.powf(1.0 / 7.0), max.powf(1.0 / 7.0));
            (high + r * (low - high)).powi(7)
        };
        let exponential = |r: f64| (max.ln() + r * (min.ln() - max.ln())).exp();
        (0..n).map(ramp).map(|r| if self.karras { karras(r) } else { exponential(r) } as f32).collect()
    }
}

fn finished(plan: Plan, sigmas: Vec<f32>, init: f64) -> Loop {
    let timesteps = plan.times().map(<[f32]>::to_vec).unwrap_or_default();
    Loop { plan, timesteps, sigmas, init_noise_sigma: init as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::denoise::golden::{assert_near, samplers};
    use crate::models::training::ScheduleConfig;

    #[test]
    fn the_tables_of_every_reference_loop() {
        let schedule = Schedule::new(&ScheduleConfig::default()).unwrap();
        let numbers = |v: &serde_json::Value| -> Vec<f32> {
            v.as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as f32).collect()
        };
        for (name, entry) in samplers().as_object().unwrap() {
            if name == "k" {
                continue;
            }
            let steps = entry["steps"].as_u64().unwrap() as usize;
            let own = LoopConfig::named(name).unwrap().build(&schedule, steps).unwrap();
            let (times, sigmas) = (numbers(&entry["timesteps"]), numbers(&entry["sigmas"]));
            assert_near(&own.timesteps, &times, 2e-3);
            assert_near(&own.sigmas, &sigmas, 3e-6);
            assert_near(&[own.init_noise_sigma], &numbers(&serde_json::json!([entry["init_noise_sigma"]])), 1e-6);
        }
    }

    #[test]
    fn names_and_single_steps() {
        let schedule = Schedule::new(&ScheduleConfig::default()).unwrap();
        assert!(LoopConfig::named("euler_sideways").is_err() && LoopConfig::named("eulerish").is_err());
        for (name, ..) in NAMES {
            for suffix in ["", "_karras", "_trailing", "_leading", "_exponential"] {
                for steps in [1, 2, 3, 50, 1000] {
                    let own = LoopConfig::named(&format!("{name}{suffix}")).unwrap().build(&schedule, steps).unwrap();
                    assert!(own.timesteps.len() >= steps, "{name}{suffix} {steps}");
                }
            }
        }
    }
}
