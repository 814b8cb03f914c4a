//! A step of a model on fewer pixels: what a device's self-test runs instead of the whole.

use super::Op;
use super::statistics::Tiles;
use crate::tensor::Shape;

/// The op and its operands with at most `size` (height and width) pixels, or none if it is no larger already.
///
/// Channels, batches and switches stay; rows `[b, 1, 1, n]` stay.
pub(crate) fn shrink(op: &Op, x: &[Shape], size: (usize, usize)) -> Option<(Op, Vec<Shape>)> {
    let (h, w) = size;
    let small = |s: Shape| Shape { h: s.h.min(h), w: s.w.min(w), ..s };
    let mut shapes: Vec<Shape> = x.iter().map(|s| small(*s)).collect();
    let mut op = *op;
    match &mut op {
        Op::Conv2d(c) => {
            if let Some(to) = &mut c.upsample {
                // An odd size stays odd.
                *to = (2 * shapes[0].h - to.0 % 2, 2 * shapes[0].w - to.1 % 2);
            }
            if c.residual {
                let dims = super::Dims::filter3(x[x.len() - 1].c, shapes[..c.sources()].iter().map(|s| s.c).sum());
                let bare = super::conv2d::Conv2d { residual: false, row: false, bias: false, ..*c };
                let out = Op::Conv2d(bare).output(&shapes[..c.sources()], &[dims]).ok()?[0];
                let last = shapes.len() - 1;
                shapes[last] = Shape { h: out.h, w: out.w, ..shapes[last] };
            }
        }
        Op::GroupNorm(n) if n.given => {
            let (sources, given) = shapes.split_at_mut(n.sources());
            given.iter_mut().zip(sources).for_each(|(to, of)| *to = Tiles::Pixels.shape(*of));
        }
        Op::Upsample(u) => {
            u.h = 2 * shapes[0].h - u.h % 2;
            u.w = 2 * shapes[0].w - u.w % 2;
        }
        _ => {}
    }
    (shapes != x).then_some((op, shapes))
}
