//! A card: a CPU whose work is a GPU's in name, until it fails on purpose.

use lienzo::backend::cpu::Cpu;
use lienzo::backend::{Backend, Memory, Numerics, Program, Run, Value};
use lienzo::checkpoint::Model;
use lienzo::error::{Error, Kind, Remedy, Result};
use lienzo::graph::plan::Plan;
use lienzo::graph::target::Caps;
use lienzo::graph::{Input, Output};
use lienzo::kernels::gpu::{Limits, Storage};
use lienzo::simd::Isa;
use lienzo::tensor::Tensor;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The card's name.
pub const CARD: &str = "Card 1, Vulkan, maker 1.2";

/// When the card fails, and how.
#[derive(Clone, Debug)]
pub enum Fails {
    /// It does not.
    Never,
    /// In the n-th run of a plan and all that follow.
    Run(&'static str, usize, Kind),
    /// While loading a plan, so many times.
    Load(&'static str, usize, Kind),
    /// It loads and runs, and a plan's output is not finite.
    NotFinite(&'static str),
    /// No kernel of it is right: every variant of an op is refused.
    Refused(&'static str),
    /// Its bindings are so small.
    Limit(u64),
}

/// A card: a CPU whose work is a GPU's in name, until it fails.
pub struct Card {
    cpu: Cpu,
    fails: Fails,
    /// Runs (or loads) of the plan that fails.
    count: Arc<AtomicUsize>,
    /// How the same card with wider storage fails, if there is one.
    wider: Option<Fails>,
    /// The plans that were loaded, in order, and what they occupy.
    pub loaded: Arc<Mutex<Vec<(String, Memory)>>>,
}

impl Card {
    /// A card without wider storage.
    pub fn new(fails: Fails) -> Self {
        Self { cpu: cpu(), fails, count: Arc::default(), wider: None, loaded: Arc::default() }
    }

    /// The same with wider storage that fails so, or without.
    pub fn widened(self, wider: Option<Fails>) -> Self {
        Self { wider, ..self }
    }
}

fn failure(kind: &Kind) -> Error {
    Error::new(kind.clone(), "it failed").at(CARD).try_this(Remedy::NewDriver).try_this(Remedy::Cpu)
}

impl Backend for Card {
    fn name(&self) -> String {
        CARD.into()
    }

    fn caps(&self) -> Caps {
        if let Fails::Limit(max_binding) = self.fails {
            return Caps::gpu(Limits { max_binding, ..Limits::webgpu(Storage::F16) });
        }
        let mut caps = self.cpu.caps();
        if let Fails::Refused(op) = self.fails {
            let names = ["naive", "simd", "panels", "bf16", "winograd", "upsample4", "upsample9"];
            caps.refused.extend(names.map(|variant| (op, variant)));
        }
        caps
    }

    fn memory(&self, plan: &Plan, model: &Model) -> Memory {
        self.cpu.memory(plan, model)
    }

    fn numerics(&self) -> Numerics {
        Numerics { device: Some("gpu"), ..Numerics::default() }
    }

    fn notes(&self) -> Vec<String> {
        // Once, as if a self-test had been run.
        let first = matches!(self.fails, Fails::Run(..)) && self.count.fetch_or(1 << 32, Ordering::Relaxed) < 1 << 32;
        if first { vec!["12 kernels checked".into()] } else { Vec::new() }
    }

    fn wider(&self) -> Option<Arc<dyn Backend>> {
        let wider = |fails| Arc::new(Self { loaded: self.loaded.clone(), ..Self::new(fails) }) as Arc<dyn Backend>;
        self.wider.clone().map(wider)
    }

    fn load(&self, plan: Arc<Plan>, model: &Arc<Model>) -> Result<Box<dyn Program>> {
        if let Fails::Load(name, times, kind) = &self.fails
            && *name == plan.name
            && self.count.fetch_add(1, Ordering::Relaxed) < *times
        {
            return Err(failure(kind));
        }
        self.loaded.lock().expect("no test panicked").push((plan.name.clone(), self.memory(&plan, model)));
        let inner = self.cpu.load(plan, model)?;
        Ok(Box::new(Running { inner, fails: self.fails.clone(), count: self.count.clone() }))
    }
}

struct Running {
    inner: Box<dyn Program>,
    fails: Fails,
    count: Arc<AtomicUsize>,
}

impl Program for Running {
    fn plan(&self) -> &Plan {
        self.inner.plan()
    }

    fn set(&mut self, input: Input, value: &Value) -> Result<()> {
        self.inner.set(input, value)
    }

    fn submit(&mut self, how: Run<'_>) -> Result<()> {
        if let Fails::Run(name, n, kind) = &self.fails
            && *name == self.plan().name
            && (self.count.fetch_add(1, Ordering::Relaxed) & 0xffff) + 1 >= *n
        {
            return Err(failure(kind));
        }
        self.inner.submit(how)
    }

    fn wait(&mut self) -> Result<()> {
        self.inner.wait()
    }

    fn get(&mut self, output: Output) -> Result<Value> {
        let value = self.inner.get(output)?;
        match self.fails {
            Fails::NotFinite(name) if name == self.plan().name => {
                let mut broken = Tensor::clone(value.host()?.as_ref());
                broken.data_mut()[0] = f32::NAN;
                Ok(broken.into())
            }
            _ => Ok(value),
        }
    }
}

/// A CPU of one thread.
pub fn cpu() -> Cpu {
    Cpu::new(1, Isa::best(), Storage::F16).expect("a thread")
}
