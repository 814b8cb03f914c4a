//! Normalisations and the nonlinearity that follows most of them.

use super::linear::activate;
use crate::error::Result;
use crate::graph::{Builder, Value, Weight};
use crate::kernels::group_norm::GroupNorm;
use crate::kernels::layer_norm::LayerNorm;
use crate::kernels::{Activation, Dims};

/// GroupNorm with learned scale and shift.
pub fn group_norm(b: &mut Builder, name: &str, x: Value, groups: usize, eps: f32) -> Result<Value> {
    let w = affine(b, name, x);
    b.push(name, GroupNorm { two_sources: false, groups, eps, act: Activation::None, given: false }, &[x], w)
}

/// LayerNorm over the channels, with learned scale and shift.
pub fn layer_norm(b: &mut Builder, name: &str, x: Value, eps: f32) -> Result<Value> {
    let w = affine(b, name, x);
    b.push(name, LayerNorm { eps }, &[x], w)
}

/// `x * sigmoid(x)`.
pub fn silu(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    activate(b, &format!("{name}.silu"), x, Activation::Silu)
}

fn affine(b: &Builder, name: &str, x: Value) -> Vec<Weight> {
    ["weight", "bias"].map(|part| b.weight(&format!("{name}.{part}"), Dims::vector(x.shape.c))).to_vec()
}
