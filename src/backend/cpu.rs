//! The CPU backend: an interpreter of plans over one arena, with the pool of workers and the store of packed weights.

pub mod memory;
pub mod peak;
pub mod probe;
mod reader;
mod selftest;
mod stream;

use super::rounded::Rounded;
use super::{Backend, Memory, Numerics, Program, Run, Value};
use crate::checkpoint::Model;
use crate::dtype::{Precision, Products, Storage};
use crate::error::{Error, Kind, Result};
use crate::graph::plan::{Place, Plan, PlanWeight, Stored};
use crate::graph::target::Caps;
use crate::graph::{Input, Output};
use crate::kernels::cpu::panels::Packed;
use crate::kernels::cpu::{self as kernels, In, Io, Out};
use crate::simd::Isa;
use crate::tensor::Tensor;
use crate::weights::Origin;
use crate::workers::Workers;
use memory::{Arena, Buffer};
use reader::{Packer, panel_bytes};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;
use stream::Stream;

/// Packed weights by expression and layout, and by what they are made of: models that have a file in common
/// share what they read from it.
type Store = HashMap<(Vec<Origin>, PlanWeight), Weak<Packed>>;

/// Runs plans on the processor's cores.
pub struct Cpu {
    caps: Caps,
    workers: Arc<Workers>,
    weight_type: Storage,
    rounded: Arc<Rounded>,
    /// Variants that failed their check here.
    wrong: Mutex<Vec<(&'static str, &'static str)>>,
    notes: Mutex<Vec<String>>,
    /// Packed weights, shared by all programs for as long as one of them lives.
    store: Mutex<Store>,
}

impl Cpu {
    /// A backend with its own pool of `threads` threads.
    pub fn new(threads: usize, isa: Isa, weight_type: Storage) -> Result<Self> {
        memory::return_what_is_freed();
        let workers = Arc::new(Workers::new(threads)?);
        Ok(Self {
            caps: Caps::cpu(isa),
            workers,
            weight_type,
            rounded: Arc::default(),
            wrong: Mutex::default(),
            notes: Mutex::default(),
            store: Mutex::default(),
        })
    }

    /// Its threads.
    pub fn workers(&self) -> &Arc<Workers> {
        &self.workers
    }

    /// Changes what plans are made for: refused variants, rewrites that are off.
    #[must_use]
    pub fn with_caps(self, caps: Caps) -> Self {
        Self { caps, ..self }
    }

    /// The sizes that kernels cut their work into, measured or remembered: what a large plan runs with.
    ///
    /// # Errors
    /// As [`probe::choice`].
    pub fn tuned(&self) -> Result<probe::Probed> {
        let choice = probe::choice(self.caps.isa(), &self.workers)?;
        self.workers.tune(choice.tuning);
        Ok(choice)
    }

    fn packed(&self, want: &PlanWeight, model: &Arc<Model>, packer: &mut Packer<'_>) -> Result<Arc<Packed>> {
        let key = (want.weight.expr.origin(&*model.source), want.clone());
        if let Some(found) = self.lock_store().get(&key).and_then(Weak::upgrade) {
            return Ok(found);
        }
        let packed = Arc::new(packer.pack(want, Some(&self.workers))?);
        let mut store = self.lock_store();
        store.retain(|_, w| w.strong_count() > 0);
        store.insert(key, Arc::downgrade(&packed));
        Ok(packed)
    }

    fn lock_store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// Checks what a plan runs and this process has never checked; what fails is done without from now on.
    fn trust(&self, plan: &Plan) -> Result<()> {
        let Some(wrong) = selftest::judge(plan, self.caps.isa(), self.weight_type, &self.workers)? else {
            return Ok(());
        };
        lock(&self.wrong).push((wrong.op, wrong.variant));
        let message = format!("{}, variant {}, is not used on this processor: {}", wrong.op, wrong.variant, wrong.why);
        lock(&self.notes).push(message.clone());
        Err(Error::new(Kind::Refused, message))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is consistent between any two statements, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Backend for Cpu {
    fn name(&self) -> String {
        let bf16 = if self.caps.is_bf16() { ", bf16" } else { "" };
        format!("cpu, {} threads, {}{bf16}", self.workers.threads(), self.caps.isa())
    }

    fn caps(&self) -> Caps {
        let mut caps = self.caps.clone();
        caps.refused.extend_from_slice(&lock(&self.wrong));
        caps
    }

    fn memory(&self, plan: &Plan, model: &Model) -> Memory {
        let scratch = (4 * plan.worker_scratch() * self.workers.threads()) as u64;
        // What a run gives is a copy, so that the next one may begin.
        let given = plan.outputs.iter().map(|(_, id)| 4 * plan.values[*id].shape.len() as u64).sum::<u64>();
        Memory {
            weights: plan.held_bytes(|w| panel_bytes(w, model, self.weight_type)),
            activations: plan.activation_bytes() + scratch + given,
        }
    }

    fn numerics(&self) -> Numerics {
        let products = if self.caps.is_bf16() { Products::Bf16 } else { Products::F32 };
        let precision = Precision { weights: self.weight_type, products, ..Precision::default() };
        Numerics { precision, ..Numerics::default() }
    }

    fn memory_limit(&self) -> Option<u64> {
        crate::system::memory_limit()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = std::mem::take(&mut *lock(&self.notes));
        notes.extend(self.rounded.take());
        notes
    }

    fn load(&self, plan: Arc<Plan>, model: &Arc<Model>) -> Result<Box<dyn Program>> {
        self.trust(&plan)?;
        if plan.cost().flops >= probe::WORTH && !self.workers.is_tuned() {
            self.tuned()?;
        }
        let mut packer = Packer::new(model, self.weight_type, &self.rounded);
        let mut weights = Vec::with_capacity(plan.weights.len());
        for w in &plan.weights {
            let kept = !plan.streamed || w.packing.is_vector();
            weights.push(if kept { Some(self.packed(w, model, &mut packer)?) } else { None });
        }
        let stream = || Stream::new(plan.clone(), model.clone(), self.weight_type, self.rounded.clone());
        let stream = plan.streamed.then(|| Arc::new(stream()));
        self.workers.reserve(plan.worker_scratch());
        let inputs =
            plan.inputs.iter().map(|(_, id)| Buffer::zeroed(plan.values[*id].elems())).collect::<Result<_>>()?;
        Ok(Box::new(CpuProgram {
            arena: Arena::for_plan(&plan)?,
            set: vec![false; plan.inputs.len()],
            inputs,
            weights,
            stream,
            workers: self.workers.clone(),
            isa: self.caps.isa(),
            plan,
        }))
    }
}

struct CpuProgram {
    plan: Arc<Plan>,
    /// None for those that are streamed.
    weights: Vec<Option<Arc<Packed>>>,
    stream: Option<Arc<Stream>>,
    inputs: Vec<Buffer>,
    /// Which inputs have been set.
    set: Vec<bool>,
    arena: Arena,
    workers: Arc<Workers>,
    isa: Isa,
}

impl CpuProgram {
    /// Computes step `i`; `streamed` are those of its weights that are not kept.
    fn step(&mut self, i: usize, streamed: &[(usize, Packed)]) -> Result<()> {
        let step = &self.plan.steps[i];
        let inputs = &self.inputs;
        let mut views = self.arena.step(i);
        let x: Vec<In<'_>> = step
            .x
            .iter()
            .zip(&views.x)
            .map(|(v, from_arena)| {
                let stored = &self.plan.values[v.id];
                let whole = match stored.place {
                    Place::Input(n) => inputs[n].as_slice(),
                    // Empty where the output takes its place.
                    Place::Slot { .. } | Place::Buffer(_) => from_arena.unwrap_or(&[]),
                };
                In { data: &whole[v.offset..], shape: v.shape, pitch: stored.pitch }
            })
            .collect();
        let weight = |w: &usize| {
            let passing = || streamed.iter().find(|(n, _)| n == w).map(|(_, packed)| packed);
            let missing = || Error::other(format!("plan {}: a weight of {} is missing", self.plan.name, step.name));
            self.weights[*w].as_deref().or_else(passing).ok_or_else(missing)
        };
        let w: Vec<&Packed> = step.w.iter().map(weight).collect::<Result<_>>()?;
        let stored = &self.plan.values[step.y];
        zero_padding(views.y, stored);
        let y = Out { data: views.y, shape: stored.shape, pitch: stored.pitch };
        let statistics = step.statistics.zip(views.statistics).map(|(id, data)| {
            let stored = &self.plan.values[id];
            zero_padding(data, stored);
            Out { data, shape: stored.shape, pitch: stored.pitch }
        });
        let scratch = views.scratch.take().unwrap_or_default();
        let mut io = Io { x: &x, w: &w, y, statistics, in_place: step.in_place, scratch };
        kernels::run(&step.op, step.variant, self.isa, &mut io, &self.workers)
    }

    /// One step, as the caller wants it.
    fn turn(&mut self, i: usize, how: &mut Run<'_>, streamed: &[(usize, Packed)]) -> Result<()> {
        match how {
            Run::Fast { cancel } => {
                if cancel.load(Ordering::Relaxed) {
                    return Err(Error::cancelled());
                }
                self.step(i, streamed)
            }
            Run::Timed(times) => {
                let start = Instant::now();
                self.step(i, streamed)?;
                times.push(start.elapsed());
                Ok(())
            }
            Run::Stepped(visit) => {
                self.step(i, streamed)?;
                let stored = self.plan.values[self.plan.steps[i].y];
                let mut t = self.read(self.plan.steps[i].y);
                visit(i, &mut t)?;
                if let Place::Slot { offset } = stored.place {
                    let rows = &mut self.arena.as_mut_slice()[offset..offset + stored.elems()];
                    Self::write(rows, &stored, &t);
                }
                Ok(())
            }
        }
    }

    fn read(&self, id: usize) -> Tensor {
        let stored = &self.plan.values[id];
        let rows = match stored.place {
            Place::Input(n) => self.inputs[n].as_slice(),
            Place::Slot { offset } => &self.arena.as_slice()[offset..offset + stored.elems()],
            Place::Buffer(_) => &[],
        };
        let mut t = Tensor::zeros(stored.shape);
        for (to, from) in t.data_mut().chunks_exact_mut(stored.shape.c).zip(rows.chunks_exact(stored.pitch)) {
            to.copy_from_slice(&from[..stored.shape.c]);
        }
        t
    }

    fn write(rows: &mut [f32], stored: &Stored, t: &Tensor) {
        for (to, from) in rows.chunks_exact_mut(stored.pitch).zip(t.data().chunks_exact(stored.shape.c)) {
            to[..stored.shape.c].copy_from_slice(from);
        }
    }
}

/// Slots are reused, so the padding of a row is set before each step that writes it.
fn zero_padding(y: &mut [f32], stored: &Stored) {
    if stored.pitch > stored.shape.c {
        for row in y.chunks_exact_mut(stored.pitch) {
            row[stored.shape.c..].fill(0.0);
        }
    }
}

impl Program for CpuProgram {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn set(&mut self, input: Input, value: &Value) -> Result<()> {
        let t = value.host()?;
        let n = self.plan.input(input, t.shape())?;
        let stored = &self.plan.values[self.plan.inputs[n].1];
        Self::write(self.inputs[n].as_mut_slice(), stored, &t);
        self.set[n] = true;
        Ok(())
    }

    fn submit(&mut self, mut how: Run<'_>) -> Result<()> {
        if let Some(n) = self.set.iter().position(|s| !s) {
            return Err(Error::other(format!("plan {}: input '{}' is not set", self.plan.name, self.plan.inputs[n].0)));
        }
        // Another program may have been loaded since; reserving is free when the scratch is large enough.
        self.workers.reserve(self.plan.worker_scratch());
        let steps = 0..self.plan.steps.len();
        match self.stream.clone() {
            Some(stream) => stream.run(|feed| {
                steps.into_iter().try_for_each(|i| {
                    // Dropped at the end of the step, before the next one's are waited for.
                    let streamed = feed.step(i)?;
                    self.turn(i, &mut how, &streamed)
                })
            }),
            None => steps.into_iter().try_for_each(|i| self.turn(i, &mut how, &[])),
        }
    }

    /// It ran while it was submitted.
    fn wait(&mut self) -> Result<()> {
        Ok(())
    }

    fn get(&mut self, output: Output) -> Result<Value> {
        let known = self.plan.outputs.iter().find(|(o, _)| *o == output);
        let (_, id) = known.ok_or_else(|| Error::other(format!("plan {} has no output '{output}'", self.plan.name)))?;
        Ok(self.read(*id).into())
    }
}
