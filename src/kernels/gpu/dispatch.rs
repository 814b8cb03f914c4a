//! What a kernel's launch is made of, as plain data: shaders with their constants, parameter records, bindings, grids.

use super::{Coop, Limits, Storage};
use crate::kernels::Activation;

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
            Activation::Relu => 4,
            Activation::Tanh3 => 5,
            Activation::ToUnit => 6,
            Activation::FromUnit => 7,
            Activation::LeakyRelu => 8,
            Activation::Fifth => 9,
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

/// A shader's parameter record: plain u32 and f32 fields, the first of which is `first`, the number of the first
/// workgroup along x of the piece that is dispatched.
pub trait ShaderParameters: bytemuck::Pod {
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

        impl $crate::kernels::gpu::ShaderParameters for $name {
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
    pub fn new<P: ShaderParameters>(params: &P) -> Self {
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
    /// First byte, a multiple of [`ALIGN`](super::ALIGN).
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
    /// Workgroups. Along x it may be cut into pieces anywhere (`params.first` says where a piece begins), so x may
    /// exceed `Limits::max_groups`; y and z may not.
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
