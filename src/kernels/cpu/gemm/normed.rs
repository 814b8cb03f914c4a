//! Sources with a GroupNorm applied to them, in scratch: for products that read every input many times.

use super::{Product, SourceNorm};
use crate::kernels::cpu::In;
use crate::kernels::cpu::group_norm::Affine;
use crate::kernels::cpu::tile::map;
use crate::simd::{Isa, Simd, Task, dispatch};
use crate::tensor::Shape;
use crate::workers::{RowsMut, Workers};

/// Most rows of a task.
const ROWS: usize = 64;

/// Elements from one row to the next: whole cache lines.
fn pitch(c: usize) -> usize {
    c.next_multiple_of(16)
}

/// Elements that a normalised source occupies.
pub fn len(shape: Shape) -> usize {
    shape.rows() * pitch(shape.c)
}

/// The sources of `p`, normalised, in `room`; the second is empty where there is one only.
pub fn sources<'a>(
    p: &Product<'_>,
    norm: &SourceNorm<'_>,
    isa: Isa,
    mut room: &'a mut [f32],
    workers: &Workers,
) -> [In<'a>; 2] {
    let mut all = [In { data: &[], shape: Shape::new(0, 0, 0, 0), pitch: 0 }; 2];
    let mut before = 0;
    for (from, to) in p.sources.iter().zip(&mut all) {
        let shape = from.shape.with_b(p.shape.b);
        let (own, rest) = std::mem::take(&mut room).split_at_mut(len(shape));
        workers.for_each_part(RowsMut::new(own, shape.rows(), shape.c, pitch(shape.c)), ROWS, |first, to, _| {
            dispatch(isa, Rows { from, norm, before, first, to });
        });
        *to = In { data: own, shape, pitch: pitch(shape.c) };
        before += shape.c;
        room = rest;
    }
    all
}

/// Some rows of one source.
struct Rows<'a> {
    from: &'a In<'a>,
    norm: &'a SourceNorm<'a>,
    /// Channels of the sources before it.
    before: usize,
    first: usize,
    to: &'a mut [f32],
}

impl Task for Rows<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let In { data, shape, pitch: from_pitch } = *self.from;
        for (r, to) in self.to.chunks_mut(pitch(shape.c)).enumerate() {
            let (b, pixel) = ((self.first + r) / shape.pixels(), (self.first + r) % shape.pixels());
            let x = &data[(b % shape.b * shape.pixels() + pixel) * from_pitch..][..shape.c];
            let [mean, scale, shift] = self.norm.rows(b, self.before, shape.c);
            map(s, [x, mean, scale, shift], &mut to[..shape.c], &Affine(self.norm.act));
        }
    }
}
