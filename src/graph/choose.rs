//! An op at given shapes and a target go in; the variant that runs it comes out.

use super::target::{Caps, Target};
use crate::error::{Error, Kind, Result};
use crate::kernels::{Dims, Op, cpu, gpu};
use crate::tensor::Shape;

/// Picks the variant that runs a step, and gives its number and name: the last one that supports it and is not refused,
/// of those that are preferred if there is one. The only chooser.
///
/// # Errors
/// `TooBig`: a GPU's bindings are too small for any variant. `Refused`: nothing is left.
pub fn choose(op: &Op, x: &[Shape], w: &[Dims], caps: &Caps) -> Result<(usize, &'static str)> {
    let all: Vec<(&'static str, bool)> = match &caps.target {
        Target::Cpu(_) => cpu::variants(op, x, w).iter().map(|v| (v.name, v.supported)).collect(),
        Target::Gpu(limits) => gpu::variants(op, x, w, limits).iter().map(|v| (v.name, v.supported)).collect(),
    };
    let usable = |name: &str| !caps.refused.iter().any(|(o, variant)| *o == op.name() && *variant == name);
    let preferred = |name: &str| caps.preferred.iter().any(|(o, variant)| *o == op.name() && *variant == name);
    let best = all.iter().rposition(|(name, supported)| *supported && usable(name) && preferred(name));
    let chosen = best.or_else(|| all.iter().rposition(|(name, supported)| *supported && usable(name)));
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
