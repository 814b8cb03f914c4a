//! A text embedding to the keys and values of every cross-attention: the *context* plan.

use super::UnetConfig;
use crate::error::Result;
use crate::graph::{Builder, Graph, Weight, WeightExpr};
use crate::kernels::Dims;
use crate::kernels::matmul::Matmul;
use crate::models::part;
use crate::tensor::Shape;

/// `context [contexts, 1, tokens, width]` to each cross-attention's keys and values side by side, `[contexts, 1,
/// tokens,
/// 2c]`, in the order of [`UnetConfig::cross_attentions`].
pub fn context(cfg: &UnetConfig, contexts: usize, tokens: usize) -> Result<Graph> {
    let mut b = Builder::new("context", "unet").keeping_f32();
    let x = b.input(part::context::CONTEXT, Shape::tokens(contexts, tokens, cfg.context_width));
    for (n, (name, c)) in cfg.cross_attentions().into_iter().enumerate() {
        let path = b.path(&name);
        let rows = ["to_k", "to_v"].map(|part| (WeightExpr::One(format!("{path}.{part}.weight")), c)).to_vec();
        let w = Weight { expr: WeightExpr::Rows(rows), dims: Dims::matrix(2 * c, cfg.context_width) };
        let kv = b.push(&format!("{name}.kv"), Matmul::default(), &[x], vec![w])?;
        b.output(part::context::keys_values(n), kv);
    }
    Ok(b.finish())
}
