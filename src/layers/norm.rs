//! Normalisations and the nonlinearity that follows most of them.

use super::linear::activate;
use crate::error::Result;
use crate::graph::{Builder, Operand, Weight};
use crate::kernels::group_norm::GroupNorm;
use crate::kernels::layer_norm::LayerNorm;
use crate::kernels::{Activation, Dims};

/// GroupNorm with learned scale and shift.
pub fn group_norm(b: &mut Builder, name: &str, x: Operand, groups: usize, eps: f32) -> Result<Operand> {
    let w = affine(b, name, x);
    b.push(name, GroupNorm { two_sources: false, groups, eps, act: Activation::None, given: false }, &[x], w)
}

/// LayerNorm over the channels, with learned scale and shift.
pub fn layer_norm(b: &mut Builder, name: &str, x: Operand, eps: f32) -> Result<Operand> {
    let w = affine(b, name, x);
    b.push(name, LayerNorm { eps }, &[x], w)
}

/// `x * sigmoid(x)`.
pub fn silu(b: &mut Builder, name: &str, x: Operand) -> Result<Operand> {
    activate(b, &format!("{name}.silu"), x, Activation::Silu)
}

fn affine(b: &Builder, name: &str, x: Operand) -> Vec<Weight> {
    ["weight", "bias"].map(|part| b.weight(&format!("{name}.{part}"), Dims::vector(x.shape.c))).to_vec()
}
