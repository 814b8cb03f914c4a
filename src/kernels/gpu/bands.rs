//! Bands: where an operand or an output is larger than one binding may be, a step becomes several dispatches, each on a
//! range of output rows that sees windows of its operands.

use super::{Bind, Limits, Storage, View, What, window};
use crate::tensor::Shape;
use std::ops::Range;

/// What a dispatch sees of an operand or of the output.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// The binding.
    pub bind: Bind,
    /// Quad of the binding at which the first row's first channel lies.
    pub start: u32,
    /// Rows that are seen.
    pub rows: u32,
}

impl Slice {
    /// Rows of a stored value.
    pub fn new(what: What, view: &View, rows: Range<usize>, storage: Storage) -> Self {
        let (bind, start) = window(what, view, rows.clone(), storage);
        Self { bind, start: (start / 4) as u32, rows: rows.len() as u32 }
    }
}

/// A range of output rows and what a dispatch for it binds. A row of the band finds its row of an operand at
/// `row modulo slice.rows`.
pub(crate) struct Band {
    /// Rows of the output.
    pub rows: Range<usize>,
    /// Operands, in the op's order.
    pub x: Vec<Slice>,
    /// The output.
    pub y: Slice,
}

/// Whether a stored value fits into one binding as a whole.
pub(crate) fn whole_fits(view: &View, limits: &Limits) -> bool {
    (view.shape.rows() * view.pitch * limits.storage.bytes()) as u64 <= limits.max_binding
}

/// Rows of this pitch that surely fit into one binding, wherever they begin.
pub(crate) fn rows_that_fit(pitch: usize, limits: &Limits) -> usize {
    (limits.max_binding.saturating_sub(super::ALIGN) / (pitch * limits.storage.bytes()) as u64) as usize
}

/// Whether one row of each of these tensors surely fits into a binding: what ops that work row by row need.
pub(crate) fn a_row_fits(shapes: &[Shape], limits: &Limits) -> bool {
    shapes.iter().all(|s| {
        let view = View::whole(*s);
        whole_fits(&view, limits) || rows_that_fit(view.pitch, limits) > 0
    })
}

/// `0 .. total` in ranges of at most `most`, none of which crosses a multiple of `period`.
pub(crate) fn cut(total: usize, period: usize, most: usize) -> Vec<Range<usize>> {
    let (most, mut at, mut out) = (most.max(1), 0, Vec::new());
    while at < total {
        let end = (at + most).min(total).min(at / period * period + period);
        out.push(at..end);
        at = end;
    }
    out
}

/// Bands for an op whose output row r needs row r, modulo their number, of each operand.
pub(crate) fn row_bands(x: &[View], y: &View, limits: &Limits) -> Vec<Band> {
    let total = y.shape.rows();
    if x.iter().chain([y]).all(|v| whole_fits(v, limits)) {
        return vec![band(x, y, 0..total, limits.storage)];
    }
    let pitch = x.iter().chain([y]).map(|v| v.pitch).max().unwrap_or(4);
    // Operands of another batch repeat after some samples.
    let period = if x.iter().all(|v| v.shape.b == y.shape.b) { total } else { y.shape.pixels() };
    let ranges = cut(total, period, rows_that_fit(pitch, limits));
    ranges.into_iter().map(|rows| band(x, y, rows, limits.storage)).collect()
}

fn band(x: &[View], y: &View, rows: Range<usize>, storage: Storage) -> Band {
    let operand = |(i, v): (usize, &View)| {
        let all = v.shape.rows();
        let start = if rows.len() >= all { 0 } else { rows.start % all };
        Slice::new(What::X(i), v, start..start + rows.len().min(all), storage)
    };
    Band { x: x.iter().enumerate().map(operand).collect(), y: Slice::new(What::Y, y, rows.clone(), storage), rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_all_and_cross_no_period() {
        assert_eq!(cut(10, 10, 4), [0..4, 4..8, 8..10]);
        assert_eq!(cut(10, 5, 4), [0..4, 4..5, 5..9, 9..10]);
        assert_eq!(cut(4, 2, 100), [0..2, 2..4]);
    }

    #[test]
    fn a_band_sees_the_rows_that_it_needs() {
        let limits = Limits { max_binding: 1024, ..Limits::webgpu(Storage::F32) };
        let (a, b) = (View::whole(Shape::new(1, 5, 3, 7)), View::whole(Shape::new(4, 5, 3, 7)));
        let bands = row_bands(&[b, a], &b, &limits);
        let mut next = 0;
        for band in &bands {
            assert_eq!(band.rows.start, next);
            next = band.rows.end;
            for (slice, all) in band.x.iter().chain([&band.y]).zip([60, 15, 60]) {
                let bytes = slice.bind.bytes.unwrap();
                assert!(bytes <= limits.max_binding && slice.bind.start.is_multiple_of(super::super::ALIGN));
                let first = (slice.bind.start + 16 * u64::from(slice.start)) / 32;
                assert_eq!(first as usize, band.rows.start % all);
                assert!((u64::from(slice.start) * 16 + u64::from(slice.rows) * 32) <= bytes);
            }
        }
        assert_eq!(next, 60);
        assert_eq!(row_bands(&[b, a], &b, &Limits::webgpu(Storage::F32)).len(), 1);
    }
}
