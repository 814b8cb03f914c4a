//! The GPU's kernels as plain data: an op and its shapes go in, dispatches come out. No graphics crate is named here.
//!
//! A [`Dispatch`] says which shader runs with which constants, parameters, bindings and grid; `backend/gpu` turns it into
//! calls. So everything but the shaders' arithmetic can be planned, counted and tested without a GPU.
//!
//! # Memory
//! A value is rows of `pitch` elements as everywhere; shaders read and write it in quads of four neighbouring channels
//! (`Quad` of the `storage` slot: `vec4<f32>`, or two f16 pairs in a `vec2<u32>`). A view begins at a whole quad. Padding is
//! zero: a kernel writes zeros into what its last quad has beyond the channels. A matrix or filter `[n, k, taps]` is
//! k-major: element `[tap][k][n]` with k and n rounded up to 4, padding zero, quads along n (`WQuad` of the slot
//! `weights`). With `geglu` quads of value and gate alternate: v0 g0 v1 g1, each half rounded up to whole quads. Vectors
//! are `array<vec4<f32>>`, padded with zeros, interleaved likewise.

pub mod activate;
pub mod add;
pub mod attention;
mod bands;
pub mod concat;
pub mod conv2d;
pub mod geglu;
mod gemm;
pub mod group_affine;
pub mod group_norm;
pub mod layer_norm;
pub mod matmul;
pub mod roofline;
pub mod timestep_embedding;
pub mod upsample;
pub mod wgsl;

use super::{Activation, Dims, Op};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// How numbers are stored on the device; arithmetic is f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 4 bytes.
    #[default]
    F32,
    /// 2 bytes; shaders see pairs of them in u32.
    F16,
}

impl Storage {
    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

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
pub struct Io<'a> {
    /// Operands, in the op's order.
    pub x: &'a [View],
    /// Weights, in the op's order.
    pub w: &'a [Dims],
    /// The output: a tensor of its own.
    pub y: View,
    /// The device.
    pub limits: &'a Limits,
}

/// A constant of a shader that replaces the one in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Const {
    /// `3u`.
    U32(u32),
    /// `true`.
    Bool(bool),
}

impl From<u32> for Const {
    fn from(v: u32) -> Self {
        Self::U32(v)
    }
}

impl From<bool> for Const {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}

impl From<Activation> for Const {
    /// As `common/activation.wgsl` numbers them.
    fn from(act: Activation) -> Self {
        Self::U32(match act {
            Activation::None => 0,
            Activation::Silu => 1,
            Activation::Gelu => 2,
            Activation::QuickGelu => 3,
        })
    }
}

/// A shader's text before its imports are resolved, and what is filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The file's stem under `shaders/`.
    pub file: &'static str,
    /// Which file of `common/` stands for each `#import slot`.
    pub slots: Vec<(&'static str, &'static str)>,
    /// Replaced constants.
    pub consts: Vec<(&'static str, Const)>,
}

impl Shader {
    /// A shader with the `storage` slot bound to the type of activations and `weights` to that of matrices.
    pub fn new(file: &'static str, limits: &Limits) -> Self {
        let storage = match limits.storage {
            Storage::F32 => "storage_f32",
            Storage::F16 => "storage_f16x2",
        };
        let weights = match limits.weights {
            Storage::F32 => "weights_f32",
            Storage::F16 => "weights_f16x2",
        };
        Self { file, slots: vec![("storage", storage), ("weights", weights)], consts: Vec::new() }
    }

    /// The same on tensor cores: operands are bound as f16 proper, not as pairs; emulated, they stay as they are.
    #[must_use]
    pub(crate) fn on_tensor_cores(mut self, coop: Coop) -> Self {
        if coop.emulated {
            return self.slot("fragment", "fragment_emulated").with("FRAG", coop.size);
        }
        for (slot, file) in &mut self.slots {
            match *slot {
                "storage" => *file = "storage_f16",
                "weights" => *file = "weights_f16",
                _ => {}
            }
        }
        self.slot("fragment", "fragment_coop")
            .slot("matrices", if coop.size == 16 { "matrices_16" } else { "matrices_8" })
    }

    /// Sets a constant.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Const>) -> Self {
        self.consts.push((name, value.into()));
        self
    }

    /// Binds another slot.
    #[must_use]
    pub fn slot(mut self, slot: &'static str, file: &'static str) -> Self {
        self.slots.push((slot, file));
        self
    }
}

/// A shader's parameter record: plain u32 and f32 fields, the first of which is `first`, the number of the first workgroup
/// along x of the piece that is dispatched.
pub trait Parameters: bytemuck::Pod {
    /// Names and WGSL types in order; compared with the shader's `struct Params` by a test.
    const FIELDS: &'static [(&'static str, &'static str)];
}

/// Declares a parameter record: the Rust struct and the list that tests compare with the shader.
macro_rules! params {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ident),* $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct $name {
            /// First workgroup along x of this piece.
            pub first: u32,
            $($(#[$field_doc])* pub $field: $ty),*
        }

        impl $crate::kernels::gpu::Parameters for $name {
            const FIELDS: &'static [(&'static str, &'static str)] =
                &[("first", "u32"), $((stringify!($field), stringify!($ty))),*];
        }
    };
}
pub(crate) use params;

/// A filled parameter record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Names and types, as the shader must declare them.
    pub fields: &'static [(&'static str, &'static str)],
    /// The values' bits; `[0]` is `first`.
    pub words: Vec<u32>,
}

impl Record {
    /// From a record's struct.
    pub fn new<P: Parameters>(params: &P) -> Self {
        Self { fields: P::FIELDS, words: bytemuck::cast_slice(std::slice::from_ref(params)).to_vec() }
    }
}

/// What a binding shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// An operand's stored value, from its first row.
    X(usize),
    /// A weight.
    W(usize),
    /// The output; it is written.
    Y,
    /// The second output, statistics of the first in f32; it is written.
    Statistics,
    /// The launch's n-th scratch buffer, to be read.
    Scratch(usize),
    /// The same, to be written.
    ScratchOut(usize),
}

/// A binding: a range of bytes of what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Of what.
    pub what: What,
    /// First byte, a multiple of [`ALIGN`].
    pub start: u64,
    /// How many; none means all that follow.
    pub bytes: Option<u64>,
}

impl From<What> for Bind {
    fn from(what: What) -> Self {
        Self { what, start: 0, bytes: None }
    }
}

/// One call of a shader. Binding 0 is the parameter record; `binds` follow as 1, 2, ... in the shader's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// What runs.
    pub shader: Shader,
    /// Its parameters.
    pub params: Record,
    /// Its storage bindings, at most 8; outputs last.
    pub binds: Vec<Bind>,
    /// Workgroups. Along x it may be cut into pieces anywhere (`params.first` says where a piece begins), so x may exceed
    /// `Limits::max_groups`; y and z may not.
    pub grid: [u32; 3],
}

/// All calls of one step, in order, and the bytes of each scratch buffer that they share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The calls.
    pub dispatches: Vec<Dispatch>,
    /// Scratch buffers; their content is undefined.
    pub scratch: Vec<u64>,
}

impl Launch {
    /// FLOPs of each of its dispatches, of so many together: bands of one step share its work by their workgroups.
    pub fn shares(&self, flops: u64) -> impl Iterator<Item = (&Dispatch, u64)> {
        let groups: u64 = self.dispatches.iter().map(|d| u64::from(d.grid[0])).sum();
        self.dispatches.iter().map(move |d| (d, flops / groups.max(1) * u64::from(d.grid[0])))
    }
}

impl From<Dispatch> for Launch {
    fn from(d: Dispatch) -> Self {
        Self { dispatches: vec![d], scratch: Vec::new() }
    }
}

/// One algorithm for one op.
pub struct Variant<K> {
    /// A technique: `naive`, `tiled`, `flash`.
    pub name: &'static str,
    /// Whether it can run these shapes on this device.
    pub supports: fn(&K, &[Shape], &[Dims], &Limits) -> bool,
    /// Its dispatches.
    pub launch: fn(&K, &Io<'_>) -> Launch,
}

/// A variant as the chooser sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariantInfo {
    /// Its name.
    pub name: &'static str,
    /// Whether it can run the shapes that were asked about.
    pub supported: bool,
}

macro_rules! by_op {
    ($op:expr, $kernel:ident, $variants:ident => $body:expr) => {
        by_op!(@ $op, $kernel, $variants, $body, Matmul matmul, Conv2d conv2d, GroupNorm group_norm, GroupAffine group_affine, LayerNorm layer_norm,
            Attention attention, Geglu geglu, Activate activate, Add add, Concat concat, Upsample upsample,
            TimestepEmbedding timestep_embedding)
    };
    (@ $op:expr, $kernel:ident, $variants:ident, $body:expr, $($name:ident $module:ident),*) => {
        match $op {
            $(Op::$name($kernel) => {
                let $variants = $module::VARIANTS;
                $body
            })*
        }
    };
}

/// The variants of an op on a device, slowest first.
pub fn variants(op: &Op, x: &[Shape], w: &[Dims], limits: &Limits) -> Vec<VariantInfo> {
    by_op!(op, k, list => list
        .iter()
        .map(|v| VariantInfo { name: v.name, supported: !op.after_norm_read() && (v.supports)(k, x, w, limits) })
        .collect())
}

/// The dispatches of one variant.
///
/// # Errors
/// A view does not begin at a multiple of four channels, or the launch exceeds what the device allows.
pub fn launch(op: &Op, variant: usize, io: &Io<'_>) -> Result<Launch> {
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
