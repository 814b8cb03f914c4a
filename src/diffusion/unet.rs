//! Noisy latents, a timestep and a text embedding to predicted noise: the U-Net.

/// One resolution level of the U-Net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnetLevel {
    /// Channels of its ResNet blocks.
    pub channels: usize,
    /// Attention heads (SD 1.x: 8 everywhere). Configs call this `attention_head_dim`, a historic misnomer.
    pub heads: usize,
    /// Whether each ResNet is followed by a transformer block.
    pub attention: bool,
}

/// The shape of a U-Net of the SD 1.x/2.x family.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetConfig {
    /// Latent channels in: 4, or 9 for inpainting checkpoints.
    pub in_channels: usize,
    /// Latent channels out.
    pub out_channels: usize,
    /// Levels, full resolution first.
    pub levels: Vec<UnetLevel>,
    /// ResNets per level on the way down (one more on the way up).
    pub blocks: usize,
    /// Width of the text embedding.
    pub context_width: usize,
    /// GroupNorm groups.
    pub groups: usize,
    /// GroupNorm epsilon of the ResNets (1e-5); the transformer blocks' GroupNorm uses 1e-6 and their LayerNorm 1e-5.
    pub eps: f32,
}
