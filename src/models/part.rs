//! Which graph of which network at which size: a [`Part`] and a model's networks go in, a graph comes out.
//!
//! A part's inputs and outputs are constants here, one module a part; nobody else spells their names.

use super::{Autoencoder, Networks, Predictor};
use crate::error::Result;
use crate::graph::Graph;

/// A graph of a model, at a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Token rows to hidden states, by one of the text encoders.
    Text {
        /// Which encoder.
        encoder: usize,
        /// Chunks of 77 tokens.
        chunks: usize,
        /// Which hidden state, as users count them: 1 is what the model was trained with.
        clip_skip: usize,
    },
    /// A text embedding to keys and values.
    Context {
        /// Embeddings.
        contexts: usize,
        /// Tokens of each.
        tokens: usize,
    },
    /// Timesteps to rows.
    Time {
        /// How many.
        timesteps: usize,
    },
    /// Noisy latents to what the model predicts.
    Step(StepShape),
    /// Latents to pixels; the size is that of the latents.
    Decode {
        /// Samples, height, width.
        size: (usize, usize, usize),
    },
    /// Pixels to latents; the size is that of the picture.
    Encode {
        /// Samples, height, width.
        size: (usize, usize, usize),
    },
    /// Pixels to more pixels; the size is that of the small picture.
    Upscale {
        /// Samples, height, width.
        size: (usize, usize, usize),
    },
}

/// Sizes of one call of the network that predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Latent samples: pictures. What comes before the first cross-attention is computed once for each.
    pub samples: usize,
    /// Text embeddings: `samples`, or twice as many with guidance (all unconditional, then all conditional).
    pub contexts: usize,
    /// Rows of the time input: 1 for all, or one for each context.
    pub times: usize,
    /// Latent height.
    pub h: usize,
    /// Latent width.
    pub w: usize,
    /// Tokens of each context: 77 a chunk.
    pub tokens: usize,
}

impl Part {
    /// Which of the parts it is, at whatever size.
    pub fn kind(&self) -> PartKind {
        match self {
            Self::Text { encoder, .. } => PartKind::Text(*encoder),
            Self::Context { .. } => PartKind::Context,
            Self::Time { .. } => PartKind::Time,
            Self::Step(_) => PartKind::Step,
            Self::Decode { .. } => PartKind::Decode,
            Self::Encode { .. } => PartKind::Encode,
            Self::Upscale { .. } => PartKind::Upscale,
        }
    }

    /// Every part that networks have, at the smallest size: their graphs name all the tensors that are ever needed.
    pub fn all(networks: &Networks) -> Vec<Self> {
        let mut all: Vec<Self> =
            (0..networks.text.len()).map(|encoder| Self::Text { encoder, chunks: 1, clip_skip: 1 }).collect();
        if networks.predictor.is_some() {
            // Large enough that the resolution halves as often as it may.
            let shape = StepShape { samples: 1, contexts: 1, times: 1, h: 256, w: 256, tokens: 1 };
            all.extend([Self::Context { contexts: 1, tokens: 1 }, Self::Time { timesteps: 1 }, Self::Step(shape)]);
        }
        if let Some(autoencoder) = &networks.autoencoder {
            all.push(Self::Decode { size: (1, 1, 1) });
            let side = autoencoder.factor();
            all.extend(autoencoder.encodes().then_some(Self::Encode { size: (1, side, side) }));
        }
        if let Some(upscaler) = &networks.upscaler {
            let side = upscaler.multiple();
            all.push(Self::Upscale { size: (1, side, side) });
        }
        all
    }

    /// Its graph for a model's networks.
    ///
    /// # Errors
    /// Bad file: the model lacks the network.
    pub fn graph(&self, networks: &Networks) -> Result<Graph> {
        match *self {
            Self::Text { encoder, chunks, clip_skip } => {
                super::text::text(networks.encoder(encoder)?, encoder, chunks, clip_skip)
            }
            Self::Context { contexts, tokens } => match networks.predictor()? {
                Predictor::Unet(cfg) => super::unet::context(cfg, contexts, tokens),
            },
            Self::Time { timesteps } => match networks.predictor()? {
                Predictor::Unet(cfg) => super::unet::time(cfg, timesteps),
            },
            Self::Step(shape) => match networks.predictor()? {
                Predictor::Unet(cfg) => super::unet::step(cfg, shape),
            },
            Self::Decode { size: (b, h, w) } => match networks.autoencoder()? {
                Autoencoder::Kl(cfg) => super::autoencoder::kl::decode(cfg, b, h, w),
                Autoencoder::Tiny(cfg) => super::autoencoder::tiny::decode(cfg, b, h, w),
            },
            Self::Encode { size: (b, h, w) } => match networks.autoencoder()? {
                autoencoder if !autoencoder.encodes() => Err(super::lacking("encoder beside its VAE's decoder")),
                Autoencoder::Kl(cfg) => super::autoencoder::kl::encode(cfg, b, h, w),
                Autoencoder::Tiny(cfg) => super::autoencoder::tiny::encode(cfg, b, h, w),
            },
            Self::Upscale { size: (b, h, w) } => networks.upscaler()?.graph(b, h, w),
        }
    }
}

/// A part without its size: programs of one kind share their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartKind {
    /// A text encoder, by number.
    Text(usize),
    /// Keys and values.
    Context,
    /// Rows of timesteps.
    Time,
    /// The network that predicts.
    Step,
    /// Latents to pixels.
    Decode,
    /// Pixels to latents.
    Encode,
    /// Pixels to more pixels.
    Upscale,
}

/// Of [`Part::Text`].
pub mod text {
    use crate::graph::{Input, Output};

    /// `[chunks, 1, positions, width]`: token plus position embedding, looked up on the host.
    pub const TOKENS: Input = Input::new("tokens");
    /// The same shape: the hidden state that the prompt becomes.
    pub const HIDDEN: Output = Output::new("hidden");
    /// `[chunks, 1, positions, projection]`, where the encoder has a projection.
    pub const POOLED: Output = Output::new("pooled");
}

/// Of [`Part::Context`].
pub mod context {
    use crate::graph::{Input, Output};

    /// `[contexts, 1, tokens, width]`: the hidden states of all encoders side by side.
    pub const CONTEXT: Input = Input::new("context");

    /// `[contexts, 1, tokens, 2c]`: keys and values of cross-attention number `n`.
    pub const fn keys_values(n: usize) -> Output {
        Output::numbered("keys_values", n)
    }
}

/// Of [`Part::Time`].
pub mod time {
    use crate::graph::{Input, Output};

    /// `[1, 1, T, 1]`.
    pub const TIMESTEPS: Input = Input::new("timesteps");
    /// `[1, 1, T, n]`, where the model takes it: pooled text, then the sinusoids of sizes.
    pub const ADDED: Input = Input::new("added");
    /// `[1, 1, T, n]`, where the model takes it: the embedding of a guidance scale.
    pub const GUIDANCE: Input = Input::new("guidance");
    /// `[1, 1, T, row_width]`: what each block adds, block after block.
    pub const ROWS: Output = Output::new("rows");
}

/// Of [`Part::Step`].
pub mod step {
    use crate::graph::{Input, Output};

    /// `[samples, h, w, c]`, with what else an inpainting model takes behind the noisy latents.
    pub const LATENTS: Input = Input::new("latents");
    /// `[times, 1, 1, row_width]`: rows out of [`super::time::ROWS`].
    pub const TIME: Input = Input::new("time");
    /// `[contexts, h, w, c]`.
    pub const OUTPUT: Output = Output::new("output");

    /// What [`super::context::keys_values`] of the same number gave.
    pub const fn keys_values(n: usize) -> Input {
        Input::numbered("keys_values", n)
    }
}

/// Of [`Part::Decode`].
pub mod decode {
    use crate::graph::{Input, Output};

    /// `[b, h, w, c]`, in the autoencoder's own scale.
    pub const LATENTS: Input = Input::new("latents");
    /// `[b, f h, f w, 3]` in [-1, 1], not clamped.
    pub const IMAGE: Output = Output::new("image");
}

/// Of [`Part::Encode`].
pub mod encode {
    use crate::graph::{Input, Output};

    /// `[b, h, w, 3]` in [-1, 1].
    pub const IMAGE: Input = Input::new("image");
    /// `[b, h/f, w/f, 2c]`: mean and log-variance, in the autoencoder's own scale; the mean alone where there is no
    /// variance.
    pub const MOMENTS: Output = Output::new("moments");
}

/// Of [`Part::Upscale`].
pub mod upscale {
    use crate::graph::{Input, Output};

    /// `[b, h/u, w/u, 3 u^2]` in [0, 1]: pixels, or where the network takes them so, u x u of them as channels.
    pub const IMAGE: Input = Input::new("image");
    /// `[b, s h, s w, 3]` in [0, 1], not clamped.
    pub const LARGE: Output = Output::new("large");
}
