//! Tensors between host and device: rows of the device's pitch and type, through a staging buffer that is used again.

use super::device::Device;
use crate::error::{Error, Kind, Result};
use crate::graph::plan::Stored;
use crate::kernels::gpu::Storage;
use crate::tensor::Tensor;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use std::sync::mpsc;

/// A tensor as the device stores it; padding is zero.
pub(super) fn to_bytes(t: &Tensor, stored: &Stored, storage: Storage) -> Vec<u8> {
    let c = stored.shape.c.max(1);
    let mut rows = vec![0.0_f32; stored.elems()];
    for (to, from) in rows.chunks_exact_mut(stored.pitch).zip(t.data().chunks_exact(c)) {
        to[..c].copy_from_slice(from);
    }
    let mut bytes = match storage {
        Storage::F32 => bytemuck::cast_slice(&rows).to_vec(),
        Storage::F16 => {
            let mut halves = vec![f16::ZERO; rows.len()];
            halves.convert_from_f32_slice(&rows);
            bytemuck::cast_slice(&halves).to_vec()
        }
    };
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Elements as f32.
pub(super) fn from_bytes(bytes: &[u8], storage: Storage) -> Vec<f32> {
    match storage {
        Storage::F32 => bytemuck::pod_collect_to_vec(bytes),
        Storage::F16 => {
            let halves: Vec<f16> = bytemuck::pod_collect_to_vec(bytes);
            halves.to_f32_vec()
        }
    }
}

/// Reads back through one staging buffer, which grows as needed.
#[derive(Default)]
pub(super) struct Download {
    staging: Option<wgpu::Buffer>,
}

impl Download {
    /// The first `bytes` of a buffer, once all work before has been done.
    pub(super) fn bytes(&mut self, device: &Device, from: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>> {
        let size = bytes.next_multiple_of(4);
        if self.staging.as_ref().is_none_or(|b| b.size() < size) {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            self.staging = Some(super::weights::buffer(device, "read-back", size, usage)?);
        }
        let Some(staging) = &self.staging else { return Err(Error::other("no staging buffer")) };
        let mut encoder = device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(from, 0, staging, 0, Some(size));
        let submission = device.queue.submit([encoder.finish()]);
        let (to, result) = mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, 0..size, move |r| {
            // The receiver is gone only if waiting failed, which is reported.
            let _ = to.send(r);
        });
        device.wait(Some(submission))?;
        let lost = || Error::new(Kind::DeviceLost, format!("{}: results cannot be read back", device.describe()));
        result.try_recv().map_err(|_| lost())?.map_err(|_| lost())?;
        let view = staging.get_mapped_range(0..size).map_err(|_| lost())?;
        let mut out = view.to_vec();
        drop(view);
        staging.unmap();
        out.truncate(bytes as usize);
        Ok(out)
    }

    /// A stored value.
    pub(super) fn tensor(
        &mut self,
        device: &Device,
        from: &wgpu::Buffer,
        stored: &Stored,
        storage: Storage,
    ) -> Result<Tensor> {
        let bytes = self.bytes(device, from, (stored.elems() * storage.bytes()) as u64)?;
        let rows = from_bytes(&bytes, storage);
        let mut t = Tensor::zeros(stored.shape);
        let c = stored.shape.c.max(1);
        for (to, from) in t.data_mut().chunks_exact_mut(c).zip(rows.chunks_exact(stored.pitch)) {
            to.copy_from_slice(&from[..c]);
        }
        Ok(t)
    }
}
