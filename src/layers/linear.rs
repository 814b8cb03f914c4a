//! Linear layers (which in channels-last order are also the 1x1 convolutions) and sums.

use crate::error::Result;
use crate::graph::{Builder, Operand};
use crate::kernels::add::Add;
use crate::kernels::matmul::Matmul;
use crate::kernels::{Activation, Dims, activate::Activate};

/// Whether a layer has a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// `y = x w^T + bias`.
    Yes,
    /// `y = x w^T`.
    No,
}

/// `x [b, h, w, k]` to `[b, h, w, n]`.
pub fn linear(b: &mut Builder, name: &str, x: Operand, n: usize, bias: Bias) -> Result<Operand> {
    let mut w = vec![b.weight(&format!("{name}.weight"), Dims::matrix(n, x.shape.c))];
    if bias == Bias::Yes {
        w.push(b.weight(&format!("{name}.bias"), Dims::vector(n)));
    }
    b.push(name, Matmul { bias: bias == Bias::Yes, ..Matmul::default() }, &[x], w)
}

/// `a + b`; `y` may be one row for all pixels.
pub fn add(b: &mut Builder, name: &str, x: Operand, y: Operand) -> Result<Operand> {
    b.push(name, Add, &[x, y], vec![])
}

/// `act(x)`.
pub fn activate(b: &mut Builder, name: &str, x: Operand, act: Activation) -> Result<Operand> {
    b.push(name, Activate { act }, &[x], vec![])
}
