//! The long-lived object: backends, plans and loaded programs by size; it turns requests into pictures, for any number
//! of callers at the same time.
//!
//! Each caller has a [`Session`]. What is loaded belongs to all of them: none throws out what another uses, and what
//! one has loaded the others do not load again. What a session's work leads to, it hears itself.

#[cfg(feature = "gpu")]
pub mod choice;
pub mod devices;
mod programs;
pub mod residency;
mod session;
mod texts;
mod variants;

pub use crate::backend::Numerics;
pub use session::Session;

use crate::backend::{Backend, Memory, Program};
use crate::checkpoint::Model;
use crate::checkpoint::adapter::AdapterUse;
use crate::error::{Error, Kind, Remedy, Result};
use crate::graph::plan::Plan;
use crate::models::part::Part;
use programs::{Key, Table};
use residency::{Again, Keep, Residency};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, TryLockError};
use std::time::Duration;
use texts::Texts;
use variants::Variants;

type Loaded = Arc<Mutex<Box<dyn Program>>>;

/// Runs models on a backend. `Send + Sync`; programs are kept between requests.
pub struct Engine {
    /// The backend in use, and those that take over where it fails, in order.
    backends: Mutex<VecDeque<Arc<dyn Backend>>>,
    /// What is loaded, by whom it is used, and the memory that it takes.
    programs: Mutex<Table<Loaded>>,
    /// Told when a session lets go of something.
    let_go: Condvar,
    /// Held while a program is loaded: what one session loads, no other loads beside it.
    loading: Mutex<()>,
    /// Bytes that all programs together may take.
    budget: Option<u64>,
    texts: Texts,
    variants: Variants,
    /// What users should know of decisions that no request led to.
    notes: Mutex<Vec<String>>,
    /// The kind of the last device that computed something before it was given up.
    after: Mutex<Option<&'static str>>,
}

/// How often it is looked at whether it is one's turn.
const TURN: Duration = Duration::from_millis(1);
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
            let_go: Condvar::new(),
            loading: Mutex::default(),
            budget: None,
            texts: Texts::default(),
            variants: Variants::default(),
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

    /// The same with so many bytes for the programs of all sessions together. A session that needs room makes some
    /// where nobody uses what is there, and waits where others use all of it.
    #[must_use]
    pub fn within(self, budget: Option<u64>) -> Self {
        Self { budget, ..self }
    }

    /// The backend in use.
    pub fn backend(&self) -> Arc<dyn Backend> {
        // There is always one: the last is never given up.
        self.lock_backends()[0].clone()
    }

    /// What users should know since this was last called, of what no request led to.
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
    fn fall_back(&self, failed: &Arc<dyn Backend>, error: &Error, tell: &dyn Fn(String)) -> bool {
        let can = matches!(error.kind(), Kind::OutOfMemory | Kind::TooBig { .. } | Kind::DeviceLost | Kind::Refused);
        can && self.leave(failed, &error.to_string(), tell)
    }

    /// Goes on without a backend, if another stands behind it, and says why.
    pub fn give_up(&self, failed: &Arc<dyn Backend>, why: &str) -> bool {
        self.leave(failed, why, &|note| self.note(note))
    }

    fn leave(&self, failed: &Arc<dyn Backend>, why: &str, tell: &dyn Fn(String)) -> bool {
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
        failed.notes().into_iter().for_each(tell);
        tell(format!("{why}; going on with {next}"));
        self.texts.forget();
        if self.lock().forget_all() {
            let mut after = lock(&self.after);
            *after = failed.numerics().device.or(*after);
        }
        self.let_go.notify_all();
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
                Err(e) if self.fall_back(&backend, &e, &|note| self.note(note)) => {}
                result => return result,
            }
        }
    }

    /// What a process that visits these parts keeps loaded, and its peak memory. No weight is read.
    ///
    /// `budget` decides what is kept, it is not a limit; with `low_memory` nothing is.
    pub fn residency(
        &self,
        model: &Model,
        parts: &[Part],
        again: Again,
        budget: Option<u64>,
        low_memory: bool,
    ) -> Result<Residency> {
        let memory = |part: &Part| -> Result<(Part, Memory)> {
            let plan = Plan { streamed: low_memory, ..self.plan(model, *part)? };
            Ok((*part, self.backend().memory(&plan, model)))
        };
        let parts = parts.iter().map(memory).collect::<Result<Vec<_>>>()?;
        Ok(match low_memory {
            true => Residency { keep: Keep::Stream, peak: Keep::Stream.peak(&parts) },
            false => Residency::choose(&parts, again, budget),
        })
    }

    /// A model on this engine; `cancel` stops whatever runs between two steps.
    pub fn session<'a>(&'a self, model: &'a Arc<Model>, cancel: &'a AtomicBool) -> Session<'a> {
        Session { engine: self, model, cancel, keep: None, budget: None, tell: None, other: None, visitor: None }
    }

    /// A model with adapters: the same one where the same is asked for again.
    pub(crate) fn with_adapters(&self, model: &Arc<Model>, uses: &[AdapterUse]) -> Result<Arc<Model>> {
        let (variant, forgotten) = self.variants.of(model, uses)?;
        if let Some(old) = forgotten {
            self.release(&old, |_| true);
        }
        Ok(variant)
    }

    /// Forgets loaded programs of a model that no session uses, and with them the weights that nothing else holds.
    /// Those of a model that was dropped go by themselves, when the next session begins or ends.
    pub fn release(&self, model: &Model, which: impl Fn(&Part) -> bool) {
        self.lock().release(model.id(), None, which);
    }

    /// A loaded stage. What the session may not keep beside it is let go before; where the budget has no room for it,
    /// what nobody uses goes, and what others use is waited for.
    fn program(&self, session: &Session<'_>, part: Part) -> Result<Loaded> {
        let key = Key { model: session.model.id(), part, streamed: session.kept() == Keep::Stream };
        loop {
            if let Some(found) = self.lock().find(&key, session.visitor) {
                return Ok(found);
            }
            let notes = RefCell::default();
            let loaded = self.loaded(session, key, &notes);
            // Told when nothing is locked any more: who hears it may take long, or ask the engine something.
            notes.into_inner().into_iter().for_each(|note| session.say(note));
            match loaded? {
                Some(program) => return Ok(program),
                None => self.wait_for_room(session)?,
            }
        }
    }

    /// Loads a stage while nobody else loads anything. None where others use what is in the way.
    fn loaded(&self, session: &Session<'_>, key: Key, notes: &RefCell<Vec<String>>) -> Result<Option<Loaded>> {
        let Session { model, visitor, .. } = *session;
        let _loading = lock_unless(session.cancel, &self.loading)?;
        loop {
            // Another session may have loaded it meanwhile.
            if let Some(found) = self.lock().find(&key, visitor) {
                return Ok(Some(found));
            }
            self.lock().release(key.model, visitor, |other| !session.kept().beside(&key.part, other));
            if let Some(other) = session.other.filter(|_| session.kept() != Keep::All) {
                self.lock().release(other, visitor, |_| true);
            }
            let backend = self.backend();
            match self.load(&backend, session, key, notes) {
                Ok(Some((program, memory))) if Arc::ptr_eq(&backend, &self.backend()) => {
                    let loaded: Loaded = Arc::new(Mutex::new(program));
                    let mut programs = self.lock();
                    programs.insert((key, model), loaded.clone(), memory, visitor);
                    // With other adapters it shares what they do not touch; the rest of theirs is not needed any more.
                    for kin in self.variants.kin(key.model) {
                        programs.release(kin, None, |other| other.kind() == key.part.kind());
                    }
                    return Ok(Some(loaded));
                }
                // Given up meanwhile: what was loaded is of no use.
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(e) if self.fall_back(&backend, &e, &|note| notes.borrow_mut().push(note)) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// A stage on a backend, and its memory: planned anew where the backend has learnt what to do without, and tried
    /// again with nothing else loaded where there was no room. None where others use what is in the way.
    fn load(
        &self,
        backend: &Arc<dyn Backend>,
        session: &Session<'_>,
        key: Key,
        notes: &RefCell<Vec<String>>,
    ) -> Result<Option<(Box<dyn Program>, Memory)>> {
        let Session { model, visitor, .. } = *session;
        let mut refusals = 0;
        loop {
            let plan = Plan { streamed: key.streamed, ..plan_on(backend.as_ref(), model, key.part)? };
            let memory = backend.memory(&plan, model);
            if let Some(budget) = self.budget {
                let mut programs = self.lock();
                // Alone on the device it is tried whatever it needs: who allows it has been asked before.
                if !programs.make_room(&key, memory, budget) {
                    // Its own goes next.
                    programs.leave(visitor);
                    if !programs.make_room(&key, memory, budget) && programs.others(visitor) {
                        return Ok(None);
                    }
                }
            }
            let result = backend.load(Arc::new(plan), model);
            // Loads come one after the other: what the backend says now, it says of this one.
            notes.borrow_mut().append(&mut backend.notes());
            match result {
                Ok(program) => return Ok(Some((program, memory))),
                // The backend knows now what to do without: plan anew.
                Err(e) if *e.kind() == Kind::Refused && refusals < MOST_REFUSALS => refusals += 1,
                Err(e) if *e.kind() == Kind::OutOfMemory => {
                    let mut programs = self.lock();
                    programs.leave(visitor);
                    if programs.forget_idle() {
                        notes.borrow_mut().push(format!("{e}; trying again with nothing else loaded"));
                    } else if programs.others(visitor) {
                        return Ok(None);
                    } else {
                        return Err(e);
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Waits until another session has let go of something. Meanwhile this one claims nothing, so that of two that wait
    /// for each other one goes on.
    fn wait_for_room(&self, session: &Session<'_>) -> Result<()> {
        let mut programs = self.lock();
        programs.leave(session.visitor);
        self.let_go.notify_all();
        // Looked at again now and then: a program's last user may have become idle without a word.
        let waited = self.let_go.wait_timeout(programs, Duration::from_millis(50));
        drop(waited.unwrap_or_else(|e| e.into_inner()));
        if session.cancel.load(Ordering::Relaxed) { Err(Error::cancelled()) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Table<Loaded>> {
        lock(&self.programs)
    }
}

/// Locks whatever happened before: what these mutexes guard is consistent between any two statements, and a program
/// that panicked half-way is set anew before it runs again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// The same, unless the work is cancelled before it is one's turn: others may hold it for as long as a step takes, or
/// as a model takes to be read.
fn lock_unless<'m, T>(cancel: &AtomicBool, mutex: &'m Mutex<T>) -> Result<MutexGuard<'m, T>> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(e)) => return Ok(e.into_inner()),
            Err(TryLockError::WouldBlock) if cancel.load(Ordering::Relaxed) => return Err(Error::cancelled()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(TURN),
        }
    }
}

/// The plan of a stage for a backend.
fn plan_on(backend: &dyn Backend, model: &Model, stage: Part) -> Result<Plan> {
    Plan::new(stage.graph(&model.networks)?, &backend.caps_for(model)).map_err(|e| match e.kind() {
        // Nothing is left that this device could run.
        Kind::Refused if backend.numerics().device.is_some() => {
            let place = format!("{} cannot be used", backend.name());
            e.at(place).try_this(Remedy::NewDriver).try_this(Remedy::Cpu)
        }
        Kind::TooBig { .. } => e.at(backend.name()),
        _ => e,
    })
}
