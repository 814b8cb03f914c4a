//! How much memory a request takes, known from shapes alone: refused before a weight is read.

use super::note::{Field, Objection, Phrase, phrase};
use super::word::ByteCount;
use crate::checkpoint::Model;
use crate::diffusion::Request;
use crate::diffusion::itinerary::{Itinerary, Visit};
use crate::engine::Engine;
use crate::engine::devices::Work;
use crate::engine::residency::Keep;
use crate::error::{Kind, Result};
use crate::models::part::PartKind;
use crate::models::tokenizer::Tokenizer;
use crate::system::{self, format_bytes};
use std::collections::HashMap;
use std::sync::Arc;

/// What the process needs beside weights, activations and pictures: code, threads, read buffers.
pub const BASE: u64 = 40_000_000;

/// What some requests need, one after the other in one process.
pub struct Needs<'a> {
    engine: &'a Engine,
    model: &'a Model,
    refiner: Option<Arc<Model>>,
    itinerary: Itinerary,
    /// Bytes that the process has had already, for pictures that were read.
    before: u64,
}

impl<'a> Needs<'a> {
    /// Reads the prompts and works out the sizes; several requests are the cells of a grid.
    ///
    /// # Errors
    /// Usage: what no plan can be made for.
    pub fn new(engine: &'a Engine, model: &'a Model, requests: &[Request], tokens: &Tokenizer) -> Result<Self> {
        let refiner = requests.iter().find_map(|r| Some(r.refiner.as_ref()?.model.clone()));
        Ok(Self { engine, model, refiner, itinerary: Itinerary::of_all(model, requests, tokens)?, before: 0 })
    }

    /// With bytes on the host for what is made of all pictures, and those that were needed before, which are not in use
    /// any more.
    #[must_use]
    pub fn with(mut self, beside: u64, before: u64) -> Self {
        self.itinerary.beside += beside;
        self.before = before;
        self
    }

    /// What stays loaded within a limit, and bytes of the whole process at the worst moment.
    fn peak(&self, limit: Option<u64>, low_memory: bool) -> Result<(Keep, u64)> {
        // A GPU's memory is its own: what the process needs beside is elsewhere.
        let itinerary = &self.itinerary;
        let on_device = self.engine.backend().numerics().device.is_some();
        let beside = if on_device { 0 } else { BASE + itinerary.beside };
        let budget = limit.map(|l| l.saturating_sub(beside));
        let r = self.engine.residency_of((self.model, self.refiner.as_deref()), itinerary, budget, low_memory)?;
        let before = if on_device { 0 } else { self.before };
        Ok((r.keep, (beside + r.peak).max(before)))
    }
}

/// Floating-point operations and weights of all requests together, for an estimate of their time.
pub fn work(engine: &Engine, model: &Model, requests: &[Request], tokens: &Tokenizer) -> Result<Work> {
    let mut work = Work::default();
    let mut weights: HashMap<(PartKind, bool), f64> = HashMap::new();
    let itinerary = Itinerary::of_all(model, requests, tokens)?;
    let refiner = requests.iter().find_map(|r| Some(r.refiner.as_ref()?.model.as_ref()));
    let own = itinerary.visits.iter().map(|visit| (visit, model, false));
    let second = refiner.into_iter().flat_map(|model| itinerary.refiner.iter().map(move |visit| (visit, model, true)));
    for (Visit { part, runs }, model, refines) in own.chain(second) {
        let plan = engine.plan(model, *part)?;
        work.flops += *runs as f64 * plan.cost().flops as f64;
        // Programs of one kind share their weights.
        let shared = weights.entry((part.kind(), refines)).or_default();
        *shared = shared.max(plan.weight_bytes(2) as f64);
    }
    work.weight_bytes = weights.values().sum();
    Ok(work)
}

/// What the host allows a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Bytes at most.
    pub max_memory: Option<ByteCount>,
    /// Weights are read from the file as they are needed.
    pub low_memory: bool,
    /// It is tried whatever it needs.
    pub force: bool,
}

impl Allowed {
    /// Refuses what contradicts itself; `gpu` tells whether one was asked for.
    ///
    /// # Errors
    /// Usage: weights are read anew only by the CPU.
    pub fn check(&self, gpu: bool) -> Result<(), Objection> {
        if self.low_memory && gpu {
            let why = " reads the weights anew at every step, which only the CPU does: take the CPU, or leave it out";
            return Err(Objection::usage(phrase![Field::LowMemory, why]));
        }
        Ok(())
    }

    fn asked(&self) -> Option<u64> {
        self.max_memory.map(|bytes| bytes.0)
    }

    /// What a device's memory may be used up to by what is not known before, unless that is overridden.
    pub fn budget(&self) -> Option<u64> {
        self.asked().filter(|_| !self.force)
    }

    /// What pictures that are read may take together, before anything else is loaded: what the job is allowed, or the
    /// machine has, without what every process needs.
    pub fn room(&self) -> u64 {
        let limits = self.budget().into_iter().chain(system::memory_limit().filter(|_| !self.force));
        limits.min().map_or(u64::MAX, |limit| limit.saturating_sub(BASE / 2))
    }

    /// The limit that decides what is kept: what is allowed, but no more than three quarters of what there is.
    fn limit(&self, engine: &Engine) -> Option<u64> {
        self.asked().into_iter().chain(engine.backend().memory_limit().map(|l| l / 4 * 3)).min()
    }
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

/// Leaves a GPU that cannot run the request at all, and applies what is allowed to the memory of one that can: smaller
/// batches, then the backend behind it, each said in `notes`. Gives the batch size if it is another.
///
/// # Errors
/// Usage: what no plan can be made for.
pub fn fit(
    engine: &Engine,
    model: &Model,
    requests: &[Request],
    tokens: &Tokenizer,
    allowed: Allowed,
    notes: &mut Vec<Phrase>,
) -> Result<Option<usize>> {
    if engine.backend().numerics().device.is_none() {
        return Ok(None);
    }
    // What no binding of it holds, smaller batches do not help.
    engine.settle(model, &Needs::new(engine, model, requests, tokens)?.itinerary.parts())?;
    let device = engine.backend();
    let budget = allowed.asked().filter(|_| device.numerics().device.is_some());
    let Some(budget) = budget else {
        notes.extend(engine.notes().into_iter().map(Phrase::from));
        return Ok(None);
    };
    let peak = |requests: &[Request]| Ok(Needs::new(engine, model, requests, tokens)?.peak(Some(budget), false)?.1);
    let asked = peak(requests)?;
    let several = requests.iter().any(|r| r.together() > 1);
    let single: Vec<Request> = requests.iter().cloned().map(|r| Request { batch_size: 1, ..r }).collect();
    let single = several.then(|| peak(&single)).transpose()?;
    let (name, limit) = (device.name(), format_bytes(budget));
    match Fit::decide(budget, asked, single) {
        Fit::AsAsked => notes.push(phrase![
            Field::MaxMemory,
            format!(" {limit} holds for {name}: {} needed there", format_bytes(asked))
        ]),
        Fit::OneAtATime => {
            let (asked, single) = (format_bytes(asked), format_bytes(single.unwrap_or_default()));
            notes.push(phrase![
                format!("{asked} needed on {name}, "),
                Field::MaxMemory,
                format!(" allows {limit}: one picture at a time ({single})")
            ]);
            return Ok(Some(1));
        }
        Fit::Leave if allowed.force => {}
        Fit::Leave => {
            let why = format!("{} needed on {name}, {limit} are allowed", format_bytes(asked));
            if engine.give_up(&device, &why) {
                notes.extend(engine.notes().into_iter().map(Phrase::from));
            }
        }
    }
    Ok(None)
}

/// Refuses what the machine, its container or what is allowed cannot hold; short free memory is only a note. Where
/// keeping the weights is what is too much, a CPU reads them as it needs them, which changes no picture.
///
/// Returns what is to be kept from one stage to the next.
///
/// # Errors
/// Too big: how much is needed, how much there is, and what would take less.
pub fn check(needs: &Needs<'_>, allowed: Allowed, notes: &mut Vec<Phrase>) -> Result<Keep, Objection> {
    let engine = needs.engine;
    let (mut keep, mut need) = needs.peak(allowed.limit(engine), allowed.low_memory)?;
    let machine: Phrase = "this machine (or container) has".into();
    let (have, whose) = match (allowed.asked(), engine.backend().memory_limit()) {
        (Some(asked), Some(limit)) if asked > limit => (limit, machine),
        (Some(asked), _) => (asked, phrase![Field::MaxMemory, " allows"]),
        (None, Some(limit)) => (limit, machine),
        (None, None) => return Ok(keep),
    };
    let numbers = |need: u64| {
        let mut phrase = phrase![format!("{} needed, ", format_bytes(need))];
        phrase.0.extend(whose.0.iter().cloned());
        phrase.0.push(format!(" {}", format_bytes(have)).into());
        phrase
    };
    if need > have && !allowed.force && !allowed.low_memory && engine.backend().numerics().device.is_none() {
        let low = needs.peak(None, true)?;
        if low.1 <= have {
            let mut note = numbers(need);
            let how = ": the weights are read as they are needed, as with ";
            note.0.extend([how.into(), Field::LowMemory.into(), format!(" ({})", format_bytes(low.1)).into()]);
            notes.push(note);
            (keep, need) = low;
        }
    }
    if need > have && !allowed.force {
        let mut phrase = phrase!["not enough memory: "];
        phrase.0.extend(numbers(need).0);
        let remedy = phrase![
            "; try a smaller ",
            Field::Width,
            ", ",
            Field::Height,
            " or ",
            Field::BatchSize,
            ", or a shorter prompt, or ",
            Field::Force,
            " to start all the same"
        ];
        phrase.0.extend(remedy.0);
        return Err(Objection::Wrong { kind: Kind::TooBig { need, have }, phrase, place: None });
    }
    if need > have {
        let mut note = numbers(need);
        note.0.extend(["; going on because of ".into(), Field::Force.into()]);
        notes.push(note);
    } else if let Some(free) =
        engine.backend().memory_limit().and_then(|_| system::available_memory()).filter(|free| need > *free)
    {
        let (need, free) = (format_bytes(need), format_bytes(free));
        notes.push(format!("{need} needed, {free} free just now; it may become slow").into());
    }
    Ok(keep)
}

/// Bytes of the whole process at the worst moment, and those there are.
///
/// # Errors
/// Usage: what no plan can be made for.
pub fn bytes(needs: &Needs<'_>, allowed: Allowed) -> Result<(u64, Option<u64>)> {
    let (_, need) = needs.peak(allowed.limit(needs.engine), allowed.low_memory)?;
    Ok((need, allowed.asked().into_iter().chain(needs.engine.backend().memory_limit()).min()))
}

/// What would be computed: a table of every step of every plan; then bytes at the worst moment, and the same where
/// weights are read as they are needed.
///
/// # Errors
/// Usage: what no plan can be made for.
pub fn table(needs: &Needs<'_>, allowed: Allowed) -> Result<(String, u64, u64)> {
    let mut out = String::new();
    for part in needs.itinerary.parts() {
        out.push_str(&needs.engine.plan(needs.model, part)?.table());
        out.push('\n');
    }
    for (model, visit) in needs.refiner.iter().flat_map(|model| needs.itinerary.refiner.iter().map(move |v| (model, v)))
    {
        out.push_str(&needs.engine.plan(model, visit.part)?.table());
        out.push('\n');
    }
    let (_, normal) = needs.peak(allowed.limit(needs.engine), false)?;
    let (_, low) = needs.peak(None, true)?;
    Ok((out, normal, low))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a picture of the embedded model takes.
    #[cfg(feature = "gpu")]
    #[test]
    fn the_embedded_model_goes_to_the_cpu() {
        use crate::backend::cpu::Cpu;
        use crate::dtype::Storage;
        use crate::engine::choice::{Card, choose, trifle};
        use crate::job::order::Order;
        use crate::job::picture::Files;
        use crate::job::resolve::resolve;
        use std::sync::Arc;

        let model = Model::embedded().unwrap();
        let prompts = ("a red apple".into(), String::new());
        let request = resolve(&Order::default(), prompts, &model, &Files, &mut Vec::new()).unwrap();
        let cpu = Cpu::new(1, crate::simd::Isa::best(), Storage::F16).unwrap();
        let engine = Engine::new(Arc::new(cpu));
        let work = work(&engine, &model, &[request], &Tokenizer::clip()).unwrap();
        assert!(work.flops > 1e9 && work.weight_bytes > 1e6, "{work:?}");
        // Two cores against the fastest card.
        let peak = 200e9;
        assert!(trifle(work, peak).is_some(), "{work:?}");
        let card = Card { name: "Fast".into(), software: false, rate: Ok(60e12) };
        assert_eq!(choose(work, peak, &[card], false).card, None);
    }

    #[test]
    fn only_the_cpu_reads_weights_anew() {
        let low = Allowed { low_memory: true, ..Allowed::default() };
        assert!(low.check(false).is_ok());
        let fault = low.check(true).unwrap_err();
        assert!(fault.to_string().starts_with("low memory reads the weights anew"), "{fault}");
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
