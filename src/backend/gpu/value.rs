//! A value that a program left on the device: other programs of the device copy it there, everybody else reads it back.

use super::device::Device;
use super::transfer::{Download, to_bytes};
use super::weights::buffer;
use crate::backend::OnDevice;
use crate::error::Result;
use crate::graph::plan::Stored;
use crate::kernels::gpu::Storage;
use crate::tensor::{Shape, Tensor};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// A copy of a program's output, in a buffer of its own.
pub(super) struct Held {
    device: Arc<Device>,
    stored: Stored,
    buffer: wgpu::Buffer,
    later: Mutex<Later>,
}

/// What is made when it is first asked for.
#[derive(Default)]
struct Later {
    host: Option<Arc<Tensor>>,
    /// The same in the other type of storage.
    other: Option<wgpu::Buffer>,
}

const USAGE: wgpu::BufferUsages = wgpu::BufferUsages::COPY_SRC.union(wgpu::BufferUsages::COPY_DST);

impl Held {
    /// Copies what is in a program's buffer, once all work before has been done.
    pub(super) fn copy(device: &Arc<Device>, from: &wgpu::Buffer, stored: Stored) -> Result<Self> {
        let size = stored.bytes().next_multiple_of(4);
        let buffer = buffer(device, "a value", size, USAGE)?;
        copy(device, from, &buffer, size);
        Ok(Self { device: device.clone(), stored, buffer, later: Mutex::default() })
    }

    /// Copies it into a program's buffer of this type of storage; whether that was possible.
    pub(super) fn lay(&self, device: &Arc<Device>, to: &wgpu::Buffer, storage: Storage) -> Result<bool> {
        if !Arc::ptr_eq(device, &self.device) {
            return Ok(false);
        }
        let stored = Stored { storage, ..self.stored };
        let size = stored.bytes().next_multiple_of(4);
        if storage == self.stored.storage {
            copy(device, &self.buffer, to, size);
            return Ok(true);
        }
        // Rounded on the host, as everything that is set from there: once, however often it is set.
        let t = self.host()?;
        let mut later = self.lock();
        let other = match &later.other {
            Some(other) => other.clone(),
            None => {
                let other = buffer(device, "a value", size, USAGE)?;
                device.queue.write_buffer(&other, 0, &to_bytes(&t, &stored, storage));
                later.other.insert(other).clone()
            }
        };
        copy(device, &other, to, size);
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, Later> {
        // Whole or absent, whatever happened.
        self.later.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl OnDevice for Held {
    fn shape(&self) -> Shape {
        self.stored.shape
    }

    fn host(&self) -> Result<Arc<Tensor>> {
        let mut later = self.lock();
        if let Some(t) = &later.host {
            return Ok(t.clone());
        }
        let t = Download::default().tensor(&self.device, &self.buffer, &self.stored, self.stored.storage)?;
        Ok(later.host.insert(Arc::new(t)).clone())
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.stored.shape, self.device.describe())
    }
}

fn copy(device: &Device, from: &wgpu::Buffer, to: &wgpu::Buffer, size: u64) {
    let mut encoder = device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(from, 0, to, 0, Some(size));
    device.queue.submit([encoder.finish()]);
}
