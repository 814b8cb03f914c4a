//! The device that is opened on an adapter: what it offers, and its errors from the first moment on.
#![allow(unsafe_code, reason = "wgpu asks for it to switch an experimental feature on")]

use super::adapter::Adapter;
use super::disk::Owner;
use super::faults::DriverFeature;
use super::unwind::caught;
use crate::dtype::Precision;
use crate::error::{Error, Kind, Remedy, Result};
use crate::kernels::gpu::{Coop, Limits};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a submission may take before the device counts as lost: a watchdog fires long before on real hardware.
const PATIENCE: Duration = Duration::from_secs(120);
/// Software adapters are a thousand times slower.
const PATIENCE_SOFTWARE: Duration = Duration::from_secs(3600);
/// What one submission is meant to take.
const SUBMIT: Duration = Duration::from_millis(100);
/// FLOPs of a submission to an adapter that has not been measured yet.
const FIRST_BUDGET: u64 = 20_000_000_000;

/// How a device is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How activations and matrices are stored.
    pub precision: Precision,
    /// Keeps wgpu's bounds checks in shaders: slower, for finding mistakes in them.
    pub checked: bool,
    /// Asks for nothing beyond what every WebGPU device has: a test mode.
    pub minimal: bool,
}

/// The first thing that went wrong on a device outside of a call that reports its own errors.
#[derive(Clone, Debug)]
struct Fault {
    kind: Kind,
    message: String,
}

/// An opened device.
pub struct Device {
    /// The device.
    pub(crate) device: wgpu::Device,
    /// Its queue.
    pub(crate) queue: wgpu::Queue,
    adapter: Adapter,
    options: Options,
    limits: Limits,
    features: wgpu::Features,
    fault: Arc<Mutex<Option<Fault>>>,
    /// FLOPs of a submission that takes about [`SUBMIT`].
    budget: AtomicU64,
}

impl Device {
    /// Opens an adapter. Features and limits are asked for as far as they are offered.
    ///
    /// # Errors
    /// The driver refuses, or the adapter is below what WebGPU asks of every device.
    pub fn open(adapter: &Adapter, options: Options) -> Result<Arc<Self>> {
        let mut wanted = wgpu::Features::PIPELINE_CACHE;
        if !adapter.lacks(DriverFeature::Clock) {
            wanted |= wgpu::Features::TIMESTAMP_QUERY;
        }
        let mut required_limits = wgpu::Limits::defaults();
        let coop = if options.minimal { None } else { adapter.coop() };
        if !options.minimal {
            wanted |= wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
            required_limits = adapter.adapter.limits();
        }
        if coop.is_some() {
            wanted |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        }
        let features = wanted & adapter.adapter.features();
        let experimental_features = if coop.is_some() {
            // SAFETY: wgpu asks callers to accept that experimental features can have bugs that are undefined
            // behaviour; the shaders that use this one run only after a numeric self-test on the device.
            unsafe { wgpu::ExperimentalFeatures::enabled() }
        } else {
            wgpu::ExperimentalFeatures::disabled()
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("lienzo"),
            required_features: features,
            required_limits,
            experimental_features,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        };
        let opened = pollster::block_on(adapter.adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|e| not_opened(&adapter.describe(), &e.to_string()))?;
        let fault = Arc::new(Mutex::new(None));
        watch(&device, &fault);
        let limits = Self::limits_of(adapter, options, &device.limits(), coop);
        let adapter = adapter.clone();
        let budget = AtomicU64::new(FIRST_BUDGET);
        Ok(Arc::new(Self { device, queue, adapter, options, limits, features, fault, budget }))
    }

    fn limits_of(adapter: &Adapter, options: Options, l: &wgpu::Limits, coop: Option<Coop>) -> Limits {
        let (least, most) = (adapter.info.subgroup_min_size, adapter.info.subgroup_max_size);
        Limits {
            storage: options.precision.storage,
            weights: options.precision.weights,
            // u32 indices count quads, so 2 GiB is within reach of all of them.
            max_binding: l.max_storage_buffer_binding_size.min(1 << 31),
            max_groups: l.max_compute_workgroups_per_dimension,
            workgroup_bytes: l.max_compute_workgroup_storage_size,
            invocations: l.max_compute_invocations_per_workgroup,
            subgroup: (!options.minimal && least == most && least > 0).then_some(least),
            coop,
            ..Limits::webgpu(options.precision.storage)
        }
    }

    /// What plans for it may use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The adapter.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Whose files in the cache folder are its own.
    pub(super) fn owner(&self) -> Owner {
        Owner::new(&self.adapter, self.options.checked)
    }

    /// How it was opened.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Whether a feature is on.
    pub(crate) fn has(&self, feature: wgpu::Features) -> bool {
        self.features.contains(feature)
    }

    /// See [`Adapter::describe`].
    pub fn describe(&self) -> String {
        self.adapter.describe()
    }

    /// Loses the device as a driver would: what follows must be an error that says so. For tests.
    #[doc(hidden)]
    pub fn lose(&self) {
        keep(&self.fault, Kind::DeviceLost, lost("lost on purpose"));
        self.device.destroy();
    }

    /// What times are measured with.
    pub fn clock(&self) -> &'static str {
        if self.has(wgpu::Features::TIMESTAMP_QUERY) { "the device's clock" } else { "the host's clock" }
    }

    /// What has gone wrong meanwhile, as an error.
    pub fn healthy(&self) -> Result<()> {
        let fault = self.fault.lock().unwrap_or_else(|e| e.into_inner()).clone();
        match fault {
            None => Ok(()),
            Some(f) => Err(remedied(Error::new(f.kind, f.message)).at(self.describe())),
        }
    }

    /// Runs `work` and reports what it made the device complain about.
    pub(crate) fn scoped<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let scopes = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory]
            .map(|filter| self.device.push_error_scope(filter));
        let result = work();
        let mut complaint = None;
        // Innermost first.
        for scope in scopes.into_iter().rev() {
            complaint = pollster::block_on(scope.pop()).or(complaint);
        }
        match complaint {
            None => result.and_then(|v| self.healthy().map(|()| v)),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(remedied(Error::new(Kind::OutOfMemory, NO_ROOM)).at(what).at(self.describe()))
            }
            Some(e) => Err(remedied(Error::other(first_line(&e.to_string()))).at(what).at(self.describe())),
        }
    }

    /// Waits for a submission, or for all of them.
    pub(crate) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let patience = if self.adapter.software() { PATIENCE_SOFTWARE } else { PATIENCE };
        let poll = wgpu::PollType::Wait { submission_index: submission, timeout: Some(patience) };
        let waited = caught(|| self.device.poll(poll));
        self.healthy()?;
        let why = match waited {
            Some(Ok(_)) => return Ok(()),
            Some(Err(e)) => e.to_string(),
            None => "the wait failed".to_owned(),
        };
        Err(remedied(Error::new(Kind::DeviceLost, format!("no answer ({why})"))).at(self.describe()))
    }

    /// FLOPs that a submission may have.
    pub fn budget(&self) -> u64 {
        self.budget.load(Ordering::Relaxed)
    }

    /// Learns from a submission of so many FLOPs: the next ones take about [`SUBMIT`], whatever the card.
    pub(crate) fn learn(&self, flops: u64, took: Duration) {
        if flops < 1_000_000_000 {
            return;
        }
        let rate = flops as f64 / took.as_secs_f64().max(1e-5);
        let wanted = (rate * SUBMIT.as_secs_f64()).clamp(1e9, 2e13);
        // Half-way each time: one slow submission does not decide.
        let now = self.budget() as f64;
        self.budget.store(((now + wanted) / 2.0) as u64, Ordering::Relaxed);
    }
}

/// What an allocation that failed is answered with.
const NO_ROOM: &str = "not enough memory on the device";

/// With what helps against what a device does.
fn remedied(error: Error) -> Error {
    let first = if *error.kind() == Kind::OutOfMemory { Remedy::SmallerSize } else { Remedy::NewDriver };
    error.try_this(first).try_this(Remedy::Cpu)
}

/// An adapter that its driver does not open.
fn not_opened(card: &str, why: &str) -> Error {
    remedied(Error::other(format!("{card} cannot be opened: {}", first_line(why))))
}

fn lost(why: &str) -> String {
    format!("the device was lost ({why})")
}

fn keep(fault: &Mutex<Option<Fault>>, kind: Kind, message: String) {
    fault.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(Fault { kind, message });
}

/// Errors that no scope catches and the loss of the device are kept for the next call that can report them.
fn watch(device: &wgpu::Device, fault: &Arc<Mutex<Option<Fault>>>) {
    let kept = fault.clone();
    device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| match e {
        wgpu::Error::OutOfMemory { .. } => keep(&kept, Kind::OutOfMemory, NO_ROOM.into()),
        e => keep(&kept, Kind::Other, first_line(&e.to_string())),
    }));
    let kept = fault.clone();
    device.set_device_lost_callback(move |reason, message| {
        // Ours alone destroys it, at its end.
        if reason != wgpu::DeviceLostReason::Destroyed {
            keep(&kept, Kind::DeviceLost, lost(&first_line(&message)));
        }
    });
}

/// wgpu's messages are trees of many lines: the innermost cause says most.
fn first_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let chosen = lines.iter().find(|l| l.contains("error")).or(lines.last()).copied().unwrap_or("unknown error");
    crate::error::escape(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_that_is_not_opened_is_named_with_driver_and_remedy() {
        let error = not_opened("Card 1, Vulkan, maker 1.2", "tree\n  validation error: no queue\n");
        let want =
            "Card 1, Vulkan, maker 1.2 cannot be opened: validation error: no queue; update the driver, or use the CPU";
        assert_eq!(error.to_string(), want);
    }
}
