//! Timesteps to the rows that the ResNets add: sinusoids, a two-layer MLP, and one product for all blocks.

use super::linear::activate;
use super::{Bias, add, linear};
use crate::error::Result;
use crate::graph::{Builder, Operand, Weight, WeightExpr};
use crate::kernels::matmul::Matmul;
use crate::kernels::timestep_embedding::TimestepEmbedding;
use crate::kernels::{Activation, Dims};

/// What some models embed beside the timestep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// `[1, 1, T, n]`: pooled text and sizes, with a two-layer MLP of their own.
    pub added: Option<Operand>,
    /// `[1, 1, T, n]`: a guidance scale's sinusoids, which are projected onto the timestep's.
    pub guidance: Option<Operand>,
}

/// `t [1, 1, T, 1]` to `[1, 1, T, 4 width]`, activated: the input of every ResNet's projection.
pub fn time_embedding(b: &mut Builder, t: Operand, width: usize, beside: Beside) -> Result<Operand> {
    let mut x = b.push("time_proj", TimestepEmbedding { width }, &[t], vec![])?; // [1, 1, T, width]
    let time = b.scope("time_embedding", |b| {
        if let Some(guidance) = beside.guidance {
            let y = linear(b, "cond_proj", guidance, width, Bias::No)?;
            x = add(b, "cond_proj.sum", x, y)?;
        }
        two_layers(b, x, 4 * width)
    })?;
    let all = match beside.added {
        Some(added) => {
            let y = b.scope("add_embedding", |b| two_layers(b, added, 4 * width))?;
            add(b, "add_embedding.sum", time, y)?
        }
        None => time,
    };
    activate(b, "time_embedding.linear_2.silu", all, Activation::Silu)
}

fn two_layers(b: &mut Builder, x: Operand, n: usize) -> Result<Operand> {
    let x = linear(b, "linear_1", x, n, Bias::Yes)?;
    let x = activate(b, "linear_1.silu", x, Activation::Silu)?;
    linear(b, "linear_2", x, n, Bias::Yes)
}

/// `[1, 1, T, 4 width]` to one row per timestep that holds, block after block, conv1's bias plus the time projection.
/// `blocks` are the ResNets' names in the current scope with their channels.
pub fn time_rows(b: &mut Builder, embedding: Operand, blocks: &[(String, usize)]) -> Result<Operand> {
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
