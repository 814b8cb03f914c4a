//! A model and one of its stages go in; how long a run takes, with which result and how much memory, comes out.

use super::profile::Profile;
use super::stats::{mad, median};
use crate::backend::{Backend, Encoding, Program, Run, Value};
use crate::check::Random;
use crate::checkpoint::Model;
use crate::error::{Error, Kind, Result};
use crate::graph::plan::Plan;
use crate::graph::{Input, Output};
use crate::kernels::Cost;
use crate::models::part::{self, Part, StepShape};
use crate::system;
use crate::tensor::{Shape, Tensor};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// What can be timed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimedStage {
    /// A guided step: the U-Net on one latent with two contexts of 77 tokens.
    Step,
    /// Latents to a picture.
    Decode,
    /// A picture to latents.
    Encode,
    /// A prompt and a negative prompt, 77 tokens each, to hidden states, by every text encoder.
    Text,
    /// A whole picture of a model that needs one step: a prompt's 77 tokens by every text encoder, keys and values, one
    /// call of the network without guidance, decoding. All of it is loaded before.
    Picture,
}

impl TimedStage {
    const ALL: [Self; 5] = [Self::Step, Self::Decode, Self::Encode, Self::Text, Self::Picture];
}

impl fmt::Display for TimedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Step => "step",
            Self::Decode => "decode",
            Self::Encode => "encode",
            Self::Text => "text",
            Self::Picture => "picture",
        })
    }
}

impl FromStr for TimedStage {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|p| p.to_string() == name).ok_or_else(|| {
            let name = crate::error::escape(name);
            Error::usage(format!("unknown stage '{name}'; there are step, decode, encode, text, picture"))
        })
    }
}

/// What to time.
#[derive(Clone, Copy, Debug)]
pub struct StageRequest {
    /// Which stage.
    pub part: TimedStage,
    /// The picture's width in pixels.
    pub width: usize,
    /// The picture's height in pixels.
    pub height: usize,
    /// Timed runs, after one that warms up.
    pub runs: usize,
    /// Whether to time each step of one more run.
    pub profile: bool,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct StageTimes {
    /// Seconds of each run.
    pub runs: Vec<f64>,
    /// Seconds from nothing to a loaded program: weights made and packed.
    pub load: f64,
    /// Work and least traffic of a run.
    pub cost: Cost,
    /// The machine's f32 FMA peak in FLOP/s: the better of a measurement before the runs and one after them.
    pub fma_peak: f64,
    /// The most memory that the process has had resident, in bytes.
    pub peak_rss: Option<u64>,
    /// The root mean square of the output.
    pub output_rms: f64,
    /// What a run takes on the host where a queue is fed: the median time, and the last run's counts.
    pub encoding: Option<Encoding>,
    /// Where the time goes.
    pub profile: Option<Profile>,
}

impl StageTimes {
    /// The median time of a run in seconds.
    pub fn median(&self) -> f64 {
        median(&self.runs)
    }

    /// The median distance from it.
    pub fn mad(&self) -> f64 {
        mad(&self.runs)
    }

    /// FLOP/s, a convolution counted as a direct one.
    pub fn rate(&self) -> f64 {
        self.cost.flops as f64 / self.median()
    }
}

/// Loads the stage, runs it once, then times it. `peak` measures the device's FMA peak in FLOP/s; `tell` hears what is
/// being done.
///
/// Errors: a size that the model cannot have (`Usage`), an output with a NaN or an infinity (`NonFinite`).
pub fn run(
    backend: &dyn Backend,
    peak: &dyn Fn() -> Result<f64>,
    model: &Arc<Model>,
    request: &StageRequest,
    tell: &mut dyn FnMut(&str),
) -> Result<StageTimes> {
    let stages = stages(model, request)?;
    if request.profile && stages.len() > 1 {
        let all = stages.len();
        return Err(Error::of_option("profile", format!("{} is {all} programs; take one of them apart", request.part)));
    }
    tell("measuring the f32 FMA peak");
    let before = peak()?;
    tell("making and packing weights");
    let start = Instant::now();
    let mut programs = Vec::new();
    for stage in stages {
        let inputs = inputs(backend, model, stage)?;
        let mut program = load(backend, model, stage)?;
        inputs.iter().try_for_each(|(name, value)| program.set(*name, value))?;
        programs.push(program);
    }
    let load = start.elapsed().as_secs_f64();
    let cancel = AtomicBool::new(false);
    let mut runs = Vec::with_capacity(request.runs);
    let mut encodings: Vec<Encoding> = Vec::new();
    for i in 0..=request.runs {
        let start = Instant::now();
        for program in &mut programs {
            program.run(Run::Fast { cancel: &cancel })?;
        }
        let time = start.elapsed().as_secs_f64();
        if i == 0 {
            tell(&format!("warm-up: {time:.3} s"));
        } else {
            tell(&format!("run {i} of {}: {time:.3} s", request.runs));
            runs.push(time);
            encodings.extend(programs.last().and_then(|program| program.encoding()));
        }
    }
    let encoding = encodings.last().map(|last| {
        let hosts: Vec<f64> = encodings.iter().map(|e| e.host.as_secs_f64()).collect();
        Encoding { host: Duration::from_secs_f64(median(&hosts)), ..*last }
    });
    let costs: Vec<Cost> = programs.iter().map(|program| program.plan().cost()).collect();
    let cost = Cost { flops: costs.iter().map(|c| c.flops).sum(), bytes: costs.iter().map(|c| c.bytes).sum() };
    let program = programs.last_mut().ok_or_else(|| Error::other("a stage of no parts"))?;
    let output = first_output(program.as_mut())?;
    let output_rms = finite_rms(request.part, output.data())?;
    let peak_rss = system::peak_resident();
    let profile = if request.profile {
        tell("timing each step");
        let mut times = Vec::new();
        program.run(Run::Timed(&mut times))?;
        Some(Profile::new(program.plan(), &times))
    } else {
        None
    };
    let fma_peak = before.max(peak()?);
    Ok(StageTimes { runs, load, cost, fma_peak, peak_rss, output_rms, encoding, profile })
}

/// The parts of a stage, at its size, in the order in which they run.
///
/// # Errors
/// A size that the model cannot have (`Usage`).
pub fn stages(model: &Model, request: &StageRequest) -> Result<Vec<Part>> {
    let factor = model.networks.factor();
    let (w, h) = (request.width, request.height);
    let possible = |side: usize| side > 0 && side.is_multiple_of(factor) && side <= 4096;
    if !possible(w) || !possible(h) {
        return Err(Error::usage(format!("{w}x{h}: sides must be multiples of {factor}, at most 4096")));
    }
    let (lw, lh) = (w / factor, h / factor);
    let tokens = model.networks.positions();
    let networks = &model.networks;
    let step = |contexts: usize| {
        let times = networks.times(contexts);
        Part::Step(StepShape { samples: 1, contexts, times, h: lh, w: lw, tokens })
    };
    let text = |chunks| (0..networks.text.len()).map(move |encoder| Part::Text { encoder, chunks, clip_skip: 1 });
    let decode = Part::Decode { size: (1, lh, lw) };
    Ok(match request.part {
        TimedStage::Step => vec![step(2)],
        TimedStage::Decode => vec![decode],
        TimedStage::Encode => vec![Part::Encode { size: (1, h, w) }],
        TimedStage::Text => text(2).collect(),
        TimedStage::Picture => text(1).chain([Part::Context { contexts: 1, tokens }, step(1), decode]).collect(),
    })
}

fn load(backend: &dyn Backend, model: &Arc<Model>, stage: Part) -> Result<Box<dyn Program>> {
    loop {
        let plan = Plan::new(stage.graph(&model.networks)?, &backend.caps())?;
        match backend.load(Arc::new(plan), model) {
            // The backend knows now what to do without.
            Err(e) if *e.kind() == Kind::Refused => {}
            result => return result,
        }
    }
}

fn normal(name: &str, shape: Shape, scale: f32) -> Result<Tensor> {
    Tensor::new(shape, Random::new(name).normal(shape.len(), scale))
}

/// Inputs such as the stage gets them: normal latents, embeddings and pixels; keys,
/// values and time rows from the model.
fn inputs(backend: &dyn Backend, model: &Arc<Model>, stage: Part) -> Result<Vec<(Input, Value)>> {
    let networks = &model.networks;
    let one =
        |input: Input, shape: Shape, scale: f32| Ok(vec![(input, normal(&input.to_string(), shape, scale)?.into())]);
    match stage {
        Part::Step(s) => {
            let latents = Shape::new(s.samples, s.h, s.w, model.networks.in_channels());
            let mut all = one(part::step::LATENTS, latents, 1.0)?;
            let context = normal("context", Shape::tokens(s.contexts, s.tokens, networks.text_width()), 1.0)?;
            let stage = Part::Context { contexts: s.contexts, tokens: s.tokens };
            let keys = once(backend, model, stage, vec![(part::context::CONTEXT, context.into())])?;
            all.extend(keys.into_iter().enumerate().map(|(n, value)| (part::step::keys_values(n), value)));
            let mut told: Vec<(Input, Value)> = Vec::new();
            for (input, width) in [
                (part::time::ADDED, networks.added().map(|added| added.width())),
                (part::time::GUIDANCE, networks.guidance()),
            ] {
                if let Some(width) = width {
                    told.extend(one(input, Shape::tokens(1, s.times, width), 1.0)?);
                }
            }
            let timesteps = Tensor::new(Shape::tokens(1, s.times, 1), vec![500.0; s.times])?;
            told.push((part::time::TIMESTEPS, timesteps.into()));
            for rows in once(backend, model, Part::Time { timesteps: s.times }, told)? {
                let rows = rows.host()?;
                let shape = Shape::new(s.times, 1, 1, rows.shape().c);
                all.push((part::step::TIME, Tensor::new(shape, rows.data().to_vec())?.into()));
            }
            Ok(all)
        }
        Part::Decode { size: (b, h, w) } => {
            one(part::decode::LATENTS, Shape::new(b, h, w, model.networks.latents().channels), 1.0)
        }
        Part::Encode { size: (b, h, w) } => one(part::encode::IMAGE, Shape::new(b, h, w, 3), 0.5),
        Part::Text { encoder, chunks, .. } => {
            let text = networks.encoder(encoder)?;
            one(part::text::TOKENS, Shape::tokens(chunks, text.positions, text.width), 1.0)
        }
        Part::Upscale { size: (b, h, w) } => {
            let side = networks.upscaler()?.multiple();
            one(part::upscale::IMAGE, Shape::new(b, h / side, w / side, 3 * side * side), 0.5)
        }
        Part::Context { contexts, tokens } => {
            one(part::context::CONTEXT, Shape::tokens(contexts, tokens, networks.text_width()), 1.0)
        }
        Part::Time { .. } => Ok(Vec::new()),
    }
}

/// All outputs of a stage that is run once and forgotten.
fn once(backend: &dyn Backend, model: &Arc<Model>, stage: Part, inputs: Vec<(Input, Value)>) -> Result<Vec<Value>> {
    let mut program = load(backend, model, stage)?;
    inputs.iter().try_for_each(|(input, value)| program.set(*input, value))?;
    program.run(Run::Fast { cancel: &AtomicBool::new(false) })?;
    let outputs: Vec<Output> = program.plan().outputs.iter().map(|(output, _)| *output).collect();
    outputs.into_iter().map(|output| program.get(output)).collect()
}

fn first_output(program: &mut dyn Program) -> Result<Arc<Tensor>> {
    let first = program.plan().outputs.first().map(|(output, _)| *output);
    program.get(first.ok_or_else(|| Error::other("a plan without outputs"))?)?.host()
}

/// The root mean square; an error when a value is not finite or when all are zero.
fn finite_rms(part: TimedStage, values: &[f32]) -> Result<f64> {
    let squares: f64 = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    let rms = (squares / values.len().max(1) as f64).sqrt();
    if rms.is_finite() && rms > 0.0 {
        return Ok(rms);
    }
    let message = format!("the output of {part} is not usable (rms {rms}): its times mean nothing; run lienzo verify");
    Err(Error::new(Kind::NonFinite { stage: part.to_string() }, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::bench::ceiling::fma_peak;
    use crate::dtype::Storage;
    use crate::simd::Isa;

    #[test]
    fn outputs_must_be_finite() {
        assert_eq!(finite_rms(TimedStage::Text, &[3.0, -3.0]).unwrap(), 3.0);
        for bad in [[f32::NAN, 1.0], [f32::INFINITY, 1.0], [0.0, 0.0]] {
            let e = finite_rms(TimedStage::Decode, &bad).unwrap_err();
            assert_eq!(*e.kind(), Kind::NonFinite { stage: "decode".into() });
        }
    }

    #[test]
    fn every_stage_of_a_small_model_runs() {
        let cpu = Cpu::new(1, Isa::best(), Storage::F16).unwrap();
        let peak = || Ok(fma_peak(Isa::best(), cpu.workers()));
        let model = Arc::new(Model::embedded().unwrap());
        for part in TimedStage::ALL {
            assert_eq!(part.to_string().parse::<TimedStage>().unwrap(), part);
            let profile = part != TimedStage::Picture;
            let request = StageRequest { part, width: 64, height: 32, runs: 1, profile };
            let outcome = run(&cpu, &peak, &model, &request, &mut |_| ()).unwrap();
            assert!(outcome.runs.len() == 1 && outcome.cost.flops > 0 && outcome.fma_peak > 0.0, "{part}");
            assert_eq!(outcome.profile.is_some_and(|p| p.slowest.len() > 3), profile, "{part}");
            assert!(outcome.encoding.is_none(), "{part}: a CPU has no queue");
        }
        let odd = StageRequest { part: TimedStage::Step, width: 63, height: 64, runs: 1, profile: false };
        assert_eq!(run(&cpu, &peak, &model, &odd, &mut |_| ()).unwrap_err().kind(), &Kind::Usage);
        let whole = StageRequest { part: TimedStage::Picture, width: 64, profile: true, ..odd };
        assert!(run(&cpu, &peak, &model, &whole, &mut |_| ()).unwrap_err().to_string().contains("programs"));
        assert!("stop".parse::<TimedStage>().is_err());
    }
}
