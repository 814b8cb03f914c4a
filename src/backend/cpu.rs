//! The CPU backend: an interpreter of plans over one arena, with the pool of workers and the store of packed weights.

pub mod memory;
pub mod workers;

use super::{Backend, Program, Run, Value};
use crate::error::{Error, Kind, Result};
use crate::graph::WeightExpr;
use crate::graph::plan::{Place, Plan, PlanWeight, Stored};
use crate::kernels::cpu::panels::{self, Packed};
use crate::kernels::cpu::{self as kernels, In, Io, Out};
use crate::kernels::{Caps, Packing};
use crate::simd::Isa;
use crate::tensor::Tensor;
use crate::weights::{Dtype, Model};
use memory::{Arena, Buffer};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;
use workers::Workers;

/// Which element type matrices are kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightType {
    /// f16; f32 and bf16 are rounded to it.
    #[default]
    Auto,
    /// f16, as `Auto`.
    F16,
    /// What the file has, exactly: f16 stays f16, f32 and bf16 become f32.
    F32,
}

/// Runs plans on the processor's cores.
pub struct Cpu {
    caps: Caps,
    workers: Arc<Workers>,
    weight_type: WeightType,
    /// Packed weights by model, expression and layout, shared by all programs for as long as one of them lives.
    store: Mutex<HashMap<(usize, PlanWeight), Weak<Packed>>>,
}

impl Cpu {
    /// A backend with its own pool of `threads` threads.
    pub fn new(threads: usize, isa: Isa, weight_type: WeightType) -> Result<Self> {
        let workers = Arc::new(Workers::new(threads)?);
        Ok(Self { caps: Caps::cpu(isa), workers, weight_type, store: Mutex::default() })
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

    fn packed(&self, want: &PlanWeight, model: &Arc<Model>) -> Result<Arc<Packed>> {
        let key = (Arc::as_ptr(model) as usize, want.clone());
        if let Some(found) = self.lock_store().get(&key).and_then(Weak::upgrade) {
            return Ok(found);
        }
        let packed = Arc::new(self.pack(want, model)?);
        let mut store = self.lock_store();
        store.retain(|_, w| w.strong_count() > 0);
        store.insert(key, Arc::downgrade(&packed));
        Ok(packed)
    }

    fn lock_store(&self) -> std::sync::MutexGuard<'_, HashMap<(usize, PlanWeight), Weak<Packed>>> {
        // The map is consistent between any two statements, so a panic elsewhere does not spoil it.
        self.store.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn pack(&self, want: &PlanWeight, model: &Model) -> Result<Packed> {
        let dims = want.weight.dims;
        let stored = gather(&want.weight.expr, want.packing, model)?;
        let count = stored.bytes.len() / stored.dtype.bytes();
        if count != dims.len() {
            let names = want.weight.expr.names().join(", ");
            return Err(Error::new(
                Kind::BadFile,
                format!("{names}: {count} values where {} are expected", dims.len()),
            ));
        }
        let keep_f32 = self.weight_type == WeightType::F32 && stored.dtype != Dtype::F16;
        let values = panels::Stored { dtype: stored.dtype, bytes: &stored.bytes };
        panels::pack(dims, want.packing, want.geglu, values, keep_f32, &self.workers)
    }
}

/// Tensors read one after the other.
struct Gathered {
    dtype: Dtype,
    bytes: Vec<u8>,
}

/// Reads what an expression names. Vectors, and tensors of mixed types, come out as f32.
fn gather(expr: &WeightExpr, packing: Packing, model: &Model) -> Result<Gathered> {
    let mut raw = Vec::new();
    if let (WeightExpr::One(name), Packing::Panels) = (expr, packing) {
        let dtype = dtype_of(model, name)?;
        model.source.read(name, &mut raw)?;
        return Ok(Gathered { dtype, bytes: raw });
    }
    let names = expr.names();
    let dtypes = names.iter().map(|n| dtype_of(model, n)).collect::<Result<Vec<_>>>()?;
    if packing == Packing::Panels && dtypes.iter().all(|d| *d == dtypes[0]) {
        let mut bytes = Vec::new();
        for name in names {
            model.source.read(name, &mut raw)?;
            bytes.extend_from_slice(&raw);
        }
        return Ok(Gathered { dtype: dtypes[0], bytes });
    }
    let mut all: Vec<Vec<f32>> = Vec::new();
    for (name, dtype) in names.iter().zip(dtypes) {
        model.source.read(name, &mut raw)?;
        let mut one = Vec::new();
        crate::weights::decode_f32(dtype, &raw, &mut one);
        all.push(one);
    }
    let values: Vec<f32> = match expr {
        WeightExpr::RowSums(_) => {
            all.chunks(2).flat_map(|p| p[0].iter().zip(&p[1]).map(|(a, b)| a + b).collect::<Vec<_>>()).collect()
        }
        _ => all.concat(),
    };
    Ok(Gathered { dtype: Dtype::F32, bytes: bytemuck::cast_slice(&values).to_vec() })
}

fn dtype_of(model: &Model, name: &str) -> Result<Dtype> {
    let info = model.source.info(name);
    info.map(|i| i.dtype).ok_or_else(|| Error::new(Kind::BadFile, format!("{}: tensor {name} is missing", model.name)))
}

impl Backend for Cpu {
    fn name(&self) -> String {
        format!("cpu, {} threads, {}", self.workers.threads(), self.caps.isa)
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn load(&self, plan: Arc<Plan>, model: &Arc<Model>) -> Result<Box<dyn Program>> {
        let weights = plan.weights.iter().map(|w| self.packed(w, model)).collect::<Result<Vec<_>>>()?;
        self.workers.reserve(plan.worker_scratch());
        let inputs =
            plan.inputs.iter().map(|(_, id)| Buffer::zeroed(plan.values[*id].elems())).collect::<Result<_>>()?;
        Ok(Box::new(CpuProgram {
            arena: Arena::for_plan(&plan)?,
            set: vec![false; plan.inputs.len()],
            inputs,
            weights,
            workers: self.workers.clone(),
            isa: self.caps.isa,
            plan,
        }))
    }
}

struct CpuProgram {
    plan: Arc<Plan>,
    weights: Vec<Arc<Packed>>,
    inputs: Vec<Buffer>,
    /// Which inputs have been set.
    set: Vec<bool>,
    arena: Arena,
    workers: Arc<Workers>,
    isa: Isa,
}

impl CpuProgram {
    fn step(&mut self, i: usize) {
        let step = &self.plan.steps[i];
        let inputs = &self.inputs;
        let mut views = self.arena.step(&self.plan, i);
        let x: Vec<In<'_>> = step
            .x
            .iter()
            .zip(&views.x)
            .map(|(v, from_arena)| {
                let stored = &self.plan.values[v.id];
                let whole = match stored.place {
                    Place::Input(n) => inputs[n].as_slice(),
                    Place::Slot { .. } => from_arena.unwrap_or(&[]),
                };
                In { data: &whole[v.offset..], shape: v.shape, pitch: stored.pitch }
            })
            .collect();
        let w: Vec<&Packed> = step.w.iter().map(|w| &*self.weights[*w]).collect();
        let stored = &self.plan.values[step.y];
        zero_padding(views.y, stored);
        let y = Out { data: views.y, shape: stored.shape, pitch: stored.pitch };
        let mut io = Io { x: &x, w: &w, y, scratch: views.scratch.take().unwrap_or_default() };
        kernels::run(&step.op, step.variant, self.isa, &mut io, &self.workers);
    }

    fn read(&self, id: usize) -> Tensor {
        let stored = &self.plan.values[id];
        let rows = match stored.place {
            Place::Input(n) => self.inputs[n].as_slice(),
            Place::Slot { offset } => &self.arena.as_slice()[offset..offset + stored.elems()],
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

    fn set(&mut self, input: &str, value: &Value) -> Result<()> {
        let t = value.host()?;
        let known = self.plan.inputs.iter().position(|(name, _)| name == input);
        let n = known.ok_or_else(|| Error::other(format!("plan {} has no input '{input}'", self.plan.name)))?;
        let stored = &self.plan.values[self.plan.inputs[n].1];
        if t.shape() != stored.shape {
            let (name, want) = (&self.plan.name, stored.shape);
            return Err(Error::other(format!("plan {name}: input '{input}' is {} and must be {want}", t.shape())));
        }
        Self::write(self.inputs[n].as_mut_slice(), stored, &t);
        self.set[n] = true;
        Ok(())
    }

    fn run(&mut self, mut how: Run<'_>) -> Result<()> {
        if let Some(n) = self.set.iter().position(|s| !s) {
            return Err(Error::other(format!("plan {}: input '{}' is not set", self.plan.name, self.plan.inputs[n].0)));
        }
        // Another program may have been loaded since; reserving is free when the scratch is large enough.
        self.workers.reserve(self.plan.worker_scratch());
        for i in 0..self.plan.steps.len() {
            match &mut how {
                Run::Fast { cancel } => {
                    if cancel.load(Ordering::Relaxed) {
                        return Err(Error::cancelled());
                    }
                    self.step(i);
                }
                Run::Timed(times) => {
                    let start = Instant::now();
                    self.step(i);
                    times.push(start.elapsed());
                }
                Run::Stepped(visit) => {
                    self.step(i);
                    let stored = self.plan.values[self.plan.steps[i].y];
                    let mut t = self.read(self.plan.steps[i].y);
                    visit(i, &mut t)?;
                    if let Place::Slot { offset } = stored.place {
                        let rows = &mut self.arena.as_mut_slice()[offset..offset + stored.elems()];
                        Self::write(rows, &stored, &t);
                    }
                }
            }
        }
        Ok(())
    }

    fn get(&mut self, output: &str) -> Result<Value> {
        let known = self.plan.outputs.iter().find(|(name, _)| name == output);
        let (_, id) = known.ok_or_else(|| Error::other(format!("plan {} has no output '{output}'", self.plan.name)))?;
        Ok(self.read(*id).into())
    }
}
