//! Noisy latents, a timestep and a text embedding to a prediction: the U-Net of the Stable Diffusion family.
//!
//! It is three plans. *context* turns a text embedding into keys and values, once per prompt; *time* turns timesteps
//! (with what else is embedded beside them) into one row each, once per picture; *step* is the rest. All three, and the
//! names of checkpoints, follow one walk through the blocks: [`UnetConfig::walk`].

mod blocks;
mod context;
mod step;
mod time;

pub use blocks::{UnetAttention, UnetBlock, UnetVisit};
pub use context::context;
pub use step::step;
pub use time::{size_embedding, time};

/// The shape of a U-Net.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetConfig {
    /// Latent channels in: 4, or 9 for inpainting checkpoints.
    pub in_channels: usize,
    /// Latent channels out.
    pub out_channels: usize,
    /// Down blocks, full resolution first; between two of them the resolution halves.
    pub down: Vec<UnetBlock>,
    /// The block at the lowest resolution, where there is one.
    pub middle: Option<UnetBlock>,
    /// Up blocks, lowest resolution first; as many as down blocks, each with one ResNet more than its counterpart.
    pub up: Vec<UnetBlock>,
    /// Width of the text embedding.
    pub context_width: usize,
    /// GroupNorm groups.
    pub groups: usize,
    /// GroupNorm epsilon of the ResNets (1e-5); the transformer blocks' GroupNorm uses 1e-6 and their LayerNorm 1e-5.
    pub eps: f32,
    /// Whether checkpoints of its family store the projections around the transformers as matrices, not as 1x1 kernels;
    /// what is computed is the same.
    pub linear: bool,
    /// What is embedded beside the timestep (SDXL).
    pub added: Option<AddedEmbedding>,
    /// Width of an embedded guidance scale (distilled models: 256).
    pub guidance: Option<usize>,
}

/// A vector beside the timestep: a pooled text embedding, then numbers as sinusoids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddedEmbedding {
    /// Width of the pooled text.
    pub pooled: usize,
    /// How many numbers: 6 (original height and width, crop top and left, target height and width), or 5 (height,
    /// width, top, left, aesthetic score).
    pub numbers: usize,
    /// Width of the sinusoids of one number.
    pub each: usize,
}

impl AddedEmbedding {
    /// Width of the whole vector.
    pub fn width(&self) -> usize {
        self.pooled + self.numbers * self.each
    }
}

impl UnetConfig {
    /// A U-Net of Stable Diffusion 1.x's kind: each level's channels, heads and whether it attends, full resolution
    /// first;
    /// `resnets` a level on the way down and one more on the way up, a middle with one transformer block.
    pub fn new(levels: &[(usize, usize, bool)], resnets: usize, context_width: usize) -> Self {
        let block = |resnets: usize, &(channels, heads, attends): &(usize, usize, bool)| UnetBlock {
            channels,
            heads,
            cross_only: false,
            depths: vec![usize::from(attends); resnets],
        };
        let middle = levels
            .last()
            .map(|&(channels, heads, _)| UnetBlock { depths: vec![1, 0], ..block(2, &(channels, heads, true)) });
        Self {
            in_channels: 4,
            out_channels: 4,
            down: levels.iter().map(|level| block(resnets, level)).collect(),
            middle,
            up: levels.iter().rev().map(|level| block(resnets + 1, level)).collect(),
            context_width,
            groups: 32,
            eps: 1e-5,
            linear: false,
            added: None,
            guidance: None,
        }
    }

    /// Stable Diffusion 1.5's.
    pub fn sd15() -> Self {
        Self::new(&[(320, 8, true), (640, 8, true), (1280, 8, true), (1280, 8, false)], 2, 768)
    }

    /// Channels at full resolution.
    pub fn first_channels(&self) -> usize {
        self.down.first().map_or(0, |block| block.channels)
    }

    /// What its family multiplies an autoencoder's latents by.
    pub fn latent_scale(&self) -> f32 {
        if self.added.is_some() { 0.13025 } else { 0.18215 }
    }
}

/// What a U-Net is told beside latents, timestep and prompt; none of it is usual.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnetInputs {
    /// Inpainting models: the mask (1 is painted anew) and the latents of the picture without what is under it,
    /// `[5][h][w]` of one picture that all share, or of each picture one after the other.
    pub masked: Option<Vec<f32>>,
}
