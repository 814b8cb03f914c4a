//! The adapters of this machine: which card and driver each is, what it offers, what is known to be wrong with it.

use super::faults::{self, DriverCard, DriverFeature};
use crate::kernels::gpu::Coop;

/// An adapter, as `lienzo devices` lists it.
#[derive(Clone)]
pub struct Adapter {
    pub(super) adapter: wgpu::Adapter,
    pub(super) info: wgpu::AdapterInfo,
}

/// The adapters of this machine, the preferred one first: discrete, integrated, virtual, unknown, software.
///
/// Where two interfaces show the same card, Vulkan is listed and DX12 left out: only Vulkan has tensor cores in wgpu.
pub fn adapters() -> Vec<Adapter> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let found = pollster::block_on(instance.enumerate_adapters(backends));
    let mut all: Vec<Adapter> = found.into_iter().map(|a| Adapter { info: a.get_info(), adapter: a }).collect();
    // Stable: adapters of one kind stay in the system's order.
    all.sort_by_key(|a| (a.rank(), a.info.backend != wgpu::Backend::Vulkan));
    let mut seen: Vec<(u32, u32, wgpu::Backend, String)> = Vec::new();
    all.retain(|a| {
        let i = &a.info;
        let same = |s: &&(u32, u32, wgpu::Backend, String)| (s.0, s.1) == (i.vendor, i.device) && s.2 != i.backend;
        let twice = i.device != 0 && seen.iter().any(|s| same(&s));
        seen.push((i.vendor, i.device, i.backend, i.name.clone()));
        !twice
    });
    all
}

impl Adapter {
    fn rank(&self) -> u32 {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        }
    }

    /// The card's name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Whether it is a program on the CPU.
    pub fn software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// `discrete`, `integrated`, `virtual`, `software` or `unknown`.
    pub fn kind(&self) -> &'static str {
        ["discrete", "integrated", "virtual", "unknown", "software"][self.rank() as usize]
    }

    /// `Vulkan`, `Metal` or `DX12`.
    pub fn interface(&self) -> String {
        format!("{:?}", self.info.backend).replace("Dx12", "DX12")
    }

    /// The driver and its version, as far as it says.
    pub fn driver(&self) -> String {
        format!("{} {}", self.info.driver, self.info.driver_info).trim().to_owned()
    }

    /// What is known to be wrong with it or its driver.
    pub fn faults(&self) -> Vec<&'static faults::DriverFault> {
        let (interface, driver) = (self.interface(), self.driver());
        let card = DriverCard { vendor: self.info.vendor, interface: &interface, driver: &driver, name: self.name() };
        let offered = self.adapter.features();
        // What a driver does not offer is not its fault.
        let concerns = |f: &&faults::DriverFault| match f.off {
            DriverFeature::TensorCores => offered.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
            DriverFeature::Clock => offered.contains(wgpu::Features::TIMESTAMP_QUERY),
        };
        faults::known(&card).filter(concerns).collect()
    }

    pub(super) fn lacks(&self, part: DriverFeature) -> bool {
        self.faults().iter().any(|f| f.off == part)
    }

    /// `NVIDIA H100, Vulkan, NVIDIA 580.1`.
    pub fn describe(&self) -> String {
        format!("{}, {}, {}", self.name(), self.interface(), self.driver())
    }

    /// Limits and features that matter here, in words.
    pub fn abilities(&self) -> String {
        let l = self.adapter.limits();
        let f = self.adapter.features();
        let mut out = format!(
            "binding {} MiB, workgroup memory {} KiB, {} invocations",
            l.max_storage_buffer_binding_size >> 20,
            l.max_compute_workgroup_storage_size >> 10,
            l.max_compute_invocations_per_workgroup
        );
        for (flag, name) in [
            (wgpu::Features::SHADER_F16, "f16"),
            (wgpu::Features::SUBGROUP, "subgroups"),
            (wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
            (wgpu::Features::PIPELINE_CACHE, "pipeline cache"),
        ] {
            if f.contains(flag) {
                out += &format!(", {name}");
                if flag == wgpu::Features::SUBGROUP {
                    out += &format!(" of {} to {}", self.info.subgroup_min_size, self.info.subgroup_max_size);
                }
            }
        }
        match self.coop() {
            Some(c) => out + &format!(", tensor cores {0}x{0}x{0}", c.size),
            None => out,
        }
    }

    /// The matrix shape that its tensor cores do from f16 into f32, if wgpu can use them.
    pub(super) fn coop(&self) -> Option<Coop> {
        let f = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
        if !self.adapter.features().contains(f) || self.lacks(DriverFeature::TensorCores) {
            return None;
        }
        let (half, single) = (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
        let fits = |p: &&wgpu::CooperativeMatrixProperties| {
            p.m_size == p.n_size && p.n_size == p.k_size && p.ab_type == half && p.cr_type == single
        };
        let all = self.adapter.cooperative_matrix_properties();
        all.iter().filter(fits).map(|p| Coop { size: p.m_size, emulated: false }).max_by_key(|c| c.size)
    }
}
