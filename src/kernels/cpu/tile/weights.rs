//! Register tiles whose B is a panel of weights: f16 lines that the first tile expands while it multiplies.
//!
//! As a pass of its own, expanding costs a product of 20 rows an eighth of its time; in the first tile's loop it hides
//! behind the products. What is expanded is kept *in passes*: the columns that a tile covers with two vectors lie
//! together, k short lines, so that a pass reads its part from front to back and nothing in between.

use super::{Arithmetic, COLUMNS, F32, Old, Rows, Tile, sizes, store};
use crate::kernels::cpu::panels::Panel;
use crate::simd::{Simd, Task};
use std::marker::PhantomData;

/// A block of a panel, for the tiles that multiply with it.
#[derive(Clone, Copy)]
pub struct Lines {
    /// Lines of 32 columns as they are stored.
    from: Stored,
    /// Expanded lines, in passes.
    to: *mut f32,
    /// Elements from one pass to the next.
    pass: usize,
}

#[derive(Clone, Copy)]
enum Stored {
    F16(*const u16),
    F32(*const f32),
}

impl Lines {
    /// The lines of `panel`, with room for their expansion: as many elements as the panel has.
    pub fn new<S: Simd>(panel: Panel<'_>, room: &mut [f32]) -> Self {
        let (from, len) = match panel {
            Panel::F16(b) => (Stored::F16(b.as_ptr()), b.len()),
            Panel::F32(b) => (Stored::F32(b.as_ptr()), b.len()),
        };
        Self { from, to: room[..len].as_mut_ptr(), pass: len / COLUMNS * 2 * S::LANES }
    }

    /// What follows the first k lines.
    ///
    /// # Safety
    /// There must be k lines.
    #[inline(always)]
    pub unsafe fn after<S: Simd>(self, k: usize) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let from = match self.from {
                Stored::F16(b) => Stored::F16(b.add(k * COLUMNS)),
                Stored::F32(b) => Stored::F32(b.add(k * COLUMNS)),
            };
            Self { from, to: self.to.add(k * 2 * S::LANES), ..self }
        }
    }
}

/// [`Tile`] with weights for B:
/// `c[r][0 .. 32] = old + sum over i < k of rows[r][i] * b[i][0 .. 32]`, in the order of i.
#[derive(Clone, Copy)]
pub struct WeightTile {
    /// Rows, at most `TILE_ROWS`.
    pub m: usize,
    /// Length of the sum.
    pub k: usize,
    /// Row r begins at `table[r]`.
    pub table: *const *const f32,
    /// The weights.
    pub b: Lines,
    /// Whether these lines have been expanded by another tile.
    pub expanded: bool,
    /// m lines of 32 columns.
    pub c: *mut f32,
    /// What happens to c's old value.
    pub old: Old,
}

impl WeightTile {
    /// Computes all 32 columns, two vectors at a time.
    ///
    /// # Safety
    /// Every pointer must be valid for what its field says; no other thread uses c or the room for expanded lines.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(self, s: S) {
        let Self { m, k, table, c, old, .. } = self;
        // SAFETY: the caller's; columns stay below 32.
        unsafe {
            let from = match self.b.from {
                Stored::F32(b) => return Tile { m, k, rows: Rows::Pointers(table), b, c, old }.run(s),
                Stored::F16(from) => from,
            };
            for pass in 0..COLUMNS / (2 * S::LANES) {
                let column = pass * 2 * S::LANES;
                let (from, b) = (from.add(column), self.b.to.add(pass * self.b.pass));
                let old = old.at(column);
                let tile = Pass { m, k, table, from, b, c: c.add(column), old };
                if self.expanded {
                    sizes!(s, tile, Ready, F32: 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
                } else {
                    sizes!(s, tile, Expanding, F32: 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
                }
            }
        }
    }
}

/// Two vectors of columns.
struct Pass {
    m: usize,
    k: usize,
    table: *const *const f32,
    from: *const u16,
    b: *mut f32,
    c: *mut f32,
    old: Old,
}

/// A pass of a tile of M rows whose lines have been expanded.
struct Ready<const M: usize, A>(Pass, PhantomData<A>);

impl<const M: usize, A: Arithmetic> Task for Ready<M, A> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let t = self.0;
        let mut acc = [[s.splat(0.0); 2]; M];
        // SAFETY: `WeightTile::run`'s caller vouches for all pointers; M is the tile's m.
        unsafe {
            let rows: [*const f32; M] = std::array::from_fn(|r| *t.table.add(r));
            for k in 0..t.k {
                let b = t.b.add(k * 2 * S::LANES);
                let (b0, b1) = (s.load(b), s.load(b.add(S::LANES)));
                for (sum, row) in acc.iter_mut().zip(rows) {
                    let a = s.splat(*row.add(k));
                    *sum = [A::step(s, a, b0, sum[0]), A::step(s, a, b1, sum[1])];
                }
            }
            store(s, t.c, t.old, acc);
        }
    }
}

/// A pass of a tile of M rows that expands the lines.
struct Expanding<const M: usize, A>(Pass, PhantomData<A>);

impl<const M: usize, A: Arithmetic> Task for Expanding<M, A> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let t = self.0;
        let mut acc = [[s.splat(0.0); 2]; M];
        // SAFETY: `WeightTile::run`'s caller vouches for all pointers; M is the tile's m.
        unsafe {
            let rows: [*const f32; M] = std::array::from_fn(|r| *t.table.add(r));
            for k in 0..t.k {
                let (from, b) = (t.from.add(k * COLUMNS), t.b.add(k * 2 * S::LANES));
                let (b0, b1) = (s.load_f16(from), s.load_f16(from.add(S::LANES)));
                s.store(b, b0);
                s.store(b.add(S::LANES), b1);
                for (sum, row) in acc.iter_mut().zip(rows) {
                    let a = s.splat(*row.add(k));
                    *sum = [A::step(s, a, b0, sum[0]), A::step(s, a, b1, sum[1])];
                }
            }
            store(s, t.c, t.old, acc);
        }
    }
}
