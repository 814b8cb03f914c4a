//! One launch on a device, from host data to host data: what the checks of kernels run.

use super::device::Device;
use super::pack;
use super::pipeline::Pipelines;
use super::record::{Recorder, Region, shaders};
use super::timer::Timer;
use super::transfer::{Download, from_bytes};
use super::weights::buffer;
use crate::error::Result;
use crate::kernels::gpu::{ALIGN, Launch, Limits, Storage, What};
use crate::kernels::{Dims, Packing};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs launches one at a time; pipelines are kept.
pub struct Bench {
    device: Arc<Device>,
    pipelines: Arc<Pipelines>,
}

/// A weight as a case gives it.
pub struct CaseWeight<'a> {
    /// Dimensions.
    pub dims: Dims,
    /// Layout.
    pub packing: Packing,
    /// Values in torch's order.
    pub values: &'a [f32],
}

/// A launch with its data on the device.
pub struct Ready<'a> {
    bench: &'a Bench,
    recorded: super::record::Recorded,
    y: Output,
    statistics: Option<Output>,
}

/// An output with its guards.
struct Output {
    buffer: wgpu::Buffer,
    elems: usize,
    storage: Storage,
}

impl Output {
    /// What is between the guards.
    fn region(&self) -> Region {
        let size = self.storage.bytes() as u64;
        let guard = guard(self.storage) as u64 * size;
        Region { buffer: self.buffer.clone(), start: guard, bytes: self.elems as u64 * size - 2 * guard }
    }
}

impl Bench {
    /// On an opened device.
    pub fn new(device: Arc<Device>) -> Self {
        Self::with(Arc::new(Pipelines::new(device)))
    }

    /// With the pipelines of a backend.
    pub(super) fn with(pipelines: Arc<Pipelines>) -> Self {
        Self { device: pipelines.device().clone(), pipelines }
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Puts a launch's data on the device: `x` and the outputs are rows as the views lay them out, the outputs with
    /// [`guard`] elements before and after them. `limits` are those that the launch was made
    /// for: the device's, or narrower ones.
    pub fn ready(
        &self,
        (launch, limits): (&Launch, &Limits),
        flops: u64,
        x: &[(Vec<f32>, Storage)],
        w: &[CaseWeight<'_>],
        (y, statistics): (&[f32], Option<&[f32]>),
    ) -> Result<Ready<'_>> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let put = |label: &str, bytes: &[u8]| {
            let made = buffer(&self.device, label, (bytes.len() as u64).next_multiple_of(4), usage)?;
            self.device.queue.write_buffer(&made, 0, bytes);
            Ok(made)
        };
        let x = x.iter().map(|(v, storage)| put("operand", &encode(v, *storage))).collect::<Result<Vec<_>>>()?;
        let w = w.iter().map(|w| put("weight", &pack::pack(w.dims, w.packing, limits.weights, w.values)?));
        let w = w.collect::<Result<Vec<_>>>()?;
        let scratch = |bytes: &u64| buffer(&self.device, "scratch", bytes.next_multiple_of(4), usage);
        let scratch = launch.scratch.iter().map(scratch).collect::<Result<Vec<_>>>()?;
        let output =
            |v: &[f32], storage| Ok(Output { buffer: put("output", &encode(v, storage))?, elems: v.len(), storage });
        let y = output(y, limits.storage)?;
        let statistics = statistics.map(|v| output(v, Storage::F32)).transpose()?;
        let whole = |b: &wgpu::Buffer| Region { buffer: b.clone(), start: 0, bytes: b.size() };
        let resolve = |what: What| {
            Ok(match what {
                What::X(i) => whole(&x[i]),
                What::W(i) => whole(&w[i]),
                What::Y => y.region(),
                What::Statistics => statistics.as_ref().unwrap_or(&y).region(),
                What::Scratch(i) | What::ScratchOut(i) => whole(&scratch[i]),
            })
        };
        self.pipelines.build(&shaders(std::iter::once(launch)))?;
        let recorded = self.device.scoped("bindings", || {
            let mut recorder = Recorder::new(&self.device, &self.pipelines);
            recorder.launch(launch, flops, &resolve)?;
            recorder.finish()
        })?;
        Ok(Ready { bench: self, recorded, y, statistics })
    }
}

/// Elements before and after an output that must stay as they were: one alignment.
pub fn guard(storage: Storage) -> usize {
    ALIGN as usize / storage.bytes()
}

fn encode(values: &[f32], storage: Storage) -> Vec<u8> {
    match storage {
        Storage::F32 => bytemuck::cast_slice(values).to_vec(),
        Storage::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            bytemuck::cast_slice(&halves).to_vec()
        }
    }
}

impl Ready<'_> {
    /// Runs once and waits; by the host's clock.
    pub fn run(&self) -> Result<Duration> {
        let device = &self.bench.device;
        let start = Instant::now();
        device.scoped("run", || {
            let mut encoder = device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let all = 0..self.recorded.len();
            self.recorded.encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()), all);
            device.wait(Some(device.queue.submit([encoder.finish()])))
        })?;
        Ok(start.elapsed())
    }

    /// Runs once; by the device's clock where it has one, else as [`Ready::run`].
    pub fn time(&self) -> Result<Duration> {
        let device = &self.bench.device;
        let Some(timer) = Timer::new(device, 1) else { return self.run() };
        device.scoped("run", || {
            let mut encoder = device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(timer.writes(0)) };
            self.recorded.encode(&mut encoder.begin_compute_pass(&descriptor), 0..self.recorded.len());
            timer.resolve(&mut encoder);
            device.wait(Some(device.queue.submit([encoder.finish()])))
        })?;
        Ok(timer.read(device)?.first().copied().unwrap_or_default())
    }

    /// The output and the statistics, if there are any, with their guards.
    pub fn output(&self) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        let fetch = |o: &Output| {
            let bytes = (o.elems * o.storage.bytes()) as u64;
            Ok(from_bytes(&Download::default().bytes(&self.bench.device, &o.buffer, bytes)?, o.storage))
        };
        Ok((fetch(&self.y)?, self.statistics.as_ref().map(fetch).transpose()?))
    }
}
