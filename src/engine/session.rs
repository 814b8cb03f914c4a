//! A model on an engine: the six stages, each loaded when it is asked for and computed
//! again where a backend has taken over.

use super::programs::{Key, Visitor};
use super::residency::{Again, Keep, Residency};
use super::{Engine, Loaded, lock_unless, plan_on};
use crate::backend::{Backend, Program, Run, Value};
use crate::checkpoint::{Model, ModelId};
use crate::diffusion::itinerary::Itinerary;
use crate::diffusion::{self, Conditioning, Event, Listener, Request, Stages, UnetCall};
use crate::error::{Error, Kind, Result, escape};
use crate::graph::{Input, Output};
use crate::models::Networks;
use crate::models::part::{self, Part, StepShape};
use crate::models::tokenizer::Tokenizer;
use crate::system::format_bytes;
use crate::tensor::{Shape, Tensor};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A model on an engine: what [`crate::diffusion`] calls.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    pub(super) engine: &'a Engine,
    pub(super) model: &'a Arc<Model>,
    pub(super) cancel: &'a AtomicBool,
    /// What stays loaded; decided from a request's itinerary where nobody has said.
    pub(super) keep: Option<Keep>,
    pub(super) budget: Option<u64>,
    /// Who hears what the session's work leads to; the engine keeps it otherwise.
    pub(super) tell: Option<&'a dyn Fn(String)>,
    /// The other model of a request, which is let go of where the two do not fit beside each other.
    pub(super) other: Option<ModelId>,
    /// Set while it draws: what it uses stays.
    pub(super) visitor: Option<Visitor>,
}

/// Lets go of what a session has used, however it ends.
struct Visit<'a> {
    engine: &'a Engine,
    visitor: Visitor,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let mut programs = self.engine.lock();
        programs.leave(Some(self.visitor));
        programs.tidy();
        drop(programs);
        self.engine.let_go.notify_all();
    }
}

impl Engine {
    /// Draws a request's pictures with a model, and tells what happens: the one call that makes pictures. `listen` can
    /// stop it with `Break`; who wants to stop it from elsewhere, or knows what is to be kept, has a [`Session`] draw.
    ///
    /// # Errors
    /// Usage: what cannot be drawn. Otherwise whatever kept it from being drawn.
    pub fn draw(&self, model: &Arc<Model>, request: &Request, listen: &mut Listener<'_>) -> Result<()> {
        self.session(model, &AtomicBool::new(false)).draw(request, listen)
    }

    /// [`Engine::residency`] of a whole itinerary, a refiner's parts included: either all of both models stays, or only
    /// the part at work.
    ///
    /// # Errors
    /// As [`Engine::residency`].
    pub fn residency_of(
        &self,
        (model, refiner): (&Model, Option<&Model>),
        itinerary: &Itinerary,
        budget: Option<u64>,
        low_memory: bool,
    ) -> Result<Residency> {
        let own = |again| self.residency(model, &itinerary.parts(), again, budget, low_memory);
        let Some(refiner) = refiner.filter(|_| !itinerary.refiner.is_empty()) else { return own(itinerary.again) };
        let parts: Vec<Part> = itinerary.refiner.iter().map(|visit| visit.part).collect();
        let (a, b) = (own(Again::Nothing)?, self.residency(refiner, &parts, Again::Nothing, budget, low_memory)?);
        let both = Residency { keep: Keep::All, peak: a.peak + b.peak };
        if (a.keep, b.keep) == (Keep::All, Keep::All) && budget.is_none_or(|budget| both.peak <= budget) {
            return Ok(both);
        }
        let one = |r: Residency, model, parts: &[Part]| match r.keep {
            Keep::All => self.residency(model, parts, Again::Nothing, Some(0), low_memory),
            _ => Ok(r),
        };
        let (a, b) = (one(a, model, &itinerary.parts())?, one(b, refiner, &parts)?);
        Ok(Residency { keep: a.keep, peak: a.peak.max(b.peak) })
    }
}

impl Session<'_> {
    /// The same, keeping less (or more) loaded from one stage to the next.
    #[must_use]
    pub fn keeping(self, keep: Keep) -> Self {
        Self { keep: Some(keep), ..self }
    }

    /// The same within a budget of bytes on the device, for what nobody can plan for: a stage that is computed again
    /// with wider storage. What a request surely needs is known before ([`Engine::residency`]).
    #[must_use]
    pub fn within(self, budget: Option<u64>) -> Self {
        Self { budget, ..self }
    }

    /// Draws a request's pictures and tells what happens.
    ///
    /// # Errors
    /// As [`Engine::draw`]; cancelled.
    pub fn draw(&self, request: &Request, listen: &mut Listener<'_>) -> Result<()> {
        if !request.adapters.is_empty() {
            let model = self.engine.with_adapters(self.model, &request.adapters)?;
            let request = Request { adapters: Arc::default(), ..request.clone() };
            return Session { model: &model, ..*self }.draw(&request, listen);
        }
        let tokens = self.engine.texts.tokenizer(self.model)?;
        let visitor = {
            let mut programs = self.engine.lock();
            programs.tidy();
            programs.visitor()
        };
        let _visit = Visit { engine: self.engine, visitor };
        // The story and the session tell the same listener, never at the same time.
        let (listen, stopped) = (RefCell::new(listen), Cell::new(false));
        let tell = |note: String| stopped.set(stopped.get() || listen.borrow_mut()(Event::Note(note)).is_break());
        let other = request.refiner.as_ref().map(|refiner| refiner.model.id());
        let session = Session { tell: Some(&tell), visitor: Some(visitor), other, ..*self };
        let session = session.keeping(self.keep.map_or_else(|| session.decided(request, &tokens), Ok)?);
        diffusion::generate(&session, &tokens, request, &mut |event| {
            if stopped.get() {
                return ControlFlow::Break(());
            }
            listen.borrow_mut()(event)
        })
        .map_err(|e| roughly(e, self.model))
    }

    /// What stays loaded.
    pub(super) fn kept(&self) -> Keep {
        self.keep.unwrap_or_default()
    }

    /// What is to stay loaded for a request, within what the engine or the machine allows.
    fn decided(&self, request: &Request, tokens: &Tokenizer) -> Result<Keep> {
        let (engine, model) = (self.engine, self.model);
        request.check(model)?;
        let itinerary = Itinerary::new(model, request, tokens)?;
        let models: (&Model, Option<&Model>) = (model, request.refiner.as_ref().map(|r| r.model.as_ref()));
        let limit = engine.budget.or(engine.backend().memory_limit().map(|limit| limit / 4 * 3));
        // What this device has no plan for is left to the next one when it is asked for.
        let Ok(residency) = engine.residency_of(models, &itinerary, limit, false) else {
            return Ok(Keep::Phase);
        };
        let Some(have) = limit.filter(|have| residency.peak > *have) else { return Ok(residency.keep) };
        // Only the CPU reads weights while it computes.
        if engine.backend().numerics().device.is_none() {
            let streamed = engine.residency_of(models, &itinerary, limit, true)?;
            if streamed.peak < residency.peak {
                let (need, have) = (format_bytes(residency.peak), format_bytes(have));
                self.say(format!("{need} needed, {have} to be used: the weights are read as they are needed"));
                return Ok(streamed.keep);
            }
        }
        Ok(residency.keep)
    }

    /// Tells what the user should know.
    pub(super) fn say(&self, note: String) {
        match self.tell {
            Some(tell) => tell(note),
            None => self.engine.note(note),
        }
    }

    fn program(&self, stage: Part) -> Result<Loaded> {
        self.engine.program(self, stage)
    }

    /// Loads a stage, sets its inputs, runs it, returns one output.
    fn once(&self, stage: Part, input: Input, value: &Value, output: Output) -> Result<Tensor> {
        self.retried(|| {
            let program = self.program(stage)?;
            self.through(lock_unless(self.cancel, &program)?.as_mut(), input, value, output)
        })
    }

    fn through(&self, program: &mut dyn Program, input: Input, value: &Value, output: Output) -> Result<Tensor> {
        program.set(input, value)?;
        program.run(Run::Fast { cancel: self.cancel })?;
        take(program.get(output)?)
    }

    /// Runs `work`, again where a backend failed in it and another has taken over.
    fn retried<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            let backend = self.engine.backend();
            match work() {
                Err(e) if self.engine.fall_back(&backend, &e, &|note| self.say(note)) => {}
                result => return result,
            }
        }
    }

    /// A stage's output; one that is not finite is computed again with wider storage where there is any, and where that
    /// finds no room, by the next backend.
    fn finite(&self, stage: Part, input: Input, value: Tensor, output: Output) -> Result<Tensor> {
        let value = value.into();
        let result = self.once(stage, input, &value, output)?;
        if result.data().iter().all(|v| v.is_finite()) {
            return Ok(result);
        }
        let backend = self.engine.backend();
        let Some(wider) = backend.wider() else { return Ok(result) };
        let why = format!("the {input} exceed f16 on the way to the {output}");
        let again = self.room_for(&wider, stage).and_then(|()| {
            self.say(format!("{why}; computed again with f32 storage"));
            self.alone(&wider, stage, input, &value, output)
        });
        let error = match again {
            Err(e) if *e.kind() == Kind::DeviceLost && self.engine.fall_back(&backend, &e, &|note| self.say(note)) => {
                return self.once(stage, input, &value, output);
            }
            Err(e) if matches!(e.kind(), Kind::OutOfMemory | Kind::TooBig { .. } | Kind::Refused) => e,
            result => return result,
        };
        // For this once: the device has done, and can do, everything else.
        let behind: VecDeque<_> = self.engine.lock_backends().iter().skip(1).cloned().collect();
        let Some(next) = behind.front().map(|b| b.name()) else { return Err(error) };
        self.say(format!("{why}; {error}; computed again with {next}"));
        let engine = Engine::chain(behind);
        Session { engine: &engine, visitor: None, ..*self }.once(stage, input, &value, output)
    }

    /// Whether the budget has room for a stage with wider storage, if need be with nothing else loaded.
    fn room_for(&self, wider: &Arc<dyn Backend>, stage: Part) -> Result<()> {
        let Some(have) = self.budget else { return Ok(()) };
        let memory = wider.memory(&plan_on(wider.as_ref(), self.model, stage)?, self.model);
        let key = Key { model: self.model.id(), part: stage, streamed: self.kept() == Keep::Stream };
        let mut programs = self.engine.lock();
        if programs.bytes_beside(&key, memory) <= have {
            return Ok(());
        }
        let need = memory.weights + memory.activations;
        if need <= have {
            programs.leave(self.visitor);
            programs.forget_idle();
            return Ok(());
        }
        let (name, need_text, have_text) = (wider.name(), format_bytes(need), format_bytes(have));
        let message = format!("with f32 storage {need_text} are needed on {name}, and {have_text} are allowed");
        Err(Error::new(Kind::TooBig { need, have }, message))
    }

    /// Loads a stage on a backend, runs it and drops it: what is kept stays as the budget allows.
    fn alone(
        &self,
        backend: &Arc<dyn Backend>,
        stage: Part,
        input: Input,
        value: &Value,
        output: Output,
    ) -> Result<Tensor> {
        let key = Key { model: self.model.id(), part: stage, streamed: self.kept() == Keep::Stream };
        loop {
            let notes = RefCell::default();
            let loaded = {
                let _loading = lock_unless(self.cancel, &self.engine.loading)?;
                self.engine.load(backend, self, key, &notes)
            };
            notes.into_inner().into_iter().for_each(|note| self.say(note));
            match loaded? {
                Some((mut program, _)) => return self.through(program.as_mut(), input, value, output),
                None => self.engine.wait_for_room(self)?,
            }
        }
    }
}

/// An error of numbers that got too large or lost, where 8-bit weights may be why.
fn roughly(error: Error, model: &Model) -> Error {
    let is_rough = |name: &&str| model.source.stored(name).is_some_and(|s| s.name.starts_with("F8"));
    match (error.kind(), model.source.names().iter().find(|name| is_rough(name))) {
        (Kind::NonFinite { .. }, Some(name)) => {
            let kind = model.source.stored(name).map_or("F8", |s| s.name);
            let name = escape(name);
            error.perhaps(format!(
                "weights of the type {kind} are rough ({name} and others): use a file with f16 weights if there is one"
            ))
        }
        _ => error,
    }
}

fn take(value: Value) -> Result<Tensor> {
    Ok(Arc::unwrap_or_clone(match value {
        // Taken, not shared: what nobody else holds is not copied.
        Value::Host(t) => t,
        Value::Device(value) => value.host()?,
    }))
}

impl Stages for Session<'_> {
    fn model(&self) -> &Model {
        self.model
    }

    fn text(&self, encoder: usize, tokens: Tensor, clip_skip: usize) -> Result<Tensor> {
        let chunks = tokens.shape().b;
        let stage = Part::Text { encoder, chunks, clip_skip };
        self.engine.texts.embedding(self.model.id(), (encoder, clip_skip), tokens, |tokens| {
            self.once(stage, part::text::TOKENS, &tokens.into(), part::text::HIDDEN).map_err(|e| e.at("text"))
        })
    }

    fn unet(&self, shape: StepShape, told: Conditioning, times: Option<&[f32]>) -> Result<Box<dyn UnetCall + '_>> {
        let width = self.model.networks.row_width();
        let Conditioning { context, added, guidance } = told;
        let context = context.into();
        let mut call =
            SessionUnet { session: *self, shape, context, added, guidance, kv: None, rows: HashMap::new(), width };
        self.retried(|| call.keys_values().map(drop))?;
        if let Some(times) = times.filter(|t| !t.is_empty()) {
            call.announce(times)?;
        }
        Ok(Box::new(call))
    }

    fn decode(&self, latents: Tensor) -> Result<Tensor> {
        let s = latents.shape();
        let stage = Part::Decode { size: (s.b, s.h, s.w) };
        self.finite(stage, part::decode::LATENTS, latents, part::decode::IMAGE).map_err(|e| e.at("decode"))
    }

    fn encode(&self, image: Tensor) -> Result<Tensor> {
        let s = image.shape();
        let stage = Part::Encode { size: (s.b, s.h, s.w) };
        self.finite(stage, part::encode::IMAGE, image, part::encode::MOMENTS).map_err(|e| e.at("encode"))
    }

    fn with_model<'b>(&'b self, model: &'b Arc<Model>) -> Result<Box<dyn Stages + 'b>> {
        Ok(Box::new(Session { model, other: Some(self.model.id()), ..*self }))
    }

    fn run(
        &self,
        part: Part,
        networks: Option<&Networks>,
        inputs: Vec<(Input, Tensor)>,
        outputs: &[Output],
    ) -> Result<Vec<Tensor>> {
        let sibling = networks.map(|n| Arc::new(self.model.with_networks(n.clone())));
        let session = Session { model: sibling.as_ref().unwrap_or(self.model), ..*self };
        let inputs: Vec<(Input, Value)> = inputs.into_iter().map(|(input, t)| (input, t.into())).collect();
        let result = session.retried(|| {
            let program = session.program(part)?;
            let mut program = lock_unless(self.cancel, &program)?;
            inputs.iter().try_for_each(|(input, value)| program.set(*input, value))?;
            program.run(Run::Fast { cancel: self.cancel })?;
            outputs.iter().map(|output| take(program.get(*output)?)).collect()
        });
        if let Some(sibling) = &sibling {
            self.engine.release(sibling, |_| true);
        }
        result
    }
}

/// The U-Net with a prompt's keys and values set and the time rows it has computed so far.
///
/// The program is asked for at each call: it may have been released meanwhile, to make room for the decoder.
struct SessionUnet<'a> {
    session: Session<'a>,
    shape: StepShape,
    context: Value,
    /// One row a context, where something is embedded beside a timestep.
    added: Vec<f32>,
    /// One row for all.
    guidance: Vec<f32>,
    kv: Option<KeysValues>,
    /// Time rows by the timestep's bits: one, or one for each context.
    rows: HashMap<u32, Vec<f32>>,
    width: usize,
}

/// A prompt's keys and values, by the number of the cross-attention, on the device that computed them.
struct KeysValues {
    backend: Arc<dyn Backend>,
    values: Vec<Value>,
}

impl SessionUnet<'_> {
    /// The prompt's keys and values, computed again where another backend has taken over.
    fn keys_values(&mut self) -> Result<&[Value]> {
        let backend = self.session.engine.backend();
        if self.kv.as_ref().is_none_or(|kv| !Arc::ptr_eq(&kv.backend, &backend)) {
            let stage = Part::Context { contexts: self.shape.contexts, tokens: self.shape.tokens };
            let program = self.session.program(stage)?;
            let mut program = lock_unless(self.session.cancel, &program)?;
            program.set(part::context::CONTEXT, &self.context)?;
            program.run(Run::Fast { cancel: self.session.cancel }).map_err(|e| e.at("context"))?;
            let all = 0..self.session.model.networks.keys_values().len();
            let values = all.map(|n| program.hold(part::context::keys_values(n))).collect::<Result<_>>()?;
            self.kv = Some(KeysValues { backend, values });
        }
        Ok(self.kv.as_ref().map_or(&[], |kv| &kv.values))
    }

    /// Computes the rows of timesteps that have none yet, all in one run.
    fn announce(&mut self, times: &[f32]) -> Result<()> {
        let mut new: Vec<f32> = times.iter().copied().filter(|t| !self.rows.contains_key(&t.to_bits())).collect();
        new.dedup();
        if new.is_empty() {
            return Ok(());
        }
        let each = self.session.model.networks.times(self.shape.contexts);
        let count = new.len() * each;
        let timesteps = new.iter().flat_map(|t| std::iter::repeat_n(*t, each)).collect();
        let mut inputs = vec![(part::time::TIMESTEPS, Tensor::new(Shape::tokens(1, count, 1), timesteps)?)];
        // The same for every timestep.
        let repeated = |one: &[f32], times: usize| {
            let all = one.repeat(times);
            Tensor::new(Shape::tokens(1, count, all.len() / count.max(1)), all)
        };
        if self.session.model.networks.added().is_some() {
            inputs.push((part::time::ADDED, repeated(&self.added, new.len())?));
        }
        if self.session.model.networks.guidance().is_some() {
            inputs.push((part::time::GUIDANCE, repeated(&self.guidance, count)?));
        }
        let rows = self.session.run(Part::Time { timesteps: count }, None, inputs, &[part::time::ROWS]);
        let rows = rows.map_err(|e| e.at("time"))?;
        let rows = rows.first().ok_or_else(|| Error::other("no rows of timesteps"))?;
        for (t, row) in new.iter().zip(rows.data().chunks_exact(self.width * each)) {
            self.rows.insert(t.to_bits(), row.to_vec());
        }
        Ok(())
    }
}

impl UnetCall for SessionUnet<'_> {
    fn predict(&mut self, latents: &Tensor, times: &[f32]) -> Result<Tensor> {
        self.announce(times)?;
        let missing = || Error::other("a timestep has no row");
        let count = times.len().max(self.session.model.networks.times(self.shape.contexts));
        let mut time = Vec::with_capacity(count * self.width);
        for n in 0..count {
            let rows = self.rows.get(&times[n % times.len().max(1)].to_bits()).ok_or_else(missing)?;
            let each = (rows.len() / self.width.max(1)).max(1);
            time.extend_from_slice(&rows[n % each * self.width..][..self.width]);
        }
        let time = Tensor::new(Shape::new(count, 1, 1, self.width), time)?;
        let (latents, time) = (latents.clone().into(), time.into());
        let session = self.session;
        session.retried(|| {
            // A program of its own, which goes before the step's comes where only one is kept.
            self.keys_values()?;
            let program = session.program(Part::Step(self.shape))?;
            let mut program = lock_unless(session.cancel, &program)?;
            // Another call may have used this program since: two chunk counts alternate, a batch of pictures does not.
            for (n, value) in self.keys_values()?.iter().enumerate() {
                program.set(part::step::keys_values(n), value)?;
            }
            program.set(part::step::LATENTS, &latents)?;
            program.set(part::step::TIME, &time)?;
            program.run(Run::Fast { cancel: session.cancel }).map_err(|e| e.at("step"))?;
            take(program.get(part::step::OUTPUT)?)
        })
    }
}
