//! Launches to what a queue runs: pipelines, bind groups and parameter records, made once and run many times.

use super::device::Device;
use super::pipeline::{Pipeline, Pipelines, written};
use crate::error::{Error, Kind, Remedy, Result};
use crate::kernels::gpu::{ALIGN, Dispatch, Launch, What};
use std::ops::Range;
use std::sync::Arc;

/// A range of a buffer, in bytes.
#[derive(Clone)]
pub(super) struct Region {
    pub(super) buffer: wgpu::Buffer,
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// One call of a shader; a long dispatch is several pieces along x.
struct Piece {
    group: usize,
    record: u32,
    grid: [u32; 3],
    flops: u64,
}

/// A dispatch's pipeline and bindings.
struct Call {
    pipeline: Arc<Pipeline>,
    regions: Vec<Region>,
}

/// Collects launches.
pub(super) struct Recorder<'a> {
    device: &'a Device,
    pipelines: &'a Pipelines,
    records: Vec<u8>,
    calls: Vec<Call>,
    pieces: Vec<Piece>,
}

/// What has been collected, ready to be run.
pub(super) struct Recorded {
    groups: Vec<(Arc<Pipeline>, wgpu::BindGroup)>,
    pieces: Vec<Piece>,
}

/// Every distinct shader of some launches, with its bindings' directions.
pub(super) fn shaders<'l>(
    launches: impl Iterator<Item = &'l Launch>,
) -> Vec<(&'l crate::kernels::gpu::Shader, Vec<bool>)> {
    let mut out: Vec<(&crate::kernels::gpu::Shader, Vec<bool>)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for d in launches.flat_map(|l| &l.dispatches) {
        if seen.insert(&d.shader) {
            out.push((&d.shader, d.binds.iter().map(|b| written(b.what)).collect()));
        }
    }
    out
}

impl<'a> Recorder<'a> {
    pub(super) fn new(device: &'a Device, pipelines: &'a Pipelines) -> Self {
        Self { device, pipelines, records: Vec::new(), calls: Vec::new(), pieces: Vec::new() }
    }

    /// Adds a launch of so many FLOPs; `resolve` says where a binding's data are. Returns the numbers of its pieces.
    pub(super) fn launch(
        &mut self,
        launch: &Launch,
        flops: u64,
        resolve: &dyn Fn(What) -> Result<Region>,
    ) -> Result<Range<usize>> {
        let first = self.pieces.len();
        for (d, share) in launch.shares(flops) {
            self.dispatch(d, share, resolve)?;
        }
        Ok(first..self.pieces.len())
    }

    fn dispatch(&mut self, d: &Dispatch, flops: u64, resolve: &dyn Fn(What) -> Result<Region>) -> Result<()> {
        let limits = self.device.limits();
        let regions = d.binds.iter().map(|b| {
            let whole = resolve(b.what)?;
            let left = whole.bytes.checked_sub(b.start).filter(|l| *l > 0);
            let bytes = left.map(|l| b.bytes.unwrap_or(l).min(l).next_multiple_of(4));
            let bytes = bytes.ok_or_else(|| Error::other(format!("{}: a binding is empty", d.shader.file)))?;
            if bytes > limits.max_binding {
                let (device, have) = (self.device.describe(), limits.max_binding);
                let message =
                    format!("{} needs a binding of {bytes} bytes, and the device's limit is {have}", in_words(b.what));
                let error = Error::new(Kind::TooBig { need: bytes, have }, message).at(d.shader.file).at(device);
                return Err(error.try_this(Remedy::SmallerSize).try_this(Remedy::Cpu));
            }
            Ok(Region { start: whole.start + b.start, bytes, ..whole })
        });
        let regions = regions.collect::<Result<Vec<_>>>()?;
        let group = self.calls.len();
        self.calls.push(Call { pipeline: self.pipelines.get(&d.shader)?, regions });
        let [x, y, z] = d.grid;
        let length = limits.piece(x, flops);
        let mut first = 0;
        while first < x {
            let count = length.min(x - first);
            let mut words = d.params.words.clone();
            words[0] += first;
            let record = self.records.len() as u32;
            self.records.extend_from_slice(bytemuck::cast_slice(&words));
            self.records.resize(self.records.len().next_multiple_of(ALIGN as usize), 0);
            let flops = flops / u64::from(x) * u64::from(count);
            self.pieces.push(Piece { group, record, grid: [count, y, z], flops });
            first += count;
        }
        Ok(())
    }

    /// Writes the parameter records and makes the bind groups.
    pub(super) fn finish(self) -> Result<Recorded> {
        let device = &self.device.device;
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: (self.records.len() as u64).max(ALIGN),
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.device.queue.write_buffer(&params, 0, &self.records);
        let group = |call: Call| {
            let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: range(&params, 0, ALIGN) }];
            entries.extend(call.regions.iter().enumerate().map(|(i, r)| wgpu::BindGroupEntry {
                binding: i as u32 + 1,
                resource: range(&r.buffer, r.start, r.bytes),
            }));
            let descriptor =
                wgpu::BindGroupDescriptor { label: None, layout: &call.pipeline.layout, entries: &entries };
            (call.pipeline.clone(), device.create_bind_group(&descriptor))
        };
        Ok(Recorded { groups: self.calls.into_iter().map(group).collect(), pieces: self.pieces })
    }
}

/// What a binding shows, for an error.
fn in_words(what: What) -> String {
    match what {
        What::X(i) => format!("operand {}", i + 1),
        What::W(0) => "the weight".into(),
        What::W(i) => format!("weight {}", i + 1),
        What::Y => "the output".into(),
        What::Statistics => "the output's statistics".into(),
        What::Scratch(_) | What::ScratchOut(_) => "an intermediate result".into(),
    }
}

fn range(buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> wgpu::BindingResource<'_> {
    let size = std::num::NonZeroU64::new(bytes);
    wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size })
}

impl Recorded {
    /// Calls of shaders.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// FLOPs of one piece.
    pub(super) fn flops(&self, piece: usize) -> u64 {
        self.pieces[piece].flops
    }

    /// Encodes some pieces.
    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass<'_>, pieces: Range<usize>) {
        let mut last = usize::MAX;
        for piece in &self.pieces[pieces] {
            let (pipeline, group) = &self.groups[piece.group];
            if piece.group != last {
                pass.set_pipeline(&pipeline.pipeline);
                last = piece.group;
            }
            pass.set_bind_group(0, group, &[piece.record]);
            pass.dispatch_workgroups(piece.grid[0], piece.grid[1], piece.grid[2]);
        }
    }
}
