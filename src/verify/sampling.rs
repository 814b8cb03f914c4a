//! The checks of noise, schedules and samplers: `randn.*`, `brownian.*`, `k.*` on an analytic denoiser, `loop.*`.

use super::reference::ReferenceLoop;
use super::{Bench, error};
use crate::diffusion::denoise::guided::Guided;
use crate::diffusion::denoise::noise::FixedNoise;
use crate::diffusion::denoise::plan::Timetable;
use crate::diffusion::denoise::run::{At, Denoiser, Progress, run, sample};
use crate::diffusion::denoise::samplers;
use crate::diffusion::denoise::schedule::Schedule;
use crate::diffusion::denoise::sigmas::{ScheduleKind, sigmas};
use crate::diffusion::prompt::PromptedUnet;
use crate::error::{Error, Result};
use crate::models::training::{Prediction, ScheduleConfig, ZeroSnr};
use crate::rng::RngKind;
use crate::rng::brownian::BrownianTree;
use crate::tensor::{Shape, Tensor};
use crate::verify::diffusers::{self, LoopConfig};
use std::ops::{ControlFlow, Range};

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
            ["table", rest @ ..] => {
                let rest = rest.join(".");
                let want = self.reference.tables.get(&rest).ok_or_else(|| Error::other(format!("no table {rest}")))?;
                error(&diffusers::table(&Schedule::new(&ScheduleConfig::default())?, &rest)?, want)
            }
            ["zsnr", "alphas_cumprod"] => {
                let config =
                    ScheduleConfig { zero_snr: Some(ZeroSnr::Diffusers), ..self.stages.model().schedule.clone() };
                error(Schedule::new(&config)?.alphas_cumprod(), &self.reference.get(name)?.data)
            }
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
        let plan = Timetable::on_sigmas(&self.schedule()?, samplers::find(sampler)?, self.table(table)?, eta)?;
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
                let prediction = config.prediction.unwrap_or(self.stages.model().schedule.prediction);
                let (first, latents) = self.whole_loop(which, given, &ours, prediction)?;
                let want = self.reference.get(name)?;
                match part {
                    "first" => error(&first, &want.data),
                    "image" => error(&self.pixels(&latents, &want.shape)?, &want.data),
                    _ => error(&latents, &want.data),
                }
            }
        }
    }

    /// Latents `[n][c][h][w]` to pixels of this shape, `[n, 3, height, width]`, in [-1, 1].
    fn pixels(&self, latents: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
        let &[n, _, height, width] = shape else {
            return Err(Error::other(format!("a picture of shape {shape:?} is not [b, c, h, w]")));
        };
        let networks = &self.stages.model().networks;
        let (kind, factor) = (networks.latents(), networks.factor());
        let size = Shape::new(n, height / factor, width / factor, kind.channels);
        Ok(self.stages.decode(Tensor::from_nchw(size, &kind.to_autoencoder(latents))?)?.to_nchw())
    }

    /// The latents after the first step, in diffusers' scale, and the last ones.
    fn whole_loop(
        &self,
        which: &str,
        given: &ReferenceLoop,
        ours: &diffusers::Loop,
        prediction: Prediction,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let noise = self.reference.get(&format!("loop.{which}.noise"))?;
        let &[n, _, h, w] = noise.shape.as_slice() else {
            return Err(Error::other(format!("noise of shape {:?} is not a batch of latents", noise.shape)));
        };
        let mut draws = vec![noise.data.clone()];
        if let Ok(steps) = self.reference.get(&format!("loop.{which}.step_noise")) {
            draws.extend(steps.data.chunks_exact(noise.data.len().max(1)).map(<[f32]>::to_vec));
        }
        let plan = &ours.plan;
        let prompts = match which.ends_with("zero_negative") {
            true => self.prompts_without_words()?,
            false => self.prompts()?,
        };
        let prompts = prompts.with_guidance(given.guidance_scale.unwrap_or(1.0));
        // The conditional half alone, as generate computes it.
        let prompts = if given.cfg == 1.0 { prompts.without_negative() } else { prompts };
        let mut unet = PromptedUnet::new(self.stages, &prompts, (n, h, w), plan.times())?;
        let guided = Guided::new(&mut unet, prediction, given.cfg).with_rescale(given.guidance_rescale);
        let mut seen = Seen { inner: guided, second: None };
        let mut heard = |_: &Progress<'_>| ControlFlow::Continue(());
        let size = (n, noise.data.len() / n.max(1));
        let latents = sample(plan, size, None, &mut FixedNoise::new(draws), &mut seen, &mut heard)?;
        let Some((mut first, at)) = seen.second else { return Ok((latents.clone(), latents)) };
        // Ours are clean + sigma noise where diffusers' begin with unit noise.
        if ours.init_noise_sigma == 1.0 && !plan.sigmas().is_empty() {
            let scale = 1.0 / (f64::from(at.sigma).powi(2) + 1.0).sqrt();
            first.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
        }
        Ok((first, latents))
    }
}

/// Remembers the latents of the second evaluation: those after one step of a sampler that evaluates once a step.
struct Seen<'a> {
    inner: Guided<'a>,
    second: Option<(Vec<f32>, At)>,
}

impl Seen<'_> {
    fn see(&mut self, x: &[f32], at: At) {
        if at.evaluation == 1 {
            self.second = Some((x.to_vec(), at));
        }
    }
}

impl Denoiser for Seen<'_> {
    fn denoised(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.see(x, at);
        self.inner.denoised(x, at, out)
    }

    fn epsilon(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.see(x, at);
        self.inner.epsilon(x, at, out)
    }

    fn noise_and_clean(&mut self, x: &[f32], at: At, noise: &mut [f32], clean: &mut [f32]) -> Result<()> {
        self.see(x, at);
        self.inner.noise_and_clean(x, at, noise, clean)
    }

    fn select(&mut self, images: Range<usize>) {
        self.inner.select(images);
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
