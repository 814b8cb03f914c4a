//! Shaders to pipelines: built in parallel, shared by all programs of a device, and
//! kept on disk where the driver allows.
#![allow(unsafe_code, reason = "a driver's pipeline cache is handed back to it")]

use super::device::Device;
use super::disk;
use super::shader;
use crate::error::{Error, Kind, Result};
use crate::kernels::gpu::{Shader, What};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ScopedJoinHandle;

/// A compiled shader.
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: Arc<wgpu::BindGroupLayout>,
}

/// Which of a shader's storage bindings are written.
pub(super) type Writes = Vec<bool>;

/// Whether a binding is written.
pub(super) fn written(what: What) -> bool {
    matches!(what, What::Y | What::Statistics | What::ScratchOut(_))
}

/// All pipelines of a device.
pub(super) struct Pipelines {
    device: Arc<Device>,
    cache: Option<wgpu::PipelineCache>,
    built: Mutex<HashMap<Shader, Arc<Pipeline>>>,
    layouts: Mutex<HashMap<Writes, Arc<wgpu::BindGroupLayout>>>,
}

impl Pipelines {
    pub(super) fn new(device: Arc<Device>) -> Self {
        let cache = device.has(wgpu::Features::PIPELINE_CACHE).then(|| {
            let data = disk::load(&device.owner(), "pipelines");
            let descriptor =
                wgpu::PipelineCacheDescriptor { label: Some("lienzo"), data: data.as_deref(), fallback: true };
            // SAFETY: the data was returned by `get_data` for this adapter and driver: its file is owner-only, and
            // version, adapter, driver and checksum have been compared; with `fallback` the driver may still reject it.
            unsafe { device.device.create_pipeline_cache(&descriptor) }
        });
        Self { device, cache, built: Mutex::default(), layouts: Mutex::default() }
    }

    /// The device that they are for.
    pub(super) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Builds those that are missing, on several threads. `Kind::Refused` names the
    /// first shader that the driver rejects.
    pub(super) fn build(&self, wanted: &[(&Shader, Writes)]) -> Result<()> {
        let missing: Vec<&(&Shader, Writes)> = {
            let built = lock(&self.built);
            wanted.iter().filter(|(s, _)| !built.contains_key(*s)).collect()
        };
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some((shader, writes)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let pipeline = Arc::new(self.compile(shader, writes)?);
                lock(&self.built).insert((*shader).clone(), pipeline);
            }
            Ok(())
        };
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(8).min(missing.len());
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, work);
            let all: Vec<_> = (0..threads).map(start).collect();
            // One that is not started leaves its work to the others.
            let own = if all.iter().all(std::result::Result::is_err) { work() } else { Ok(()) };
            let join = |t: ScopedJoinHandle<'_, Result<()>>| {
                t.join().unwrap_or_else(|_| Err(Error::other("a compiler thread failed")))
            };
            all.into_iter().flatten().map(join).chain([own]).collect()
        });
        results.into_iter().collect::<Result<()>>()?;
        if let (Some(cache), false) = (&self.cache, missing.is_empty()) {
            // Seconds of compiling are worth a file; without one, the next run compiles again.
            if let Some(data) = cache.get_data() {
                disk::save(&self.device.owner(), "pipelines", &data);
            }
        }
        Ok(())
    }

    /// One that has been built.
    pub(super) fn get(&self, shader: &Shader) -> Result<Arc<Pipeline>> {
        let found = lock(&self.built).get(shader).cloned();
        found.ok_or_else(|| Error::other(format!("shader {} has not been built", shader.file)))
    }

    fn compile(&self, shader: &Shader, writes: &Writes) -> Result<Pipeline> {
        let layout = self.layout(writes);
        let device = &self.device.device;
        let built = self.device.scoped(shader.file, || {
            let module = shader::module(&self.device, shader)?;
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(shader.file),
                bind_group_layouts: &[Some(&layout)],
                ..Default::default()
            });
            Ok(device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(shader.file),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // Every kernel writes workgroup memory before it reads it; with
                    // checks on, nothing is taken on trust.
                    zero_initialize_workgroup_memory: self.device.options().checked,
                    ..Default::default()
                },
                cache: self.cache.as_ref(),
            }))
        });
        match built {
            Ok(pipeline) => Ok(Pipeline { pipeline, layout }),
            Err(e) if matches!(e.kind(), Kind::Other) => Err(Error::new(Kind::Refused, e.to_string())),
            Err(e) => Err(e),
        }
    }

    fn layout(&self, writes: &Writes) -> Arc<wgpu::BindGroupLayout> {
        lock(&self.layouts).entry(writes.clone()).or_insert_with(|| self.new_layout(writes)).clone()
    }

    fn new_layout(&self, writes: &Writes) -> Arc<wgpu::BindGroupLayout> {
        let entry = |binding: usize, ty, dynamic| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: dynamic, min_binding_size: None },
            count: None,
        };
        let storage = |(i, written): (usize, &bool)| {
            entry(i + 1, wgpu::BufferBindingType::Storage { read_only: !written }, false)
        };
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true)];
        entries.extend(writes.iter().enumerate().map(storage));
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
        Arc::new(self.device.device.create_bind_group_layout(&descriptor))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps are consistent between any two statements.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
