//! Rows of a small matrix times another small one: what low-rank deltas are made of.

use crate::simd::{Isa, Simd, Task, dispatch};

/// Columns that are summed up together; a strip of them of the right matrix stays in the nearest cache.
const COLUMNS: usize = 32;

/// `out[n][c] = sum over k of left[n][k] right[k][c]`, in the order of k, each product and each sum rounded to f32:
/// the same bits with every instruction set, and however rows are cut.
pub fn product(left: &[f32], right: &[f32], rank: usize, columns: usize, out: &mut [f32]) {
    if rank == 0 || columns == 0 {
        return out.fill(0.0);
    }
    dispatch(Isa::best(), Product { left, right, rank, columns, out });
}

struct Product<'a> {
    left: &'a [f32],
    right: &'a [f32],
    rank: usize,
    columns: usize,
    out: &'a mut [f32],
}

impl Task for Product<'_> {
    type Out = ();

    /// Plain loops: what is inlined into a function of an instruction set is compiled for it.
    #[inline(always)]
    fn eval<S: Simd>(self, _: S) {
        let Self { left, right, rank, columns, out } = self;
        let whole = columns / COLUMNS * COLUMNS;
        for from in (0..whole).step_by(COLUMNS) {
            let mut rows = out.chunks_exact_mut(columns).zip(left.chunks_exact(rank));
            while let Some((out_a, a)) = rows.next() {
                let mut sums = [[0.0_f32; COLUMNS]; 2];
                let second = rows.next();
                let b = second.as_ref().map_or(a, |(_, b)| *b);
                for ((line, &a), &b) in right.chunks_exact(columns).zip(a).zip(b) {
                    let Some(line) = line[from..].first_chunk::<COLUMNS>() else { continue };
                    for i in 0..COLUMNS {
                        sums[0][i] += a * line[i];
                        sums[1][i] += b * line[i];
                    }
                }
                out_a[from..from + COLUMNS].copy_from_slice(&sums[0]);
                if let Some((out_b, _)) = second {
                    out_b[from..from + COLUMNS].copy_from_slice(&sums[1]);
                }
            }
        }
        for (out, a) in out.chunks_exact_mut(columns).zip(left.chunks_exact(rank)) {
            let out = &mut out[whole..];
            out.fill(0.0);
            for (line, &a) in right.chunks_exact(columns).zip(a) {
                out.iter_mut().zip(&line[whole..]).for_each(|(out, v)| *out += a * v);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_the_sum_in_order_however_its_rows_are_cut() {
        let mut random = crate::check::Random::new("product");
        for (rows, rank, columns) in [(1, 1, 1), (3, 5, 31), (5, 4, 32), (7, 33, 97), (2, 0, 40)] {
            let (left, right) = (random.normal(rows * rank, 1.0), random.normal(rank * columns, 1.0));
            let mut out = vec![f32::NAN; rows * columns];
            product(&left, &right, rank, columns, &mut out);
            for n in 0..rows {
                for c in 0..columns {
                    let want = (0..rank).fold(0.0, |sum, k| sum + left[n * rank + k] * right[k * columns + c]);
                    assert_eq!(out[n * columns + c].to_bits(), f32::to_bits(want), "{rows} {rank} {columns} {n} {c}");
                }
                let mut one = vec![0.0; columns];
                product(&left[n * rank..][..rank], &right, rank, columns, &mut one);
                assert_eq!(one, out[n * columns..][..columns]);
            }
        }
    }
}
