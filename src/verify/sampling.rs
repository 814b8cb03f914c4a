//! The checks of noise, schedules and samplers: `randn.*`, `brownian.*`, `k.*` on an analytic denoiser, `loop.*`.

use super::{Bench, error};
use crate::diffusion::denoise::noise::FixedNoise;
use crate::diffusion::denoise::plan::Plan;
use crate::diffusion::denoise::run::{At, Denoiser, Progress, run};
use crate::diffusion::denoise::samplers;
use crate::diffusion::denoise::schedule::Schedule;
use crate::diffusion::denoise::sigmas::{ScheduleKind, sigmas};
use crate::error::{Error, Result};
use crate::rng::RngKind;
use crate::rng::brownian::BrownianTree;
use crate::verify::diffusers::LoopConfig;
use std::ops::ControlFlow;

/// The order in which one generator of a seed was asked for the `randn.SEED.*` tensors.
const DRAWS: [&str; 3] = ["5", "4x8x8", "19"];

impl Bench<'_> {
    /// Every check that is not of the network alone.
    pub(super) fn sampling(&self, name: &str) -> Result<f64> {
        let parts: Vec<&str> = name.split('.').collect();
        match parts.as_slice() {
            ["randn", seed, draw] => self.randn(name, seed, draw),
            ["brownian", seed] => self.brownian(name, seed),
            ["k", "sigmas", table] => error(&self.table(table)?, &self.reference.get(name)?.data),
            ["k", sampler @ ("dpm_fast" | "dpm_adaptive")] => self.analytic(name, "discrete", sampler, Some(0.0)),
            ["k", table, sampler] => self.analytic(name, table, sampler, None),
            ["loop", which, part] => self.looped(name, which, part),
            _ => Err(Error::other(format!("{name} is not a check of this kind"))),
        }
    }

    fn randn(&self, name: &str, seed: &str, draw: &str) -> Result<f64> {
        let mut generator = RngKind::Cpu.generator(number(seed)?);
        let mut all = DRAWS.iter().take_while(|d| **d != draw).copied().collect::<Vec<_>>();
        all.push(draw);
        let mut out = Vec::new();
        for d in all {
            let len = d.split('x').map(number).product::<Result<u64>>()?;
            out = vec![0.0; len as usize];
            generator.randn(&mut out);
        }
        error(&out, &self.reference.get(name)?.data)
    }

    fn brownian(&self, name: &str, seed: &str) -> Result<f64> {
        let want = &self.reference.get(name)?;
        let sigmas = self.table("karras")?;
        let levels: Vec<f32> = sigmas.into_iter().filter(|s| *s > 0.0).collect();
        let rows = want.shape.first().copied().unwrap_or(0);
        let len = want.data.len() / rows.max(1);
        if levels.len() != rows + 1 {
            return Err(Error::other(format!("{rows} rows of noise for {} levels", levels.len())));
        }
        let tree = BrownianTree::new(RngKind::Cpu, number(seed)?, levels[rows], levels[0], len);
        let mut out = vec![0.0; rows * len];
        for (j, row) in out.chunks_exact_mut(len.max(1)).enumerate() {
            tree.noise(levels[j], levels[j + 1], row);
        }
        error(&out, &want.data)
    }

    /// A sigma table of the `k.*` checks, computed here.
    pub(super) fn table(&self, name: &str) -> Result<Vec<f32>> {
        let kind = if name == "discrete" { ScheduleKind::Uniform } else { ScheduleKind::parse(name)? };
        Ok(sigmas(&self.schedule()?, kind, self.reference.k.steps))
    }

    pub(super) fn schedule(&self) -> Result<Schedule> {
        Schedule::new(&self.stages.model().schedule)
    }

    fn analytic(&self, name: &str, table: &str, sampler: &str, eta: Option<f32>) -> Result<f64> {
        let mean = self.reference.get("k.mean")?.data.clone();
        let draws = &self.reference.get("k.noise")?.data;
        let noise = draws.chunks_exact(mean.len().max(1)).map(<[f32]>::to_vec).collect();
        let plan = Plan::on_sigmas(&self.schedule()?, samplers::find(sampler)?, self.table(table)?, eta)?;
        let mut x = self.reference.get(&format!("k.{table}.x0"))?.data.clone();
        let mut heard = |_: &Progress<'_>| ControlFlow::Continue(());
        run(&plan, &mut x, 1, &mut FixedNoise::new(noise), &mut Analytic { mean }, &mut heard)?;
        error(&x, &self.reference.get(name)?.data)
    }

    fn looped(&self, name: &str, which: &str, part: &str) -> Result<f64> {
        let missing = || Error::other(format!("samplers.json has no loop {which}"));
        let given = self.reference.loops.get(which).ok_or_else(missing)?;
        let config = LoopConfig::of(which, given)?;
        let ours = config.build(&config.schedule(&self.stages.model().schedule)?, given.steps)?;
        match part {
            "timesteps" => error(&ours.timesteps, &given.timesteps),
            "sigmas" => error(&ours.sigmas, &given.sigmas),
            "init_noise_sigma" => error(&[ours.init_noise_sigma], &[given.init_noise_sigma as f32]),
            _ => {
                let noise = self.reference.get(&format!("loop.{which}.noise"))?;
                let latents = self.guided(&ours.plan, given.cfg, noise, None)?;
                error(&latents, &self.reference.get(name)?.data)
            }
        }
    }
}

/// `D(x, s) = (0.25 x + s^2 mean) / (0.25 + s^2)`: the best denoiser of a Gaussian of variance 1/4.
struct Analytic {
    mean: Vec<f32>,
}

impl Denoiser for Analytic {
    fn denoised(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        let s = at.sigma;
        for ((o, x), mean) in out.iter_mut().zip(x).zip(&self.mean) {
            // f32 in torch's order of operations: the adaptive sampler's step sizes amplify rounding.
            *o = (0.25 * x + s * s * mean) / (0.25 + s * s);
        }
        Ok(())
    }

    fn epsilon(&mut self, _: &[f32], _: At, _: &mut [f32]) -> Result<()> {
        Err(Error::other("the analytic denoiser is for samplers on noise levels"))
    }
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Error::other(format!("'{}' is not a number", crate::error::escape(text))))
}
