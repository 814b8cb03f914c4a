//! A plan with its buffers, bind groups and weights on a device.

use super::device::Device;
use super::pipeline::Pipelines;
use super::record::{Recorded, Recorder, Region};
use super::timer::Timer;
use super::transfer::{Download, to_bytes};
use super::value::Held;
use super::weights::{Resident, buffer};
use crate::backend::{Encoding, Program, Run, Value};
use crate::error::{Error, Result};
use crate::graph::plan::{Place, Plan, Step};
use crate::graph::{Input, Output};
use crate::kernels::gpu::What;
use crate::tensor::Tensor;
use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Submissions that may be under way: the next is encoded while one runs, and no more, so that a stop is heard soon.
const UNDER_WAY: usize = 2;

/// Pieces that the queue has been given.
struct Submission {
    index: wgpu::SubmissionIndex,
    flops: u64,
    pieces: Range<usize>,
}

pub(super) struct GpuProgram {
    device: Arc<Device>,
    plan: Arc<Plan>,
    recorded: Recorded,
    /// The pieces of each step.
    steps: Vec<Range<usize>>,
    inputs: Vec<wgpu::Buffer>,
    buffers: Vec<wgpu::Buffer>,
    /// What each input was set to: setting the same value again costs nothing.
    set: Vec<Option<Value>>,
    /// What has been handed over and not been waited for, oldest first.
    waiting: VecDeque<Submission>,
    /// When the last of what was waited for had been done.
    done: Instant,
    download: Download,
    /// Of the last fast run.
    encoding: Option<Encoding>,
    /// Held so that the slabs live.
    _weights: Vec<Arc<Resident>>,
}

impl GpuProgram {
    pub(super) fn new(
        device: Arc<Device>,
        pipelines: &Pipelines,
        plan: Arc<Plan>,
        weights: Vec<Arc<Resident>>,
    ) -> Result<Self> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let input = |(name, id): &(Input, usize)| {
            buffer(&device, &name.to_string(), plan.values[*id].bytes().next_multiple_of(4), usage)
        };
        let inputs = plan.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
        let slot = |(n, bytes): (usize, &u64)| {
            buffer(&device, "activations", *bytes, usage).map_err(|e| e.at(largest(&plan, n)))
        };
        let buffers = plan.buffers.iter().enumerate().map(slot).collect::<Result<Vec<_>>>()?;
        let (recorded, steps) = device.scoped("bindings", || {
            let mut recorder = Recorder::new(&device, pipelines);
            let mut steps = Vec::with_capacity(plan.steps.len());
            for step in &plan.steps {
                let value = |id: usize| {
                    let bytes = plan.values[id].bytes();
                    let buffer = match plan.values[id].place {
                        Place::Input(n) => inputs[n].clone(),
                        Place::Buffer(n) => buffers[n].clone(),
                        Place::Slot { .. } => return Err(Error::other("a plan for a CPU was given to a GPU")),
                    };
                    Ok(Region { buffer, start: 0, bytes })
                };
                let resolve = |what: What| match what {
                    What::X(i) => value(step.x[i].id),
                    What::Y => value(step.y),
                    What::Statistics => {
                        value(step.statistics.ok_or_else(|| Error::other("a step without statistics leaves some"))?)
                    }
                    What::W(i) => Ok(weights[step.w[i]].region()),
                    What::Scratch(i) | What::ScratchOut(i) => {
                        let buffer = buffers[step.scratch_buffers[i]].clone();
                        Ok(Region { buffer, start: 0, bytes: step.launch.scratch[i] })
                    }
                };
                let pieces = recorder.launch(&step.launch, step.cost.flops, &resolve);
                steps.push(pieces.map_err(|e| e.at(step.op.name()).at(&step.name))?);
            }
            Ok((recorder.finish()?, steps))
        })?;
        let set = vec![None; inputs.len()];
        Ok(Self {
            device,
            plan,
            recorded,
            steps,
            inputs,
            buffers,
            set,
            waiting: VecDeque::new(),
            done: Instant::now(),
            download: Download::default(),
            encoding: None,
            _weights: weights,
        })
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(&self.plan.name) })
    }

    /// Pieces as one submission.
    fn submit_pieces(&self, pieces: Range<usize>) -> wgpu::SubmissionIndex {
        let mut encoder = self.encoder();
        self.recorded.encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()), pieces);
        self.device.queue.submit([encoder.finish()])
    }

    /// The steps that some pieces belong to, in words.
    fn place(&self, pieces: &Range<usize>) -> String {
        let of = |piece: usize| self.steps.iter().position(|s| s.contains(&piece)).unwrap_or_default();
        let name = |i: usize| {
            format!(
                "{} ({}/{})",
                self.plan.steps[i].name,
                self.plan.steps[i].op.name(),
                self.plan.steps[i].variant_name
            )
        };
        match (of(pieces.start), of(pieces.end.saturating_sub(1))) {
            (a, b) if a == b => name(a),
            (a, b) => format!("{} to {}", name(a), name(b)),
        }
    }

    /// Hands over all pieces in submissions of about the device's budget, a few of them under way at a time.
    fn fast(&mut self, cancel: &AtomicBool) -> Result<()> {
        let mut spent = Encoding { dispatches: self.recorded.len(), ..Encoding::default() };
        (self.encoding, self.done) = (None, Instant::now());
        self.waiting.clear();
        let mut first = 0;
        while first < self.recorded.len() {
            if cancel.load(Ordering::Relaxed) {
                self.waiting.clear();
                return Err(Error::cancelled());
            }
            let budget = self.device.budget();
            let (mut last, mut flops) = (first + 1, self.recorded.flops(first));
            while last < self.recorded.len() && flops + self.recorded.flops(last) <= budget {
                flops += self.recorded.flops(last);
                last += 1;
            }
            let begun = Instant::now();
            let index = self.submit_pieces(first..last);
            spent.host += begun.elapsed();
            spent.submits += 1;
            self.waiting.push_back(Submission { index, flops, pieces: first..last });
            if self.waiting.len() >= UNDER_WAY {
                self.finish()?;
            }
            first = last;
        }
        self.encoding = Some(spent);
        Ok(())
    }

    /// Waits for the oldest submission under way, if there is one.
    fn finish(&mut self) -> Result<()> {
        let Some(Submission { index, flops, pieces }) = self.waiting.pop_front() else { return Ok(()) };
        self.device.wait(Some(index)).map_err(|e| e.at(self.place(&pieces)))?;
        self.device.learn(flops, self.done.elapsed());
        self.done = Instant::now();
        Ok(())
    }

    /// Each step's own time, by the device's clock where it has one.
    fn timed(&self, times: &mut Vec<Duration>) -> Result<()> {
        if let Some(timer) = Timer::new(&self.device, self.steps.len()) {
            let mut encoder = self.encoder();
            for (i, pieces) in self.steps.iter().enumerate() {
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(timer.writes(i)) };
                self.recorded.encode(&mut encoder.begin_compute_pass(&descriptor), pieces.clone());
                // Long plans are cut here too, for the watchdog's sake.
                if i % 16 == 15 {
                    self.device.queue.submit([std::mem::replace(&mut encoder, self.encoder()).finish()]);
                }
            }
            timer.resolve(&mut encoder);
            self.device.wait(Some(self.device.queue.submit([encoder.finish()])))?;
            times.extend(timer.read(&self.device)?);
            return Ok(());
        }
        for pieces in &self.steps {
            let start = Instant::now();
            self.device.wait(Some(self.submit_pieces(pieces.clone()))).map_err(|e| e.at(self.place(pieces)))?;
            times.push(start.elapsed());
        }
        Ok(())
    }

    fn stepped(&mut self, visit: &mut dyn FnMut(usize, &mut Tensor) -> Result<()>) -> Result<()> {
        for i in 0..self.steps.len() {
            let pieces = self.steps[i].clone();
            self.device.wait(Some(self.submit_pieces(pieces.clone()))).map_err(|e| e.at(self.place(&pieces)))?;
            let id = self.plan.steps[i].y;
            let mut value = self.read(id)?;
            visit(i, &mut value)?;
            let bytes = to_bytes(&value, &self.plan.values[id], self.plan.storage);
            self.device.queue.write_buffer(self.buffer_of(id), 0, &bytes);
        }
        Ok(())
    }

    fn buffer_of(&self, id: usize) -> &wgpu::Buffer {
        match self.plan.values[id].place {
            Place::Input(n) => &self.inputs[n],
            Place::Buffer(n) => &self.buffers[n],
            // Refused when the program was made.
            Place::Slot { .. } => &self.buffers[0],
        }
    }

    /// The number of an output's value.
    fn output(&self, output: Output) -> Result<usize> {
        let known = self.plan.outputs.iter().find(|(o, _)| *o == output);
        let missing = || Error::other(format!("plan {} has no output '{output}'", self.plan.name));
        known.map(|(_, id)| *id).ok_or_else(missing)
    }

    fn read(&mut self, id: usize) -> Result<Tensor> {
        let buffer = self.buffer_of(id).clone();
        self.download.tensor(&self.device, &buffer, &self.plan.values[id], self.plan.storage)
    }
}

/// The step whose value or scratch a buffer has its size from.
fn largest(plan: &Plan, n: usize) -> &str {
    let bytes = |step: &Step| {
        let written = step.written().map(|id| &plan.values[id]).filter(|v| v.place == Place::Buffer(n));
        let scratch = step.scratch_buffers.iter().zip(&step.launch.scratch).filter(|(at, _)| **at == n);
        written.map(|v| v.bytes()).chain(scratch.map(|(_, bytes)| *bytes)).max()
    };
    plan.steps.iter().max_by_key(|s| bytes(s)).map_or("", |s| &s.name)
}

impl Program for GpuProgram {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn set(&mut self, input: Input, value: &Value) -> Result<()> {
        let n = self.plan.input(input, value.shape())?;
        if self.set[n].as_ref().is_some_and(|old| old.is(value)) {
            return Ok(());
        }
        // Until it is there whole, nothing is.
        self.set[n] = None;
        let held = match value {
            Value::Device(value) => (value.as_ref() as &dyn Any).downcast_ref::<Held>(),
            Value::Host(_) => None,
        };
        let laid = held.map(|held| held.lay(&self.device, &self.inputs[n], self.plan.storage)).transpose()?;
        if laid != Some(true) {
            let bytes = to_bytes(&*value.host()?, &self.plan.values[self.plan.inputs[n].1], self.plan.storage);
            self.device.queue.write_buffer(&self.inputs[n], 0, &bytes);
        }
        self.set[n] = Some(value.clone());
        Ok(())
    }

    fn submit(&mut self, how: Run<'_>) -> Result<()> {
        self.device.healthy()?;
        if let Some(n) = self.set.iter().position(Option::is_none) {
            return Err(Error::other(format!("plan {}: input '{}' is not set", self.plan.name, self.plan.inputs[n].0)));
        }
        match how {
            Run::Fast { cancel } => self.fast(cancel),
            Run::Timed(times) => self.timed(times),
            Run::Stepped(visit) => self.stepped(visit),
        }
    }

    fn wait(&mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            self.finish()?;
        }
        Ok(())
    }

    fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }

    fn get(&mut self, output: Output) -> Result<Value> {
        self.wait()?;
        let id = self.output(output)?;
        Ok(self.read(id)?.into())
    }

    fn hold(&mut self, output: Output) -> Result<Value> {
        self.wait()?;
        let id = self.output(output)?;
        let held = Held::copy(&self.device, self.buffer_of(id), self.plan.values[id])?;
        Ok(Value::Device(Arc::new(held)))
    }
}
