//! The long-lived object: backends, plans and loaded programs by size; it turns requests into pictures.

pub mod residency;

use crate::backend::{Backend, Memory, Program, Run, Value};
use crate::diffusion::unet::UnetShape;
use crate::diffusion::{Stages, UnetCall, clip, unet, vae};
use crate::error::{Error, Kind, Result};
use crate::graph::Graph;
use crate::graph::plan::Plan;
use crate::tensor::{Shape, Tensor};
use crate::weights::Model;
use residency::{Keep, Residency};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

/// One of the six plans, at a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Token rows to hidden states.
    Text {
        /// Chunks of 77 tokens.
        chunks: usize,
        /// Which hidden state, from the end.
        clip_skip: usize,
    },
    /// A text embedding to keys and values.
    Context {
        /// Embeddings.
        contexts: usize,
        /// Tokens of each.
        tokens: usize,
    },
    /// Timesteps to rows.
    Time {
        /// How many.
        timesteps: usize,
    },
    /// The U-Net.
    Step(UnetShape),
    /// Latents to pixels; the size is that of the latents.
    Decode {
        /// Samples, height, width.
        size: (usize, usize, usize),
    },
    /// Pixels to latents; the size is that of the picture.
    Encode {
        /// Samples, height, width.
        size: (usize, usize, usize),
    },
}

impl Stage {
    /// Which of the six plans it is, at whatever size.
    pub(crate) fn kind(&self) -> std::mem::Discriminant<Self> {
        std::mem::discriminant(self)
    }

    /// Its graph for a model.
    pub fn graph(&self, model: &Model) -> Result<Graph> {
        match *self {
            Self::Text { chunks, clip_skip } => clip::text(&model.clip, chunks, clip_skip),
            Self::Context { contexts, tokens } => unet::context(&model.unet, contexts, tokens),
            Self::Time { timesteps } => unet::time(&model.unet, timesteps),
            Self::Step(shape) => unet::step(&model.unet, shape),
            Self::Decode { size: (b, h, w) } => vae::decode(&model.vae, b, h, w),
            Self::Encode { size: (b, h, w) } => vae::encode(&model.vae, b, h, w),
        }
    }
}

type Loaded = Arc<Mutex<Box<dyn Program>>>;

/// Runs models on a backend. `Send + Sync`; programs are kept between requests.
pub struct Engine {
    /// The backend in use, and those that take over where it fails, in order.
    backends: Mutex<VecDeque<Arc<dyn Backend>>>,
    /// By model, stage, and whether the matrices are streamed.
    programs: Mutex<HashMap<(usize, Stage, bool), Loaded>>,
    /// What users should know of the engine's own decisions.
    notes: Mutex<Vec<String>>,
}

/// Refused variants after which a device is given up: more than any op has.
const MOST_REFUSALS: usize = 32;

impl Engine {
    /// An engine on one backend.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backends: Mutex::new([backend].into()), programs: Mutex::default(), notes: Mutex::default() }
    }

    /// Another backend that takes over where those before it run out of memory, are lost or have no kernel left.
    #[must_use]
    pub fn or(self, backend: Arc<dyn Backend>) -> Self {
        self.lock_backends().push_back(backend);
        self
    }

    /// The backend in use.
    pub fn backend(&self) -> Arc<dyn Backend> {
        // There is always one: the last is never given up.
        self.lock_backends()[0].clone()
    }

    /// What users should know since this was last called.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.backend().notes();
        notes.append(&mut self.notes.lock().unwrap_or_else(|e| e.into_inner()));
        notes
    }

    fn lock_backends(&self) -> MutexGuard<'_, VecDeque<Arc<dyn Backend>>> {
        self.backends.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether another backend has taken over after this error of `failed`.
    fn fall_back(&self, failed: &Arc<dyn Backend>, error: &Error) -> bool {
        let can = matches!(error.kind(), Kind::OutOfMemory | Kind::TooBig { .. } | Kind::DeviceLost | Kind::Refused);
        let mut backends = self.lock_backends();
        if !can || backends.len() < 2 {
            return false;
        }
        // Another thread may have been here first.
        if Arc::ptr_eq(&backends[0], failed) {
            backends.pop_front();
            let note = format!("{error}; going on with {}", backends[0].name());
            drop(backends);
            self.notes.lock().unwrap_or_else(|e| e.into_inner()).push(note);
            self.lock().clear();
        }
        true
    }

    /// The plan of a stage for this engine's device. No weight is read.
    pub fn plan(&self, model: &Model, stage: Stage) -> Result<Plan> {
        Plan::new(stage.graph(model)?, &self.backend().caps())
    }

    /// What a process that makes one request keeps loaded, and its peak memory. No weight is read.
    ///
    /// `alternating`: the U-Net runs again after a picture was decoded. `budget` decides what is kept, it is not a limit;
    /// with `low_memory` nothing is.
    pub fn residency(
        &self,
        model: &Model,
        stages: &[Stage],
        alternating: bool,
        budget: Option<u64>,
        low_memory: bool,
    ) -> Result<Residency> {
        let memory = |stage: &Stage| -> Result<(Stage, Memory)> {
            let plan = Plan { streamed: low_memory, ..self.plan(model, *stage)? };
            Ok((*stage, self.backend().memory(&plan, model)))
        };
        let stages = stages.iter().map(memory).collect::<Result<Vec<_>>>()?;
        Ok(match low_memory {
            true => Residency { keep: Keep::Stream, peak: Keep::Stream.peak(&stages) },
            false => Residency::choose(&stages, alternating, budget),
        })
    }

    /// A model on this engine; `cancel` stops whatever runs between two steps.
    pub fn session<'a>(&'a self, model: &'a Arc<Model>, cancel: &'a AtomicBool) -> Session<'a> {
        Session { engine: self, model, cancel, keep: Keep::All }
    }

    /// Forgets loaded programs of a model, and with them the weights that no other program holds.
    pub fn release(&self, model: &Arc<Model>, which: impl Fn(&Stage) -> bool) {
        let id = Arc::as_ptr(model) as usize;
        self.lock().retain(|(m, stage, _), _| *m != id || !which(stage));
    }

    /// A loaded stage; what may not stay beside it is released before.
    fn program(&self, model: &Arc<Model>, stage: Stage, keep: Keep) -> Result<Loaded> {
        let streamed = keep == Keep::Stream;
        let key = (Arc::as_ptr(model) as usize, stage, streamed);
        if let Some(found) = self.lock().get(&key) {
            return Ok(found.clone());
        }
        self.release(model, |other| !keep.beside(&stage, other));
        let mut refusals = 0;
        loop {
            let backend = self.backend();
            let plan = Plan::new(stage.graph(model)?, &backend.caps()).map(|p| Arc::new(Plan { streamed, ..p }));
            match plan.and_then(|plan| backend.load(plan, model)) {
                Ok(program) => {
                    let loaded: Loaded = Arc::new(Mutex::new(program));
                    self.lock().insert(key, loaded.clone());
                    return Ok(loaded);
                }
                // The backend knows now what to do without: plan anew.
                Err(e) if *e.kind() == Kind::Refused && refusals < MOST_REFUSALS => refusals += 1,
                Err(e) if self.fall_back(&backend, &e) => refusals = 0,
                Err(e) => return Err(e),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(usize, Stage, bool), Loaded>> {
        self.programs.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A model on an engine: what [`crate::diffusion`] calls.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    engine: &'a Engine,
    model: &'a Arc<Model>,
    cancel: &'a AtomicBool,
    keep: Keep,
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
        let note = format!("{input} of this picture exceed f16 on the way; computed again with f32 storage");
        self.engine.notes.lock().unwrap_or_else(|e| e.into_inner()).push(note);
        let engine = Engine::new(wider);
        Session { engine: &engine, ..*self }.once(stage, input, value, output)
    }
}

fn lock(program: &Loaded) -> MutexGuard<'_, Box<dyn Program>> {
    // A program that panicked half-way is set anew before it runs again.
    program.lock().unwrap_or_else(|e| e.into_inner())
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
