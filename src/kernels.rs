//! What the engine can compute: the list of ops, each with its contract; no model is named here.
//!
//! One op is one file of contract (`kernels/NAME.rs`: shapes, cost, f64 reference, cases) and one file of code per kind
//! of device (`kernels/cpu/NAME.rs`, `kernels/gpu/NAME.rs`). `list.rs` is the only registry: a new op is one line
//! there, and the compiler lists what is missing.

#[macro_use]
mod list;

pub mod activate;
mod activation;
pub mod add;
pub mod attention;
pub mod concat;
pub mod conv2d;
pub mod cpu;
mod erfc;
pub mod geglu;
pub mod gpu;
pub mod group_affine;
pub mod group_norm;
pub mod layer_norm;
pub mod matmul;
pub mod pixel_shuffle;
pub mod prelu;
mod shapes;
#[cfg(feature = "gpu")]
mod shrink;
pub mod statistics;
pub mod timestep_embedding;
pub mod upsample;

pub use activation::Activation;
pub use erfc::erfc;
pub(crate) use shapes::unflatten;
use shapes::{check_affine, check_extras, check_weights, f32_bytes, join_sources, joint_batch, rounding};
#[cfg(feature = "gpu")]
pub(crate) use shrink::shrink;

use crate::error::Result;
use crate::tensor::Shape;
use statistics::Tiles;

/// A weight's dimensions in torch's order, `[out, in, height, width]`; a vector is `[c, 1, 1, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dims {
    /// Output channels, or the length of a vector.
    pub n: usize,
    /// Input channels.
    pub k: usize,
    /// Filter taps: 1, or 9 for a 3x3 filter (row-major).
    pub taps: usize,
}

impl Dims {
    /// A matrix `[n, k]`.
    pub const fn matrix(n: usize, k: usize) -> Self {
        Self { n, k, taps: 1 }
    }

    /// A 3x3 filter `[n, k, 3, 3]`.
    pub const fn filter3(n: usize, k: usize) -> Self {
        Self { n, k, taps: 9 }
    }

    /// A vector `[n]`.
    pub const fn vector(n: usize) -> Self {
        Self { n, k: 1, taps: 1 }
    }

    /// Elements.
    pub const fn len(&self) -> usize {
        self.n * self.k * self.taps
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a backend lays a weight out. The first half of the rows of a gated one are values, the second their gates: a
/// backend may lay both out side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// A matrix or filter, in the backend's own panels, f16 or f32.
    Panels {
        /// Values and gates.
        gated: bool,
    },
    /// A vector of f32.
    Vector {
        /// Values and gates.
        gated: bool,
    },
}

impl Packing {
    /// A matrix or filter of one half.
    pub const PANELS: Self = Self::Panels { gated: false };
    /// A vector of one half.
    pub const VECTOR: Self = Self::Vector { gated: false };

    /// Whether it is a vector.
    pub const fn is_vector(self) -> bool {
        matches!(self, Self::Vector { .. })
    }

    /// Whether it has values and gates.
    pub const fn is_gated(self) -> bool {
        let (Self::Panels { gated } | Self::Vector { gated }) = self;
        gated
    }
}

/// What an op costs at given shapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations, a multiply-add counted as two.
    pub flops: u64,
    /// Least bytes that must move: every operand read once, every output written once (f32; weights f16).
    pub bytes: u64,
}

/// The contract of an op. `x` are the operands, `w` the weights, in the order that the op's documentation gives.
///
/// An operand of batch b serves an output of batch B (a multiple) as sample modulo b.
pub trait Kernel: Copy {
    /// The file stem of all its files, the first part of its cases' names.
    const NAME: &'static str;

    /// Shapes of the outputs, or a sentence that names the shapes that do not fit.
    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>>;

    /// How each weight is laid out.
    fn packings(&self) -> Vec<Packing>;

    /// Work and traffic. Shapes have passed `output`.
    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost;

    /// Bound on max|y - reference| / rms(reference) for f32 arithmetic, at these shapes.
    fn tolerance(&self, x: &[Shape], w: &[Dims]) -> f64;

    /// Elements `at` (flat, dense `[b, h, w, c]`) of the first output, in f64 with plain loops.
    fn reference(&self, x: &[Operand64<'_>], w: &[Operand64<'_>], at: &[usize]) -> Vec<f64>;

    /// What it is tested and measured on.
    fn cases() -> Vec<Case>;
}

/// A dense operand or weight of a reference computation.
#[derive(Clone, Copy)]
pub struct Operand64<'a> {
    /// An operand's shape; a weight's is `[n, taps, 1, k]`, and counts for nothing: see `dims`.
    pub shape: Shape,
    /// A weight's dimensions.
    pub dims: Dims,
    /// Elements: an operand's in `[b, h, w, c]` order, a weight's in torch's `[n, k, taps]` order.
    pub data: &'a [f64],
}

impl Operand64<'_> {
    /// Operand element, the sample taken modulo the batch.
    pub fn at(&self, b: usize, y: usize, x: usize, c: usize) -> f64 {
        let s = self.shape;
        self.data[(((b % s.b) * s.h + y) * s.w + x) * s.c + c]
    }

    /// Weight element `[n, k, tap]`.
    pub fn weight(&self, n: usize, k: usize, tap: usize) -> f64 {
        self.data[(n * self.dims.k + k) * self.dims.taps + tap]
    }
}

/// What a case is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Small and awkward: a test, and the self-test of a device.
    Test,
    /// A shape of a real model: checked on samples, then timed.
    Bench,
}

/// How a case's operands are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Standard normal.
    Normal,
    /// Normal with a few values 20 times larger.
    Outliers,
    /// All equal: variance 0.
    Constant,
    /// A function of the index: index mistakes become visible.
    Ramp,
    /// Normal around 100: catches `E[x^2] - E[x]^2`.
    LargeMean,
    /// Absolute values of normal ones.
    Positive,
    /// Zeros, every third value [`attention::HIDDEN`].
    Hiding,
}

/// One set of shapes, written once and used as a test, a benchmark, a self-test and a line of the support table.
#[derive(Clone, Debug)]
pub struct Case {
    /// Without the op's name: `b2_64x64_320_320`.
    pub name: String,
    /// The op with its switches.
    pub op: Op,
    /// Operand shapes.
    pub x: Vec<Shape>,
    /// Weight dimensions.
    pub w: Vec<Dims>,
    /// How operands are filled; weights are always normal, scaled by 1/sqrt(inputs).
    pub data: Data,
    /// What it is for.
    pub role: Role,
}

macro_rules! ops {
    ([] $($module:ident :: $name:ident),*) => {
        /// Every op. Each backend has one exhaustive `match` over it.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Op { $(
            #[doc = concat!("See [`", stringify!($module), "`](mod@", stringify!($module), ").")]
            $name($module::$name),
        )* }

        $(impl From<$module::$name> for Op {
            fn from(op: $module::$name) -> Self { Self::$name(op) }
        })*

        impl Op {
            /// The kernel's name, `conv2d`.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => <$module::$name as Kernel>::NAME,)* }
            }

            /// See [`Kernel::output`].
            pub fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
                match self { $(Self::$name(op) => op.output(x, w).map_err(|e| e.at(self.name())),)* }
            }

            /// See [`Kernel::packings`].
            pub fn packings(&self) -> Vec<Packing> {
                match self { $(Self::$name(op) => op.packings(),)* }
            }

            /// See [`Kernel::cost`].
            pub fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
                match self { $(Self::$name(op) => op.cost(x, w),)* }
            }

            /// See [`Kernel::tolerance`].
            pub fn tolerance(&self, x: &[Shape], w: &[Dims]) -> f64 {
                match self { $(Self::$name(op) => op.tolerance(x, w),)* }
            }

            /// See [`Kernel::reference`].
            pub fn reference(&self, x: &[Operand64<'_>], w: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
                match self { $(Self::$name(op) => op.reference(x, w, at),)* }
            }
        }

        /// The names of all ops.
        pub fn ops_by_name() -> Vec<&'static str> {
            vec![$(<$module::$name as Kernel>::NAME),*]
        }

        /// Every case of every op, op by op.
        pub fn cases() -> Vec<Case> {
            let mut all = Vec::new();
            $(all.extend(<$module::$name as Kernel>::cases());)*
            all
        }
    };
}

every_op!(ops![]);

impl Op {
    /// Whether it exists only after the rewrite `norm_read`: norms applied while reading,
    /// statistics of rows beside an output.
    pub fn after_norm_read(&self) -> bool {
        match self {
            Self::GroupAffine(_) => true,
            Self::Matmul(op) => op.norm.is_some() || op.statistics == Some(Tiles::Rows),
            Self::Conv2d(op) => op.norm.is_some() || op.statistics == Some(Tiles::Rows),
            _ => false,
        }
    }

    /// Whether operand `i` holds statistics, which are f32 whatever activations are stored as.
    pub fn takes_statistics(&self, i: usize) -> bool {
        match self {
            Self::GroupAffine(_) => true,
            Self::GroupNorm(op) => i >= op.sources(),
            _ => false,
        }
    }

    /// How operand `i` of a case is filled: statistics hold sums of squares, a mask hides keys unless it is a bias.
    pub fn fill(&self, i: usize, data: Data) -> Data {
        match self {
            _ if self.takes_statistics(i) => Data::Positive,
            Self::Attention(_) if i == 3 && data != Data::Normal => Data::Hiding,
            _ => data,
        }
    }
}
