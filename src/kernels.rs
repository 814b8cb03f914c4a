//! What the engine can compute: the list of ops, each with its contract; no model and no device is named here.
//!
//! One op is one file of contract (`kernels/NAME.rs`: shapes, cost, f64 reference, cases) and one file of code per kind of
//! device (`kernels/cpu/NAME.rs`). The `ops!` list below is the only registry: a new op is added there, and the compiler
//! lists what is missing.

pub mod activate;
pub mod add;
pub mod attention;
pub mod concat;
pub mod conv2d;
pub mod cpu;
pub mod geglu;
pub mod gpu;
pub mod group_affine;
pub mod group_norm;
pub mod layer_norm;
pub mod matmul;
mod shapes;
#[cfg(feature = "gpu")]
mod shrink;
pub mod statistics;
pub mod timestep_embedding;
pub mod upsample;

pub(crate) use shapes::unflatten;
use shapes::{check_affine, check_extras, check_weights, f32_bytes, join_sources, joint_batch, rounding};
#[cfg(feature = "gpu")]
pub(crate) use shrink::shrink;

use crate::error::{Error, Kind, Result};
use crate::simd::Isa;
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

/// How a backend lays a weight out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// A matrix or filter, in the backend's own panels, f16 or f32.
    Panels,
    /// A vector of f32.
    Vector,
}

/// What an op costs at given shapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations, a multiply-add counted as two.
    pub flops: u64,
    /// Least bytes that must move: every operand read once, every output written once (f32; weights f16).
    pub bytes: u64,
}

/// The nonlinearities that ops can end in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`.
    #[default]
    None,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * Phi(x)`, with the exact error function.
    Gelu,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
}

impl Activation {
    /// The f64 definition.
    pub fn reference(self, x: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Gelu => 0.5 * x * crate::check::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
            Self::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        }
    }
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
    /// For an operand its shape; for a weight `[n, taps, 1, k]`'s torch order is in `dims`.
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
    /// A shape of SD 1.x: checked on samples, then timed.
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
    ($($module:ident :: $name:ident),* $(,)?) => {
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

        /// Every case of every op, op by op.
        pub fn cases() -> Vec<Case> {
            let mut all = Vec::new();
            $(all.extend(<$module::$name as Kernel>::cases());)*
            all
        }
    };
}

ops! {
    matmul::Matmul,
    conv2d::Conv2d,
    group_norm::GroupNorm,
    group_affine::GroupAffine,
    layer_norm::LayerNorm,
    attention::Attention,
    geglu::Geglu,
    activate::Activate,
    add::Add,
    concat::Concat,
    upsample::Upsample,
    timestep_embedding::TimestepEmbedding,
}

impl Op {
    /// Whether it exists only after the rewrite `norm_read`: norms applied while reading, statistics of rows beside an output.
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
}

/// The CPU's variants in bf16.
const BF16: [(&str, &str); 2] = [("matmul", "bf16"), ("attention", "flash_bf16")];

/// The kind of device that a plan is made for.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The CPU, with the instruction set that kernels use.
    Cpu(Isa),
    /// A GPU.
    Gpu(gpu::Limits),
}

/// What a target can do, as plain data: all that planning depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Caps {
    /// The device.
    pub target: Target,
    /// `(op, variant)` pairs that failed the self-test or that the user excluded.
    pub refused: Vec<(&'static str, &'static str)>,
    /// Names of the rewrites of `graph::fuse` that are off.
    pub rewrites_off: Vec<&'static str>,
}

impl Caps {
    /// A CPU with this instruction set, in f32: what computes in bf16 is chosen by hand only. Norms are applied by what reads
    /// them there.
    pub fn cpu(isa: Isa) -> Self {
        Self { refused: BF16.to_vec(), rewrites_off: vec!["norm_given"], ..Self::new(Target::Cpu(isa)) }
    }

    /// A GPU with these limits and nothing refused. A norm keeps a pass of its own there: matrix units have no time to
    /// normalise what every tile reads again.
    pub fn gpu(limits: gpu::Limits) -> Self {
        Self { rewrites_off: vec!["norm_read"], ..Self::new(Target::Gpu(limits)) }
    }

    /// Whether anything is computed in bf16.
    pub fn is_bf16(&self) -> bool {
        matches!(self.target, Target::Cpu(_)) && BF16.iter().any(|pair| !self.refused.contains(pair))
    }

    /// The same with products and attention in bf16 (sums, fast convolutions and everything else stay f32).
    #[must_use]
    pub fn with_bf16(mut self) -> Self {
        self.refused.retain(|pair| !BF16.contains(pair));
        self
    }

    /// The instruction set that the CPU's kernels use; a GPU's plan has none, and what the CPU does for it is scalar.
    pub fn isa(&self) -> Isa {
        match self.target {
            Target::Cpu(isa) => isa,
            Target::Gpu(_) => Isa::Scalar,
        }
    }

    fn new(target: Target) -> Self {
        Self { target, refused: Vec::new(), rewrites_off: Vec::new() }
    }
}

/// Picks the variant that runs a step, and gives its number and name: the last one that supports it and is not refused.
/// The only chooser.
///
/// # Errors
/// `TooBig`: a GPU's bindings are too small for any variant. `Refused`: nothing is left.
pub fn choose(op: &Op, x: &[Shape], w: &[Dims], caps: &Caps) -> Result<(usize, &'static str)> {
    let all: Vec<(&'static str, bool)> = match &caps.target {
        Target::Cpu(_) => cpu::variants(op, x, w).iter().map(|v| (v.name, v.supported)).collect(),
        Target::Gpu(limits) => gpu::variants(op, x, w, limits).iter().map(|v| (v.name, v.supported)).collect(),
    };
    let usable = |name: &str| !caps.refused.iter().any(|(o, variant)| *o == op.name() && *variant == name);
    let chosen = all.iter().rposition(|(name, supported)| *supported && usable(name));
    chosen.map(|i| (i, all[i].0)).ok_or_else(|| {
        let too_large = match &caps.target {
            Target::Gpu(limits) => gpu::too_large(op, x, w, limits, usable),
            Target::Cpu(_) => None,
        };
        too_large.unwrap_or_else(|| {
            let message = format!("{}: no variant is left that supports {x:?}", op.name());
            Error::new(Kind::Refused, message)
        })
    })
}
