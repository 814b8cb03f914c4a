//! The register tile that products and attention are made of, and small helpers for code that writes one output from many
//! tasks.
#![allow(unsafe_code, reason = "operands are raw rows: one bounds check per element would cost more than the product")]

use crate::simd::{Simd, Task};

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
    /// Row r of piece p begins at `table[p * stride + r]`: inputs of a convolution.
    Pointers {
        /// One pointer per row and piece.
        table: *const *const f32,
        /// Table entries from one piece to the next.
        stride: usize,
    },
    /// Row r is `start + r`, one element from each of `len` vectors `pitch` apart: a transposed operand.
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

/// `c[r][0 .. 2 LANES] = old + sum over k of rows[r][k] * b[k][0 .. 2 LANES]`, the sum in the order of k for every element.
#[derive(Clone, Copy)]
pub struct Tile<'a> {
    /// Rows, at most `TILE_ROWS`.
    pub m: usize,
    /// The left operand.
    pub rows: Rows,
    /// Lengths of the pieces that k is made of; one for `Transposed`.
    pub pieces: &'a [usize],
    /// k lines of 32 columns, of which two vectors are used.
    pub b: *const f32,
    /// m lines of 32 columns.
    pub c: *mut f32,
    /// What happens to c's old value.
    pub old: Old,
}

impl Tile<'_> {
    /// Computes all 32 columns.
    ///
    /// # Safety
    /// Every pointer must be valid for what its field says; no other thread uses c.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(self, s: S) {
        let mut column = 0;
        while column < COLUMNS {
            // SAFETY: the caller's; columns stay below 32.
            unsafe {
                let old = match self.old {
                    Old::Scale(by) => Old::Scale(by.add(column)),
                    other => other,
                };
                Tile { b: self.b.add(column), c: self.c.add(column), old, ..self }.two_vectors(s);
            }
            column += 2 * S::LANES;
        }
    }

    /// Picks the compiled size.
    #[inline(always)]
    unsafe fn two_vectors<S: Simd>(self, s: S) {
        macro_rules! sizes {
            ($($m:literal)*) => {
                match self.m {
                    // The comparison is constant, so that sizes which a set lacks cost no code.
                    $($m if $m <= S::TILE_ROWS => s.call(Sized::<$m>(self)),)*
                    _ => debug_assert!(false, "a tile of {} rows", self.m),
                }
            };
        }
        sizes!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
}

struct Sized<'a, const M: usize>(Tile<'a>);

impl<const M: usize> Task for Sized<'_, M> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let t = self.0;
        let zero = s.splat(0.0);
        let mut acc = [[zero; 2]; M];
        // SAFETY: `Tile::run`'s caller vouches for all pointers; M is the tile's m.
        unsafe {
            match t.rows {
                Rows::Pointers { table, stride } => {
                    let mut b = t.b;
                    for (p, &len) in t.pieces.iter().enumerate() {
                        let mut rows = [std::ptr::null(); M];
                        for (r, row) in rows.iter_mut().enumerate() {
                            *row = *table.add(p * stride + r);
                        }
                        for k in 0..len {
                            let (b0, b1) = (s.load(b), s.load(b.add(S::LANES)));
                            for r in 0..M {
                                let a = s.splat(*rows[r].add(k));
                                acc[r] = [s.fma(a, b0, acc[r][0]), s.fma(a, b1, acc[r][1])];
                            }
                            b = b.add(COLUMNS);
                        }
                    }
                }
                Rows::Transposed { start, pitch } => {
                    let (mut b, mut a) = (t.b, start);
                    for _ in 0..t.pieces[0] {
                        let (b0, b1) = (s.load(b), s.load(b.add(S::LANES)));
                        for r in 0..M {
                            let a = s.splat(*a.add(r));
                            acc[r] = [s.fma(a, b0, acc[r][0]), s.fma(a, b1, acc[r][1])];
                        }
                        b = b.add(COLUMNS);
                        a = a.wrapping_add(pitch);
                    }
                }
            }
            for r in 0..M {
                for v in 0..2 {
                    let to = t.c.add(r * COLUMNS + v * S::LANES);
                    let sum = match t.old {
                        Old::Ignore => acc[r][v],
                        Old::Add => s.add(s.load(to), acc[r][v]),
                        Old::Scale(by) => s.fma(s.load(to), s.load(by.add(v * S::LANES)), acc[r][v]),
                    };
                    s.store(to, sum);
                }
            }
        }
    }
}

/// A function of N vectors, applied along rows by [`map`].
pub trait Lanewise<const N: usize> {
    /// One vector. `#[inline(always)]`.
    fn at<S: Simd>(&self, s: S, x: [S::V; N]) -> S::V;
}

/// `to[i] = f(from[0][i], from[1][i], ..)` for i in `0 .. n`.
///
/// # Safety
/// Every pointer must be valid for n elements, and no other thread may use `to`.
#[inline(always)]
pub unsafe fn map<S: Simd, const N: usize, F: Lanewise<N>>(s: S, n: usize, from: [*const f32; N], to: *mut f32, f: &F) {
    let mut i = 0;
    // SAFETY: the caller's; i + LANES <= n, and the rest is partial.
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
