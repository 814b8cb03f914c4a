//! How much memory a request takes, known from shapes alone: refused before a weight is read.

use super::GenerateArgs;
use crate::cli::device::Work;
use lienzo::checkpoint::Model;
use lienzo::diffusion::Request;
use lienzo::diffusion::denoise::plan::Plan as Sampling;
use lienzo::diffusion::denoise::schedule::Schedule;
use lienzo::diffusion::inpaint::told;
use lienzo::diffusion::preview::PATCH;
use lienzo::diffusion::prompt::Demand;
use lienzo::engine::Engine;
use lienzo::engine::residency::Keep;
use lienzo::error::{Error, Kind, Result};
use lienzo::models::part::{Part, StepShape};
use lienzo::models::tokenizer::Tokenizer;
use lienzo::system::{self, format_bytes};

/// What the process needs beside weights and activations: code, threads, read buffers.
const BASE: u64 = 50_000_000;

/// What some requests need, one after the other in one process.
pub struct Needs<'a> {
    engine: &'a Engine,
    model: &'a Model,
    /// The different stages, in the order in which they first run.
    stages: Vec<Part>,
    /// Bytes outside of all programs, at most.
    beside: u64,
    /// Whether the U-Net runs again after a picture was decoded.
    alternating: bool,
}

impl<'a> Needs<'a> {
    /// Reads the prompts and works out the sizes; several requests are the cells of a grid.
    ///
    /// # Errors
    /// Usage: what no plan can be made for.
    pub fn new(engine: &'a Engine, model: &'a Model, requests: &[Request], tokens: &Tokenizer) -> Result<Self> {
        let mut needs = Self { engine, model, stages: Vec::new(), beside: 0, alternating: requests.len() > 1 };
        for request in requests {
            let times = Sampling::new(&Schedule::new(&model.schedule)?, &request.sampling)?;
            let timesteps = times.times().map_or(1, <[f32]>::len).max(1);
            let demand = Demand::new(request, tokens, model)?;
            needs.beside = needs.beside.max(demand.bytes(model, request.together(), timesteps));
            for stage in stages(model, request, &demand, timesteps) {
                if !needs.stages.contains(&stage) {
                    needs.stages.push(stage);
                }
            }
            // Previews decode between two runs of the U-Net, as several pictures do.
            needs.alternating |= request.count > 1 || request.preview.is_some();
        }
        Ok(needs)
    }

    /// What stays loaded within a limit, and bytes of the whole process at the worst moment.
    fn peak(&self, limit: Option<u64>, low_memory: bool) -> Result<(Keep, u64)> {
        // A GPU's memory is its own: what the process needs beside is elsewhere.
        let beside = if self.engine.backend().numerics().device.is_some() { 0 } else { BASE + self.beside };
        let budget = limit.map(|l| l.saturating_sub(beside));
        let r = self.engine.residency(self.model, &self.stages, self.alternating, budget, low_memory)?;
        Ok((r.keep, beside + r.peak))
    }
}

/// The stages of a request, in the order in which they run.
fn stages(model: &Model, request: &Request, demand: &Demand, timesteps: usize) -> Vec<Part> {
    let (h, w) = request.latent_size(model);
    let mut stages = vec![Part::Text { encoder: 0, chunks: 1, clip_skip: request.clip_skip }, Part::Time { timesteps }];
    // Where the last batch is smaller, it has programs of its own.
    let together = request.together();
    let sizes = [together, request.count % together].into_iter().filter(|samples| *samples > 0);
    for (samples, (contexts, tokens)) in sizes.flat_map(|s| demand.calls.iter().map(move |call| (s, *call))) {
        let contexts = contexts * samples;
        stages.push(Part::Context { contexts, tokens });
        stages.push(Part::Step(StepShape { samples, contexts, times: 1, h, w, tokens }));
    }
    stages.push(Part::Decode { size: (1, h, w) });
    if request.picture().is_some() || told(model) {
        stages.push(Part::Encode { size: (1, request.height, request.width) });
    }
    if request.preview.is_some_and(|p| !p.vae) && h.max(w) > PATCH {
        stages.push(Part::Decode { size: (1, h.min(PATCH), w.min(PATCH)) });
    }
    stages
}

/// Floating-point operations and weights of all requests together, for an estimate of their time.
pub fn work(engine: &Engine, model: &Model, requests: &[Request], tokens: &Tokenizer) -> Result<Work> {
    let mut work = Work::default();
    for request in requests {
        let times = Sampling::new(&Schedule::new(&model.schedule)?, &request.sampling)?;
        let evaluations = times.times().map_or(request.sampling.steps, <[f32]>::len);
        let batches = request.count.div_ceil(request.together().max(1)) as f64;
        let mut weights = 0.0_f64;
        let demand = Demand::new(request, tokens, model)?;
        for stage in stages(model, request, &demand, times.times().map_or(1, <[f32]>::len).max(1)) {
            let plan = engine.plan(model, stage)?;
            let runs = match stage {
                Part::Step(_) => evaluations as f64 * batches,
                Part::Decode { .. } | Part::Encode { .. } => request.count as f64,
                _ => 1.0,
            };
            work.flops += runs * plan.cost().flops as f64;
            weights += plan.weight_bytes(2) as f64;
        }
        // All requests of a grid share their weights.
        work.weight_bytes = work.weight_bytes.max(weights);
    }
    Ok(work)
}

/// `--max-memory`, read.
fn asked(args: &GenerateArgs) -> Result<Option<u64>> {
    args.max_memory.as_deref().map(parse_size).transpose()
}

/// What a device's memory may be used up to by what is not known before: `--max-memory`, unless `--force` overrides it.
pub fn budget(args: &GenerateArgs) -> Result<Option<u64>> {
    Ok(asked(args)?.filter(|_| !args.force))
}

/// The limit that decides what is kept: what the user allows, but no more than three quarters of what there is.
fn limit(engine: &Engine, args: &GenerateArgs) -> Result<Option<u64>> {
    let asked = asked(args)?;
    Ok(asked.into_iter().chain(engine.backend().memory_limit().map(|l| l / 4 * 3)).min())
}

/// What is done about a request on a device with a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// It fits.
    AsAsked,
    /// It fits if pictures are computed one at a time, which changes none of them.
    OneAtATime,
    /// It does not: the device is left.
    Leave,
}

impl Fit {
    /// From bytes: the budget, what the request needs on the device, and what it needs there with batches of one.
    fn decide(budget: u64, asked: u64, single: Option<u64>) -> Self {
        match (asked <= budget, single) {
            (true, _) => Self::AsAsked,
            (false, Some(single)) if single <= budget => Self::OneAtATime,
            _ => Self::Leave,
        }
    }
}

/// Leaves a GPU that cannot run the request at all, and applies `--max-memory` to the memory of one that can: smaller
/// batches, then the backend behind it, each said. Gives the batch size if it is another.
pub fn fit(
    engine: &Engine,
    model: &Model,
    requests: &[Request],
    tokens: &Tokenizer,
    args: &GenerateArgs,
) -> Result<Option<usize>> {
    if engine.backend().numerics().device.is_none() {
        return Ok(None);
    }
    // What no binding of it holds, smaller batches do not help.
    engine.settle(model, &Needs::new(engine, model, requests, tokens)?.stages)?;
    let device = engine.backend();
    let budget = asked(args)?.filter(|_| device.numerics().device.is_some());
    let Some(budget) = budget else {
        engine.notes().iter().for_each(|note| eprintln!("note: {note}"));
        return Ok(None);
    };
    let peak = |requests: &[Request]| Ok(Needs::new(engine, model, requests, tokens)?.peak(Some(budget), false)?.1);
    let asked = peak(requests)?;
    let several = requests.iter().any(|r| r.together() > 1);
    let single: Vec<Request> = requests.iter().cloned().map(|r| Request { batch_size: 1, ..r }).collect();
    let single = several.then(|| peak(&single)).transpose()?;
    let (name, limit) = (device.name(), format_bytes(budget));
    match Fit::decide(budget, asked, single) {
        Fit::AsAsked => eprintln!("note: --max-memory {limit} holds for {name}: {} needed there", format_bytes(asked)),
        Fit::OneAtATime => {
            let (asked, single) = (format_bytes(asked), format_bytes(single.unwrap_or_default()));
            eprintln!("note: {asked} needed on {name}, --max-memory allows {limit}: one picture at a time ({single})");
            return Ok(Some(1));
        }
        Fit::Leave if args.force => {}
        Fit::Leave => {
            let why = format!("{} needed on {name}, --max-memory allows {limit}", format_bytes(asked));
            if engine.give_up(&device, &why) {
                engine.notes().iter().for_each(|note| eprintln!("note: {note}"));
            }
        }
    }
    Ok(None)
}

/// Refuses what the machine, its container or `--max-memory` cannot hold; short free memory is only a warning.
///
/// Returns what is to be kept from one stage to the next.
pub fn check(needs: &Needs<'_>, args: &GenerateArgs) -> Result<Keep> {
    let engine = needs.engine;
    if args.low_memory && args.device.wants_gpu()? {
        let message = "--low-memory reads the weights anew at every step, which only the CPU does: use --device cpu, or leave it out";
        return Err(Error::usage(message));
    }
    let (keep, need) = needs.peak(limit(engine, args)?, args.low_memory)?;
    let (have, whose) = match (asked(args)?, engine.backend().memory_limit()) {
        (Some(asked), Some(limit)) if asked > limit => (limit, "this machine (or container) has"),
        (Some(asked), _) => (asked, "--max-memory allows"),
        (None, Some(limit)) => (limit, "this machine (or container) has"),
        (None, None) => return Ok(keep),
    };
    let numbers = format!("{} needed, {whose} {}", format_bytes(need), format_bytes(have));
    if need > have && !args.force {
        let low = needs.peak(None, true)?.1;
        let remedy = match !args.low_memory && low <= have {
            true => format!("--low-memory ({})", format_bytes(low)),
            false => "a smaller -W, -H or --batch-size, or a shorter prompt".to_owned(),
        };
        let message = format!("not enough memory: {numbers}; try {remedy}, or --force to start all the same");
        return Err(Error::new(Kind::TooBig { need, have }, message));
    }
    if need > have {
        eprintln!("note: {numbers}; going on because of --force");
    } else if let Some(free) =
        engine.backend().memory_limit().and_then(|_| system::available_memory()).filter(|free| need > *free)
    {
        eprintln!("note: {} needed, {} free just now; it may become slow", format_bytes(need), format_bytes(free));
    }
    Ok(keep)
}

/// `--plan`: every step of every plan, then the peak.
pub fn print_plan(needs: &Needs<'_>, args: &GenerateArgs) -> Result<()> {
    let mut out = String::new();
    for stage in &needs.stages {
        out.push_str(&needs.engine.plan(needs.model, *stage)?.table());
        out.push('\n');
    }
    let (_, normal) = needs.peak(limit(needs.engine, args)?, false)?;
    let (_, low) = needs.peak(None, true)?;
    out.push_str(&format!("peak memory {}, with --low-memory {}\n", format_bytes(normal), format_bytes(low)));
    print_all(&out)
}

/// Prints to stdout; a reader that went away (`| head`) is not an error.
pub fn print_all(text: &str) -> Result<()> {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::other(format!("could not print: {e}"))),
        _ => Ok(()),
    }
}

/// `2.4GB`, `800 MB`, `3GiB` or plain bytes.
fn parse_size(text: &str) -> Result<u64> {
    let wrong = || Error::usage(format!("--max-memory {text} is not a size; write 2.4GB, 800MB or 2GiB"));
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let factor: f64 = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" | "k" => 1e3,
        "mb" | "m" => 1e6,
        "gb" | "g" => 1e9,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return Err(wrong()),
    };
    let value: f64 = digits.parse().map_err(|_| wrong())?;
    if value.is_finite() && value > 0.0 { Ok((value * factor) as u64) } else { Err(wrong()) }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What a command line asks of the embedded model.
    #[cfg(feature = "gpu")]
    pub fn memory_work(line: &[&str]) -> Result<Work> {
        use clap::Parser as _;
        use lienzo::backend::cpu::{Cpu, WeightType};
        use std::sync::Arc;

        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: GenerateArgs,
        }
        let args = Line::parse_from(line).args;
        let model = Model::embedded()?;
        let request = args.request(&model, (args.prompt()?, String::new()), 1)?;
        let engine = Engine::new(Arc::new(Cpu::new(1, lienzo::simd::Isa::best(), WeightType::Auto)?));
        work(&engine, &model, &[request], &Tokenizer::clip())
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("2.4GB", 2_400_000_000), ("800 mb", 800_000_000), ("1GiB", 1 << 30), ("77", 77)] {
            assert_eq!(parse_size(text).ok(), Some(bytes), "{text}");
        }
        for text in ["", "GB", "-1GB", "2 potatoes", "nan"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_budget_costs_batches_first_and_then_the_device() {
        for (budget, asked, single, want) in [
            (100, 100, None, Fit::AsAsked),
            (100, 90, Some(50), Fit::AsAsked),
            (100, 101, Some(100), Fit::OneAtATime),
            (100, 101, Some(101), Fit::Leave),
            (100, 101, None, Fit::Leave),
        ] {
            assert_eq!(Fit::decide(budget, asked, single), want, "{budget} {asked} {single:?}");
        }
    }
}
