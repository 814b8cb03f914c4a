//! Where to run: flags go in, a backend (and the one that takes over if it fails) comes out, with a line that says why.

#[cfg(feature = "gpu")]
mod choice;

use clap::Args;
use lienzo::backend::Backend as _;
use lienzo::backend::cpu::{Cpu, WeightType};
use lienzo::engine::Engine;
use lienzo::error::{Error, Result};
use lienzo::simd::{self, Isa};
use lienzo::system;
use std::sync::Arc;

/// The device flags that several commands share.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// Where to run: auto, cpu, gpu (the best one), gpu:N (as `lienzo devices` counts) or a part of a name. auto
    /// estimates each device's time, and is the CPU for bench and verify
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// Numbers: auto (f32 on a CPU, f16 storage on a GPU), f32, f16 (GPU: stored as f16, computed in f32), or bf16
    /// (CPU: products and attention in bf16, less exact, faster with AVX512-BF16)
    #[arg(long, default_value = "auto", value_name = "KIND")]
    pub precision: String,
    /// Threads [default: the physical cores that this process may use]
    #[arg(short, long, value_name = "N")]
    pub threads: Option<usize>,
    /// How weights are kept: auto (f16), f16, or f32 (as exact as the file)
    #[arg(long = "type", default_value = "auto", value_name = "TYPE")]
    pub weight_type: String,
    /// On a GPU: keep the bounds checks in shaders, to find out whether one of them is at fault
    #[arg(long)]
    pub checked: bool,
}

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

/// `--device`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Auto,
    Cpu,
    Gpu,
    Number(usize),
    Name(String),
}

impl DeviceArgs {
    /// An engine on the device that these flags ask for. `work` is what `auto` compares devices by; without it `auto`
    /// is the CPU. What is not available is said with what is.
    pub fn engine(&self, work: Option<&Estimate<'_>>) -> Result<Engine> {
        let wish = self.wish()?;
        match (&wish, work) {
            (Wish::Cpu, _) | (Wish::Auto, None) => Ok(Engine::new(Arc::new(self.cpu()?))),
            (Wish::Auto, Some(work)) => self.auto(work),
            // Exit codes of verify and bench must say what was compared: only generate goes on elsewhere.
            (_, None) => self.gpu(&wish),
            (_, Some(_)) => Ok(self.gpu(&wish)?.or(Arc::new(self.behind_gpu()?))),
        }
    }

    /// The CPU backend that these flags ask for.
    pub fn cpu(&self) -> Result<Cpu> {
        match self.precision.to_ascii_lowercase().as_str() {
            "auto" | "f32" | "bf16" => {}
            other => {
                let other = lienzo::error::escape(other);
                let message = format!("--precision {other} is not available on the CPU; available: auto, f32, bf16");
                return Err(Error::usage(message));
            }
        }
        let isa = Isa::from_env()?;
        let cpu = Cpu::new(self.threads()?, isa, self.weights()?)?;
        if !self.is_bf16() {
            return Ok(cpu);
        }
        if !simd::has_bf16(isa) {
            eprintln!(
                "note: no AVX512-BF16 is used here: --precision bf16 rounds as it does elsewhere, but is slower than f32"
            );
        }
        let caps = cpu.caps().with_bf16();
        Ok(cpu.with_caps(caps))
    }

    /// Whether products are computed in bf16.
    pub fn is_bf16(&self) -> bool {
        self.precision.eq_ignore_ascii_case("bf16")
    }

    /// The CPU that stands behind a GPU: the storage type is asked of the GPU alone.
    fn behind_gpu(&self) -> Result<Cpu> {
        Self { precision: "auto".into(), ..self.clone() }.cpu()
    }

    /// Whether a GPU was asked for.
    pub fn wants_gpu(&self) -> Result<bool> {
        Ok(!matches!(self.wish()?, Wish::Auto | Wish::Cpu))
    }

    /// The number of threads, checked.
    pub fn threads(&self) -> Result<usize> {
        match self.threads {
            Some(0) => Err(Error::usage("-t 0: at least one thread is needed")),
            Some(n) if n > 1024 => Err(Error::usage(format!("-t {n}: at most 1024 threads"))),
            Some(n) => Ok(n),
            None => Ok(system::physical_cores()),
        }
    }

    fn weights(&self) -> Result<WeightType> {
        match self.weight_type.to_ascii_lowercase().as_str() {
            "auto" => Ok(WeightType::Auto),
            "f16" => Ok(WeightType::F16),
            "f32" => Ok(WeightType::F32),
            other => Err(Error::usage(format!("--type {other} is not known; use auto, f16 or f32"))),
        }
    }

    fn wish(&self) -> Result<Wish> {
        let text = self.device.trim();
        Ok(match text.to_ascii_lowercase().as_str() {
            "" => return Err(Error::usage("--device is empty; use auto, cpu, gpu, gpu:N or a part of a name")),
            "auto" => Wish::Auto,
            "cpu" => Wish::Cpu,
            "gpu" => Wish::Gpu,
            lower => match lower.strip_prefix("gpu:") {
                Some(n) => Wish::Number(n.parse().map_err(|_| {
                    Error::usage(format!("--device {}: gpu: takes a number, as in gpu:0", lienzo::error::escape(text)))
                })?),
                None => Wish::Name(text.to_owned()),
            },
        })
    }
}

#[cfg(not(feature = "gpu"))]
impl DeviceArgs {
    fn auto(&self, _: &Estimate<'_>) -> Result<Engine> {
        Ok(Engine::new(Arc::new(self.cpu()?)))
    }

    fn gpu(&self, _: &Wish) -> Result<Engine> {
        let name = lienzo::error::escape(&self.device);
        Err(Error::usage(format!(
            "--device {name} is not available: built without the feature gpu; available: auto, cpu"
        )))
    }
}

#[cfg(feature = "gpu")]
mod gpu {
    use super::choice::{self, Card, Choice};
    use super::{DeviceArgs, Estimate, Wish};
    use lienzo::backend::gpu::roofline::Roofline;
    use lienzo::backend::gpu::tensor_cores::Verdict;
    use lienzo::backend::gpu::{Adapter, Device, Gpu, Options, adapters};
    use lienzo::bench::ceiling::fma_peak;
    use lienzo::engine::Engine;
    use lienzo::error::{Error, Result, escape};
    use lienzo::kernels::gpu::Storage;
    use lienzo::simd::Isa;
    use std::sync::Arc;

    impl DeviceArgs {
        pub(super) fn auto(&self, work: &Estimate<'_>) -> Result<Engine> {
            let must = self.asks_f16() && adapters().iter().any(|a| !a.software());
            let cpu = Arc::new(if must { self.behind_gpu()? } else { self.cpu()? });
            let peak = fma_peak(Isa::from_env()?, cpu.workers());
            let engine = Engine::new(cpu.clone());
            let work = work(&engine)?;
            if let Some(reason) = choice::trifle(work, peak).filter(|_| !must) {
                eprintln!("device: {reason}");
                return Ok(engine);
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
                let Some(n) = chosen.card else {
                    say(&chosen);
                    return Ok(engine);
                };
                match opened[n].take().map_or_else(|| self.open(&adapters[n]), Ok) {
                    Ok(device) => {
                        say(&chosen);
                        return Ok(Engine::new(Arc::new(Gpu::new(device))).or(cpu));
                    }
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
                    let new = self.open(adapter)?;
                    let fma = Roofline::measure(&new)?.fma;
                    *device = Some(new);
                    fma
                }
            };
            // Measured when the adapter is first used: until then nothing is known of them, and nothing counted.
            let verdict = Verdict::known(adapter, self.options()?);
            Ok(choice::rate(fma, verdict.map_or(1.0, |v| v.gain())))
        }

        pub(super) fn gpu(&self, wish: &Wish) -> Result<Engine> {
            Ok(Engine::new(Arc::new(self.gpu_backend_for(wish)?)))
        }

        /// The GPU that these flags name.
        pub fn gpu_backend(&self) -> Result<Gpu> {
            self.gpu_backend_for(&self.wish()?)
        }

        fn gpu_backend_for(&self, wish: &Wish) -> Result<Gpu> {
            let adapter = self.adapter(wish)?;
            if adapter.software() {
                let name = adapter.name();
                eprintln!(
                    "note: {name} is a program on the processor: slow, and --device cpu does the same work faster"
                );
            }
            Ok(Gpu::new(self.open(&adapter)?))
        }

        fn adapter(&self, wish: &Wish) -> Result<Adapter> {
            let all = adapters();
            let names = || {
                let listed: Vec<String> =
                    all.iter().enumerate().map(|(i, a)| format!("gpu:{i} ({})", escape(a.name()))).collect();
                match listed.is_empty() {
                    true => "no GPU was found: install its driver with Vulkan support; available: auto, cpu".to_owned(),
                    false => format!("available: auto, cpu, {}", listed.join(", ")),
                }
            };
            let found = match wish {
                Wish::Number(n) => all.get(*n),
                Wish::Name(part) => {
                    let part = part.to_lowercase();
                    all.iter().find(|a| a.name().to_lowercase().contains(&part))
                }
                _ => all.first(),
            };
            found
                .cloned()
                .ok_or_else(|| Error::usage(format!("--device {} is not available; {}", escape(&self.device), names())))
        }

        fn open(&self, adapter: &Adapter) -> Result<Arc<Device>> {
            Device::open(adapter, self.options()?)
        }

        /// How these flags open a device.
        fn options(&self) -> Result<Options> {
            let storage = match self.precision.to_ascii_lowercase().as_str() {
                "auto" | "f16" => Storage::F16,
                "f32" => Storage::F32,
                other => {
                    let other = escape(other);
                    let message = format!("--precision {other} is not available on a GPU; available: auto, f16, f32");
                    return Err(Error::usage(message));
                }
            };
            let weights_f32 = self.weights()? == lienzo::backend::cpu::WeightType::F32;
            Ok(Options { storage, weights_f32, checked: self.checked, minimal: false })
        }

        fn asks_f16(&self) -> bool {
            self.precision.eq_ignore_ascii_case("f16")
        }
    }

    fn say(chosen: &Choice) {
        chosen.notes.iter().for_each(|note| eprintln!("note: {note}"));
        eprintln!("device: {}", chosen.reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(device: &str) -> DeviceArgs {
        let text = |t: &str| t.to_owned();
        DeviceArgs {
            device: text(device),
            precision: text("auto"),
            threads: Some(1),
            weight_type: text("auto"),
            checked: false,
        }
    }

    #[test]
    fn devices_are_named() {
        let all = [("AUTO", Wish::Auto), ("cpu", Wish::Cpu), ("gpu", Wish::Gpu), ("gpu:3", Wish::Number(3))];
        for (text, wish) in all {
            assert_eq!(args(text).wish().unwrap(), wish, "{text}");
        }
        assert_eq!(args("GeForce").wish().unwrap(), Wish::Name("GeForce".into()));
        for text in ["", "gpu:", "gpu:-1", "gpu:x"] {
            assert_eq!(args(text).wish().unwrap_err().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let error = args("no such card").engine(None).err().unwrap();
        assert!(error.exit_code() == 2 && error.to_string().contains("available: auto, cpu"), "{error}");
    }
}
