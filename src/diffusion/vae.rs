//! Latents to pixels and back: the KL autoencoder.

/// The shape of a VAE.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels of each level, full resolution first.
    pub channels: Vec<usize>,
    /// ResNets per level in the encoder (the decoder has one more).
    pub blocks: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// GroupNorm groups.
    pub groups: usize,
    /// Latents are multiplied by this after encoding and divided by it before decoding.
    pub scaling: f32,
}

impl VaeConfig {
    /// Pixels per latent along a side: 8 for four levels.
    pub fn factor(&self) -> usize {
        1 << (self.channels.len() - 1)
    }
}
