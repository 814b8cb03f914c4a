//! 3x3 convolutions, the changes of resolution around them, and the joining of channels.

use crate::error::Result;
use crate::graph::{Builder, Operand};
use crate::kernels::Dims;
use crate::kernels::concat::Concat;
use crate::kernels::conv2d::{Conv2d, Pad};
use crate::kernels::upsample::Upsample;

/// A 3x3 convolution with bias, `[b, h, w, k]` to `[b, h, w, n]`.
pub fn conv2d(b: &mut Builder, name: &str, x: Operand, n: usize) -> Result<Operand> {
    push(b, name, x, n, Conv2d { bias: true, ..Conv2d::default() })
}

/// A 3x3 convolution without bias: the caller adds a row that holds it.
pub fn conv2d_no_bias(b: &mut Builder, name: &str, x: Operand, n: usize) -> Result<Operand> {
    push(b, name, x, n, Conv2d::default())
}

/// A 3x3 convolution with stride 2, `[b, h, w, c]` to `[b, ceil(h/2), ceil(w/2), c]` (`Pad::After`: `floor`).
pub fn downsample(b: &mut Builder, name: &str, x: Operand, pad: Pad) -> Result<Operand> {
    push(b, name, x, x.shape.c, Conv2d { bias: true, stride2: true, pad, ..Conv2d::default() })
}

/// The same without bias.
pub fn downsample_no_bias(b: &mut Builder, name: &str, x: Operand, pad: Pad) -> Result<Operand> {
    push(b, name, x, x.shape.c, Conv2d { stride2: true, pad, ..Conv2d::default() })
}

/// Nearest-neighbour upsampling to `h` x `w`, then a 3x3 convolution without bias.
pub fn upsample_no_bias(b: &mut Builder, name: &str, x: Operand, (h, w): (usize, usize)) -> Result<Operand> {
    let large = b.push(&format!("{name}.nearest"), Upsample { h, w }, &[x], vec![])?;
    conv2d_no_bias(b, name, large, x.shape.c)
}

/// Nearest-neighbour upsampling to `h` x `w`, then a 3x3 convolution.
pub fn upsample(b: &mut Builder, name: &str, x: Operand, (h, w): (usize, usize)) -> Result<Operand> {
    let large = b.push(&format!("{name}.nearest"), Upsample { h, w }, &[x], vec![])?;
    conv2d(b, name, large, x.shape.c)
}

/// The channels of `x`, then those of `y`.
pub fn concat(b: &mut Builder, name: &str, x: Operand, y: Operand) -> Result<Operand> {
    b.push(name, Concat, &[x, y], vec![])
}

fn push(b: &mut Builder, name: &str, x: Operand, n: usize, op: Conv2d) -> Result<Operand> {
    let mut w = vec![b.weight(&format!("{name}.weight"), Dims::filter3(n, x.shape.c))];
    if op.bias {
        w.push(b.weight(&format!("{name}.bias"), Dims::vector(n)));
    }
    b.push(name, op, &[x], w)
}
