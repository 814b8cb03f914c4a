//! What one binding can hold: the bytes of a packed weight, and what is said where no
//! variant's bindings are small enough.

use super::{Limits, Storage, variants};
use crate::error::{Error, Kind, Remedy};
use crate::kernels::{Dims, Op, Packing};
use crate::tensor::Shape;

/// Columns of a packed weight: each half of a gated one has whole quads.
pub(crate) fn columns(dims: Dims, packing: Packing) -> usize {
    if packing.is_gated() { 2 * (dims.n / 2).next_multiple_of(4) } else { dims.n.next_multiple_of(4) }
}

/// Bytes of a packed weight: vectors are f32 always.
pub(crate) fn packed_bytes(dims: Dims, packing: Packing, storage: Storage) -> u64 {
    let n = columns(dims, packing);
    match packing {
        Packing::Vector { .. } => (4 * n) as u64,
        Packing::Panels { .. } => (n * dims.k.next_multiple_of(4) * dims.taps * storage.bytes()) as u64,
    }
}

/// A binding that any tensor fits into.
const ANY: u64 = 1 << 50;

/// The error where an op's variants of some names run on no such device, and would on one with larger bindings; none
/// where that is not the reason.
pub(crate) fn too_large(
    op: &Op,
    x: &[Shape],
    w: &[Dims],
    limits: &Limits,
    usable: impl Fn(&str) -> bool,
) -> Option<Error> {
    let runs = |max_binding: u64| {
        let limits = Limits { max_binding, ..limits.clone() };
        variants(op, x, w, &limits).iter().any(|v| v.supported && usable(v.name))
    };
    let have = limits.max_binding;
    if runs(have) || !runs(ANY) {
        return None;
    }
    // The least that does.
    let (mut low, mut need) = (have, ANY);
    while need - low > 1 {
        let middle = low + (need - low) / 2;
        if runs(middle) { need = middle } else { low = middle }
    }
    let (what, smaller) = culprit(op, x, w, limits);
    let message = format!("{what} needs a binding of {need} bytes, and the device's limit is {have}");
    let error = Error::new(Kind::TooBig { need, have }, message).at(op.name());
    Some(smaller.into_iter().chain([Remedy::Cpu]).fold(error, Error::try_this))
}

/// What is too large, in words, and the first remedy: no smaller picture makes a weight smaller.
fn culprit(op: &Op, x: &[Shape], w: &[Dims], limits: &Limits) -> (String, Option<Remedy>) {
    let packed = |(d, p): (&Dims, Packing)| (packed_bytes(*d, p, limits.weights), *d);
    let weight = w.iter().zip(op.packings()).map(packed).find(|(bytes, _)| *bytes > limits.max_binding);
    if let Some((_, d)) = weight {
        return (format!("its weight ({} by {}, {} taps)", d.n, d.k, d.taps), None);
    }
    let smaller = Some(Remedy::SmallerSize);
    if let (Op::Attention(_), [_, k, ..]) = (op, x) {
        return (format!("the keys and values of a sample ({k})"), smaller);
    }
    let y = op.output(x, w).unwrap_or_default();
    // Sums are cut between lines of a picture, the rest between pixels.
    let unit = if matches!(op, Op::Conv2d(_)) { "the lines around one" } else { "a part" };
    let largest = x.iter().chain(&y).max_by_key(|s| s.len());
    (largest.map_or_else(|| "an operand".to_owned(), |s| format!("{unit} of {s}")), smaller)
}
