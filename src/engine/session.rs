//! A model on an engine: the six stages, each loaded when it is asked for and computed again where a backend has taken over.

use super::residency::Keep;
use super::{Engine, Loaded, Stage, lock};
use crate::backend::{Run, Value};
use crate::diffusion::unet::UnetShape;
use crate::diffusion::{Stages, UnetCall};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};
use crate::weights::Model;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A model on an engine: what [`crate::diffusion`] calls.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    pub(super) engine: &'a Engine,
    pub(super) model: &'a Arc<Model>,
    pub(super) cancel: &'a AtomicBool,
    pub(super) keep: Keep,
}

impl Session<'_> {
    /// The same, keeping less (or more) loaded from one stage to the next.
    #[must_use]
    pub fn keeping(self, keep: Keep) -> Self {
        Self { keep, ..self }
    }

    fn program(&self, stage: Stage) -> Result<Loaded> {
        self.engine.program(self.model, stage, self.keep)
    }

    /// Loads a stage, sets its inputs, runs it, returns one output.
    fn once(&self, stage: Stage, input: &str, value: Tensor, output: &str) -> Result<Tensor> {
        let value = value.into();
        self.retried(|| {
            let program = self.program(stage)?;
            let mut program = lock(&program);
            program.set(input, &value)?;
            program.run(Run::Fast { cancel: self.cancel })?;
            take(program.get(output)?)
        })
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

    /// A decoder's output that is not finite is computed again with wider storage, where there is one.
    fn finite(&self, stage: Stage, input: &str, value: Tensor, output: &str) -> Result<Tensor> {
        let result = self.once(stage, input, value.clone(), output)?;
        if result.data().iter().all(|v| v.is_finite()) {
            return Ok(result);
        }
        let Some(wider) = self.engine.backend().wider() else { return Ok(result) };
        let note = format!("the {input} exceed f16 on the way to the {output}; computed again with f32 storage");
        self.engine.note(note);
        // The same backends stand behind it.
        let behind = self.engine.lock_backends().iter().skip(1).cloned().collect::<Vec<_>>();
        let engine = Engine::chain([wider].into_iter().chain(behind).collect());
        let result = Session { engine: &engine, ..*self }.once(stage, input, value, output);
        engine.notes().into_iter().for_each(|note| self.engine.note(note));
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
        self.once(Stage::Text { chunks, clip_skip }, "tokens", tokens, "hidden").map_err(|e| e.at("text"))
    }

    fn unet(&self, shape: UnetShape, context: Tensor, times: Option<&[f32]>) -> Result<Box<dyn UnetCall + '_>> {
        let stage = Stage::Context { contexts: shape.contexts, tokens: shape.tokens };
        let context = context.into();
        let kv = self.retried(|| {
            let program = self.program(stage)?;
            let mut program = lock(&program);
            program.set("context", &context)?;
            program.run(Run::Fast { cancel: self.cancel }).map_err(|e| e.at("context"))?;
            let names = self.model.unet.cross_attentions().into_iter().map(|(name, _)| name);
            names.map(|name| Ok((name.clone(), program.get(&name)?))).collect::<Result<Vec<_>>>()
        })?;
        let mut call =
            SessionUnet { session: *self, shape, kv, rows: HashMap::new(), width: self.model.unet.time_width() };
        if let Some(times) = times.filter(|t| !t.is_empty()) {
            call.announce(times)?;
        }
        Ok(Box::new(call))
    }

    fn decode(&self, latents: Tensor) -> Result<Tensor> {
        let s = latents.shape();
        self.finite(Stage::Decode { size: (s.b, s.h, s.w) }, "latents", latents, "image").map_err(|e| e.at("decode"))
    }

    fn encode(&self, image: Tensor) -> Result<Tensor> {
        let s = image.shape();
        self.finite(Stage::Encode { size: (s.b, s.h, s.w) }, "image", image, "moments").map_err(|e| e.at("encode"))
    }
}

/// The U-Net with a prompt's keys and values set and the time rows it has computed so far.
///
/// The program is asked for at each call: it may have been released meanwhile, to make room for the decoder.
struct SessionUnet<'a> {
    session: Session<'a>,
    shape: UnetShape,
    kv: Vec<(String, Value)>,
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
        let stage = Stage::Time { timesteps: new.len() };
        let rows = self.session.once(stage, "timesteps", timesteps, "rows").map_err(|e| e.at("time"))?;
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
            let program = self.session.program(Stage::Step(self.shape))?;
            let mut program = lock(&program);
            // Another call may have used this program since: two chunk counts alternate, a batch of pictures does not.
            for (name, value) in &self.kv {
                program.set(name, value)?;
            }
            program.set("latents", &latents)?;
            program.set("time", &time)?;
            program.run(Run::Fast { cancel: self.session.cancel }).map_err(|e| e.at("step"))?;
            take(program.get("output")?)
        })
    }
}
