//! Timesteps to the rows that the ResNets add: sinusoids, a two-layer MLP, and one product for all blocks.

use super::linear::activate;
use super::{Bias, linear};
use crate::error::Result;
use crate::graph::{Builder, Value, Weight, WeightExpr};
use crate::kernels::matmul::Matmul;
use crate::kernels::timestep_embedding::TimestepEmbedding;
use crate::kernels::{Activation, Dims};

/// `t [1, 1, T, 1]` to `[1, 1, T, 4 width]`, activated: the input of every ResNet's projection.
pub fn time_embedding(b: &mut Builder, t: Value, width: usize) -> Result<Value> {
    let x = b.push("time_proj", TimestepEmbedding { width }, &[t], vec![])?; // [1, 1, T, width]
    b.scope("time_embedding", |b| {
        let x = linear(b, "linear_1", x, 4 * width, Bias::Yes)?;
        let x = activate(b, "linear_1.silu", x, Activation::Silu)?;
        let x = linear(b, "linear_2", x, 4 * width, Bias::Yes)?;
        activate(b, "linear_2.silu", x, Activation::Silu)
    })
}

/// `[1, 1, T, 4 width]` to one row per timestep that holds, block after block, conv1's bias plus the time projection.
/// `blocks` are the ResNets' names in the current scope with their channels.
pub fn time_rows(b: &mut Builder, embedding: Value, blocks: &[(String, usize)]) -> Result<Value> {
    let n = blocks.iter().map(|(_, c)| c).sum();
    let tensor = |block: &str, name: &str| WeightExpr::One(b.path(&format!("{block}.{name}")));
    let rows = blocks.iter().map(|(block, c)| (tensor(block, "time_emb_proj.weight"), *c)).collect();
    let sum = |block: &str| WeightExpr::sum(tensor(block, "time_emb_proj.bias"), tensor(block, "conv1.bias"));
    let sums = blocks.iter().map(|(block, c)| (sum(block), *c)).collect();
    let w = vec![
        Weight { expr: WeightExpr::Rows(rows), dims: Dims::matrix(n, embedding.shape.c) },
        Weight { expr: WeightExpr::Rows(sums), dims: Dims::vector(n) },
    ];
    b.push("time_emb_proj", Matmul { bias: true, ..Matmul::default() }, &[embedding], w)
}
