//! The way of finished sums to the output: bias, row, activation, gating and residual, applied as they are written.
//!
//! Where the residual is what the output holds, each of its values is read just before it is overwritten, at the same
//! address and by the same task.
#![allow(unsafe_code, reason = "sums are read, and tasks write disjoint parts of one output, through pointers")]

use super::{PANEL, Product, Residual};
use crate::kernels::cpu::activate::activate;
use crate::simd::{Simd, math};

/// A tile that is to be finished.
#[derive(Clone, Copy)]
pub struct Finish {
    /// Its first row of the output.
    pub first_row: usize,
    /// Its rows.
    pub m: usize,
    /// Which panel.
    pub panel: usize,
}

impl Finish {
    /// Asks memory for the lines that [`Finish::store`] will read and write: a tile's rows are far apart, and no
    /// prefetcher foresees them. The tile's products hide the wait.
    #[inline(always)]
    pub fn ask<S: Simd>(self, s: S, p: &Product<'_>, out: *const f32, pitch: usize) {
        let width = if p.w.gated() { PANEL / 2 } else { PANEL };
        let first = self.panel * width;
        for at in self.first_row..self.first_row + self.m {
            let y = out.wrapping_add(at * pitch + first);
            s.prefetch_to_write(y);
            s.prefetch_to_write(y.wrapping_add(width - 1));
            if let Some(Residual::Tensor(x)) = p.residual {
                let row = at % (x.shape.b * p.shape.pixels());
                let x = x.data.as_ptr().wrapping_add(row * x.pitch + first);
                s.prefetch(x);
                s.prefetch(x.wrapping_add(width - 1));
            }
        }
    }

    /// Writes its columns.
    ///
    /// # Safety
    /// `sums` must hold m lines, `out` the whole output, and no other task reads or writes these rows of this panel.
    #[inline(always)]
    pub unsafe fn store<S: Simd>(self, s: S, p: &Product<'_>, sums: *const f32, out: *mut f32, pitch: usize) {
        let width = if p.w.gated() { PANEL / 2 } else { PANEL };
        let first = self.panel * width;
        let columns = width.min(p.shape.c - first);
        for r in 0..self.m {
            let at = self.first_row + r;
            // SAFETY: the caller's: the row and its columns are the output's.
            let to = unsafe { out.add(at * pitch + first) };
            let line = Line::new(p, at, first, columns, to);
            let mut i = 0;
            while i < columns {
                let n = S::LANES.min(columns - i);
                // SAFETY: the caller's; slices were cut to `columns`, the line of sums has 32 values.
                unsafe {
                    let y = line.at(s, sums.add(r * PANEL), i, n);
                    write(s, to.add(i), y, n);
                }
                i += S::LANES;
            }
        }
    }
}

/// What is added to one row of a panel.
pub struct Line<'a, 'b> {
    p: &'a Product<'b>,
    first: usize,
    row: Option<&'a [f32]>,
    /// As many values as `row`, perhaps in the output itself: no slice may be there.
    residual: Option<*const f32>,
}

impl<'a, 'b> Line<'a, 'b> {
    /// What is added to channels `first .. first + columns` of output row `at`, which go to `to`.
    #[inline(always)]
    pub fn new(p: &'a Product<'b>, at: usize, first: usize, columns: usize, to: *const f32) -> Self {
        let pixels = p.shape.pixels();
        let (b, pixel) = (at / pixels, at % pixels);
        let row = p.row.map(|x| &x.data[b % x.shape.b * x.pitch + first..][..columns]);
        let residual = p.residual.map(|residual| match residual {
            Residual::Output => to,
            Residual::Tensor(x) => x.data[(b % x.shape.b * pixels + pixel) * x.pitch + first..][..columns].as_ptr(),
        });
        Self { p, first, row, residual }
    }

    /// Columns `i .. i + n` of the output.
    ///
    /// # Safety
    /// `sums` must hold a line, and the slices `i + n` values; where the residual is the output, so must what was `to`,
    /// and no other task writes there.
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, s: S, sums: *const f32, i: usize, n: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe {
            let mut y = s.load(sums.add(i));
            if self.p.w.gated() {
                if let Some(bias) = self.p.bias {
                    y = s.add(y, read(s, &bias[self.first + i..], n));
                }
                let mut gate = s.load(sums.add(PANEL / 2 + i));
                if let Some(bias) = self.p.bias {
                    gate = s.add(gate, read(s, &bias[self.p.shape.c + self.first + i..], n));
                }
                return s.mul(y, math::gelu(s, gate));
            }
            self.finish(s, y, i, n)
        }
    }

    /// Columns `i .. i + n` of the output, from their sums; not for gated products.
    ///
    /// # Safety
    /// The slices must hold `i + n` values; where the residual is the output, so must what was `to`, and no other task
    /// writes there.
    #[inline(always)]
    pub unsafe fn finish<S: Simd>(&self, s: S, mut y: S::V, i: usize, n: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe {
            if let Some(bias) = self.p.bias {
                y = s.add(y, read(s, &bias[self.first + i..], n));
            }
            if let Some(row) = self.row {
                y = s.add(y, read(s, &row[i..], n));
            }
            y = activate(s, self.p.act, y);
            match self.residual {
                Some(residual) => s.add(y, part(s, residual.add(i), n)),
                None => y,
            }
        }
    }
}

/// The first n values, n <= LANES.
///
/// # Safety
/// `from` must hold n values.
#[inline(always)]
unsafe fn read<S: Simd>(s: S, from: &[f32], n: usize) -> S::V {
    debug_assert!(from.len() >= n);
    // SAFETY: the caller's.
    unsafe { part(s, from.as_ptr(), n) }
}

/// As [`read`], where no slice may be.
///
/// # Safety
/// `from` must be valid for n values.
#[inline(always)]
unsafe fn part<S: Simd>(s: S, from: *const f32, n: usize) -> S::V {
    // SAFETY: the caller's.
    unsafe { if n == S::LANES { s.load(from) } else { s.load_part(from, n) } }
}

/// Stores the first n values, n <= LANES.
///
/// # Safety
/// `to` must be valid for n values.
#[inline(always)]
pub unsafe fn write<S: Simd>(s: S, to: *mut f32, v: S::V, n: usize) {
    // SAFETY: the caller's.
    unsafe { if n == S::LANES { s.store(to, v) } else { s.store_part(to, v, n) } }
}
