//! A fused graph becomes a plan for a target: which variant runs each step, and where in memory each value lives.
//!
//! Planning needs shapes only, never a weight, so that memory can be judged before a checkpoint is read.

mod arena;
mod buffers;

use super::choose::choose;
use super::target::{Caps, Target};
use super::{Graph, Input, Operand, Output, Weight, fuse};
use crate::error::{Error, Result};
use crate::kernels::cpu::{InPlace, Scratch};
use crate::kernels::gpu::{Launch, Storage};
use crate::kernels::{self, Cost, Op, Packing};
use crate::tensor::Shape;
use std::fmt::Write as _;

/// Where a stored value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The n-th input's own buffer: inputs stay set between runs.
    Input(usize),
    /// A range of the program's arena, which other values use at other times.
    Slot {
        /// First f32 element.
        offset: usize,
    },
    /// A buffer of a GPU's program, number n of [`Plan::buffers`], which other values use at other times.
    Buffer(usize),
}

/// A stored value: rows of `pitch` f32, of which the first `shape.c` are used and the others are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its shape.
    pub shape: Shape,
    /// Elements from one row to the next: the channels rounded up to a multiple of 4.
    pub pitch: usize,
    /// Where it lives.
    pub place: Place,
    /// The type of its elements: the plan's, but for statistics, which are f32 always.
    pub storage: Storage,
}

impl Stored {
    /// Elements that it occupies.
    pub fn elems(&self) -> usize {
        self.shape.rows() * self.pitch
    }

    /// Bytes that it occupies.
    pub fn bytes(&self) -> u64 {
        (self.elems() * self.storage.bytes()) as u64
    }
}

/// One step: a node, the variant that runs it, and what it costs.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its path in the checkpoint.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Operands: views of stored values.
    pub x: Vec<Operand>,
    /// Weights, as numbers into [`Plan::weights`].
    pub w: Vec<usize>,
    /// The stored value that it writes.
    pub y: usize,
    /// The stored value that its second output, the statistics of the first, goes to.
    pub statistics: Option<usize>,
    /// Which of the op's variants runs it.
    pub variant: usize,
    /// That variant's name.
    pub variant_name: &'static str,
    /// The operand whose place the output takes; nothing reads it afterwards.
    pub in_place: Option<InPlace>,
    /// What the variant needs while running.
    pub scratch: Scratch,
    /// Where the shared scratch begins in the arena.
    pub scratch_offset: usize,
    /// What a GPU runs; empty on a CPU.
    pub launch: Launch,
    /// Where the launch's scratch buffers live: numbers into [`Plan::buffers`].
    pub scratch_buffers: Vec<usize>,
    /// Work and traffic.
    pub cost: Cost,
}

impl Step {
    /// The stored values that it writes.
    pub fn written(&self) -> impl Iterator<Item = usize> {
        [self.y].into_iter().chain(self.statistics)
    }
}

/// A weight that a plan needs, laid out for the backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanWeight {
    /// Where it comes from and its dimensions.
    pub weight: Weight,
    /// How it is laid out.
    pub packing: Packing,
    /// Whether a matrix is f32 also where the others are f16.
    pub exact: bool,
}

impl PlanWeight {
    /// Bytes when it is packed, at `panel_bytes` bytes an element of a matrix.
    pub fn bytes(&self, panel_bytes: u64) -> u64 {
        let d = self.weight.dims;
        match self.packing {
            Packing::Vector { .. } => 4 * d.n as u64,
            Packing::Panels { .. } => {
                (d.n.next_multiple_of(kernels::cpu::panels::PANEL) * d.k * d.taps) as u64 * panel_bytes
            }
        }
    }
}

/// A computation that is ready to be loaded on a target.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `text`, `context`, `time`, `step`, `decode` or `encode`.
    pub name: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The stored values.
    pub values: Vec<Stored>,
    /// The weights.
    pub weights: Vec<PlanWeight>,
    /// Named inputs, as numbers into `values`.
    pub inputs: Vec<(Input, usize)>,
    /// Named outputs, as numbers into `values`.
    pub outputs: Vec<(Output, usize)>,
    /// How activations are stored: f32 on a CPU.
    pub storage: Storage,
    /// Bytes of the buffers of a GPU's program; empty on a CPU.
    pub buffers: Vec<u64>,
    /// Size of the arena in f32 elements; 0 on a GPU.
    pub arena: usize,
    /// What the arena would be if no two values shared memory.
    pub arena_unshared: usize,
    /// Whether panels are read and packed just before their step and dropped after it, instead of being kept.
    pub streamed: bool,
}

/// Steps whose panels are ready or being made while another computes, in a streamed plan.
pub const AHEAD: usize = 2;

impl Plan {
    /// Fuses the graph, chooses variants and assigns memory for a target.
    pub fn new(graph: Graph, caps: &Caps) -> Result<Self> {
        let caps = &buffers::for_graph(&graph, caps);
        Self::fused(fuse::fuse(graph, caps), caps)
    }

    /// The same for a graph that has been fused, for this target or for another whose steps are to be repeated.
    pub fn fused(graph: Graph, caps: &Caps) -> Result<Self> {
        let caps = &buffers::for_graph(&graph, caps);
        let mut weights = Vec::new();
        let mut steps = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let (x, dims) = (node.shapes(), node.dims());
            let caps = &*caps.for_weights(&node.w);
            let (variant, variant_name) = choose(&node.op, &x, &dims, caps).map_err(|e| e.at(&node.name))?;
            let (scratch, in_place, launch) = match &caps.target {
                Target::Cpu(_) => {
                    let v = kernels::cpu::variants(&node.op, &x, &dims)[variant];
                    (v.scratch, v.in_place, Launch::default())
                }
                Target::Gpu(limits) => (Scratch::default(), None, buffers::launch(&graph, node, variant, limits)?),
            };
            let packings = node.op.packings();
            let w = node.w.iter().zip(packings).map(|(weight, packing)| {
                let exact = !packing.is_vector() && caps.is_beyond_f16(weight);
                intern(&mut weights, PlanWeight { weight: weight.clone(), packing, exact })
            });
            steps.push(Step {
                name: node.name.clone(),
                op: node.op,
                x: node.x.clone(),
                w: w.collect(),
                y: node.y,
                statistics: node.statistics,
                variant,
                variant_name,
                in_place,
                scratch,
                scratch_offset: 0,
                launch,
                scratch_buffers: Vec::new(),
                cost: node.cost(),
            });
        }
        let mut plan = Self {
            name: graph.name.clone(),
            steps,
            values: Vec::new(),
            weights,
            inputs: graph.inputs.clone(),
            outputs: graph.outputs.clone(),
            storage: match &caps.target {
                Target::Cpu(_) => Storage::F32,
                Target::Gpu(limits) => limits.storage,
            },
            buffers: Vec::new(),
            arena: 0,
            arena_unshared: 0,
            streamed: false,
        };
        match &caps.target {
            Target::Cpu(_) => plan.place(&graph),
            Target::Gpu(_) => plan.place_buffers(&graph),
        }
        Ok(plan)
    }

    /// Lists the stored values; `place` is where those live that are no inputs, until they are placed.
    fn store(&mut self, graph: &Graph, place: Place) {
        let storage = self.storage;
        let pitched = |shape: Shape| Stored { shape, pitch: shape.c.next_multiple_of(4), place, storage };
        self.values = graph.values.iter().map(|s| pitched(*s)).collect();
        for id in self.steps.iter().filter_map(|s| s.statistics) {
            self.values[id].storage = Storage::F32;
        }
        for (i, (_, id)) in graph.inputs.iter().enumerate() {
            self.values[*id].place = Place::Input(i);
        }
    }

    /// The number of an input; its shape must be the plan's.
    pub fn input(&self, input: Input, shape: Shape) -> Result<usize> {
        let known = self.inputs.iter().position(|(i, _)| *i == input);
        let n = known.ok_or_else(|| Error::other(format!("plan {} has no input '{input}'", self.name)))?;
        let want = self.values[self.inputs[n].1].shape;
        if shape == want {
            Ok(n)
        } else {
            Err(Error::other(format!("plan {}: input '{input}' is {shape} and must be {want}", self.name)))
        }
    }

    /// Work and traffic of one run.
    pub fn cost(&self) -> Cost {
        let sum = |f: fn(&Cost) -> u64| self.steps.iter().map(|s| f(&s.cost)).sum();
        Cost { flops: sum(|c| c.flops), bytes: sum(|c| c.bytes) }
    }

    /// Largest scratch that any step asks for each worker, in f32 elements.
    pub fn worker_scratch(&self) -> usize {
        self.steps.iter().map(|s| s.scratch.per_worker).max().unwrap_or(0)
    }

    /// Bytes of activations and inputs while it runs.
    pub fn activation_bytes(&self) -> u64 {
        let inputs: usize = self.inputs.iter().map(|(_, id)| self.values[*id].elems()).sum();
        (4 * self.arena + self.storage.bytes() * inputs) as u64 + self.buffers.iter().sum::<u64>()
    }

    /// Calls of shaders in one run on a GPU; pieces into which long ones are cut are not counted.
    pub fn dispatches(&self) -> usize {
        self.steps.iter().map(|s| s.launch.dispatches.len()).sum()
    }

    /// Bytes of its packed weights, at `panel_bytes` bytes an element of a matrix.
    pub fn weight_bytes(&self, panel_bytes: u64) -> u64 {
        self.weights.iter().map(|w| w.bytes(panel_bytes)).sum()
    }

    /// Bytes of weights that are in memory at one time, at `panel_bytes` of each: all of them, or those of neighbouring
    /// steps where they are streamed.
    pub fn held_bytes(&self, panel_bytes: impl Fn(&PlanWeight) -> u64) -> u64 {
        let bytes = |w: &PlanWeight| w.bytes(panel_bytes(w));
        if !self.streamed {
            return self.weights.iter().map(bytes).sum();
        }
        let (vectors, panels): (Vec<_>, Vec<_>) = self.weights.iter().partition(|w| w.packing.is_vector());
        let vectors: u64 = vectors.into_iter().map(bytes).sum();
        if panels.is_empty() {
            return vectors;
        }
        let of_step = |step: &Step| {
            let streamed = step.w.iter().map(|w| &self.weights[*w]).filter(|w| !w.packing.is_vector());
            streamed.map(bytes).sum::<u64>()
        };
        let steps: Vec<u64> = self.steps.iter().map(of_step).filter(|b| *b > 0).collect();
        let window = steps.windows((1 + AHEAD).min(steps.len()).max(1)).map(|w| w.iter().sum::<u64>()).max();
        vectors + window.unwrap_or(0)
    }

    /// The step table as text, one line a step.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{:<68} {:<19} {:<8} {:>20} {:>9} {:>9} {:>11}",
            format!("plan {}", self.name),
            "op",
            "variant",
            "output",
            "MFLOP",
            "MB moved",
            "slot (MB)"
        );
        for s in &self.steps {
            let y = &self.values[s.y];
            let slot = match y.place {
                Place::Slot { offset } => format!("{:.2}", offset as f64 * 4e-6),
                Place::Buffer(n) => format!("buffer {n}"),
                Place::Input(i) => format!("input {i}"),
            };
            let _ = writeln!(
                out,
                "{:<68} {:<19} {:<8} {:>20} {:>9.1} {:>9.2} {:>11}",
                s.name,
                s.op.name(),
                s.variant_name,
                y.shape.to_string(),
                s.cost.flops as f64 * 1e-6,
                s.cost.bytes as f64 * 1e-6,
                slot
            );
        }
        if !self.buffers.is_empty() {
            let _ = writeln!(out, "{} dispatches, {} buffers", self.dispatches(), self.buffers.len());
        }
        let _ = writeln!(
            out,
            "{} steps, {:.1} GFLOP, activations {:.1} MB (unshared {:.1} MB), weights {:.1} MB as f16",
            self.steps.len(),
            self.cost().flops as f64 * 1e-9,
            self.activation_bytes() as f64 * 1e-6,
            self.arena_unshared as f64 * 4e-6,
            self.weight_bytes(2) as f64 * 1e-6,
        );
        out
    }
}

fn intern(weights: &mut Vec<PlanWeight>, w: PlanWeight) -> usize {
    weights.iter().position(|o| *o == w).unwrap_or_else(|| {
        weights.push(w);
        weights.len() - 1
    })
}
