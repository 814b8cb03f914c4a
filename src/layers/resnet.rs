//! The ResNet block: two normalised 3x3 convolutions around a skip connection.

use super::conv::conv2d_no_bias;
use super::{Bias, add, conv2d, group_norm, linear, silu};
use crate::error::Result;
use crate::graph::{Builder, Operand};

/// The GroupNorm settings of a model.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Groups of channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
}

/// `x [b, h, w, k]` to `[b, h, w, n]`. `time` `[b', 1, 1, n]` is the block's row of the time plan, which already holds
/// conv1's bias; without it (the VAE) conv1 has its own.
pub fn resnet(b: &mut Builder, name: &str, x: Operand, n: usize, norm: Norm, time: Option<Operand>) -> Result<Operand> {
    b.scope(name, |b| {
        let h = group_norm(b, "norm1", x, norm.groups, norm.eps)?;
        let h = silu(b, "norm1", h)?;
        let h = match time {
            Some(row) => {
                let h = conv2d_no_bias(b, "conv1", h, n)?;
                add(b, "time", h, row)?
            }
            None => conv2d(b, "conv1", h, n)?,
        };
        let h = group_norm(b, "norm2", h, norm.groups, norm.eps)?;
        let h = silu(b, "norm2", h)?;
        let h = conv2d(b, "conv2", h, n)?;
        let skip = if x.shape.c == n { x } else { linear(b, "conv_shortcut", x, n, Bias::Yes)? };
        add(b, "sum", skip, h)
    })
}
