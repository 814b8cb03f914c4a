//! What the user asked for in, everything that a sampler's run needs to know out:
//! levels, timesteps, the start, the count.

use super::noise::Noise;
use super::run::{At, Denoiser, run};
use super::samplers::{Family, SamplerInfo};
use super::schedule::{Schedule, interpolated_index, ln};
use super::sigmas::{ScheduleKind, sigmas};
use super::timesteps::{Point, Timesteps, ddim_points, unipc_points};
use super::unipc::UniPc;
use crate::error::{Error, Result};
use std::ops::ControlFlow;

/// The user's choices about the denoising.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which sampler.
    pub sampler: &'static SamplerInfo,
    /// Noise levels of the k-samplers. DDIM, PLMS and UniPC have their own and pay no attention, as in the webui.
    pub schedule: ScheduleKind,
    /// 1 to 1000.
    pub steps: usize,
    /// Share of fresh noise; `None` is the sampler's own default (1 for ancestral and SDE samplers, 0 for DDIM).
    pub eta: Option<f32>,
    /// Timesteps of DDIM, PLMS and UniPC; the k-samplers pay no attention.
    pub timesteps: Timesteps,
    /// img2img: how much of the process is run, 0 to 1. `None` starts from pure noise.
    pub strength: Option<f32>,
}

impl Settings {
    /// A sampler with a step count and otherwise its own defaults.
    pub fn new(sampler: &'static SamplerInfo, steps: usize) -> Self {
        let (schedule, timesteps) = (ScheduleKind::Automatic, Timesteps::Auto);
        Self { sampler, schedule, steps, eta: None, timesteps, strength: None }
    }
}

/// How a noise level becomes the timestep that the U-Net is told.
#[derive(Clone, Debug)]
pub(super) enum Timing {
    /// Interpolated in the training schedule.
    Schedule,
    /// These levels have these timesteps; others are interpolated (diffusers' tables).
    Pairs(Vec<(f32, f32)>),
    /// The nearest of the 50 timesteps that a consistency model was distilled on, and its boundary scaling.
    Distilled(Vec<f32>),
}

/// A sampler's run, before it happens: a pure function of the schedule and the settings.
#[derive(Clone, Debug)]
pub struct Plan {
    sampler: &'static SamplerInfo,
    schedule: Schedule,
    /// Levels from high to 0 of a k-sampler, from where it starts.
    pub(super) sigmas: Vec<f32>,
    /// Places of a timestep sampler, from where it starts; the last is where it ends.
    pub(super) points: Vec<Point>,
    pub(super) eta: f64,
    pub(crate) unipc: UniPc,
    timing: Timing,
    /// Smallest positive and largest level of the whole schedule, whatever the start.
    levels: (f32, f32),
    /// Factors of the image's latents and of the noise at the start.
    start: (f64, f64),
    times: Option<Vec<f32>>,
}

impl Plan {
    /// Works out the tables; steps outside of 1 to 1000 or a strength outside of 0 to 1 are usage errors.
    pub fn new(schedule: &Schedule, settings: &Settings) -> Result<Self> {
        if !(1..=1000).contains(&settings.steps) {
            return Err(Error::usage(format!("{} steps: use 1 to 1000", settings.steps)));
        }
        if let Some(s) = settings.strength.filter(|s| !(0.0..=1.0).contains(s)) {
            return Err(Error::usage(format!("strength {s}: use 0 to 1")));
        }
        if let Some(eta) = settings.eta.filter(|e| !(0.0..=1.0).contains(e)) {
            return Err(Error::usage(format!("eta {eta}: use 0 to 1")));
        }
        let unipc = if settings.timesteps == Timesteps::Webui { UniPc::WEBUI } else { UniPc::DIFFUSERS };
        let mut plan = Self::bare(schedule, settings.sampler);
        plan.unipc = unipc;
        plan.eta = f64::from(settings.eta.unwrap_or(settings.sampler.eta));
        match settings.sampler.family {
            Family::Sigma => plan.choose_sigmas(settings),
            Family::Ddim => plan.points = ddim_points(schedule, settings.timesteps, settings.steps),
            Family::UniPc => plan.points = unipc_points(schedule, settings.timesteps, settings.steps),
        }
        plan.cut(settings)?;
        Ok(plan.finished())
    }

    /// A k-sampler along given levels that fall to 0, as `verify` compares it with
    /// k-diffusion; the start is the caller's.
    pub fn on_sigmas(
        schedule: &Schedule,
        sampler: &'static SamplerInfo,
        sigmas: Vec<f32>,
        eta: Option<f32>,
    ) -> Result<Self> {
        let falls = sigmas.len() >= 2 && sigmas.windows(2).all(|w| w[0] >= w[1]) && sigmas[0].is_finite();
        if sampler.family != Family::Sigma
            || !falls
            || sigmas[sigmas.len() - 1] != 0.0
            || sigmas[sigmas.len() - 2] <= 0.0
        {
            return Err(Error::usage(format!("{}: a k-sampler needs levels that fall to 0", sampler.name)));
        }
        let mut plan = Self::bare(schedule, sampler);
        plan.eta = f64::from(eta.unwrap_or(sampler.eta));
        plan.levels = ends(&sigmas);
        plan.start = (1.0, f64::from(sigmas[0]));
        plan.sigmas = sigmas;
        Ok(plan.finished())
    }

    /// A plan without tables, for those who bring their own.
    pub(crate) fn bare(schedule: &Schedule, sampler: &'static SamplerInfo) -> Self {
        Self {
            sampler,
            schedule: schedule.clone(),
            sigmas: Vec::new(),
            points: Vec::new(),
            eta: f64::from(sampler.eta),
            unipc: UniPc::DIFFUSERS,
            timing: Timing::Schedule,
            levels: (schedule.sigma_min(), schedule.sigma_max()),
            start: (1.0, 1.0),
            times: None,
        }
    }

    /// Brings tables of another program: levels with the timesteps that belong to them, and the noise's factor.
    pub(crate) fn with_sigmas(mut self, sigmas: Vec<f32>, times: &[f32], noise: f64) -> Self {
        self.timing = Timing::Pairs(sigmas.iter().copied().zip(times.iter().copied()).collect());
        self.levels = ends(&sigmas);
        self.sigmas = sigmas;
        self.start = (1.0, noise);
        self.finished()
    }

    /// Brings the places of a timestep sampler.
    pub(crate) fn with_points(mut self, points: Vec<Point>) -> Self {
        self.points = points;
        self.finished()
    }

    fn choose_sigmas(&mut self, settings: &Settings) {
        let info = settings.sampler;
        let automatic = settings.schedule == ScheduleKind::Automatic;
        let kind = if automatic { info.schedule } else { settings.schedule };
        if info.distilled {
            let (times, table) = super::lcm::table(&self.schedule, settings.steps);
            self.timing = Timing::Distilled(times);
            if automatic {
                self.sigmas = table;
                self.levels = ends(&self.sigmas);
                return;
            }
        }
        let extra = usize::from(info.discard_penultimate);
        self.sigmas = sigmas(&self.schedule, kind, settings.steps + extra);
        if info.discard_penultimate {
            let n = self.sigmas.len();
            self.sigmas.remove(n - 2);
        }
        self.levels = ends(&self.sigmas);
    }

    /// Starts where img2img starts: t_enc + 1 = int(min(strength, .999) steps) + 1 steps from the end for a k-sampler
    /// (the webui's count), the last int(steps strength) for the others (the original scripts').
    fn cut(&mut self, settings: &Settings) -> Result<()> {
        let Some(strength) = settings.strength.map(f64::from) else {
            match settings.sampler.family {
                Family::Sigma => self.start = (1.0, f64::from(self.sigmas[0])),
                Family::Ddim | Family::UniPc => self.start = (0.0, 1.0),
            }
            return Ok(());
        };
        // The decimal that the user wrote, as Python programs multiply it: 0.7f32 alone would be a little less.
        let share = (strength * 1e6).round() / 1e6;
        if settings.sampler.family == Family::Sigma {
            let encoded = (share.min(0.999) * settings.steps as f64) as usize;
            self.sigmas.drain(..settings.steps.saturating_sub(encoded + 1));
            self.start = (1.0, f64::from(self.sigmas[0]));
            return Ok(());
        }
        let kept = (share * settings.steps as f64) as usize;
        if kept == 0 {
            return Err(Error::usage(format!(
                "strength {strength} of {} steps leaves none to run; raise --strength or --steps",
                settings.steps
            )));
        }
        self.points.drain(..(self.points.len() - 1).saturating_sub(kept));
        let alpha_bar = self.points[0].alpha_bar;
        self.start = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        Ok(())
    }

    /// Runs the sampler once on a single number, to learn which timesteps it asks for.
    fn finished(mut self) -> Self {
        if !self.sampler.adaptive() {
            let mut recorder = Recorder(Vec::new());
            let mut nothing = |_: &super::run::Progress<'_>| ControlFlow::Continue(());
            // Zeros stay zeros with every sampler, so this cannot fail.
            if run(&self, &mut [0.0], 1, &mut Silence, &mut recorder, &mut nothing).is_ok() {
                self.times = Some(recorder.0);
            }
        }
        self
    }

    /// The sampler.
    pub fn sampler(&self) -> &'static SamplerInfo {
        self.sampler
    }

    /// The planned number of evaluations of the guided model; `None` for the adaptive sampler.
    pub fn evaluations(&self) -> Option<usize> {
        self.times.as_ref().map(Vec::len)
    }

    /// The timesteps in the order in which the sampler will ask for them; `None` for the adaptive sampler.
    pub fn times(&self) -> Option<&[f32]> {
        self.times.as_deref()
    }

    /// Levels of a k-sampler from where it starts to 0; empty for DDIM, PLMS and UniPC.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// Smallest positive and largest level of the whole schedule: the range of the Brownian path.
    pub fn levels(&self) -> (f32, f32) {
        self.levels
    }

    /// Factors of the image's latents and of unit noise at the start.
    pub fn start_factors(&self) -> (f64, f64) {
        self.start
    }

    /// Turns unit noise into the sampler's start, with the image's latents under it if there are some.
    pub fn start(&self, x: &mut [f32], init: Option<&[f32]>) -> Result<()> {
        let (signal, noise) = self.start;
        match init {
            None => super::run::combine(x, noise, &[]),
            Some(init) if init.len() == x.len() => super::run::combine(x, noise, &[(signal, init)]),
            Some(init) => {
                return Err(Error::other(format!("the start image has {} latents, not {}", init.len(), x.len())));
            }
        }
        Ok(())
    }

    /// The training schedule's lowest level.
    pub(super) fn lowest(&self) -> f32 {
        self.schedule.sigma_min()
    }

    /// A k-sampler's steps: level and next level.
    pub(super) fn steps(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.sigmas.windows(2).map(|w| (f64::from(w[0]), f64::from(w[1])))
    }

    pub(super) fn time_of(&self, sigma: f32) -> f32 {
        match &self.timing {
            Timing::Schedule => self.schedule.time_of(sigma),
            Timing::Pairs(pairs) => {
                let given = pairs.iter().find(|(s, _)| *s == sigma).map(|(_, t)| *t);
                given.unwrap_or_else(|| self.schedule.time_of(sigma))
            }
            Timing::Distilled(times) => {
                let distance = |t: &f32| (ln(sigma) - ln(self.schedule.sigma_at(*t))).abs();
                times.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0.0)
            }
        }
    }

    /// The boundary scaling of consistency models; nothing for others.
    pub(super) fn post_process(&self, at: At, x: &[f32], denoised: &mut [f32]) {
        if matches!(self.timing, Timing::Distilled(_)) {
            super::lcm::boundary(at.t, x, denoised);
        }
    }
}

/// Interpolates a level in a table of other levels: `sigma_to_t` on any rising list.
pub(super) fn index_in(levels: &[f32], sigma: f32) -> f32 {
    let logs: Vec<f32> = levels.iter().map(|&s| ln(s)).collect();
    interpolated_index(&logs, sigma)
}

fn ends(sigmas: &[f32]) -> (f32, f32) {
    let positive = || sigmas.iter().copied().filter(|s| *s > 0.0);
    (positive().fold(f32::INFINITY, f32::min), positive().fold(0.0, f32::max))
}

/// Finds nothing and remembers where it was asked.
struct Recorder(Vec<f32>);

impl Denoiser for Recorder {
    fn denoised(&mut self, _: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.epsilon(&[], at, out)
    }

    fn epsilon(&mut self, _: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.0.push(at.t);
        out.fill(0.0);
        Ok(())
    }
}

struct Silence;

impl Noise for Silence {
    fn next(&mut self, out: &mut [f32]) -> Result<()> {
        out.fill(0.0);
        Ok(())
    }

    fn brownian(&mut self, _: f32, _: f32, out: &mut [f32]) -> Result<()> {
        self.next(out)
    }
}
