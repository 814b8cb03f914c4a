//! A diffusers scheduler's name and configuration in, the plan that repeats its loop out (for `verify`).
//!
//! `generate` follows the webui and the original scripts; diffusers differs from them in how levels are interpolated,
//! in the start's scale and in which timestep goes with a level. Those differences are all in the tables.

use super::reference;
use crate::diffusion::denoise::lcm;
use crate::diffusion::denoise::plan::{Settings, Timetable};
use crate::diffusion::denoise::samplers::find;
use crate::diffusion::denoise::schedule::Schedule;
use crate::diffusion::denoise::sigmas::{ScheduleKind, timesteps_of, turbo};
use crate::diffusion::denoise::timesteps::{Point, ddim_spaced, spaced, spaced_multistep};
use crate::diffusion::denoise::unipc::UniPc;
use crate::error::{Error, Result, escape};
use crate::models::training::{Prediction, ScheduleConfig, Spacing, ZeroSnr};

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
    /// `prediction_type`, where the loop's configuration names one.
    pub prediction: Option<Prediction>,
    /// `rescale_betas_zero_snr`, where the loop's configuration says so.
    pub zero_snr: Option<bool>,
    /// `eta` of the steps.
    pub eta: Option<f64>,
    /// Timesteps that the scheduler was given, where no rule of its own makes them.
    pub given: Vec<f32>,
}

/// One loop, ready to run: `plan.start` on unit noise gives its first latents, in the sampler's own scale.
pub struct Loop {
    /// Tables and sampler.
    pub plan: Timetable,
    /// diffusers' `scheduler.timesteps`: where the U-Net is asked, in order.
    pub timesteps: Vec<f32>,
    /// diffusers' `scheduler.sigmas`, with its repetitions; empty for DDIM, PNDM, LCM and TCD.
    pub sigmas: Vec<f32>,
    /// diffusers' `scheduler.init_noise_sigma`.
    pub init_noise_sigma: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheduler {
    Ddim,
    Pndm,
    Euler,
    EulerAncestral,
    Heun,
    Kdpm2,
    Lms,
    DpmSolver,
    UniPc,
    Lcm,
    Tcd,
    WebuiSgm,
    WebuiLcm,
}

/// The beginning of a loop's name, the scheduler, diffusers' class (or what stands in its place) and our sampler.
const NAMES: &[(&str, Scheduler, &str, &str)] = &[
    ("ddim", Scheduler::Ddim, "DDIMScheduler", "DDIM"),
    ("pndm", Scheduler::Pndm, "PNDMScheduler", "PLMS"),
    ("euler", Scheduler::Euler, "EulerDiscreteScheduler", "Euler"),
    ("euler_ancestral", Scheduler::EulerAncestral, "EulerAncestralDiscreteScheduler", "Euler a"),
    ("heun", Scheduler::Heun, "HeunDiscreteScheduler", "Heun"),
    ("dpm2", Scheduler::Kdpm2, "KDPM2DiscreteScheduler", "DPM2"),
    ("lms", Scheduler::Lms, "LMSDiscreteScheduler", "LMS"),
    ("dpmpp_2m", Scheduler::DpmSolver, "DPMSolverMultistepScheduler", "DPM++ 2M"),
    ("unipc", Scheduler::UniPc, "UniPCMultistepScheduler", "UniPC"),
    ("lcm", Scheduler::Lcm, "LCMScheduler", "LCM"),
    ("tcd", Scheduler::Tcd, "TCDScheduler", "TCD"),
    ("lightning_sgm", Scheduler::WebuiSgm, "webui euler + sgm_uniform", "Euler"),
    ("lcm_webui", Scheduler::WebuiLcm, "webui LCM", "LCM"),
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
        let starts = |(n, ..): &&(&str, Scheduler, &str, &str)| name == *n || name.starts_with(&format!("{n}_"));
        // The longest: euler_ancestral is not euler with something behind it.
        let longest = NAMES.iter().filter(starts).max_by_key(|(n, ..)| n.len());
        let (base, kind, ..) = longest.ok_or_else(unknown)?;
        let plain = name == *base && matches!(kind, Scheduler::Ddim | Scheduler::Pndm | Scheduler::Euler);
        let mut config = Self::of_kind(*kind);
        if plain {
            (config.spacing, config.steps_offset) = (Spacing::Leading, 1);
        }
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

    fn of_kind(kind: Scheduler) -> Self {
        Self {
            kind,
            spacing: Spacing::Linspace,
            steps_offset: 0,
            karras: false,
            exponential: false,
            set_alpha_to_one: false,
            unipc_order: UniPc::DIFFUSERS.order,
            unipc_bh1: UniPc::DIFFUSERS.bh1,
            prediction: None,
            zero_snr: None,
            eta: None,
            given: Vec::new(),
        }
    }

    /// The configuration of a loop of `samplers.json`: by its `_class_name` if it has one, else by its name, and then
    /// by what else it says.
    pub fn of(name: &str, given: &reference::ReferenceLoop) -> Result<Self> {
        let flag = |key: &str| given.config.get(key).and_then(serde_json::Value::as_bool);
        let count = |key: &str| given.config.get(key).and_then(serde_json::Value::as_u64);
        let text = |key: &str| given.config.get(key).and_then(serde_json::Value::as_str);
        let mut config = match text("_class_name") {
            None => Self::named(name)?,
            Some(class) => {
                let known = NAMES.iter().find(|(_, _, own, _)| *own == class);
                let unknown = || Error::usage(format!("loop {}: unknown scheduler '{}'", escape(name), escape(class)));
                Self::of_kind(known.ok_or_else(unknown)?.1)
            }
        };
        match text("timestep_spacing") {
            Some("leading") => config.spacing = Spacing::Leading,
            Some("linspace") => config.spacing = Spacing::Linspace,
            Some("trailing") => config.spacing = Spacing::Trailing,
            _ => {}
        }
        config.steps_offset = count("steps_offset").map_or(config.steps_offset, |n| n.min(1000) as usize);
        config.karras = flag("use_karras_sigmas").unwrap_or(config.karras);
        config.exponential = flag("use_exponential_sigmas").unwrap_or(config.exponential);
        config.set_alpha_to_one = flag("set_alpha_to_one").unwrap_or(config.set_alpha_to_one);
        if config.kind == Scheduler::UniPc {
            config.unipc_order = count("solver_order").map_or(config.unipc_order, |n| n.min(3) as usize);
            config.unipc_bh1 = text("solver_type").map_or(config.unipc_bh1, |t| t == "bh1");
        }
        config.prediction = match text("prediction_type") {
            Some("epsilon") => Some(Prediction::Epsilon),
            Some("v_prediction") => Some(Prediction::V),
            Some("sample") => Some(Prediction::Sample),
            _ => None,
        };
        config.zero_snr = flag("rescale_betas_zero_snr");
        config.eta = given.eta;
        if config.kind == Scheduler::Lcm && given.steps == 1 {
            // Hyper-SDXL's single step was asked for by its timestep; the rule's own would be the last one.
            config.given = given.timesteps.clone();
        }
        Ok(config)
    }

    /// The training schedule of the loop, on a model that has `own`.
    pub fn schedule(&self, own: &ScheduleConfig) -> Result<Schedule> {
        let zero_snr = match self.zero_snr {
            Some(true) => Some(ZeroSnr::Diffusers),
            Some(false) => None,
            None => own.zero_snr,
        };
        Schedule::new(&ScheduleConfig { zero_snr, ..own.clone() })
    }

    /// The loop of `steps` steps on a model's schedule.
    pub fn build(&self, schedule: &Schedule, steps: usize) -> Result<Loop> {
        if !(1..=1000).contains(&steps) {
            return Err(Error::usage(format!("{steps} steps: use 1 to 1000")));
        }
        let sampler = find(NAMES.iter().find(|(_, kind, ..)| *kind == self.kind).map_or("Euler", |(.., name)| name))?;
        let mut plan = Timetable::bare(schedule, sampler);
        if let Some(eta) = self.eta {
            plan = plan.with_eta(eta);
        }
        match self.kind {
            Scheduler::Ddim | Scheduler::Pndm => {
                let (offset, to_one) = (self.steps_offset, self.set_alpha_to_one);
                let plan = plan.with_points(ddim_spaced(schedule, self.spacing, steps, offset, to_one));
                Ok(finished(plan, Vec::new(), 1.0))
            }
            Scheduler::DpmSolver | Scheduler::UniPc => Ok(self.multistep(schedule, plan, steps)),
            Scheduler::Lcm => Ok(self.consistency(schedule, plan, steps)),
            Scheduler::Tcd => {
                let times = lcm::places(schedule, steps, 1.0);
                let points = times.into_iter().chain([0]).map(|t| Point::at(schedule, t)).collect();
                Ok(finished(plan.with_points(points), Vec::new(), 1.0))
            }
            // These are what generate does.
            Scheduler::WebuiSgm | Scheduler::WebuiLcm => {
                let sgm = self.kind == Scheduler::WebuiSgm;
                let kind = if sgm { ScheduleKind::SgmUniform } else { ScheduleKind::Automatic };
                let plan = Timetable::new(schedule, &Settings { schedule: kind, ..Settings::new(sampler, steps) })?;
                let sigmas = plan.sigmas().to_vec();
                let init = plan.start_factors().1;
                Ok(finished(plan, sigmas, init))
            }
            _ => Ok(self.k_like(schedule, plan, steps)),
        }
    }

    /// LCM: unit noise in variance-preserving scale, which is sqrt(sigma^2 + 1) here.
    fn consistency(&self, schedule: &Schedule, plan: Timetable, n: usize) -> Loop {
        let places = lcm::places(schedule, n, 1.0).into_iter().map(|t| t as f32);
        let asked: Vec<f32> = if self.given.is_empty() { places.collect() } else { self.given.clone() };
        let mut sigmas: Vec<f32> = asked.iter().map(|&t| schedule.sigma_linear(f64::from(t))).collect();
        let scale = (f64::from(sigmas[0]).powi(2) + 1.0).sqrt();
        sigmas.push(0.0);
        finished(plan.with_sigmas(sigmas, &asked, scale), Vec::new(), 1.0)
    }

    /// Euler, Heun, LMS and KDPM2: fractional timesteps, sigma linear between table entries.
    fn k_like(&self, schedule: &Schedule, plan: Timetable, n: usize) -> Loop {
        let times = timesteps_of(schedule, self.spacing, n, self.steps_offset);
        let mut asked: Vec<f32> = times.into_iter().map(|t| t as f32).collect();
        let mut sigmas: Vec<f32> = asked.iter().map(|&t| schedule.sigma_linear(f64::from(t))).collect();
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
    fn multistep(&self, schedule: &Schedule, plan: Timetable, n: usize) -> Loop {
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
            let plan = plan.with_method(UniPc { order: self.unipc_order, bh1: self.unipc_bh1 }.method());
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

/// A timestep table by its name in `samplers.json`: `lcm.0.6.4` (strength, steps), `trailing.7`, `stability_turbo.2`.
pub fn table(schedule: &Schedule, name: &str) -> Result<Vec<f32>> {
    let unknown = || Error::usage(format!("unknown table of timesteps '{}'", escape(name)));
    let (kind, rest) = name.split_once('.').ok_or_else(unknown)?;
    let (share, steps) = rest.rsplit_once('.').unwrap_or(("1", rest));
    let steps: usize = steps.parse().ok().filter(|n| (1..=1000).contains(n)).ok_or_else(unknown)?;
    let share: f64 = share.parse().ok().filter(|s| (0.0..=1.0).contains(s)).ok_or_else(unknown)?;
    let whole = |list: Vec<usize>| list.into_iter().map(|t| t as f32).collect();
    match kind {
        "lcm" | "tcd" => Ok(whole(lcm::places(schedule, steps, share))),
        "trailing" => Ok(whole(spaced(schedule, Spacing::Trailing, steps, 0))),
        "stability_turbo" => Ok(whole(turbo(schedule, steps))),
        _ => Err(unknown()),
    }
}

fn finished(plan: Timetable, sigmas: Vec<f32>, init: f64) -> Loop {
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

    /// `samplers.json` of the tiny models of the whole family, without what no table follows from.
    #[test]
    fn the_tables_of_the_family() {
        let text = include_str!("../../tests/golden/family_loops.json");
        let mut all: std::collections::BTreeMap<String, serde_json::Map<String, serde_json::Value>> =
            serde_json::from_str(text).unwrap();
        let tables = all.get_mut("sdxl").unwrap().remove("tables").unwrap();
        let mut seen = 0;
        for (family, loops) in all {
            for (name, entry) in loops {
                let given: reference::ReferenceLoop = serde_json::from_value(entry).unwrap();
                let config = LoopConfig::of(&name, &given).unwrap();
                let schedule = config.schedule(&ScheduleConfig::default()).unwrap();
                let own = config.build(&schedule, given.steps).unwrap();
                let near = |a: &[f32], b: &[f32], what: &str| {
                    let error = crate::verify::error(a, b).unwrap();
                    assert!(error < 1e-6, "{family} {name}: {what} {error:e}: {a:?} {b:?}");
                };
                near(&own.timesteps, &given.timesteps, "timesteps");
                near(&own.sigmas, &given.sigmas, "sigmas");
                near(&[own.init_noise_sigma], &[given.init_noise_sigma as f32], "init_noise_sigma");
                seen += 1;
            }
        }
        assert_eq!(seen, 25);
        let schedule = Schedule::new(&ScheduleConfig::default()).unwrap();
        for (name, want) in tables.as_object().unwrap() {
            let want: Vec<f32> = serde_json::from_value(want.clone()).unwrap();
            assert_eq!(table(&schedule, name).unwrap(), want, "{name}");
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
