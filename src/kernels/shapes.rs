//! What contracts share: from operand and weight shapes to joint shapes, or a sentence that names what does not fit.

use super::{Activation, Dims, Operand64};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// The batch of an output: the largest of its operands', which the others must divide.
pub(crate) fn joint_batch(op: &str, x: &[Shape]) -> Result<usize> {
    let b = x.iter().map(|s| s.b).max().unwrap_or(1);
    match x.iter().find(|s| s.b == 0 || b % s.b != 0) {
        Some(s) => Err(Error::other(format!("{op}: batches do not divide each other: {s} among {x:?}"))),
        None => Ok(b),
    }
}

/// The bound on rounding for a sum of `terms` products: 4 * 2^-24 * sqrt(terms), of the result's rms.
///
/// Short sums count as 16 terms: an output can be several times the rms and is itself rounded to 2^-24 of its size.
pub(crate) fn rounding(terms: usize) -> f64 {
    4.0 * f64::from(f32::EPSILON) / 2.0 * (terms.max(16) as f64).sqrt()
}

/// Bytes of f32 operands of these shapes.
pub(crate) fn f32_bytes(shapes: &[Shape]) -> u64 {
    shapes.iter().map(|s| 4 * s.len() as u64).sum()
}

/// What follows the sources of a product with `k` inputs: with `norm` the affine map of a GroupNorm, `[b', 1, 3, k]`,
/// then the operands that are returned.
pub(crate) fn check_affine(rest: &[Shape], norm: bool, k: usize) -> Result<&[Shape]> {
    match rest {
        _ if !norm => Ok(rest),
        [affine, rest @ ..] if (affine.h, affine.w, affine.c) == (1, 3, k) => Ok(rest),
        _ => Err(Error::other(format!("the norm must be [b, 1, 3, {k}], got {rest:?}"))),
    }
}

/// Operands that a product adds: `row` is `[b', 1, 1, n]`, `residual` `[b', h, w, n]`.
pub(crate) fn check_extras(rest: &[Shape], row: bool, residual: bool, out: Shape) -> Result<()> {
    if rest.len() != usize::from(row) + usize::from(residual) {
        let want = match (row, residual) {
            (false, false) => "nothing",
            (true, false) => "a row",
            (false, true) => "a residual",
            (true, true) => "a row and a residual",
        };
        return Err(Error::other(format!("takes {want} after its sources, got {rest:?}")));
    }
    if row && (rest[0].h, rest[0].w, rest[0].c) != (1, 1, out.c) {
        return Err(Error::other(format!("the row must be [b, 1, 1, {}], got {}", out.c, rest[0])));
    }
    match rest.last() {
        Some(r) if residual && r.with_b(out.b) != out => {
            Err(Error::other(format!("the residual must be shaped like the output {out}, got {r}")))
        }
        _ => Ok(()),
    }
}

/// Sources whose channels follow each other: equal pixels; gives the joint shape.
pub(crate) fn join_sources(op: &str, x: &[Shape], two: bool) -> Result<Shape> {
    let count = 1 + usize::from(two);
    if x.len() < count {
        return Err(Error::other(format!("takes {count} sources, got {x:?}")));
    }
    let b = joint_batch(op, x)?;
    if two && (x[0].h, x[0].w) != (x[1].h, x[1].w) {
        return Err(Error::other(format!("sources differ in size: {} and {}", x[0], x[1])));
    }
    if x[..count].iter().any(Shape::is_empty) {
        return Err(Error::other(format!("a source is empty: {x:?}")));
    }
    Ok(Shape { b, c: x[..count].iter().map(|s| s.c).sum(), ..x[0] })
}

/// The one weight and its bias, if there is one, of a product with k inputs; gives the outputs.
pub(crate) fn check_weights(w: &[Dims], bias: bool, k: usize, taps: usize) -> Result<usize> {
    let Some(first) = w.first() else {
        return Err(Error::other("the weight is missing"));
    };
    if first.is_empty() || (first.k, first.taps) != (k, taps) {
        return Err(Error::other(format!("the weight must be [n, {k}] with {taps} taps, got {first:?}")));
    }
    if w.len() != 1 + usize::from(bias) || bias && w[1] != Dims::vector(first.n) {
        let want = if bias { "a bias" } else { "no bias" };
        return Err(Error::other(format!("takes {want} of {} elements beside the weight, got {w:?}", first.n)));
    }
    Ok(first.n)
}

/// In a reference: input `x` of channel `k`, normalised with `affine` (one operand) if there is a norm.
pub(crate) fn read_normed(norm: Option<Activation>, affine: &[Operand64<'_>], x: f64, b: usize, k: usize) -> f64 {
    norm.map_or(x, |act| {
        let [mean, scale, shift] = [0, 1, 2].map(|i| affine[0].at(b, 0, i, k));
        act.reference((x - mean) * scale + shift)
    })
}

/// Flat index to `[b, y, x, c]`.
pub(crate) fn unflatten(s: Shape, i: usize) -> [usize; 4] {
    [i / (s.c * s.w * s.h), i / (s.c * s.w) % s.h, i / s.c % s.w, i % s.c]
}
