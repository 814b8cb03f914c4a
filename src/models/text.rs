//! Token rows to a text embedding: CLIP's text transformer.

use crate::error::Result;
use crate::graph::{Builder, Graph, Value};
use crate::kernels::Activation;
use crate::layers::linear::activate;
use crate::layers::transformer::Projections;
use crate::layers::{Bias, add, layer_norm, linear, self_attention};
use crate::tensor::Shape;

/// The nonlinearity inside the transformer's MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MlpActivation {
    /// `x * sigmoid(1.702 x)`, OpenAI's CLIP.
    QuickGelu,
    /// `x * Phi(x)` with the exact error function, OpenCLIP.
    Gelu,
}

/// The shape of a CLIP text transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipConfig {
    /// Rows of the token embedding.
    pub vocab: usize,
    /// Width of a token's vector.
    pub width: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width inside the MLP.
    pub mlp_width: usize,
    /// Positions of one chunk, start and end tokens included (77).
    pub positions: usize,
    /// The MLP's nonlinearity.
    pub activation: MlpActivation,
    /// LayerNorm's epsilon.
    pub eps: f32,
}

impl ClipConfig {
    /// What fills a chunk behind its first end token: another end in OpenAI's CLIP, token 0 in OpenCLIP (SD 2.x).
    pub fn padding(&self, end: u32) -> u32 {
        match self.activation {
            MlpActivation::QuickGelu => end,
            MlpActivation::Gelu => 0,
        }
    }
}

/// The *text* plan: `tokens [chunks, 1, 77, width]` (token plus position embedding, looked up on the host) to `hidden` of
/// the same shape. `clip_skip` n takes the n-th hidden state from the end (1 = the last), through the final norm.
pub fn text(cfg: &ClipConfig, chunks: usize, clip_skip: usize) -> Result<Graph> {
    let mut b = Builder::new("text", "text_encoder");
    let mut x = b.input("tokens", Shape::tokens(chunks, cfg.positions, cfg.width));
    for layer in 0..cfg.layers.saturating_sub(clip_skip.saturating_sub(1)) {
        x = b.scope(&format!("encoder.layers.{layer}"), |b| encoder_layer(b, cfg, x))?;
    }
    let x = layer_norm(&mut b, "final_layer_norm", x, cfg.eps)?;
    b.output("hidden", x);
    Ok(b.finish())
}

fn encoder_layer(b: &mut Builder, cfg: &ClipConfig, x: Value) -> Result<Value> {
    let y = layer_norm(b, "layer_norm1", x, cfg.eps)?;
    let y = b.scope("self_attn", |b| {
        let names = ["q_proj", "k_proj", "v_proj", "out_proj"];
        self_attention(b, y, &Projections { names, bias: Bias::Yes, heads: cfg.heads, causal: true })
    })?;
    let x = add(b, "self_attn.sum", x, y)?;

    let y = layer_norm(b, "layer_norm2", x, cfg.eps)?;
    let y = linear(b, "mlp.fc1", y, cfg.mlp_width, Bias::Yes)?;
    let act = match cfg.activation {
        MlpActivation::QuickGelu => Activation::QuickGelu,
        MlpActivation::Gelu => Activation::Gelu,
    };
    let y = activate(b, "mlp.activation", y, act)?;
    let y = linear(b, "mlp.fc2", y, cfg.width, Bias::Yes)?;
    add(b, "mlp.sum", x, y)
}
