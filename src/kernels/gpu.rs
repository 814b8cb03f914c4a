//! The GPU's kernels as plain data: an op and its shapes go in, dispatches come out. No graphics crate is named here.
//!
//! A [`Dispatch`] says which shader runs with which constants, parameters, bindings and grid; `backend/gpu` turns it
//! into calls. So everything but the shaders' arithmetic can be planned, counted and tested without a GPU.
//!
//! # Memory
//! A value is rows of `pitch` elements as everywhere; shaders read and write it in quads of four neighbouring channels
//! (`Quad` of the `storage` slot: `vec4<f32>`, or two f16 pairs in a `vec2<u32>`). A view begins at a whole quad.
//! Padding is zero: a kernel writes zeros into what its last quad has beyond the channels. A matrix or filter
//! `[n, k, taps]` is k-major: element `[tap][k][n]` with k and n rounded up to 4, padding zero, quads along n (`WQuad`
//! of the slot `weights`). Of a gated one quads of value and gate alternate: v0 g0 v1 g1, each half rounded up to whole
//! quads. Vectors are `array<vec4<f32>>`, padded with zeros, interleaved likewise.

pub mod activate;
pub mod add;
pub mod attention;
mod bands;
mod binding;
pub mod concat;
pub mod conv2d;
mod dispatch;
pub mod geglu;
mod gemm;
pub mod group_affine;
pub mod group_norm;
pub mod layer_norm;
pub mod matmul;
pub mod pixel_shuffle;
pub mod prelu;
pub mod roofline;
pub mod timestep_embedding;
pub mod upsample;
pub mod wgsl;

pub use crate::dtype::Storage;
pub(crate) use binding::too_large;
#[cfg(feature = "gpu")]
pub(crate) use binding::{columns, packed_bytes};
pub(crate) use dispatch::params;
pub use dispatch::{Bind, Const, Dispatch, Launch, Record, Shader, ShaderParameters, What};

use super::{Dims, Op};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// A matrix product of fixed size that the device's tensor cores do, as the adapter lists it: f16 times f16 into f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coop {
    /// Rows and columns of all three matrices: 8 or 16.
    pub size: u32,
    /// Computed by plain arithmetic on the same addresses, on an adapter that has none: for tests.
    pub emulated: bool,
}

/// What an adapter allows, as far as kernels depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Activations.
    pub storage: Storage,
    /// Matrices and filters.
    pub weights: Storage,
    /// Bytes that one binding may see.
    pub max_binding: u64,
    /// Workgroups along one axis.
    pub max_groups: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Invocations of a workgroup.
    pub invocations: u32,
    /// Lanes of a subgroup, where subgroup operations exist and the size never varies.
    pub subgroup: Option<u32>,
    /// Tensor cores, where they may be used.
    pub coop: Option<Coop>,
    /// Work that one dispatch may do, in FLOPs: long steps are cut into pieces, so that no watchdog fires.
    pub max_flops: u64,
}

impl Limits {
    /// What every WebGPU device offers.
    pub const fn webgpu(storage: Storage) -> Self {
        Self {
            storage,
            weights: Storage::F16,
            max_binding: 128 << 20,
            max_groups: 65_535,
            workgroup_bytes: 16 << 10,
            invocations: 256,
            subgroup: None,
            coop: None,
            max_flops: 20_000_000_000,
        }
    }

    /// Workgroups along x of each piece that a dispatch of `x` of them with so many FLOPs is cut into.
    pub fn piece(&self, x: u32, flops: u64) -> u32 {
        let pieces = flops.div_ceil(self.max_flops).max(1).min(u64::from(x).max(1));
        u64::from(x).div_ceil(pieces).min(u64::from(self.max_groups)) as u32
    }
}

/// Bytes at which bindings and parameter records begin.
pub const ALIGN: u64 = 256;

/// An operand or output as a launch sees it, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Logical shape.
    pub shape: Shape,
    /// Elements from one row to the next; a multiple of 4.
    pub pitch: usize,
    /// First channel; a multiple of 4.
    pub offset: usize,
}

impl View {
    /// A tensor of its own.
    pub const fn whole(shape: Shape) -> Self {
        Self { shape, pitch: shape.c.next_multiple_of(4), offset: 0 }
    }

    /// Quads from one row to the next.
    pub const fn pitch_quads(&self) -> u32 {
        (self.pitch / 4) as u32
    }

    /// First quad of a row.
    pub const fn offset_quads(&self) -> u32 {
        (self.offset / 4) as u32
    }

    /// Quads that hold a row's channels.
    pub const fn quads(&self) -> u32 {
        self.shape.c.div_ceil(4) as u32
    }
}

/// What a kernel is launched on.
#[derive(Clone, Copy)]
pub struct LaunchIo<'a> {
    /// Operands, in the op's order.
    pub x: &'a [View],
    /// Weights, in the op's order.
    pub w: &'a [Dims],
    /// The output: a tensor of its own.
    pub y: View,
    /// The device.
    pub limits: &'a Limits,
}

/// One algorithm for one op.
pub struct GpuVariant<K> {
    /// A technique: `naive`, `tiled`, `flash`.
    pub name: &'static str,
    /// Whether it can run these shapes on this device.
    pub supports: fn(&K, &[Shape], &[Dims], &Limits) -> bool,
    /// Its dispatches.
    pub launch: fn(&K, &LaunchIo<'_>) -> Launch,
}

/// A variant as the chooser sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuVariantInfo {
    /// Its name.
    pub name: &'static str,
    /// Whether it can run the shapes that were asked about.
    pub supported: bool,
}

names_of_variants!();

/// The variants of an op on a device, slowest first.
pub fn variants(op: &Op, x: &[Shape], w: &[Dims], limits: &Limits) -> Vec<GpuVariantInfo> {
    by_op!(op, k, list => list
        .iter()
        .map(|v| GpuVariantInfo { name: v.name, supported: !op.after_norm_read() && (v.supports)(k, x, w, limits) })
        .collect())
}

/// The dispatches of one variant.
///
/// # Errors
/// A view does not begin at a multiple of four channels, or the launch exceeds what the device allows.
pub fn launch(op: &Op, variant: usize, io: &LaunchIo<'_>) -> Result<Launch> {
    if let Some(v) = io.x.iter().find(|v| !v.offset.is_multiple_of(4) || !v.pitch.is_multiple_of(4)) {
        let message = format!("{}: a view begins at channel {}; GPUs need a multiple of 4", op.name(), v.offset);
        return Err(Error::other(message));
    }
    let launch: Launch = by_op!(op, k, list => (list[variant].launch)(k, io));
    for d in &launch.dispatches {
        let [_, y, z] = d.grid;
        if y.max(z) > io.limits.max_groups || d.grid.contains(&0) {
            return Err(Error::other(format!("{}: a grid of {:?} workgroups", op.name(), d.grid)));
        }
    }
    Ok(launch)
}

/// Threads of a workgroup of the plain kernels.
pub(crate) const THREADS: u32 = 256;

/// A grid of one thread per item.
pub(crate) fn linear(items: usize) -> [u32; 3] {
    [items.div_ceil(THREADS as usize).max(1) as u32, 1, 1]
}

/// Bytes of the rows `rows` of a view's stored value, as a binding: begins at a multiple of [`ALIGN`]. Also gives the
/// element at which the view's first row then begins (its `offset` included).
pub(crate) fn window(what: What, view: &View, rows: std::ops::Range<usize>, storage: Storage) -> (Bind, usize) {
    let size = storage.bytes() as u64;
    let from = (rows.start * view.pitch) as u64 * size;
    let start = from / ALIGN * ALIGN;
    let end = (rows.end * view.pitch) as u64 * size;
    let bind = Bind { what, start, bytes: Some(end - start) };
    (bind, ((from - start) / size) as usize + view.offset)
}
