//! Attention layers: the U-Net's spatial transformer, the VAE's attention block, CLIP's self-attention.

use super::{Bias, Norm, add, group_norm, layer_norm, linear};
use crate::error::{Error, Result};
use crate::graph::{Builder, Operand};
use crate::kernels::attention::Attention;
use crate::kernels::geglu::Geglu;

/// LayerNorm's epsilon inside the U-Net's transformer blocks.
const LAYER_NORM_EPS: f32 = 1e-5;
/// GroupNorm's epsilon in front of them, which differs from the ResNets'.
const GROUP_NORM_EPS: f32 = 1e-6;

/// Names and biases of a self-attention's four products.
pub struct Projections<'a> {
    /// Query, key, value, output.
    pub names: [&'a str; 4],
    /// Whether query, key and value have a bias (the output always has).
    pub bias: Bias,
    /// Heads.
    pub heads: usize,
    /// Tokens see only what comes before them.
    pub causal: bool,
}

/// `x [b, h, w, c]` to the same shape.
pub fn self_attention(b: &mut Builder, x: Operand, p: &Projections<'_>) -> Result<Operand> {
    let c = x.shape.c;
    let [q, k, v, out] = p.names;
    let q = linear(b, q, x, c, p.bias)?;
    let k = linear(b, k, x, c, p.bias)?;
    let v = linear(b, v, x, c, p.bias)?;
    let y = b.push("attention", Attention { heads: p.heads, causal: p.causal, mask: false }, &[q, k, v], vec![])?;
    linear(b, out, y, c, Bias::Yes)
}

/// A spatial transformer's properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transformer {
    /// Groups of the norm in front.
    pub groups: usize,
    /// Heads of every attention.
    pub heads: usize,
    /// Blocks, one behind the other.
    pub depth: usize,
    /// Whether each block's first attention looks at the text too.
    pub cross_only: bool,
}

/// Pixels attend to each other, then to the text, as often as there are blocks. `kv` gives the text's keys and values
/// `[b', 1, tokens, 2c]` for each attention that looks at it. `x [b, h, w, c]` to `[max(b, b'), h, w, c]`.
pub fn spatial_transformer(
    b: &mut Builder,
    name: &str,
    x: Operand,
    how: Transformer,
    kv: &mut impl Iterator<Item = Operand>,
) -> Result<Operand> {
    let c = x.shape.c;
    b.scope(name, |b| {
        let h = group_norm(b, "norm", x, how.groups, GROUP_NORM_EPS)?;
        let mut h = linear(b, "proj_in", h, c, Bias::Yes)?;
        for n in 0..how.depth {
            h = b.scope(&format!("transformer_blocks.{n}"), |b| transformer_block(b, h, how, kv))?;
        }
        let h = linear(b, "proj_out", h, c, Bias::Yes)?;
        add(b, "sum", x, h)
    })
}

fn transformer_block(
    b: &mut Builder,
    h: Operand,
    how: Transformer,
    kv: &mut impl Iterator<Item = Operand>,
) -> Result<Operand> {
    let (c, heads) = (h.shape.c, how.heads);
    let y = layer_norm(b, "norm1", h, LAYER_NORM_EPS)?;
    let y = b.scope("attn1", |b| match how.cross_only {
        true => cross_attention(b, y, heads, kv),
        false => {
            let names = ["to_q", "to_k", "to_v", "to_out.0"];
            self_attention(b, y, &Projections { names, bias: Bias::No, heads, causal: false })
        }
    })?;
    let h = add(b, "attn1.sum", h, y)?;

    let y = layer_norm(b, "norm2", h, LAYER_NORM_EPS)?;
    let y = b.scope("attn2", |b| cross_attention(b, y, heads, kv))?;
    let h = add(b, "attn2.sum", h, y)?;

    let y = layer_norm(b, "norm3", h, LAYER_NORM_EPS)?;
    let y = linear(b, "ff.net.0.proj", y, 8 * c, Bias::Yes)?; // value and gate, 4c each
    let y = b.push("ff.net.0", Geglu, &[y], vec![])?;
    let y = linear(b, "ff.net.2", y, c, Bias::Yes)?;
    add(b, "ff.sum", h, y)
}

/// Pixels attend to the text.
fn cross_attention(
    b: &mut Builder,
    x: Operand,
    heads: usize,
    kv: &mut impl Iterator<Item = Operand>,
) -> Result<Operand> {
    let c = x.shape.c;
    let kv = kv.next().ok_or_else(|| Error::other(format!("{}: keys and values are missing", b.path(""))))?;
    let q = linear(b, "to_q", x, c, Bias::No)?;
    let (k, v) = (kv.columns(0, c), kv.columns(c, c));
    let y = b.push("attention", Attention { heads, causal: false, mask: false }, &[q, k, v], vec![])?;
    linear(b, "to_out.0", y, c, Bias::Yes)
}

/// The VAE's attention between all pixels, one head. `x [b, h, w, c]` to the same shape.
pub fn attention_block(b: &mut Builder, name: &str, x: Operand, norm: Norm) -> Result<Operand> {
    b.scope(name, |b| {
        let h = group_norm(b, "group_norm", x, norm.groups, norm.eps)?;
        let names = ["to_q", "to_k", "to_v", "to_out.0"];
        let h = self_attention(b, h, &Projections { names, bias: Bias::Yes, heads: 1, causal: false })?;
        add(b, "sum", x, h)
    })
}
