//! Shader text to a module of the device.
#![allow(unsafe_code, reason = "wgpu's bounds checks are left out of shaders that this crate's tests have checked")]

use super::device::Device;
use crate::error::Result;
use crate::kernels::gpu::{Shader, wgsl};

/// Compiles a shader. Its bounds checks are left out unless the device was opened `checked`.
pub(super) fn module(device: &Device, shader: &Shader) -> Result<wgpu::ShaderModule> {
    let text = wgsl::text(shader)?;
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(shader.file), source: wgpu::ShaderSource::Wgsl(text.into()) };
    if device.options().checked {
        return Ok(device.device.create_shader_module(descriptor));
    }
    // SAFETY: the text is this crate's own. Every shader and variant is run by the tests with and without checks, with
    // guards around its outputs, and by the self-test on the device before it is trusted; indices
    // stay within bindings and loops end.
    let module =
        unsafe { device.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
    Ok(module)
}
