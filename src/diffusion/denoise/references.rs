//! The samplers against `tests/golden/sampler_values.json` (`tools/export_samplers.py`): diffusers where it has the
//! scheduler, the papers' formulas in f64 where it has not. The whole way is taken, guidance and prediction types
//! included.

use std::ops::{ControlFlow, Range};

use super::golden::relative_error;
use super::guided::{Guided, Unet};
use super::noise::FixedNoise;
use super::plan::Timetable;
use super::run::{At, Progress, run};
use super::samplers::find;
use super::schedule::Schedule;
use crate::error::Result;
use crate::models::training::{Prediction, ScheduleConfig};
use crate::verify::diffusers::LoopConfig;
use crate::verify::reference::ReferenceLoop;
use serde_json::Value;

/// A network that knows two Gaussians of variance 1/4, with the prompt and without.
struct Gaussians {
    cond: Vec<f32>,
    uncond: Vec<f32>,
    prediction: Prediction,
}

impl Gaussians {
    fn raw(&self, x: &[f32], sigma: f32, mean: &[f32], out: &mut [f32]) {
        let sigma = f64::from(sigma);
        let (a, b) = match sigma.is_infinite() {
            true => (0.0, 1.0),
            false => (1.0 / (sigma * sigma + 1.0).sqrt(), sigma / (sigma * sigma + 1.0).sqrt()),
        };
        for ((o, x), mean) in out.iter_mut().zip(x).zip(mean) {
            let (x, mean) = (f64::from(*x), f64::from(*mean));
            let clean = (0.25 * x * a + b * b * mean) / (0.25 * a * a + b * b);
            let noise = (x - a * clean) / b;
            *o = match self.prediction {
                Prediction::V => a * noise - b * clean,
                Prediction::Sample => clean,
                _ => noise,
            } as f32;
        }
    }
}

impl Unet for Gaussians {
    fn predict(&mut self, x: &[f32], at: At, uncond: Option<&mut [f32]>, conds: &mut [Vec<f32>]) -> Result<()> {
        if let Some(uncond) = uncond {
            self.raw(x, at.sigma, &self.uncond, uncond);
        }
        self.raw(x, at.sigma, &self.cond, &mut conds[0]);
        Ok(())
    }

    fn select(&mut self, images: Range<usize>) {
        assert_eq!(images, 0..2);
    }
}

struct Values(Value);

impl Values {
    fn open() -> Self {
        Self(serde_json::from_str(include_str!("../../../tests/golden/sampler_values.json")).unwrap())
    }

    fn list(&self, name: &str) -> Vec<f32> {
        serde_json::from_value(self.0[name].clone()).unwrap()
    }

    fn entries(&self, name: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.0[name].as_object().unwrap().iter()
    }

    /// Runs a plan on its start, and gives the error.
    fn error(&self, plan: &Timetable, entry: &Value, (guidance, rescale): (f32, f32), prediction: Prediction) -> f64 {
        let draws: Vec<Vec<f32>> = serde_json::from_value(self.0["draws"].clone()).unwrap();
        let mut network = Gaussians { cond: self.list("mean"), uncond: self.list("uncond"), prediction };
        let mut guided = Guided::new(&mut network, prediction, guidance).with_rescale(rescale);
        let mut x = self.list("start");
        plan.start(&mut x, None).unwrap();
        let mut quiet = |_: &Progress<'_>| ControlFlow::Continue(());
        run(plan, &mut x, 2, &mut FixedNoise::new(draws), &mut guided, &mut quiet).unwrap();
        let want: Vec<f32> = serde_json::from_value(entry["latents"].clone()).unwrap();
        relative_error(&x, &want)
    }
}

#[test]
fn the_papers_samplers() {
    let values = Values::open();
    let schedule = Schedule::new(&ScheduleConfig::default()).unwrap();
    let mut seen = 0;
    for (name, entry) in values.entries("own") {
        let plan = Timetable::on_sigmas(&schedule, find(name).unwrap(), values.list("sigmas"), None).unwrap();
        let guidance = entry["guidance"].as_f64().unwrap() as f32;
        let error = values.error(&plan, entry, (guidance, 0.0), Prediction::Epsilon);
        assert!(error < 1e-5, "{name}: {error:e}");
        seen += 1;
    }
    assert_eq!(seen, 7);
}

#[test]
fn diffusers_loops_with_every_prediction() {
    let values = Values::open();
    let mut seen = 0;
    for (name, entry) in values.entries("diffusers") {
        let given: ReferenceLoop = serde_json::from_value(entry.clone()).unwrap();
        let config = LoopConfig::of(name, &given).unwrap();
        let schedule = config.schedule(&ScheduleConfig::default()).unwrap();
        let own = config.build(&schedule, given.steps).unwrap();
        let error = values.error(&own.plan, entry, (given.cfg, given.guidance_rescale), config.prediction.unwrap());
        // In float32 diffusers' Euler cancels from sigma 4096: 1e-4 of the rms between its float32 and float64.
        let limit = if name == "zero.euler" { 5e-4 } else { 1e-5 };
        assert!(error < limit, "{name}: {error:e}");
        seen += 1;
    }
    assert_eq!(seen, 22);
}
