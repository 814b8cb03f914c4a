//! What a plan is made for: a kind of device and what it can do, as plain data.

use super::Weight;
use super::fuse::Rewrite;
use crate::error::{Error, Result, escape};
use crate::kernels::gpu::{self, Storage};
use crate::kernels::{cpu, ops_by_name};
use crate::simd::Isa;
use std::borrow::Cow;
use std::fmt;

/// The CPU's variants in bf16.
const BF16: [(&str, &str); 2] = [("matmul", "bf16"), ("attention", "flash_bf16")];

/// A variant of an op by name, on whichever device has it: `matmul/naive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VariantName {
    /// The op.
    pub op: &'static str,
    /// Its variant.
    pub variant: &'static str,
}

impl VariantName {
    /// Reads `op/variant`.
    ///
    /// # Errors
    /// Usage: there is none, with those that are.
    pub fn parse(text: &str) -> Result<Self> {
        let (op, variant) = text.split_once('/').unwrap_or((text, ""));
        let of = |names: Vec<(&'static str, &'static str)>| {
            let own = names.into_iter().filter(|(o, _)| *o == op).map(|(_, v)| v);
            own.collect::<Vec<_>>()
        };
        let Some(op) = ops_by_name().into_iter().find(|name| *name == op) else {
            let message = format!("{}: there is no such op; ops: {}", escape(op), ops_by_name().join(", "));
            return Err(Error::usage(message));
        };
        let (cpu, gpu) = (of(cpu::names()), of(gpu::names()));
        let found = cpu.iter().chain(&gpu).find(|v| **v == variant);
        found.map(|variant| Self { op, variant }).ok_or_else(|| {
            let has = |names: &[&str], on| format!("{on}: {}", names.join(", "));
            let (cpu, gpu) = (has(&cpu, "on a CPU"), has(&gpu, "on a GPU"));
            Error::usage(format!("{}: {op} has no such variant; {cpu}; {gpu}", escape(text)))
        })
    }
}

impl fmt::Display for VariantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.op, self.variant)
    }
}

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
    /// What is chosen before faster ones, wherever it runs the shapes and is not refused.
    pub preferred: Vec<(&'static str, &'static str)>,
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

    /// The same without some variants, and with others before faster ones. A preference takes back what is refused by
    /// default, not what a device refuses later, when a check fails.
    #[must_use]
    pub fn with_variants(mut self, refuse: &[VariantName], prefer: &[VariantName]) -> Self {
        let pair = |name: &VariantName| (name.op, name.variant);
        self.refused.retain(|r| !prefer.iter().any(|name| pair(name) == *r));
        self.refused.extend(refuse.iter().map(pair));
        self.preferred.extend(prefer.iter().map(pair));
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
        Self { target, refused: Vec::new(), preferred: Vec::new(), rewrites_off: Vec::new(), beyond_f16: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::choose::choose;
    use crate::kernels::matmul::Matmul;
    use crate::kernels::{Dims, Op};
    use crate::tensor::Shape;

    #[test]
    fn a_variant_is_told_by_its_op_and_name() {
        let name = VariantName::parse("conv2d/winograd").unwrap();
        assert_eq!((name.op, name.variant, name.to_string().as_str()), ("conv2d", "winograd", "conv2d/winograd"));
        assert_eq!(VariantName::parse("attention/coop").unwrap().variant, "coop");
        for (text, part) in [
            ("matmul/winograd", "on a CPU: naive, panels, bf16; on a GPU: naive, tiled, split_k, coop"),
            ("matmul", "has no such variant"),
            ("conv4d/naive", "ops: matmul, conv2d,"),
        ] {
            let error = VariantName::parse(text).unwrap_err();
            assert!(*error.kind() == crate::Kind::Usage && error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn what_is_refused_is_not_chosen_and_what_is_preferred_is() {
        let (op, x, w) = (Op::from(Matmul::default()), [Shape::tokens(1, 8, 64)], [Dims::matrix(32, 64)]);
        let chosen = |refuse: &[&str], prefer: &[&str]| {
            let names = |texts: &[&str]| texts.iter().map(|t| VariantName::parse(t).unwrap()).collect::<Vec<_>>();
            let caps = Caps::cpu(Isa::Scalar).with_variants(&names(refuse), &names(prefer));
            choose(&op, &x, &w, &caps).map(|(_, name)| name)
        };
        assert_eq!(chosen(&[], &[]).unwrap(), "panels");
        assert_eq!(chosen(&["matmul/panels"], &[]).unwrap(), "naive");
        assert_eq!(chosen(&[], &["matmul/naive"]).unwrap(), "naive");
        assert_eq!(chosen(&[], &["matmul/bf16"]).unwrap(), "bf16");
        // Refused and preferred is refused; what another device has changes nothing here.
        assert_eq!(chosen(&["matmul/naive"], &["matmul/naive"]).unwrap(), "panels");
        assert_eq!(chosen(&[], &["matmul/tiled"]).unwrap(), "panels");
        let none = chosen(&["matmul/panels", "matmul/naive"], &[]).unwrap_err();
        assert_eq!(*none.kind(), crate::Kind::Refused);
        // A check that fails on the device has the last word.
        let mut caps = Caps::cpu(Isa::Scalar).with_variants(&[], &[VariantName::parse("matmul/naive").unwrap()]);
        caps.refused.push(("matmul", "naive"));
        assert_eq!(choose(&op, &x, &w, &caps).unwrap().1, "panels");
    }
}
