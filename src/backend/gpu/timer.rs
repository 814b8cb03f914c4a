//! Times by the device's own clock.

use super::device::Device;
use super::transfer::Download;
use crate::error::Result;
use std::time::Duration;

/// Two timestamps for each of some passes.
pub(super) struct Timer {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    passes: u32,
}

impl Timer {
    /// None where the device has no clock, or the passes are more than a query set holds.
    pub(super) fn new(device: &Device, passes: usize) -> Option<Self> {
        let count = u32::try_from(2 * passes).ok().filter(|n| *n > 0 && *n <= wgpu::QUERY_SET_MAX_QUERIES)?;
        if !device.has(wgpu::Features::TIMESTAMP_QUERY) {
            return None;
        }
        let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count };
        let queries = device.device.create_query_set(&descriptor);
        let resolved = device.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("timestamps"),
            size: u64::from(count) * 8,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Some(Self { queries, resolved, passes: passes as u32 })
    }

    /// What pass i writes.
    pub(super) fn writes(&self, i: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        let first = 2 * i as u32;
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        }
    }

    /// To be encoded after the last pass.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..2 * self.passes, &self.resolved, 0);
    }

    /// Each pass's duration, after the work has been done.
    pub(super) fn read(&self, device: &Device) -> Result<Vec<Duration>> {
        let bytes = Download::default().bytes(device, &self.resolved, u64::from(self.passes) * 16)?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
        let period = f64::from(device.queue.get_timestamp_period());
        let one = |pair: &[u64]| Duration::from_nanos((pair[1].saturating_sub(pair[0]) as f64 * period) as u64);
        Ok(ticks.chunks_exact(2).map(one).collect())
    }
}
