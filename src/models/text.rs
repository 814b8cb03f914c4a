//! Token rows to a text embedding: the text transformers of CLIP and OpenCLIP.

use crate::error::Result;
use crate::graph::{Builder, Graph, Operand};
use crate::kernels::Activation;
use crate::layers::linear::activate;
use crate::layers::transformer::Projections;
use crate::layers::{Bias, add, layer_norm, linear, self_attention};
use crate::models::part;
use crate::tensor::Shape;

/// The nonlinearity inside the transformer's MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MlpActivation {
    /// `x * sigmoid(1.702 x)`, OpenAI's CLIP.
    QuickGelu,
    /// `x * Phi(x)` with the exact error function, OpenCLIP.
    Gelu,
}

/// What fills a chunk behind its first end token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Another end token: OpenAI's CLIP.
    End,
    /// A token of this number: 0 in OpenCLIP.
    Token(u32),
}

impl Padding {
    /// The token, where `end` is the end token.
    pub fn id(self, end: u32) -> u32 {
        match self {
            Self::End => end,
            Self::Token(id) => id,
        }
    }
}

/// The shape of a CLIP text transformer, and which of its hidden states a model was trained with.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
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
    /// What fills a chunk.
    pub padding: Padding,
    /// The hidden state that the model was trained with, counted from the end: 1 is the last layer's output.
    pub trained: usize,
    /// The clip skip that means this state; smaller ones mean it too. 1, or 2 where the last layer was never used.
    pub called: usize,
    /// Whether the hidden state passes the final norm.
    pub final_norm: bool,
    /// Width of the pooled vector: the end token's row of the last layer, normed and projected.
    pub projection: Option<usize>,
}

impl Default for TextConfig {
    /// OpenAI's CLIP ViT-L, as SD 1.x uses it.
    fn default() -> Self {
        Self {
            vocab: 49_408,
            width: 768,
            layers: 12,
            heads: 12,
            mlp_width: 3072,
            positions: 77,
            activation: MlpActivation::QuickGelu,
            eps: 1e-5,
            padding: Padding::End,
            trained: 1,
            called: 1,
            final_norm: true,
            projection: None,
        }
    }
}

impl TextConfig {
    /// The hidden state that a clip skip means, counted from the end.
    pub fn state(&self, clip_skip: usize) -> usize {
        self.trained + clip_skip.max(self.called) - self.called
    }

    /// The largest clip skip that leaves a layer.
    pub fn most_clip_skip(&self) -> usize {
        (self.called + self.layers).saturating_sub(self.trained)
    }
}

/// The *text* plan: `tokens [chunks, 1, 77, width]` (token plus position embedding, looked up on the host) to `hidden`
/// of the same shape and, where the encoder has a projection, `pooled [chunks, 1, 77, projection]`: a row for each
/// token, of which the first end token's counts.
pub fn text(cfg: &TextConfig, encoder: usize, chunks: usize, clip_skip: usize) -> Result<Graph> {
    let mut b = Builder::new("text", &root(encoder)).keeping_f32();
    let mut x = b.input(part::text::TOKENS, Shape::tokens(chunks, cfg.positions, cfg.width));
    let wanted = (cfg.layers + 1).saturating_sub(cfg.state(clip_skip));
    let all = if cfg.projection.is_some() { cfg.layers } else { wanted };
    let mut hidden = x;
    for layer in 0..all {
        x = b.scope(&format!("encoder.layers.{layer}"), |b| encoder_layer(b, cfg, x))?;
        if layer + 1 == wanted {
            hidden = x;
        }
    }
    if cfg.final_norm {
        hidden = layer_norm(&mut b, "final_layer_norm", hidden, cfg.eps)?;
    }
    b.output(part::text::HIDDEN, hidden);
    if let Some(width) = cfg.projection {
        let last = layer_norm(&mut b, "final_layer_norm", x, cfg.eps)?;
        let pooled = linear(&mut b, "text_projection", last, width, Bias::No)?;
        b.output(part::text::POOLED, pooled);
    }
    Ok(b.finish())
}

/// The checkpoint component of an encoder by number: `text_encoder`, `text_encoder_2`.
pub fn root(encoder: usize) -> String {
    match encoder {
        0 => "text_encoder".into(),
        n => format!("text_encoder_{}", n + 1),
    }
}

fn encoder_layer(b: &mut Builder, cfg: &TextConfig, x: Operand) -> Result<Operand> {
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
