//! What a plan is made for: a kind of device and what it can do, as plain data.

use super::Weight;
use super::fuse::Rewrite;
use crate::kernels::gpu::{self, Storage};
use crate::simd::Isa;
use std::borrow::Cow;

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
    /// The rewrites that are off.
    pub rewrites_off: Vec<Rewrite>,
    /// Weights, by their first tensor, that hold values beyond f16: their matrices are
    /// f32 also where the others are f16.
    pub beyond_f16: Vec<String>,
}

impl Caps {
    /// A CPU with this instruction set, in f32: what computes in bf16 is chosen by hand only. Norms are applied by what
    /// reads them there.
    pub fn cpu(isa: Isa) -> Self {
        Self { refused: BF16.to_vec(), rewrites_off: vec![Rewrite::NormGiven], ..Self::new(Target::Cpu(isa)) }
    }

    /// A GPU with these limits and nothing refused. A norm keeps a pass of its own there: matrix units have no time to
    /// normalise what every tile reads again.
    pub fn gpu(limits: gpu::Limits) -> Self {
        Self { rewrites_off: vec![Rewrite::NormRead], ..Self::new(Target::Gpu(limits)) }
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

    /// Whether a weight's matrix is f32 also where the others are f16.
    pub fn is_beyond_f16(&self, weight: &Weight) -> bool {
        let first = || weight.expr.names().first().copied();
        !self.beyond_f16.is_empty() && first().is_some_and(|name| self.beyond_f16.iter().any(|n| n == name))
    }

    /// The same for a node with these weights.
    pub fn for_weights(&self, w: &[Weight]) -> Cow<'_, Self> {
        let mut caps = Cow::Borrowed(self);
        if w.iter().any(|w| self.is_beyond_f16(w))
            && let Target::Gpu(limits) = &mut caps.to_mut().target
        {
            limits.weights = Storage::F32;
        }
        caps
    }

    /// The instruction set that the CPU's kernels use; a GPU's plan has none, and what the CPU does for it is scalar.
    pub fn isa(&self) -> Isa {
        match self.target {
            Target::Cpu(isa) => isa,
            Target::Gpu(_) => Isa::Scalar,
        }
    }

    fn new(target: Target) -> Self {
        Self { target, refused: Vec::new(), rewrites_off: Vec::new(), beyond_f16: Vec::new() }
    }
}
