//! The GPU backend: plans on Vulkan, Metal or DX12 through wgpu.

pub mod adapter;
pub mod check;
pub mod device;
mod disk;
pub mod faults;
mod pack;
mod pipeline;
mod program;
mod record;
pub mod roofline;
mod selftest;
mod shader;
pub mod tensor_cores;
mod timer;
mod transfer;
mod unwind;
mod value;
mod weights;

pub use adapter::{Adapter, adapters};
pub use device::{Device, Options};

use super::{Backend, Memory, Numerics, Program};
use crate::checkpoint::Model;
use crate::dtype::Precision;
use crate::error::{Error, Kind, Result};
use crate::graph::plan::{Plan, Step};
use crate::graph::target::{Caps, Target};
use crate::kernels::gpu::{Limits, Storage};
use pipeline::Pipelines;
use selftest::Verdicts;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;
use weights::Store;

/// Runs plans on one device.
pub struct Gpu {
    shared: Arc<Shared>,
    caps: Mutex<Caps>,
    notes: Mutex<Vec<String>>,
    /// Whether a loaded plan runs on tensor cores.
    tensor_cores: AtomicBool,
    /// The same device with f32 storage, once it was asked for.
    wider: OnceLock<Arc<Self>>,
}

/// What does not depend on how activations are stored: the text's plans are f32 on every device.
struct Shared {
    device: Arc<Device>,
    pipelines: Arc<Pipelines>,
    store: Store,
    /// The self-test and what it has found so far.
    trial: Mutex<(check::Bench, Verdicts)>,
}

impl Gpu {
    /// A backend on an opened device.
    pub fn new(device: Arc<Device>) -> Self {
        let pipelines = Arc::new(Pipelines::new(device.clone()));
        let bench = check::Bench::with(pipelines.clone());
        let verdicts = Verdicts::load(&bench);
        let (coop, note) = tensor_cores::decide(&bench);
        let caps = Caps::gpu(Limits { coop, ..device.limits().clone() });
        let trial = Mutex::new((bench, verdicts));
        let shared = Arc::new(Shared { device, pipelines, store: Store::default(), trial });
        Self::on(shared, caps, note.into_iter().collect())
    }

    fn on(shared: Arc<Shared>, caps: Caps, notes: Vec<String>) -> Self {
        Self {
            shared,
            caps: Mutex::new(caps),
            notes: Mutex::new(notes),
            tensor_cores: AtomicBool::new(false),
            wider: OnceLock::new(),
        }
    }

    /// The same device, weights and pipelines for plans with f32 storage. Tensor cores multiply f16 only.
    fn widened(&self) -> Self {
        let mut caps = self.caps();
        if let Target::Gpu(limits) = &mut caps.target {
            (limits.storage, limits.coop) = (Storage::F32, None);
        }
        Self::on(self.shared.clone(), caps, Vec::new())
    }

    /// How activations are stored.
    fn storage(&self) -> Storage {
        match &lock(&self.caps).target {
            Target::Gpu(limits) => limits.storage,
            Target::Cpu(_) => Storage::F32,
        }
    }

    /// Changes what plans are made for: refused variants, rewrites that are off.
    #[must_use]
    pub fn with_caps(self, change: impl FnOnce(&mut Caps)) -> Self {
        change(&mut lock(&self.caps));
        self
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.shared.device
    }

    /// Compiles what a plan runs; a variant that the driver rejects is refused.
    fn build(&self, plan: &Plan) -> Result<()> {
        let Err(e) = self.shared.pipelines.build(&record::shaders(plan.steps.iter().map(|s| &s.launch))) else {
            return Ok(());
        };
        if *e.kind() != Kind::Refused {
            return Err(e);
        }
        // Which step it belongs to: the first whose shaders have not all been built.
        let missing = |s: &&Step| s.launch.dispatches.iter().any(|d| self.shared.pipelines.get(&d.shader).is_err());
        match plan.steps.iter().find(missing) {
            Some(step) => Err(self.refuse(step.op.name(), step.variant_name, &e.to_string())),
            None => Err(e),
        }
    }

    /// Checks what a plan runs and was never checked on this device.
    fn trust(&self, plan: &Plan) -> Result<()> {
        let mut trial = lock(&self.shared.trial);
        let (bench, verdicts) = &mut *trial;
        let (before, begun) = (verdicts.checked, Instant::now());
        let refusal = verdicts.judge(bench, plan)?;
        let new = verdicts.checked - before;
        if new > 0 {
            let time = begun.elapsed().as_secs_f64();
            let note =
                format!("{new} kernels of plan {} checked on {} in {time:.1} s", plan.name, self.device().describe());
            lock(&self.notes).push(note);
        }
        match refusal {
            Some(r) => Err(self.refuse(r.op, r.variant, &r.why)),
            None => Ok(()),
        }
    }

    /// Does without a variant from now on.
    fn refuse(&self, op: &'static str, variant: &'static str, why: &str) -> Error {
        lock(&self.caps).refused.push((op, variant));
        let message = format!("{op}, variant {variant}, is not used on {}: {why}", self.device().describe());
        lock(&self.notes).push(message.clone());
        Error::new(Kind::Refused, message)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is consistent between any two statements.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Backend for Gpu {
    fn name(&self) -> String {
        self.device().describe()
    }

    fn caps(&self) -> Caps {
        lock(&self.caps).clone()
    }

    fn caps_for(&self, model: &Model) -> Caps {
        Caps { beyond_f16: self.shared.store.rounded.beyond(&*model.source), ..self.caps() }
    }

    fn memory(&self, plan: &Plan, _: &Model) -> Memory {
        let storage = self.device().limits().weights;
        Memory {
            weights: plan.weights.iter().map(|w| weights::bytes(w, storage)).sum(),
            activations: plan.activation_bytes(),
        }
    }

    fn numerics(&self) -> Numerics {
        let precision =
            Precision { storage: self.storage(), weights: self.device().limits().weights, ..Precision::default() };
        Numerics {
            device: Some("gpu"),
            precision,
            tensor_cores: self.tensor_cores.load(Ordering::Relaxed),
            after: None,
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = std::mem::take(&mut *lock(&self.notes));
        notes.extend(self.shared.store.rounded.take());
        notes
    }

    fn wider(&self) -> Option<Arc<dyn Backend>> {
        let wide = || self.wider.get_or_init(|| Arc::new(self.widened())).clone() as Arc<dyn Backend>;
        (self.storage() == Storage::F16).then(wide)
    }

    fn load(&self, plan: Arc<Plan>, model: &Arc<Model>) -> Result<Box<dyn Program>> {
        self.build(&plan)?;
        self.trust(&plan)?;
        let weights = self.shared.store.load(self.device(), model, &plan.weights)?;
        if plan.steps.iter().any(|s| s.variant_name == tensor_cores::VARIANT) {
            self.tensor_cores.store(true, Ordering::Relaxed);
        }
        Ok(Box::new(program::GpuProgram::new(self.device().clone(), &self.shared.pipelines, plan, weights)?))
    }
}
