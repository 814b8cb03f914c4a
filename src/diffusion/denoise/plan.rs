//! What the user asked for in, everything that a sampler's run needs to know out: levels, timesteps, the start, the
//! count.

use super::noise::Noise;
use super::run::{At, Denoiser, Run, run};
use super::samplers::{Family, SamplerInfo};
use super::schedule::{Schedule, ln};
use super::sigmas::ScheduleKind;
use super::timesteps::{Point, Timesteps};
use crate::error::{Error, Remedy, Result};
use std::ops::ControlFlow;

/// The user's choices about the denoising.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which sampler.
    pub sampler: &'static SamplerInfo,
    /// Noise levels of the k-samplers. Samplers along timesteps have their own and pay no attention, as in the webui.
    pub schedule: ScheduleKind,
    /// 1 to 1000.
    pub steps: usize,
    /// Share of fresh noise; `None` is the sampler's own default (1 for ancestral and SDE samplers, 0 for DDIM).
    pub eta: Option<f32>,
    /// Timesteps of DDIM, PLMS, UniPC and TCD; the k-samplers pay attention to [`Timesteps::Only`] alone.
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

    /// The strength as Python programs multiply it: the decimal that the user wrote (0.7f32 alone is a little less).
    pub(super) fn share(&self) -> Option<f64> {
        self.strength.map(|s| (f64::from(s) * 1e6).round() / 1e6)
    }

    fn check(&self) -> Result<()> {
        if !(1..=1000).contains(&self.steps) {
            return Err(Error::usage(format!("{} steps: use 1 to 1000", self.steps)));
        }
        if let Some(s) = self.strength.filter(|s| !(0.0..=1.0).contains(s)) {
            return Err(Error::usage(format!("strength {s}: use 0 to 1")));
        }
        if let Some(eta) = self.eta.filter(|e| !(0.0..=1.0).contains(e)) {
            return Err(Error::usage(format!("eta {eta}: use 0 to 1")));
        }
        match self.timesteps {
            Timesteps::Only(t) if self.steps != 1 => {
                Err(Error::usage(format!("timestep {t} alone is one step, not {}: ask for 1 step", self.steps)))
            }
            _ => Ok(()),
        }
    }
}

/// A sampler's code: its state and its latents.
pub(crate) type Method = fn(&mut Run<'_>, &mut [f32]) -> Result<()>;

/// How a noise level becomes the timestep that the U-Net is told.
#[derive(Clone, Debug, Default)]
pub(super) enum Timing {
    /// Interpolated in the training schedule.
    #[default]
    Schedule,
    /// These levels have these timesteps; others are interpolated (diffusers' tables).
    Pairs(Vec<(f32, f32)>),
    /// The nearest of these, the only ones that the model knows.
    Nearest(Vec<f32>),
}

/// What a sampler walks along: the answer of its [`SamplerInfo::tables`].
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    /// Levels from high to 0 of a k-sampler.
    pub sigmas: Vec<f32>,
    /// Places of a sampler along timesteps; the last is where it ends.
    pub points: Vec<Point>,
    pub timing: Timing,
    /// The factor of the noise in a start from pure noise, where it is not the first level.
    pub noise: Option<f64>,
    /// Whether the whole table is run whatever the strength, because the strength is in it.
    pub whole: bool,
    /// The sampler's code, where the tables call for another than its usual.
    pub method: Option<Method>,
}

/// A sampler's run, before it happens: a pure function of the schedule and the settings.
#[derive(Clone, Debug)]
pub struct Timetable {
    sampler: &'static SamplerInfo,
    pub(super) method: Method,
    schedule: Schedule,
    /// Levels from high to 0 of a k-sampler, from where it starts.
    pub(super) sigmas: Vec<f32>,
    /// Places of a timestep sampler, from where it starts; the last is where it ends.
    pub(super) points: Vec<Point>,
    pub(super) eta: f64,
    timing: Timing,
    /// Smallest positive and largest level of the whole schedule, whatever the start.
    levels: (f32, f32),
    /// Factors of the image's latents and of the noise at the start.
    start: (f64, f64),
    times: Option<Vec<f32>>,
}

impl Timetable {
    /// Works out the tables; steps outside of 1 to 1000 or a strength outside of 0 to 1 are usage errors.
    pub fn new(schedule: &Schedule, settings: &Settings) -> Result<Self> {
        settings.check()?;
        let info = settings.sampler;
        let tables = (info.tables)(schedule, settings);
        let mut plan = Self::bare(schedule, info);
        plan.eta = settings.eta.or(info.eta).map_or(0.0, f64::from);
        plan.method = tables.method.unwrap_or(info.run);
        (plan.sigmas, plan.points, plan.timing) = (tables.sigmas, tables.points, tables.timing);
        if info.family == Family::Sigma {
            plan.levels = ends(&plan.sigmas);
        }
        match settings.share() {
            None if info.family == Family::Sigma => {
                plan.start = (1.0, tables.noise.unwrap_or(f64::from(plan.sigmas[0])));
            }
            None => plan.start = (0.0, 1.0),
            Some(share) => plan.cut(settings, share, tables.whole)?,
        }
        Ok(plan.finished())
    }

    /// Starts where img2img starts: t_enc + 1 = int(min(strength, .999) steps) + 1 steps from the end for a k-sampler
    /// (the webui's count), the last int(steps strength) for the others (the original scripts').
    fn cut(&mut self, settings: &Settings, share: f64, whole: bool) -> Result<()> {
        if self.sampler.family == Family::Sigma {
            let encoded = (share.min(0.999) * settings.steps as f64) as usize;
            let left_out = if whole { 0 } else { settings.steps.saturating_sub(encoded + 1) };
            self.sigmas.drain(..left_out);
            self.start = (1.0, f64::from(self.sigmas[0]));
            return Ok(());
        }
        let kept = (share * settings.steps as f64) as usize;
        if kept == 0 && !whole {
            let strength = f64::from(settings.strength.unwrap_or_default());
            let message = format!("strength {strength} of {} steps leaves none to run", settings.steps);
            return Err(Error::usage(message).try_this(Remedy::MoreStrength));
        }
        let left_out = if whole { 0 } else { (self.points.len() - 1).saturating_sub(kept) };
        self.points.drain(..left_out);
        let alpha_bar = self.points[0].alpha_bar;
        self.start = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        Ok(())
    }

    /// A k-sampler along given levels that fall to 0, as `verify` compares it with k-diffusion; the start is the
    /// caller's.
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
        plan.eta = eta.or(sampler.eta).map_or(0.0, f64::from);
        plan.levels = ends(&sigmas);
        plan.start = (1.0, f64::from(sigmas[0]));
        plan.sigmas = sigmas;
        Ok(plan.finished())
    }

    /// A plan without tables, for those who bring their own.
    pub(crate) fn bare(schedule: &Schedule, sampler: &'static SamplerInfo) -> Self {
        Self {
            sampler,
            method: sampler.run,
            schedule: schedule.clone(),
            sigmas: Vec::new(),
            points: Vec::new(),
            eta: sampler.eta.map_or(0.0, f64::from),
            timing: Timing::Schedule,
            levels: (schedule.sigma_min(), schedule.sigma_max()),
            start: (1.0, 1.0),
            times: None,
        }
    }

    /// The same with a share of fresh noise.
    pub(crate) fn with_eta(mut self, eta: f64) -> Self {
        self.eta = eta;
        self
    }

    /// The same with another of the sampler's methods.
    pub(crate) fn with_method(mut self, method: Method) -> Self {
        self.method = method;
        self
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
            Timing::Nearest(times) => {
                let distance = |t: &f32| (ln(sigma) - ln(self.schedule.sigma_at(*t))).abs();
                times.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0.0)
            }
        }
    }

    /// The cumulative alpha of an integer timestep.
    pub(super) fn alpha_bar(&self, t: usize) -> f64 {
        Point::at(&self.schedule, t).alpha_bar
    }
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

    fn noise_and_clean(&mut self, x: &[f32], at: At, noise: &mut [f32], clean: &mut [f32]) -> Result<()> {
        noise.fill(0.0);
        self.denoised(x, at, clean)
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
