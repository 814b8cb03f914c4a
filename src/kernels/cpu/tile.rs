//! The register tile that products and attention are made of, and small helpers for code that writes one output from
//! many tasks.
#![allow(unsafe_code, reason = "operands are raw rows: one bounds check per element would cost more than the product")]

pub mod weights;

use crate::simd::{Simd, Task};
use std::marker::PhantomData;

/// Columns of a tile's B operand and of its result in memory, in f32.
pub const COLUMNS: usize = super::panels::PANEL;

/// One output that several tasks write, each its own part.
#[derive(Clone, Copy)]
pub struct Shared<T>(*mut T);

// SAFETY: users of `get` promise disjoint parts.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Wraps the whole output.
    pub fn new(all: &mut [T]) -> Self {
        Self(all.as_mut_ptr())
    }

    /// Its start. Tasks may write through it only what no other task reads or writes.
    pub fn get(&self) -> *mut T {
        self.0
    }
}

/// Splits `0 .. n` into the fewest parts of at most `most`, as even as possible; gives the bounds of part i.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    n: usize,
    /// How many parts.
    pub parts: usize,
}

impl Split {
    /// Parts of at most `most`.
    pub fn at_most(n: usize, most: usize) -> Self {
        Self { n, parts: n.div_ceil(most) }
    }

    /// Start and length of a part. The longer ones come first.
    #[inline(always)]
    pub fn part(&self, i: usize) -> (usize, usize) {
        let (size, longer) = (self.n / self.parts, self.n % self.parts);
        (i * size + i.min(longer), size + usize::from(i < longer))
    }
}

/// Where a tile's rows come from.
#[derive(Clone, Copy)]
pub enum Rows {
    /// Row r begins at `table[r]`: inputs of a convolution, keys.
    Pointers(*const *const f32),
    /// As `Pointers`, for rows that come from the last-level cache in an order that no prefetcher follows: `ahead` is
    /// where k cache lines begin that will be read soon; it need not be valid. At most 12 rows.
    Streamed {
        /// As in `Pointers`.
        table: *const *const f32,
        /// What is asked for.
        ahead: *const f32,
    },
    /// Row r is `start + r`, one element from each of k vectors `pitch` apart: a transposed operand.
    Transposed {
        /// First element.
        start: *const f32,
        /// Elements from one k to the next.
        pitch: usize,
    },
}

/// What happens to the result's old value.
#[derive(Clone, Copy)]
pub enum Old {
    /// It is overwritten.
    Ignore,
    /// It is added.
    Add,
    /// It is scaled column by column by these 32 values, then added.
    Scale(*const f32),
}

impl Old {
    /// The same for the columns from `column` on.
    ///
    /// # Safety
    /// There must be such a column.
    #[inline(always)]
    unsafe fn at(self, column: usize) -> Self {
        match self {
            // SAFETY: the caller's.
            Self::Scale(by) => Self::Scale(unsafe { by.add(column) }),
            other => other,
        }
    }
}

/// `c[r][0 .. 32] = old + sum over i < k of rows[r][i] * b[i][0 .. 32]`, summed in the order of i for every element.
#[derive(Clone, Copy)]
pub struct Tile {
    /// Rows, at most `TILE_ROWS`.
    pub m: usize,
    /// Length of the sum.
    pub k: usize,
    /// The left operand.
    pub rows: Rows,
    /// k lines of 32 columns.
    pub b: *const f32,
    /// m lines of 32 columns.
    pub c: *mut f32,
    /// What happens to c's old value.
    pub old: Old,
}

/// Calls the task that is compiled for the tile's number of rows.
macro_rules! sizes {
    ($s:ident, $tile:expr, $task:ident, $arithmetic:ident: $($m:literal)*) => {
        match $tile.m {
            // The comparison is constant, so that sizes which a set lacks cost no code.
            $($m if $m <= S::TILE_ROWS => $s.call($task::<$m, $arithmetic>($tile, PhantomData)),)*
            _ => debug_assert!(false, "a tile of {} rows", $tile.m),
        }
    };
}

use sizes;

/// How a tile multiplies and adds.
pub trait Arithmetic {
    /// `acc + a * b`.
    fn step<S: Simd>(s: S, a: S::V, b: S::V, acc: S::V) -> S::V;
}

/// Values of f32.
pub struct F32;

impl Arithmetic for F32 {
    #[inline(always)]
    fn step<S: Simd>(s: S, a: S::V, b: S::V, acc: S::V) -> S::V {
        s.fma(a, b, acc)
    }
}

/// Pairs of bf16 ([`Simd::pairs`]) on both sides, f32 sums: k counts pairs.
pub struct Bf16;

impl Arithmetic for Bf16 {
    #[inline(always)]
    fn step<S: Simd>(s: S, a: S::V, b: S::V, acc: S::V) -> S::V {
        s.dot_pairs(a, b, acc)
    }
}

impl Tile {
    /// Computes all 32 columns, two vectors at a time.
    ///
    /// # Safety
    /// Every pointer must be valid for what its field says; no other thread uses c.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: the caller's.
        unsafe { self.run_as::<S, F32>(s) };
    }

    /// The same with another arithmetic.
    ///
    /// # Safety
    /// That of [`Tile::run`].
    #[inline(always)]
    pub unsafe fn run_as<S: Simd, A: Arithmetic>(self, s: S) {
        let mut column = 0;
        while column < COLUMNS {
            // SAFETY: the caller's; columns stay below 32.
            unsafe {
                let old = self.old.at(column);
                Self { b: self.b.add(column), c: self.c.add(column), old, ..self }.two_vectors::<S, A>(s);
            }
            column += 2 * S::LANES;
        }
    }

    /// Picks the compiled size.
    #[inline(always)]
    unsafe fn two_vectors<S: Simd, A: Arithmetic>(self, s: S) {
        match self.rows {
            Rows::Pointers(_) => sizes!(s, self, Gathered, A: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            Rows::Streamed { .. } => sizes!(s, self, Streamed, A: 1 2 3 4 5 6 7 8 9 10 11 12),
            Rows::Transposed { .. } => sizes!(s, self, Strided, A: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        }
    }
}

/// A tile of M rows behind pointers. Each kind of rows has a function of its own with a single loop: with two loops in
/// one function LLVM keeps accumulators in memory.
struct Gathered<const M: usize, A>(Tile, PhantomData<A>);

impl<const M: usize, A: Arithmetic> Task for Gathered<M, A> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let t = self.0;
        let Rows::Pointers(table) = t.rows else { return };
        let mut acc = [[s.splat(0.0); 2]; M];
        // SAFETY: `Tile::run`'s caller vouches for all pointers; M is the tile's m.
        unsafe {
            let mut rows = [std::ptr::null(); M];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = *table.add(r);
            }
            for k in 0..t.k {
                let b = t.b.add(k * COLUMNS);
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

/// [`Gathered`] with a prefetch in each step.
struct Streamed<const M: usize, A>(Tile, PhantomData<A>);

impl<const M: usize, A: Arithmetic> Task for Streamed<M, A> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let t = self.0;
        let Rows::Streamed { table, ahead } = t.rows else { return };
        let mut acc = [[s.splat(0.0); 2]; M];
        // SAFETY: `Tile::run`'s caller vouches for all pointers; M is the tile's m.
        unsafe {
            let mut rows = [std::ptr::null(); M];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = *table.add(r);
            }
            for k in 0..t.k {
                s.prefetch(ahead.wrapping_add(k * 16));
                let b = t.b.add(k * COLUMNS);
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

/// A tile of M rows of a transposed operand.
struct Strided<const M: usize, A>(Tile, PhantomData<A>);

impl<const M: usize, A: Arithmetic> Task for Strided<M, A> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let t = self.0;
        let Rows::Transposed { start, pitch } = t.rows else { return };
        let mut acc = [[s.splat(0.0); 2]; M];
        // SAFETY: `Tile::run`'s caller vouches for all pointers; M is the tile's m.
        unsafe {
            for k in 0..t.k {
                let (a, b) = (start.add(k * pitch), t.b.add(k * COLUMNS));
                let (b0, b1) = (s.load(b), s.load(b.add(S::LANES)));
                for (r, sum) in acc.iter_mut().enumerate() {
                    let a = s.splat(*a.add(r));
                    *sum = [A::step(s, a, b0, sum[0]), A::step(s, a, b1, sum[1])];
                }
            }
            store(s, t.c, t.old, acc);
        }
    }
}

/// The sums, with what was there before, into M lines of c.
///
/// # Safety
/// `Tile::run`'s.
#[inline(always)]
unsafe fn store<S: Simd, const M: usize>(s: S, c: *mut f32, old: Old, acc: [[S::V; 2]; M]) {
    // SAFETY: the caller's.
    unsafe {
        for (r, row) in acc.into_iter().enumerate() {
            for (v, sum) in row.into_iter().enumerate() {
                let to = c.add(r * COLUMNS + v * S::LANES);
                let sum = match old {
                    Old::Ignore => sum,
                    Old::Add => s.add(s.load(to), sum),
                    Old::Scale(by) => s.fma(s.load(to), s.load(by.add(v * S::LANES)), sum),
                };
                s.store(to, sum);
            }
        }
    }
}

/// The first `LANES` values of `x`, or all of them and then zeros.
#[inline(always)]
pub fn load<S: Simd>(s: S, x: &[f32]) -> S::V {
    // SAFETY: x is as long as what is read.
    unsafe { if x.len() >= S::LANES { s.load(x.as_ptr()) } else { s.load_part(x.as_ptr(), x.len()) } }
}

/// The lanes of `v` to the first `LANES` places of `to`, or as many as there are.
#[inline(always)]
pub fn put<S: Simd>(s: S, to: &mut [f32], v: S::V) {
    // SAFETY: `to` is as long as what is written.
    unsafe {
        if to.len() >= S::LANES { s.store(to.as_mut_ptr(), v) } else { s.store_part(to.as_mut_ptr(), v, to.len()) }
    }
}

/// A function of N vectors, applied along rows by [`map`].
pub trait Lanewise<const N: usize> {
    /// One vector. `#[inline(always)]`.
    fn at<S: Simd>(&self, s: S, x: [S::V; N]) -> S::V;
}

/// `to[i] = f(from[0][i], from[1][i], ..)` for each i of `to`; the others are as long or longer.
#[inline(always)]
pub fn map<S: Simd, const N: usize, F: Lanewise<N>>(s: S, from: [&[f32]; N], to: &mut [f32], f: &F) {
    let n = to.len();
    let from = from.map(|x| x[..n].as_ptr());
    let to = to.as_mut_ptr();
    let mut i = 0;
    // SAFETY: all slices have n elements; i + LANES <= n, and the rest is partial.
    unsafe {
        while i + S::LANES <= n {
            let mut x = [s.splat(0.0); N];
            for (v, p) in x.iter_mut().zip(from) {
                *v = s.load(p.add(i));
            }
            s.store(to.add(i), f.at(s, x));
            i += S::LANES;
        }
        if i < n {
            let mut x = [s.splat(0.0); N];
            for (v, p) in x.iter_mut().zip(from) {
                *v = s.load_part(p.add(i), n - i);
            }
            s.store_part(to.add(i), f.at(s, x), n - i);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_even_and_complete() {
        for n in 1..100 {
            let split = Split::at_most(n, 14);
            let mut next = 0;
            for i in 0..split.parts {
                let (start, len) = split.part(i);
                assert!(start == next && (1..=14).contains(&len));
                next += len;
            }
            assert_eq!(next, n);
        }
    }
}
