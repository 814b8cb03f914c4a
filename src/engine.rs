//! The long-lived object: backends, plans and loaded programs by size; it turns requests into pictures.

#[cfg(feature = "gpu")]
pub mod choice;
pub mod devices;
pub mod residency;
mod session;

pub use crate::backend::Numerics;
pub use session::Session;

use crate::backend::{Backend, Memory, Program};
use crate::checkpoint::{Model, ModelId};
use crate::error::{Error, Kind, Result};
use crate::graph::plan::Plan;
use crate::models::part::Part;
use residency::{Keep, Residency};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

type Loaded = Arc<Mutex<Box<dyn Program>>>;

/// A model, a part of it, and whether its matrices are streamed.
type Key = (ModelId, Part, bool);

/// Runs models on a backend. `Send + Sync`; programs are kept between requests.
pub struct Engine {
    /// The backend in use, and those that take over where it fails, in order.
    backends: Mutex<VecDeque<Arc<dyn Backend>>>,
    /// What is loaded, and the memory that it takes.
    programs: Mutex<HashMap<Key, (Loaded, Memory)>>,
    /// What users should know of the engine's own decisions.
    notes: Mutex<Vec<String>>,
    /// The kind of the last device that computed something before it was given up.
    after: Mutex<Option<&'static str>>,
}

/// Refused variants after which a device is given up: more than any op has.
const MOST_REFUSALS: usize = 32;

impl Engine {
    /// An engine on one backend.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self::chain([backend].into())
    }

    /// Backends, of which each takes over from the one before it; there is at least one.
    fn chain(backends: VecDeque<Arc<dyn Backend>>) -> Self {
        Self {
            backends: Mutex::new(backends),
            programs: Mutex::default(),
            notes: Mutex::default(),
            after: Mutex::default(),
        }
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
        let mut notes = std::mem::take(&mut *lock(&self.notes));
        notes.append(&mut self.backend().notes());
        notes
    }

    fn note(&self, note: String) {
        lock(&self.notes).push(note);
    }

    fn lock_backends(&self) -> MutexGuard<'_, VecDeque<Arc<dyn Backend>>> {
        lock(&self.backends)
    }

    /// What a picture's metadata say of the arithmetic that made it, as of now: a
    /// backend may have taken over meanwhile.
    pub fn numerics(&self) -> Numerics {
        Numerics { after: *lock(&self.after), ..self.backend().numerics() }
    }

    /// All that [`Engine::numerics`] may say before this engine is done, whatever
    /// fails: what a picture is recognised by.
    pub fn possible_numerics(&self) -> Vec<Numerics> {
        let backends = self.lock_backends();
        let mut all = Vec::new();
        for (i, backend) in backends.iter().enumerate() {
            let own = backend.numerics();
            let before = backends.iter().take(i).map(|b| b.numerics().device).chain([None, *lock(&self.after)]);
            for after in before {
                all.extend([true, false].map(|tensor_cores| Numerics { after, tensor_cores, ..own }));
            }
        }
        all
    }

    /// Whether another backend has taken over after this error of `failed`.
    fn fall_back(&self, failed: &Arc<dyn Backend>, error: &Error) -> bool {
        let can = matches!(error.kind(), Kind::OutOfMemory | Kind::TooBig { .. } | Kind::DeviceLost | Kind::Refused);
        can && self.give_up(failed, &error.to_string())
    }

    /// Goes on without a backend, if another stands behind it, and says why.
    pub fn give_up(&self, failed: &Arc<dyn Backend>, why: &str) -> bool {
        let mut backends = self.lock_backends();
        if backends.len() < 2 {
            return false;
        }
        // Another thread may have been here first.
        if !Arc::ptr_eq(&backends[0], failed) {
            return true;
        }
        backends.pop_front();
        let next = backends[0].name();
        drop(backends);
        // What it has found out explains why.
        lock(&self.notes).append(&mut failed.notes());
        self.note(format!("{why}; going on with {next}"));
        let loaded = std::mem::take(&mut *self.lock());
        if !loaded.is_empty() {
            let mut after = lock(&self.after);
            *after = failed.numerics().device.or(*after);
        }
        true
    }

    /// The plan of a stage for this engine's device. No weight is read.
    pub fn plan(&self, model: &Model, stage: Part) -> Result<Plan> {
        plan_on(self.backend().as_ref(), model, stage)
    }

    /// Leaves each backend that can run some of these stages in no way, for the next one. No weight is read.
    ///
    /// # Errors
    /// The last one cannot either.
    pub fn settle(&self, model: &Model, stages: &[Part]) -> Result<()> {
        loop {
            let backend = self.backend();
            match stages.iter().try_for_each(|stage| plan_on(backend.as_ref(), model, *stage).map(drop)) {
                Err(e) if self.fall_back(&backend, &e) => {}
                result => return result,
            }
        }
    }

    /// What a process that makes one request keeps loaded, and its peak memory. No weight is read.
    ///
    /// `alternating`: the U-Net runs again after a picture was decoded. `budget` decides what is kept, it is not a
    /// limit; with `low_memory` nothing is.
    pub fn residency(
        &self,
        model: &Model,
        stages: &[Part],
        alternating: bool,
        budget: Option<u64>,
        low_memory: bool,
    ) -> Result<Residency> {
        let memory = |stage: &Part| -> Result<(Part, Memory)> {
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
        Session { engine: self, model, cancel, keep: Keep::All, budget: None }
    }

    /// Forgets loaded programs of a model, and with them the weights that no other program holds.
    pub fn release(&self, model: &Arc<Model>, which: impl Fn(&Part) -> bool) {
        let id = model.id();
        self.lock().retain(|(m, stage, _), _| *m != id || !which(stage));
    }

    /// A loaded stage; what may not stay beside it is released before.
    fn program(&self, model: &Arc<Model>, stage: Part, keep: Keep) -> Result<Loaded> {
        let streamed = keep == Keep::Stream;
        let key = (model.id(), stage, streamed);
        if let Some((found, _)) = self.lock().get(&key) {
            return Ok(found.clone());
        }
        self.release(model, |other| !keep.beside(&stage, other));
        loop {
            let backend = self.backend();
            match self.load(&backend, model, stage, streamed) {
                Ok((program, memory)) => {
                    let loaded: Loaded = Arc::new(Mutex::new(program));
                    self.lock().insert(key, (loaded.clone(), memory));
                    return Ok(loaded);
                }
                Err(e) if self.fall_back(&backend, &e) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// A stage on a backend, and its memory: planned anew where the backend has learnt what to do without, and tried
    /// again with nothing else loaded where there was no room.
    fn load(
        &self,
        backend: &Arc<dyn Backend>,
        model: &Arc<Model>,
        stage: Part,
        streamed: bool,
    ) -> Result<(Box<dyn Program>, Memory)> {
        let mut refusals = 0;
        loop {
            let plan = Arc::new(Plan { streamed, ..plan_on(backend.as_ref(), model, stage)? });
            let memory = backend.memory(&plan, model);
            match backend.load(plan, model) {
                Ok(program) => return Ok((program, memory)),
                // The backend knows now what to do without: plan anew.
                Err(e) if *e.kind() == Kind::Refused && refusals < MOST_REFUSALS => refusals += 1,
                Err(e) if *e.kind() == Kind::OutOfMemory && self.make_room(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Bytes of `more` for a model's stage, and of all that is loaded beside it;
    /// programs of one kind share their weights.
    fn bytes_beside(&self, model: &Arc<Model>, stage: Part, more: Memory) -> u64 {
        let mut weights = HashMap::from([((model.id(), stage.kind()), more.weights)]);
        let mut activations = more.activations;
        for ((model, stage, _), (_, memory)) in self.lock().iter() {
            activations += memory.activations;
            let shared = weights.entry((*model, stage.kind())).or_default();
            *shared = memory.weights.max(*shared);
        }
        activations + weights.values().sum::<u64>()
    }

    /// Forgets all that is loaded, so that one stage may have the device to itself; whether there was anything.
    fn make_room(&self, error: &Error) -> bool {
        let loaded = std::mem::take(&mut *self.lock());
        if !loaded.is_empty() {
            self.note(format!("{error}; trying again with nothing else loaded"));
        }
        !loaded.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (Loaded, Memory)>> {
        lock(&self.programs)
    }
}

/// Locks whatever happened before: what these mutexes guard is consistent between any two statements, and a program
/// that panicked half-way is set anew before it runs again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// The plan of a stage for a backend.
fn plan_on(backend: &dyn Backend, model: &Model, stage: Part) -> Result<Plan> {
    Plan::new(stage.graph(&model.networks)?, &backend.caps_for(model)).map_err(|e| match e.kind() {
        // Nothing is left that this device could run.
        Kind::Refused => {
            let message = format!("{} cannot be used: {e}; update its driver, or use --device cpu", backend.name());
            Error::new(Kind::Refused, message)
        }
        Kind::TooBig { .. } => e.at(backend.name()),
        _ => e,
    })
}
