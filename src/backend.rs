//! The seam: a backend loads a plan with a model's weights and runs it. Nothing above knows which device that is.

pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
mod rounded;

use crate::checkpoint::Model;
use crate::dtype::Precision;
use crate::error::Result;
use crate::graph::plan::Plan;
use crate::graph::target::Caps;
use crate::graph::{Input, Output};
use crate::tensor::{Shape, Tensor};
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A device that plans run on.
pub trait Backend: Send + Sync {
    /// `cpu, 2 threads, avx512`.
    fn name(&self) -> String;

    /// What it can do; what plans are made for.
    fn caps(&self) -> Caps;

    /// The same for a model, of which loading may have taught more.
    fn caps_for(&self, _: &Model) -> Caps {
        self.caps()
    }

    /// What a plan needs in memory, from its shapes and the checkpoint's header alone.
    fn memory(&self, plan: &Plan, model: &Model) -> Memory;

    /// What its pictures' metadata say of its arithmetic, because it changes bits: a kind
    /// of device and what is beside f32.
    fn numerics(&self) -> Numerics {
        Numerics::default()
    }

    /// Bytes that it may use; none where nobody knows, as on a GPU.
    fn memory_limit(&self) -> Option<u64> {
        None
    }

    /// What users should know of the weights loaded since this was last called, in sentences.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The same device with wider storage, where a result was not finite; none where there is nothing wider. Always the
    /// same one, which shares what it can with this: asking again costs nothing.
    fn wider(&self) -> Option<Arc<dyn Backend>> {
        None
    }

    /// Packs the weights that are not packed yet, allocates everything that running needs, and returns what can be run.
    fn load(&self, plan: Arc<Plan>, model: &Arc<Model>) -> Result<Box<dyn Program>>;
}

/// What decides a result's last bits beside the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numerics {
    /// Where it is not the CPU: `gpu`.
    pub device: Option<&'static str>,
    /// How exact it is.
    pub precision: Precision,
    /// Whether products ran on tensor cores.
    pub tensor_cores: bool,
    /// The kind of another device that computed a part of it and was then given up.
    pub after: Option<&'static str>,
}

/// Bytes that a loaded plan occupies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Packed weights; plans of one kind share them.
    pub weights: u64,
    /// Activations, inputs and scratch.
    pub activations: u64,
}

/// A value going into or coming out of a program.
#[derive(Clone, Debug)]
pub enum Value {
    /// Data on the host.
    Host(Arc<Tensor>),
    /// What a program left on its device, for other programs of the same backend.
    Device(Arc<dyn OnDevice>),
}

/// A value that stays on a device until somebody wants it on the host.
pub trait OnDevice: Any + fmt::Debug + Send + Sync {
    /// Its shape.
    fn shape(&self) -> Shape;

    /// The data on the host.
    ///
    /// # Errors
    /// The device is lost.
    fn host(&self) -> Result<Arc<Tensor>>;
}

impl Value {
    /// The data on the host.
    ///
    /// # Errors
    /// The device that holds it is lost.
    pub fn host(&self) -> Result<Arc<Tensor>> {
        match self {
            Self::Host(t) => Ok(t.clone()),
            Self::Device(value) => value.host(),
        }
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Host(t) => t.shape(),
            Self::Device(value) => value.shape(),
        }
    }

    /// Whether it is the same value, without looking at what it holds.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(a), Self::Host(b)) => Arc::ptr_eq(a, b),
            (Self::Device(a), Self::Device(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl From<Tensor> for Value {
    fn from(t: Tensor) -> Self {
        Self::Host(Arc::new(t))
    }
}

/// How a program is run.
pub enum Run<'a> {
    /// As fast as it goes; the flag is looked at between steps.
    Fast {
        /// Set by somebody else to stop.
        cancel: &'a AtomicBool,
    },
    /// One duration for each step.
    Timed(&'a mut Vec<Duration>),
    /// The visitor sees each step's output and may overwrite it.
    Stepped(&'a mut dyn FnMut(usize, &mut Tensor) -> Result<()>),
}

/// What a run through a device's queue takes on the host, beside waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Time to encode all commands and to hand them over.
    pub host: Duration,
    /// Calls of shaders, the pieces of long ones counted singly.
    pub dispatches: usize,
    /// Submissions to the queue.
    pub submits: usize,
}

/// A plan with its weights packed and its memory allocated.
pub trait Program: Send {
    /// The plan it was made from.
    fn plan(&self) -> &Plan;

    /// Sets an input; it stays set between runs. The shape must be the plan's.
    fn set(&mut self, input: Input, value: &Value) -> Result<()>;

    /// Begins to run all steps; what comes after it may have to wait.
    ///
    /// # Errors
    /// An input is not set; cancelled; whatever the device says.
    fn submit(&mut self, how: Run<'_>) -> Result<()>;

    /// Returns when all steps have run.
    ///
    /// # Errors
    /// Whatever the device says.
    fn wait(&mut self) -> Result<()>;

    /// Runs all steps.
    ///
    /// # Errors
    /// As [`Program::submit`] and [`Program::wait`].
    fn run(&mut self, how: Run<'_>) -> Result<()> {
        self.submit(how)?;
        self.wait()
    }

    /// What the last fast run took on the host, where the work goes through a device's queue.
    fn encoding(&self) -> Option<Encoding> {
        None
    }

    /// An output of the last run, on the host.
    ///
    /// # Errors
    /// As [`Program::wait`]; there is no such output.
    fn get(&mut self, output: Output) -> Result<Value>;

    /// An output of the last run, left where it was computed: for programs that go on with it.
    ///
    /// # Errors
    /// As [`Program::get`].
    fn hold(&mut self, output: Output) -> Result<Value> {
        self.get(output)
    }
}
