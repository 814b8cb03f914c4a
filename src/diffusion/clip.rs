//! Token rows to a text embedding: CLIP's text transformer.

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
