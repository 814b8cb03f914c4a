//! Where to run: a wish and an estimate of the work go in; an engine (with what takes over if its device fails) comes
//! out, and why it is this one.

use super::Engine;
use crate::backend::Backend as _;
use crate::backend::cpu::Cpu;
use crate::dtype::Storage;
use crate::error::{Error, Result, escape};
use crate::graph::target::VariantName;
use crate::simd::{self, Isa};
use crate::system;
use std::sync::Arc;

/// What is asked of a device, for an estimate: floating-point operations and bytes of weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// All evaluations together.
    pub flops: f64,
    /// Read and packed once.
    pub weight_bytes: f64,
}

/// What a request asks of a device, from the plans that an engine makes for it.
pub type Estimate<'a> = dyn Fn(&Engine) -> Result<Work> + 'a;

/// Which device is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Where {
    /// The one that is estimated to be done first.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The best GPU.
    Gpu,
    /// A GPU by its number.
    Number(usize),
    /// A GPU by a part of its name.
    Name(String),
}

impl Where {
    /// Reads `auto | cpu | gpu | gpu:N`, or a part of a name.
    ///
    /// # Errors
    /// Usage: nothing, or no number behind `gpu:`.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        Ok(match text.to_ascii_lowercase().as_str() {
            "" => {
                return Err(Error::usage("the device's name is empty; use auto, cpu, gpu, gpu:N or a part of a name"));
            }
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
            lower => {
                match lower.strip_prefix("gpu:") {
                    Some(n) => Self::Number(n.parse().map_err(|_| {
                        Error::usage(format!("device {}: gpu: takes a number, as in gpu:0", escape(text)))
                    })?),
                    None => Self::Name(text.to_owned()),
                }
            }
        })
    }

    /// Whether a GPU is wanted.
    pub fn is_gpu(&self) -> bool {
        !matches!(self, Self::Auto | Self::Cpu)
    }
}

impl std::fmt::Display for Where {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
            Self::Number(n) => write!(f, "gpu:{n}"),
            Self::Name(name) => f.write_str(&escape(name)),
        }
    }
}

/// How matrices are asked to be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightType {
    /// As f16; f32 and bf16 are rounded to it.
    #[default]
    Auto,
    /// As f16, like `Auto`.
    F16,
    /// What the file has, exactly: f16 stays f16, f32 and bf16 become f32.
    F32,
}

impl WeightType {
    /// How they are kept then.
    pub fn storage(self) -> Storage {
        match self {
            Self::Auto | Self::F16 => Storage::F16,
            Self::F32 => Storage::F32,
        }
    }
}

/// Which numbers a device computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NumberKind {
    /// f32 on a CPU, f16 storage on a GPU.
    #[default]
    Auto,
    /// f32 everywhere.
    F32,
    /// Stored as f16, computed in f32: a GPU's.
    F16,
    /// Products in bf16: a CPU's.
    Bf16,
}

/// What is wanted of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceWish {
    /// Which one.
    pub device: Where,
    /// Its numbers.
    pub precision: NumberKind,
    /// Threads; none are the physical cores that this process may use.
    pub threads: Option<usize>,
    /// How weights are kept.
    pub weights: WeightType,
    /// Whether shaders keep their bounds checks.
    pub checked: bool,
    /// Variants of kernels that are not used.
    pub refuse: Vec<VariantName>,
    /// Variants of kernels that are used before faster ones.
    pub prefer: Vec<VariantName>,
}

/// An engine, and what is to be told of it.
pub struct Opened {
    /// The engine.
    pub engine: Engine,
    /// Why it is on this device, where that was a choice.
    pub reason: Option<String>,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl Opened {
    fn new(engine: Engine, notes: Vec<String>) -> Self {
        Self { engine, reason: None, notes }
    }
}

impl Engine {
    /// An engine on this machine's CPU: its physical cores, and the best instruction set that it has. Other devices:
    /// [`DeviceWish::open`].
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn on_cpu() -> Result<Self> {
        Ok(Self::new(Arc::new(DeviceWish::default().cpu(&mut Vec::new())?)))
    }
}

impl DeviceWish {
    /// An engine on the device that is wanted. `work` is what devices are compared by where any will do; without it
    /// that is the CPU, and no other device takes over from one that was named.
    ///
    /// # Errors
    /// Usage: what is not available, with what is.
    pub fn open(&self, work: Option<&Estimate<'_>>) -> Result<Opened> {
        let mut notes = Vec::new();
        match (&self.device, work) {
            (Where::Cpu, _) | (Where::Auto, None) => {
                let cpu = self.cpu(&mut notes)?;
                Ok(Opened::new(Engine::new(Arc::new(cpu)), notes))
            }
            (Where::Auto, Some(work)) => self.auto(work, notes),
            // Who compares devices must know what was compared: only a picture is made elsewhere.
            (_, None) => Ok(Opened::new(self.gpu(&mut notes)?, notes)),
            (_, Some(_)) => {
                let gpu = self.gpu(&mut notes)?;
                let behind = self.behind_gpu().cpu(&mut notes)?;
                Ok(Opened::new(gpu.or(Arc::new(behind)), notes))
            }
        }
    }

    /// The CPU backend that is wanted.
    ///
    /// # Errors
    /// Usage: numbers that a CPU does not have, or a number of threads that cannot be.
    pub fn cpu(&self, notes: &mut Vec<String>) -> Result<Cpu> {
        if self.precision == NumberKind::F16 {
            return Err(Error::usage("precision f16 is not available on the CPU; available: auto, f32, bf16"));
        }
        let isa = Isa::from_env()?;
        let cpu = Cpu::new(self.threads(notes)?, isa, self.weights.storage())?;
        let mut caps = cpu.caps();
        if self.precision == NumberKind::Bf16 {
            caps = caps.with_bf16();
        }
        caps = caps.with_variants(&self.refuse, &self.prefer);
        if caps.is_bf16() && !simd::has_bf16(isa) {
            notes.push(
                "no AVX512-BF16 is used here: precision bf16 rounds as it does elsewhere, but is slower than f32"
                    .into(),
            );
        }
        Ok(cpu.with_caps(caps))
    }

    /// The same for the CPU that stands behind a GPU: the storage type is asked of the GPU alone.
    fn behind_gpu(&self) -> Self {
        Self { precision: NumberKind::Auto, ..self.clone() }
    }

    /// The number of threads: no more than could have a use.
    ///
    /// # Errors
    /// Usage: none.
    pub fn threads(&self, notes: &mut Vec<String>) -> Result<usize> {
        let hardware = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // A few more than there are do no harm; they wait for each other.
        let most = MOST_THREADS.max(2 * hardware);
        match self.threads {
            Some(0) => Err(Error::usage("0 threads: at least one thread is needed")),
            Some(n) if n > most => {
                notes.push(format!(
                    "{n} threads would wait for each other on this machine, which runs {hardware} at a time; {most} are used"
                ));
                Ok(most)
            }
            Some(n) => Ok(n),
            None => Ok(system::physical_cores()),
        }
    }
}

/// Threads that are always allowed.
const MOST_THREADS: usize = 8;

#[cfg(not(feature = "gpu"))]
impl DeviceWish {
    fn auto(&self, _: &Estimate<'_>, mut notes: Vec<String>) -> Result<Opened> {
        let cpu = self.cpu(&mut notes)?;
        Ok(Opened::new(Engine::new(Arc::new(cpu)), notes))
    }

    fn gpu(&self, _: &mut Vec<String>) -> Result<Engine> {
        let device = &self.device;
        Err(Error::usage(format!("device {device} is not available: built without GPUs; available: auto, cpu")))
    }
}

#[cfg(feature = "gpu")]
mod gpu {
    use super::{DeviceWish, Estimate, NumberKind, Opened};
    use crate::backend::cpu::peak::fma_peak;
    use crate::backend::gpu::roofline::Roofline;
    use crate::backend::gpu::tensor_cores::Verdict;
    use crate::backend::gpu::{Adapter, Device, Gpu, Options, adapters};
    use crate::dtype::{Precision, Storage};
    use crate::engine::Engine;
    use crate::engine::choice::{self, Card, Choice};
    use crate::error::{Error, Result, escape};
    use crate::simd::Isa;
    use std::sync::Arc;

    impl DeviceWish {
        pub(super) fn auto(&self, work: &Estimate<'_>, mut notes: Vec<String>) -> Result<Opened> {
            let must = self.precision == NumberKind::F16 && adapters().iter().any(|a| !a.software());
            let wish = if must { self.behind_gpu() } else { self.clone() };
            let cpu = Arc::new(wish.cpu(&mut notes)?);
            let peak = fma_peak(Isa::from_env()?, cpu.workers());
            let engine = Engine::new(cpu.clone());
            let work = work(&engine)?;
            if let Some(reason) = choice::trifle(work, peak).filter(|_| !must) {
                return Ok(Opened { engine, reason: Some(reason), notes });
            }
            let adapters = adapters();
            let mut opened: Vec<Option<Arc<Device>>> = vec![None; adapters.len()];
            let mut cards: Vec<Card> = Vec::new();
            for (adapter, device) in adapters.iter().zip(&mut opened) {
                let software = adapter.software();
                // Not even opened.
                let rate = if software { Ok(0.0) } else { self.rate(adapter, device) };
                cards.push(Card { name: adapter.name().to_owned(), software, rate });
            }
            loop {
                let chosen = choice::choose(work, peak, &cards, must);
                let Some(n) = chosen.card else { return Ok(told(engine, chosen, notes)) };
                match opened[n].take().map_or_else(|| self.open_adapter(&adapters[n]), Ok) {
                    Ok(device) => return Ok(told(Engine::new(Arc::new(self.on(device))).or(cpu), chosen, notes)),
                    // Its rate was remembered, and now it cannot be used.
                    Err(e) => cards[n].rate = Err(e),
                }
            }
        }

        /// An adapter's measured rate; `device` is it, where it had to be opened for that.
        fn rate(&self, adapter: &Adapter, device: &mut Option<Arc<Device>>) -> Result<f64> {
            let fma = match Roofline::known(adapter, self.checked) {
                Some(known) => known.fma,
                None => {
                    let new = self.open_adapter(adapter)?;
                    let fma = Roofline::measure(&new)?.fma;
                    *device = Some(new);
                    fma
                }
            };
            // Measured when the adapter is first used: until then nothing is known of them, and nothing counted.
            let verdict = Verdict::known(adapter, self.options()?);
            Ok(choice::rate(fma, verdict.map_or(1.0, |v| v.gain())))
        }

        pub(super) fn gpu(&self, notes: &mut Vec<String>) -> Result<Engine> {
            Ok(Engine::new(Arc::new(self.gpu_backend(notes)?)))
        }

        /// The GPU that is wanted.
        ///
        /// # Errors
        /// Usage: it is not there, with those that are.
        pub fn gpu_backend(&self, notes: &mut Vec<String>) -> Result<Gpu> {
            let adapter = self.adapter()?;
            if adapter.software() {
                let name = adapter.name();
                notes
                    .push(format!("{name} is a program on the processor: slow, and the CPU does the same work faster"));
            }
            Ok(self.on(self.open_adapter(&adapter)?))
        }

        fn on(&self, device: Arc<Device>) -> Gpu {
            Gpu::new(device).with_caps(|caps| *caps = caps.clone().with_variants(&self.refuse, &self.prefer))
        }

        fn adapter(&self) -> Result<Adapter> {
            let all = adapters();
            let names = || {
                let listed: Vec<String> =
                    all.iter().enumerate().map(|(i, a)| format!("gpu:{i} ({})", escape(a.name()))).collect();
                match listed.is_empty() {
                    true => "no GPU was found: install its driver with Vulkan support; available: auto, cpu".to_owned(),
                    false => format!("available: auto, cpu, {}", listed.join(", ")),
                }
            };
            let found = match &self.device {
                super::Where::Number(n) => all.get(*n),
                super::Where::Name(part) => {
                    let part = part.to_lowercase();
                    all.iter().find(|a| a.name().to_lowercase().contains(&part))
                }
                _ => all.first(),
            };
            let missing = || Error::usage(format!("device {} is not available; {}", self.device, names()));
            found.cloned().ok_or_else(missing)
        }

        fn open_adapter(&self, adapter: &Adapter) -> Result<Arc<Device>> {
            Device::open(adapter, self.options()?)
        }

        /// How a device is opened.
        fn options(&self) -> Result<Options> {
            let storage = match self.precision {
                NumberKind::Auto | NumberKind::F16 => Storage::F16,
                NumberKind::F32 => Storage::F32,
                NumberKind::Bf16 => {
                    let message = "precision bf16 is not available on a GPU; available: auto, f16, f32";
                    return Err(Error::usage(message));
                }
            };
            let precision = Precision { storage, weights: self.weights.storage(), ..Precision::default() };
            Ok(Options { precision, checked: self.checked, minimal: false })
        }
    }

    fn told(engine: Engine, chosen: Choice, mut notes: Vec<String>) -> Opened {
        notes.extend(chosen.notes);
        Opened { engine, reason: Some(chosen.reason), notes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named() {
        let all = [("AUTO", Where::Auto), ("cpu", Where::Cpu), ("gpu", Where::Gpu), ("gpu:3", Where::Number(3))];
        for (text, device) in all {
            assert_eq!(Where::parse(text).unwrap(), device, "{text}");
        }
        assert_eq!(Where::parse("GeForce").unwrap(), Where::Name("GeForce".into()));
        for text in ["", "gpu:", "gpu:-1", "gpu:x"] {
            assert_eq!(Where::parse(text).unwrap_err().kind(), &crate::Kind::Usage, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let wish = DeviceWish { device: Where::Name("no such card".into()), ..DeviceWish::default() };
        let error = wish.open(None).err().unwrap();
        assert!(*error.kind() == crate::Kind::Usage && error.to_string().contains("available: auto, cpu"), "{error}");
        let f16 = DeviceWish { precision: NumberKind::F16, ..DeviceWish::default() };
        assert!(f16.cpu(&mut Vec::new()).err().unwrap().to_string().contains("precision f16"));
    }

    #[test]
    fn threads_that_nobody_could_run_are_not_started() {
        let threads = |threads| {
            let mut notes = Vec::new();
            let wish = DeviceWish { threads, ..DeviceWish::default() };
            wish.threads(&mut notes).map(|n| (n, notes.len()))
        };
        assert_eq!(threads(Some(3)).unwrap(), (3, 0));
        let (many, notes) = threads(Some(1_000_000)).unwrap();
        assert!(many < 1_000_000 && notes == 1);
        assert!(threads(Some(0)).is_err() && threads(None).unwrap().0 > 0);
    }
}
