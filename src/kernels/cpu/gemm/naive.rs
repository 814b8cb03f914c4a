//! The product with plain loops over the same panels: the documentation of the fast one, and the last resort.

use super::{Product, Residual, Window, scalar, statistics};
use crate::kernels::Activation;
use crate::kernels::cpu::Io;
use crate::workers::Workers;

/// Computes `p` into `io.y`, one output row a task.
pub fn naive(p: &Product<'_>, io: &mut Io<'_>, workers: &Workers) {
    let pitch = io.y.pitch;
    workers.for_each_row(io.y.rows(), 1, |at, y| {
        for (n, y) in y.iter_mut().enumerate() {
            *y = match p.w.gated() {
                true => element(p, at, n) * scalar(Activation::Gelu, element(p, at, p.shape.c + n)),
                false => {
                    let (b, pixel) = (at / p.shape.pixels(), at % p.shape.pixels());
                    let row = p.row.map_or(0.0, |x| x.data[b % x.shape.b * x.pitch + n]);
                    let residual = match p.residual {
                        None => 0.0,
                        Some(Residual::Output) => *y,
                        Some(Residual::Tensor(x)) => x.data[(b % x.shape.b * p.shape.pixels() + pixel) * x.pitch + n],
                    };
                    scalar(p.act, element(p, at, n) + row) + residual
                }
            };
        }
    });
    if let Some(to) = &mut io.statistics {
        statistics::naive(to, p.tiles, io.y.data, p.shape, pitch);
    }
}

/// The sum and the bias of output `[at, n]`.
fn element(p: &Product<'_>, at: usize, n: usize) -> f32 {
    let Window { side, stride, before, upsample } = p.window;
    let (b, y, x) = (at / p.shape.pixels(), at / p.shape.w % p.shape.h, at % p.shape.w);
    let mut sum = 0.0;
    for tap in 0..side * side {
        let mut k = 0;
        for src in p.sources {
            let (h, w) = upsample.unwrap_or((src.shape.h, src.shape.w));
            let (iy, ix) = (y * stride + tap / side, x * stride + tap % side);
            if iy >= before && ix >= before && iy - before < h && ix - before < w {
                let (sy, sx) = ((iy - before) * src.shape.h / h, (ix - before) * src.shape.w / w);
                let from = ((b % src.shape.b * src.shape.h + sy) * src.shape.w + sx) * src.pitch;
                for (i, x) in src.data[from..from + src.shape.c].iter().enumerate() {
                    let x = p.norm.map_or(*x, |norm| {
                        let [mean, scale, shift] = norm.rows(b, k + i, 1);
                        scalar(norm.act, (x - mean[0]) * scale[0] + shift[0])
                    });
                    sum += x * p.w.at(n, k + i, tap);
                }
            }
            k += src.shape.c;
        }
    }
    sum + p.bias.map_or(0.0, |b| b[n])
}
