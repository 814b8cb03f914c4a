//! The samplers against k-diffusion's values on an analytic denoiser, and what holds for all of them.

use std::ops::ControlFlow;

use super::golden::{Golden, relative_error};
use super::noise::{FixedNoise, ImageNoise};
use super::plan::{Settings, Timetable};
use super::run::{At, Denoiser, Progress, run, sample};
use super::samplers::{Calls, Draws, Family, SAMPLERS, SamplerInfo, find};
use super::schedule::Schedule;
use super::sigmas::ScheduleKind;
use super::timesteps::{Point, Timesteps};
use super::unipc::UniPc;
use crate::error::{Kind, Result};
use crate::models::training::{ScheduleConfig, Spacing, ZeroSnr};
use crate::rng::RngKind;

/// The best denoiser of a Gaussian with this mean and variance 1/4.
struct Analytic {
    mean: Vec<f32>,
    calls: usize,
}

impl Analytic {
    fn new(mean: Vec<f32>) -> Self {
        Self { mean, calls: 0 }
    }
}

impl Denoiser for Analytic {
    fn denoised(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.calls += 1;
        // In f32, as torch computed the reference: the adaptive sampler's step sizes follow the rounding.
        let square = at.sigma * at.sigma;
        for (i, o) in out.iter_mut().enumerate() {
            *o = (0.25 * x[i] + square * self.mean[i % self.mean.len()]) / (0.25 + square);
        }
        Ok(())
    }

    fn noise_and_clean(&mut self, x: &[f32], at: At, noise: &mut [f32], clean: &mut [f32]) -> Result<()> {
        if at.sigma.is_infinite() {
            self.calls += 1;
            noise.copy_from_slice(x);
            clean.iter_mut().enumerate().for_each(|(i, c)| *c = self.mean[i % self.mean.len()]);
            return Ok(());
        }
        self.epsilon(x, at, noise)?;
        let sigma = f64::from(at.sigma);
        let scale = (sigma * sigma + 1.0).sqrt();
        for ((c, x), n) in clean.iter_mut().zip(x).zip(noise.iter()) {
            *c = (f64::from(*x) * scale - sigma * f64::from(*n)) as f32;
        }
        Ok(())
    }

    fn epsilon(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        let sigma = f64::from(at.sigma);
        let scale = (sigma * sigma + 1.0).sqrt();
        let exploding: Vec<f32> = x.iter().map(|v| (f64::from(*v) * scale) as f32).collect();
        self.denoised(&exploding, at, out)?;
        for (o, x) in out.iter_mut().zip(&exploding) {
            *o = if sigma > 0.0 { ((f64::from(*x) - f64::from(*o)) / sigma) as f32 } else { 0.0 };
        }
        Ok(())
    }
}

fn schedule() -> Schedule {
    Schedule::new(&ScheduleConfig::default()).unwrap()
}

fn quiet(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn k_diffusions_samplers() {
    let golden = Golden::open();
    let draws: Vec<Vec<f32>> = golden.f32("k.noise").chunks_exact(256).map(<[f32]>::to_vec).collect();
    let names = [
        "euler",
        "euler_ancestral",
        "heun",
        "dpm_2",
        "dpm_2_ancestral",
        "lms",
        "dpmpp_2s_ancestral",
        "dpmpp_2m",
        "dpmpp_sde",
        "dpmpp_2m_sde",
        "dpmpp_2m_sde_heun",
        "dpmpp_3m_sde",
    ];
    for table in ["discrete", "karras", "exponential"] {
        for name in names {
            let sigmas = golden.f32(&format!("k.sigmas.{table}"));
            let plan = Timetable::on_sigmas(&schedule(), find(name).unwrap(), sigmas, None).unwrap();
            let mut x = golden.f32(&format!("k.{table}.x0"));
            let mut noise = FixedNoise::new(draws.clone());
            run(&plan, &mut x, 1, &mut noise, &mut Analytic::new(golden.f32("k.mean")), &mut quiet).unwrap();
            golden.check(&format!("k.{table}.{name}"), &x, 1e-5);
        }
    }
    for name in ["dpm_fast", "dpm_adaptive"] {
        let sigmas = golden.f32("k.sigmas.discrete");
        let plan = Timetable::on_sigmas(&schedule(), find(name).unwrap(), sigmas, Some(0.0)).unwrap();
        let mut x = golden.f32("k.discrete.x0");
        let mut noise = FixedNoise::new(Vec::new());
        run(&plan, &mut x, 1, &mut noise, &mut Analytic::new(golden.f32("k.mean")), &mut quiet).unwrap();
        golden.check(&format!("k.{name}"), &x, 1e-5);
    }
}

/// Without fresh noise all methods solve one equation, whose solution is known: x - mean
/// shrinks like sqrt(1/4 + sigma^2).
#[test]
fn deterministic_samplers_reach_the_exact_solution() {
    let schedule = schedule();
    let mean = [0.4f32, -0.7, 1.2, 0.0];
    let deterministic = |s: &&SamplerInfo| s.takes_eta() || s.draws == Draws::None;
    for info in SAMPLERS.iter().filter(|s| !s.distilled).filter(deterministic) {
        for timesteps in [Timesteps::Auto, Timesteps::Webui] {
            let settings = Settings { eta: Some(0.0), timesteps, ..Settings::new(info, 400) };
            let plan = Timetable::new(&schedule, &settings).unwrap();
            let noise = [1.0f32, -0.5, 0.3, 2.0];
            let mut x = noise;
            plan.start(&mut x, None).unwrap();
            run(&plan, &mut x, 1, &mut FixedNoise::new(Vec::new()), &mut Analytic::new(mean.to_vec()), &mut quiet)
                .unwrap();
            let alpha = |a: f64| ((1.0 - a) / a).sqrt();
            let (top, end, scale) = match info.family {
                Family::Sigma if info.name.starts_with("DPM fast") || info.adaptive() => {
                    (f64::from(plan.sigmas()[0]), f64::from(schedule.sigma_min()), 1.0)
                }
                Family::Sigma => (f64::from(plan.sigmas()[0]), 0.0, 1.0),
                _ if info.name == "UniPC" && timesteps == Timesteps::Auto => (plan.points[0].sigma(), 0.0, 1.0),
                _ => {
                    let end = plan.points[plan.points.len() - 1].alpha_bar;
                    (alpha(plan.points[0].alpha_bar), alpha(end), end.sqrt())
                }
            };
            let first = if info.family == Family::Sigma { top } else { (1.0 + top * top).sqrt() };
            let shrink = ((0.25 + end * end) / (0.25 + top * top)).sqrt();
            for i in 0..4 {
                let exact = scale * (f64::from(mean[i]) + shrink * (first * f64::from(noise[i]) - f64::from(mean[i])));
                let first_order = ["Euler", "Gradient estimation", "DDIM", "DPM adaptive", "UniPC"];
                let limit = if first_order.iter().any(|n| info.name.starts_with(n)) { 2e-2 } else { 3e-3 };
                assert!((f64::from(x[i]) - exact).abs() < limit, "{} {timesteps:?}: {} not {exact}", info.name, x[i]);
            }
        }
    }
}

/// Twice the steps cut the error of a method of order p by 2^p.
#[test]
fn unipc_is_of_second_order() {
    let schedule = schedule();
    let error = |kind: UniPc, steps: usize| {
        // Even in lambda, where the method's theory is; between two levels well inside of the table.
        let level = |i: usize| 8.0f32 * (0.1f32 / 8.0).powf(i as f32 / steps as f32);
        let points: Vec<Point> = (0..=steps).map(|i| Point::from_sigma(schedule.time_of(level(i)), level(i))).collect();
        let plan =
            Timetable::bare(&schedule, find("unipc").unwrap()).with_method(kind.method()).with_points(points.clone());
        let (top, end) = (points[0].sigma(), points[steps].sigma());
        let mut x = [2.0f32];
        run(&plan, &mut x, 1, &mut FixedNoise::new(Vec::new()), &mut Analytic::new(vec![0.5]), &mut quiet).unwrap();
        let start = 2.0 * (1.0 + top * top).sqrt() - 0.5;
        let exact = 0.5 + start * ((0.25 + end * end) / (0.25 + top * top)).sqrt();
        (f64::from(x[0]) * (1.0 + end * end).sqrt() - exact).abs()
    };
    // Order 2 in all: the first and the last step are of lower order whatever the kind.
    for kind in [UniPc::DIFFUSERS, UniPc { bh1: true, ..UniPc::DIFFUSERS }, UniPc::WEBUI] {
        let (coarse, fine) = (error(kind, 80), error(kind, 160));
        assert!(error(kind, 20) < 1e-3 && coarse / fine > 3.3, "{kind:?}: {coarse} {fine}");
    }
}

#[test]
fn stochastic_samplers_keep_the_distribution() {
    let mean = vec![0.4f32];
    for info in SAMPLERS.iter().filter(|s| s.draws != Draws::None && !s.distilled) {
        // A multistep method made for no noise takes some of it for a trend; the error falls with the step.
        let steps = if info.name.starts_with("RES") { 400 } else { 60 };
        let plan = Timetable::new(&schedule(), &Settings { eta: Some(1.0), ..Settings::new(info, steps) }).unwrap();
        let mut noise = ImageNoise::new(RngKind::Nv, &[3]);
        let x = sample(&plan, (1, 2048), None, &mut noise, &mut Analytic::new(mean.clone()), &mut quiet).unwrap();
        let average = x.iter().map(|&v| f64::from(v)).sum::<f64>() / 2048.0;
        let deviation = (x.iter().map(|&v| (f64::from(v) - average).powi(2)).sum::<f64>() / 2048.0).sqrt();
        assert!((average - 0.4).abs() < 0.05 && (deviation - 0.5).abs() < 0.06, "{}: {average} {deviation}", info.name);
    }
}

#[test]
fn a_batch_is_its_single_images_and_runs_as_often_as_planned() {
    let schedule = schedule();
    for info in SAMPLERS {
        for steps in [1, 2, 3, 6, 25, 40] {
            let plan = Timetable::new(&schedule, &Settings::new(info, steps)).unwrap();
            let mut denoiser = Analytic::new(vec![0.1; 16]);
            let seeds = [8, 9];
            let both =
                sample(&plan, (2, 16), None, &mut ImageNoise::new(RngKind::Cpu, &seeds), &mut denoiser, &mut quiet)
                    .unwrap();
            match info.calls {
                Calls::Varies => assert_eq!(plan.times(), None),
                _ => assert_eq!(plan.evaluations(), Some(denoiser.calls), "{} {steps}", info.name),
            }
            let expected = match info.calls {
                Calls::One => Some(steps),
                Calls::OneMore => Some(if steps == 1 { 1 } else { steps + 1 }),
                Calls::Two => Some(2 * steps - 1),
                Calls::Varies => None,
            };
            assert_eq!(plan.evaluations(), expected, "{} {steps}", info.name);
            for (i, seed) in seeds.into_iter().enumerate() {
                let mut noise = ImageNoise::new(RngKind::Cpu, &[seed]);
                let one =
                    sample(&plan, (1, 16), None, &mut noise, &mut Analytic::new(vec![0.1; 16]), &mut quiet).unwrap();
                assert_eq!(one, both[16 * i..16 * (i + 1)], "{} {steps}", info.name);
            }
        }
    }
}

#[test]
fn every_sampler_with_every_schedule_and_count_stays_finite() {
    let schedule = schedule();
    for info in SAMPLERS {
        for kind in ScheduleKind::all() {
            for (steps, timesteps) in [(1, Timesteps::Auto), (2, Timesteps::Webui), (9, Timesteps::Auto)] {
                let settings = Settings { schedule: kind, timesteps, ..Settings::new(info, steps) };
                check_finite(&schedule, &settings);
            }
        }
        for timesteps in [Timesteps::Auto, Timesteps::Webui] {
            check_finite(&schedule, &Settings { timesteps, ..Settings::new(info, 1000) });
        }
    }
}

fn check_finite(schedule: &Schedule, settings: &Settings) {
    let plan = Timetable::new(schedule, settings).unwrap();
    let mut noise = ImageNoise::new(RngKind::Nv, &[1]);
    let result = sample(&plan, (1, 4), None, &mut noise, &mut Analytic::new(vec![0.5; 4]), &mut quiet);
    assert!(result.is_ok(), "{settings:?}: {}", result.unwrap_err());
}

/// The last timestep has no signal; the Gaussian is seen as velocity, which tells of it there too.
#[test]
fn every_sampler_works_from_no_signal_at_all() {
    for convention in [ZeroSnr::Diffusers, ZeroSnr::Webui] {
        let config =
            ScheduleConfig { zero_snr: Some(convention), spacing: Spacing::Trailing, ..ScheduleConfig::default() };
        let schedule = Schedule::new(&config).unwrap();
        for info in SAMPLERS {
            let plan = Timetable::new(&schedule, &Settings::new(info, 12)).unwrap();
            assert!(plan.times().is_none_or(|t| t[0] == 999.0), "{}", info.name);
            let mut noise = ImageNoise::new(RngKind::Nv, &[3]);
            let x = sample(&plan, (1, 512), None, &mut noise, &mut Analytic::new(vec![0.4]), &mut quiet).unwrap();
            let average = x.iter().map(|&v| f64::from(v)).sum::<f64>() / 512.0;
            assert!((average - 0.4).abs() < 0.1, "{} {convention:?}: {average}", info.name);
        }
    }
}

/// Hyper-SDXL's network for one step: the whole answer at timestep 800.
#[test]
fn one_timestep_alone() {
    let schedule = schedule();
    for name in ["lcm", "euler", "ddim", "tcd", "unipc"] {
        let settings = Settings { timesteps: Timesteps::Only(800), ..Settings::new(find(name).unwrap(), 1) };
        let plan = Timetable::new(&schedule, &settings).unwrap();
        assert_eq!(plan.times().unwrap(), [800.0], "{name}");
        let mut x = [1.0f32];
        plan.start(&mut x, None).unwrap();
        let sigma = f64::from(schedule.sigmas()[800]);
        let wanted = if plan.sigmas().is_empty() { 1.0 } else { (sigma * sigma + 1.0).sqrt() };
        assert!((f64::from(x[0]) - wanted).abs() < 1e-6, "{name}");
        let settings = Settings { steps: 4, ..settings };
        assert!(Timetable::new(&schedule, &settings).unwrap_err().to_string().contains("1 step"));
    }
}

#[test]
fn the_places_of_consistency_models_count_with_strength() {
    let schedule = schedule();
    for (name, kind) in [("lcm", ScheduleKind::Lcm), ("tcd", ScheduleKind::Automatic)] {
        let settings = Settings { schedule: kind, strength: Some(0.6), ..Settings::new(find(name).unwrap(), 4) };
        let plan = Timetable::new(&schedule, &settings).unwrap();
        assert_eq!(plan.times().unwrap(), [599.0, 459.0, 299.0, 159.0], "{name}");
    }
}

#[test]
fn image_to_image_counts() {
    let schedule = schedule();
    let evaluations = |name: &str, steps, strength, timesteps| {
        let settings = Settings { strength: Some(strength), timesteps, ..Settings::new(find(name).unwrap(), steps) };
        Timetable::new(&schedule, &settings).map(|p| p.evaluations().unwrap())
    };
    // The webui: int(0.75 * 20) + 1; diffusers and the original script: int(10 * 0.6).
    assert_eq!(evaluations("euler_a", 20, 0.75, Timesteps::Auto).unwrap(), 16);
    assert_eq!(evaluations("euler", 20, 1.0, Timesteps::Auto).unwrap(), 20);
    assert_eq!(evaluations("euler", 20, 0.0, Timesteps::Auto).unwrap(), 1);
    for name in ["ddim", "unipc"] {
        assert_eq!(evaluations(name, 10, 0.6, Timesteps::Auto).unwrap(), 6);
        assert_eq!(evaluations(name, 10, 0.7, Timesteps::Auto).unwrap(), 7);
        assert_eq!(evaluations(name, 10, 1.0, Timesteps::Auto).unwrap(), 10);
        assert_eq!(evaluations(name, 10, 0.05, Timesteps::Auto).unwrap_err().kind(), &Kind::Usage);
    }
    let settings = Settings { strength: Some(0.6), ..Settings::new(find("ddim").unwrap(), 10) };
    let plan = Timetable::new(&schedule, &settings).unwrap();
    assert_eq!(plan.times().unwrap(), [501.0, 401.0, 301.0, 201.0, 101.0, 1.0]);
    let mut x = [1.0f32];
    plan.start(&mut x, Some(&[2.0])).unwrap();
    let a = f64::from(schedule.alphas_cumprod()[501]);
    assert!((f64::from(x[0]) - (2.0 * a.sqrt() + (1.0 - a).sqrt())).abs() < 1e-6);
    assert!(plan.start(&mut x, Some(&[])).is_err());
    assert!(evaluations("euler", 20, 1.5, Timesteps::Auto).is_err());
    assert!(evaluations("euler", 0, 0.5, Timesteps::Auto).is_err());
}

struct Broken;

impl Denoiser for Broken {
    fn denoised(&mut self, _: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        out.fill(if at.step == 2 { f32::NAN } else { 0.0 });
        Ok(())
    }

    fn epsilon(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.denoised(x, at, out)
    }
}

#[test]
fn a_nan_ends_the_run_and_names_the_step() {
    for info in SAMPLERS {
        let plan = Timetable::new(&schedule(), &Settings::new(info, 20)).unwrap();
        let mut noise = ImageNoise::new(RngKind::Nv, &[1]);
        let error = sample(&plan, (1, 4), None, &mut noise, &mut Broken, &mut quiet).unwrap_err();
        // Three evaluations are one step of those that group them.
        let stage = if info.grouped { "step 1" } else { "step 3" };
        assert_eq!(error.kind(), &Kind::NonFinite { stage: stage.into() }, "{}", info.name);
    }
}

#[test]
fn the_listener_hears_every_evaluation_and_may_stop() {
    for name in ["euler", "ddim"] {
        let plan = Timetable::new(&schedule(), &Settings::new(find(name).unwrap(), 10)).unwrap();
        let mut heard = Vec::new();
        let mut listener = |p: &Progress<'_>| {
            assert_eq!((p.evaluations, p.denoised().len()), (Some(10), 4));
            heard.push((p.at.evaluation, p.denoised().into_owned()));
            if p.at.evaluation == 8 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut noise = ImageNoise::new(RngKind::Nv, &[1]);
        let mean = vec![0.5; 4];
        let result = sample(&plan, (1, 4), None, &mut noise, &mut Analytic::new(mean.clone()), &mut listener);
        assert_eq!(result.unwrap_err().kind(), &Kind::Cancelled);
        assert_eq!(heard.iter().map(|h| h.0).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
        // At the highest level the best guess is the mean.
        assert!(relative_error(&heard[0].1, &mean) < 0.2);
    }
}
