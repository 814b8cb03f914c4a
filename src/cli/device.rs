//! The device's flags go in, what is wanted of a device comes out; why it is this one is said.

use super::flags::parsed;
use super::terminal::say;
use clap::Args;
use lienzo::backend::cpu::Cpu;
use lienzo::engine::Engine;
use lienzo::engine::devices::{DeviceWish, Estimate, NumberKind, WeightType, Where};
use lienzo::error::{Error, Result};
use lienzo::graph::target::VariantName;

/// The device flags that several commands share.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// Where to run: auto, cpu, gpu (the best one), gpu:N (as `lienzo devices` counts) or a part of a name. auto
    /// estimates each device's time, and is the CPU for bench and verify
    #[arg(long, default_value = "auto", value_name = "DEVICE", value_parser = parsed::<Where>)]
    pub device: Where,
    /// Numbers: auto (f32 on a CPU, f16 storage on a GPU), f32, f16 (GPU: stored as f16, computed in f32), or bf16
    /// (CPU: products and attention in bf16, less exact, faster with AVX512-BF16) [default: auto]
    #[arg(long, value_name = "KIND", value_parser = parsed::<NumberKind>)]
    pub precision: Option<NumberKind>,
    /// Threads [default: the physical cores that this process may use]
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<i64>,
    /// How weights are kept: auto (f16), f16, or f32 (as exact as the file) [default: auto]
    #[arg(long = "type", value_name = "TYPE", value_parser = parsed::<WeightType>)]
    pub weight_type: Option<WeightType>,
    /// On a GPU: keep the bounds checks in shaders, to find out whether one of them is at fault
    #[arg(long)]
    pub checked: bool,
    /// Do without a variant of a kernel: matmul/panels, attention/flash. May be given more than once
    #[arg(long, value_name = "OP/VARIANT", value_parser = parsed::<VariantName>)]
    pub refuse: Vec<VariantName>,
    /// Take a variant before faster ones, wherever it supports the shapes: conv2d/panels. May be given more than once
    #[arg(long, value_name = "OP/VARIANT", value_parser = parsed::<VariantName>)]
    pub prefer: Vec<VariantName>,
}

impl DeviceArgs {
    /// What these flags want.
    ///
    /// # Errors
    /// Usage: a number of threads that cannot be.
    pub fn wish(&self) -> Result<DeviceWish> {
        // stable-diffusion.cpp's own default is -1.
        let threads = match self.threads {
            None | Some(i64::MIN..0) => None,
            Some(n) => Some(usize::try_from(n).unwrap_or(usize::MAX)),
        };
        if threads == Some(0) {
            return Err(Error::usage("-t 0: at least one thread is needed"));
        }
        Ok(DeviceWish {
            device: self.device.clone(),
            precision: self.precision.unwrap_or_default(),
            threads,
            weights: self.weight_type.unwrap_or_default(),
            checked: self.checked,
            refuse: self.refuse.clone(),
            prefer: self.prefer.clone(),
        })
    }

    /// An engine on the device that these flags ask for.
    ///
    /// # Errors
    /// Usage: what is not available, with what is.
    pub fn engine(&self, work: Option<&Estimate<'_>>) -> Result<Engine> {
        open(&self.wish()?, work)
    }

    /// The CPU backend that these flags ask for.
    ///
    /// # Errors
    /// Usage: numbers that a CPU does not have.
    pub fn cpu(&self) -> Result<Cpu> {
        noted(|notes| self.wish()?.cpu(notes))
    }

    /// The GPU that these flags name.
    ///
    /// # Errors
    /// Usage: it is not there, with those that are.
    #[cfg(feature = "gpu")]
    pub fn gpu_backend(&self) -> Result<lienzo::backend::gpu::Gpu> {
        noted(|notes| self.wish()?.gpu_backend(notes))
    }

    /// Whether a GPU was asked for.
    pub fn wants_gpu(&self) -> bool {
        self.device.is_gpu()
    }
}

/// An engine on the device that is wanted, and a line that says why it is this one.
pub fn open(wish: &DeviceWish, work: Option<&Estimate<'_>>) -> Result<Engine> {
    let opened = wish.open(work)?;
    opened.notes.iter().for_each(|note| say!("note: {note}"));
    if let Some(reason) = opened.reason {
        say!("device: {reason}");
    }
    Ok(opened.engine)
}

fn noted<T>(work: impl FnOnce(&mut Vec<String>) -> Result<T>) -> Result<T> {
    let mut notes = Vec::new();
    let result = work(&mut notes);
    notes.iter().for_each(|note| say!("note: {note}"));
    result
}
