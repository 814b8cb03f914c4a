//! A model on an engine: the six stages, each loaded when it is asked for and computed
//! again where a backend has taken over.

use super::residency::Keep;
use super::{Engine, Loaded, lock, plan_on};
use crate::backend::{Backend, Program, Run, Value};
use crate::checkpoint::Model;
use crate::diffusion::{Stages, UnetCall};
use crate::error::{Error, Kind, Result};
use crate::graph::{Input, Output};
use crate::models::part::{self, Part, StepShape};
use crate::system::format_bytes;
use crate::tensor::{Shape, Tensor};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A model on an engine: what [`crate::diffusion`] calls.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    pub(super) engine: &'a Engine,
    pub(super) model: &'a Arc<Model>,
    pub(super) cancel: &'a AtomicBool,
    pub(super) keep: Keep,
    pub(super) budget: Option<u64>,
}

impl Session<'_> {
    /// The same, keeping less (or more) loaded from one stage to the next.
    #[must_use]
    pub fn keeping(self, keep: Keep) -> Self {
        Self { keep, ..self }
    }

    /// The same within a budget of bytes on the device, for what nobody can plan for: a stage that is computed again
    /// with wider storage. What a request surely needs is known before ([`Engine::residency`]).
    #[must_use]
    pub fn within(self, budget: Option<u64>) -> Self {
        Self { budget, ..self }
    }

    fn program(&self, stage: Part) -> Result<Loaded> {
        self.engine.program(self.model, stage, self.keep)
    }

    /// Loads a stage, sets its inputs, runs it, returns one output.
    fn once(&self, stage: Part, input: Input, value: &Value, output: Output) -> Result<Tensor> {
        self.retried(|| {
            let program = self.program(stage)?;
            self.through(lock(&program).as_mut(), input, value, output)
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
                Err(e) if self.engine.fall_back(&backend, &e) => {}
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
            self.engine.note(format!("{why}; computed again with f32 storage"));
            self.alone(&wider, stage, input, &value, output)
        });
        let error = match again {
            Err(e) if *e.kind() == Kind::DeviceLost && self.engine.fall_back(&backend, &e) => {
                return self.once(stage, input, &value, output);
            }
            Err(e) if matches!(e.kind(), Kind::OutOfMemory | Kind::TooBig { .. } | Kind::Refused) => e,
            result => return result,
        };
        // For this once: the device has done, and can do, everything else.
        let behind: VecDeque<_> = self.engine.lock_backends().iter().skip(1).cloned().collect();
        let Some(next) = behind.front().map(|b| b.name()) else { return Err(error) };
        self.engine.note(format!("{why}; {error}; computed again with {next}"));
        let engine = Engine::chain(behind);
        let result = Session { engine: &engine, ..*self }.once(stage, input, &value, output);
        engine.notes().into_iter().for_each(|note| self.engine.note(note));
        result
    }

    /// Whether the budget has room for a stage with wider storage, if need be with nothing else loaded.
    fn room_for(&self, wider: &Arc<dyn Backend>, stage: Part) -> Result<()> {
        let Some(have) = self.budget else { return Ok(()) };
        let memory = wider.memory(&plan_on(wider.as_ref(), self.model, stage)?, self.model);
        if self.engine.bytes_beside(self.model, stage, memory) <= have {
            return Ok(());
        }
        let need = memory.weights + memory.activations;
        if need <= have {
            self.engine.lock().clear();
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
        let loaded = self.engine.load(backend, self.model, stage, self.keep == Keep::Stream);
        let result = loaded.and_then(|(mut program, _)| self.through(program.as_mut(), input, value, output));
        backend.notes().into_iter().for_each(|note| self.engine.note(note));
        result
    }
}

fn take(value: Value) -> Result<Tensor> {
    Ok(Arc::unwrap_or_clone(value.host()?))
}

impl Stages for Session<'_> {
    fn model(&self) -> &Model {
        self.model
    }

    fn notes(&self) -> Vec<String> {
        self.engine.notes()
    }

    fn text(&self, tokens: Tensor, clip_skip: usize) -> Result<Tensor> {
        let chunks = tokens.shape().b;
        let stage = Part::Text { encoder: 0, chunks, clip_skip };
        self.once(stage, part::text::TOKENS, &tokens.into(), part::text::HIDDEN).map_err(|e| e.at("text"))
    }

    fn unet(&self, shape: StepShape, context: Tensor, times: Option<&[f32]>) -> Result<Box<dyn UnetCall + '_>> {
        let stage = Part::Context { contexts: shape.contexts, tokens: shape.tokens };
        let context = context.into();
        let kv = self.retried(|| {
            let program = self.program(stage)?;
            let mut program = lock(&program);
            program.set(part::context::CONTEXT, &context)?;
            program.run(Run::Fast { cancel: self.cancel }).map_err(|e| e.at("context"))?;
            let all = 0..self.model.networks.keys_values().len();
            all.map(|n| program.get(part::context::keys_values(n))).collect::<Result<Vec<_>>>()
        })?;
        let width = self.model.networks.row_width();
        let mut call = SessionUnet { session: *self, shape, kv, rows: HashMap::new(), width };
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
}

/// The U-Net with a prompt's keys and values set and the time rows it has computed so far.
///
/// The program is asked for at each call: it may have been released meanwhile, to make room for the decoder.
struct SessionUnet<'a> {
    session: Session<'a>,
    shape: StepShape,
    /// By the number of the cross-attention.
    kv: Vec<Value>,
    /// Time rows by the timestep's bits.
    rows: HashMap<u32, Vec<f32>>,
    width: usize,
}

impl SessionUnet<'_> {
    /// Computes the rows of timesteps that have none yet, all in one run.
    fn announce(&mut self, times: &[f32]) -> Result<()> {
        let mut new: Vec<f32> = times.iter().copied().filter(|t| !self.rows.contains_key(&t.to_bits())).collect();
        new.dedup();
        if new.is_empty() {
            return Ok(());
        }
        let timesteps = Tensor::new(Shape::tokens(1, new.len(), 1), new.clone())?;
        let stage = Part::Time { timesteps: new.len() };
        let rows = self.session.once(stage, part::time::TIMESTEPS, &timesteps.into(), part::time::ROWS);
        let rows = rows.map_err(|e| e.at("time"))?;
        for (t, row) in new.iter().zip(rows.data().chunks_exact(self.width)) {
            self.rows.insert(t.to_bits(), row.to_vec());
        }
        Ok(())
    }
}

impl UnetCall for SessionUnet<'_> {
    fn predict(&mut self, latents: &Tensor, times: &[f32]) -> Result<Tensor> {
        self.announce(times)?;
        let missing = || Error::other("a timestep has no row");
        let rows = times.iter().map(|t| self.rows.get(&t.to_bits()).ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
        let time =
            Tensor::new(Shape::new(times.len(), 1, 1, self.width), rows.into_iter().flatten().copied().collect())?;
        let (latents, time) = (latents.clone().into(), time.into());
        self.session.retried(|| {
            let program = self.session.program(Part::Step(self.shape))?;
            let mut program = lock(&program);
            // Another call may have used this program since: two chunk counts alternate, a batch of pictures does not.
            for (n, value) in self.kv.iter().enumerate() {
                program.set(part::step::keys_values(n), value)?;
            }
            program.set(part::step::LATENTS, &latents)?;
            program.set(part::step::TIME, &time)?;
            program.run(Run::Fast { cancel: self.session.cancel }).map_err(|e| e.at("step"))?;
            take(program.get(part::step::OUTPUT)?)
        })
    }
}
