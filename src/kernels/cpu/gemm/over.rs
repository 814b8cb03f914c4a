//! A product over its only source: its rows go to where wider rows of the source, read before, have been.
//!
//! It runs in waves. A wave reads rows `done ..` of the source and writes rows `done ..` of the output, as many as fit
//! before the first row that it reads: twice as many each time where the source is twice as wide. The first rows, which
//! fit nowhere yet, go through scratch. Every sum is what it would be elsewhere: rows of a
//! product know nothing of each other.

use super::Product;
use crate::kernels::cpu::{In, Io, Out};
use crate::tensor::Shape;

/// Most rows that go through scratch at a time. There must be more rows, and room for as
/// many at the end of shared scratch.
pub const STAGED: usize = 512;

/// Computes `p` into `io.y`, which holds its source; `run` is what computes a product elsewhere.
pub fn run(p: &Product<'_>, io: &mut Io<'_>, run: impl Fn(&Product<'_>, &mut Io<'_>)) {
    let (source, n, rows) = (io.x[0], p.shape.c, p.shape.rows());
    let own = io.scratch.len() - STAGED * n;
    let (scratch, staged) = io.scratch.split_at_mut(own);
    let mut done = 0;
    while done < rows {
        let (read, unread) = io.y.data.split_at_mut(done * source.pitch);
        let (left, room) = (rows - done, read.len() / n - done);
        let fits = room >= left.min(STAGED);
        let count = if fits { room.min(left) } else { left.min(STAGED) };
        let data = if fits { &mut read[done * n..][..count * n] } else { &mut staged[..count * n] };
        let shape = Shape::new(1, 1, count, n);
        let x = [In { data: unread, shape: shape.with_c(source.shape.c), pitch: source.pitch }];
        let y = Out { data, shape, pitch: n };
        let mut wave = Io { x: &x, w: io.w, y, statistics: None, in_place: None, scratch: &mut *scratch };
        run(&Product { sources: &x, shape, ..*p }, &mut wave);
        if !fits {
            io.y.data[done * n..][..count * n].copy_from_slice(&staged[..count * n]);
        }
        done += count;
    }
}
