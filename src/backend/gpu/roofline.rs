//! A device's ceilings, measured by our own kernels and remembered between runs.

use super::adapter::Adapter;
use super::check::{Bench, guard};
use super::device::Device;
use super::disk::{self, Owner};
use crate::error::Result;
use crate::kernels::gpu::roofline::{FMA_FLOPS, copy, fma};
use crate::kernels::gpu::{Launch, Limits, Storage};
use std::sync::Arc;
use std::time::Duration;

/// What a device can do at best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// f32 multiply-adds from registers, in FLOP/s.
    pub fma: f64,
    /// Bytes a second copied, read and written ones both counted.
    pub copy: f64,
}

/// A measurement is long enough to be believed from here on.
const LONG: Duration = Duration::from_millis(10);
const REPEATS: usize = 5;
/// Workgroups: from a handful for software adapters to 256 MiB of operand.
const GROUPS: [u32; 4] = [64, 1024, 8192, 65_535];

impl Roofline {
    /// As measured once on this adapter and driver; `Roofline::measure` where that was never done.
    pub fn of(device: &Arc<Device>) -> Result<Self> {
        match Self::known(device.adapter(), device.options().checked) {
            Some(known) => Ok(known),
            None => Self::measure(device),
        }
    }

    /// As measured earlier on this adapter and driver, without opening it; none where that was never done.
    pub fn known(adapter: &Adapter, checked: bool) -> Option<Self> {
        disk::load(&Owner::new(adapter, checked), "roofline").and_then(|bytes| Self::parse(&bytes))
    }

    /// Measures, and remembers: a fraction of a second on a graphics card, a few seconds on a software adapter.
    pub fn measure(device: &Arc<Device>) -> Result<Self> {
        let bench = Bench::new(device.clone());
        let per_group = |amount: u64| (256 * amount) as f64;
        let fma = rate(&bench, &|groups| fma(groups, device.limits()), per_group(FMA_FLOPS))?;
        let copy = rate(&bench, &|groups| copy(groups, device.limits()), per_group(32))?;
        let found = Self { fma, copy };
        disk::save(&device.owner(), "roofline", format!("{fma:e} {copy:e}").as_bytes());
        Ok(found)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (fma, copy) = text.split_once(' ')?;
        let (fma, copy): (f64, f64) = (fma.parse().ok()?, copy.parse().ok()?);
        (fma.is_finite() && fma > 0.0 && copy.is_finite() && copy > 0.0).then_some(Self { fma, copy })
    }
}

/// Amount a second: more workgroups until a run is long, then the best of a few runs.
fn rate(bench: &Bench, launch: &dyn Fn(u32) -> Launch, per_group: f64) -> Result<f64> {
    let limits = Limits { storage: Storage::F32, ..bench.device().limits().clone() };
    let guard = guard(Storage::F32);
    let mut best = 0.0_f64;
    for groups in GROUPS {
        let elems = groups as usize * 1024;
        let x = vec![0.5_f32; elems];
        let y = vec![0.0_f32; elems + 2 * guard];
        let ready = bench.ready((&launch(groups), &limits), 0, &[(x, Storage::F32)], &[], (&y, None))?;
        ready.run()?;
        let mut shortest = Duration::MAX;
        for _ in 0..REPEATS {
            shortest = shortest.min(ready.run()?);
        }
        best = best.max(per_group * f64::from(groups) / shortest.as_secs_f64().max(1e-9));
        if shortest > LONG {
            break;
        }
    }
    Ok(best)
}
