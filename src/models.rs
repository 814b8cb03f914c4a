//! What the networks are: one file a network, with its configuration and its graphs, and nothing else.

pub mod autoencoder;
pub mod part;
pub mod text;
pub mod tokenizer;
pub mod training;
pub mod unet;
pub mod upscaler;

use crate::error::{Error, Result};
use autoencoder::kl::KlConfig;
use autoencoder::tiny::TinyConfig;
use text::TextConfig;
use unet::{AddedEmbedding, UnetConfig};
use upscaler::Upscaler;

/// The networks of a model: those that are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Networks {
    /// Text encoders, in the order in which their hidden states stand beside each other.
    pub text: Vec<TextConfig>,
    /// The network that predicts.
    pub predictor: Option<Predictor>,
    /// Pixels to latents and back.
    pub autoencoder: Option<Autoencoder>,
    /// Pixels to more pixels.
    pub upscaler: Option<Upscaler>,
}

/// The network that is asked at every step.
#[derive(Clone, Debug, PartialEq)]
pub enum Predictor {
    /// A U-Net.
    Unet(UnetConfig),
}

/// The network between pixels and latents.
#[derive(Clone, Debug, PartialEq)]
pub enum Autoencoder {
    /// The KL autoencoder.
    Kl(KlConfig),
    /// The tiny one.
    Tiny(TinyConfig),
}

/// What the latents of a model are: a sampler's value is `(autoencoder's - shift) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latents {
    /// Channels.
    pub channels: usize,
    /// What the autoencoder's latents are multiplied by.
    pub scale: f32,
    /// What is taken from them before.
    pub shift: f32,
}

impl Latents {
    /// A sampler's latents as the decoder takes them.
    pub fn to_autoencoder(&self, latents: &[f32]) -> Vec<f32> {
        let Self { scale, shift, .. } = *self;
        match shift == 0.0 {
            true => latents.iter().map(|v| v / scale).collect(),
            false => latents.iter().map(|v| v / scale + shift).collect(),
        }
    }

    /// An encoder's latents as the sampler takes them.
    pub fn to_sampler(&self, latents: &[f32]) -> Vec<f32> {
        latents.iter().map(|v| (v - self.shift) * self.scale).collect()
    }
}

impl Networks {
    /// One text encoder, a U-Net and a KL autoencoder.
    pub fn new(text: TextConfig, unet: UnetConfig, vae: KlConfig) -> Self {
        Self {
            text: vec![text],
            predictor: Some(Predictor::Unet(unet)),
            autoencoder: Some(Autoencoder::Kl(vae)),
            upscaler: None,
        }
    }

    /// A text encoder by number.
    ///
    /// # Errors
    /// Bad file: there is none of this number.
    pub fn encoder(&self, n: usize) -> Result<&TextConfig> {
        let lacks = || match self.text.len() {
            0 => lacking("text encoder"),
            have => Error::other(format!("the model has {have} text encoders; number {} is asked for", n + 1)),
        };
        self.text.get(n).ok_or_else(lacks)
    }

    /// The network that predicts.
    ///
    /// # Errors
    /// Bad file: there is none.
    pub fn predictor(&self) -> Result<&Predictor> {
        self.predictor.as_ref().ok_or_else(|| lacking("network that predicts"))
    }

    /// The autoencoder.
    ///
    /// # Errors
    /// Bad file: there is none.
    pub fn autoencoder(&self) -> Result<&Autoencoder> {
        self.autoencoder.as_ref().ok_or_else(|| lacking("VAE"))
    }

    /// The upscaler.
    ///
    /// # Errors
    /// Bad file: there is none.
    pub fn upscaler(&self) -> Result<&Upscaler> {
        self.upscaler.as_ref().ok_or_else(|| lacking("upscaler"))
    }

    /// Positions of one chunk of text, start and end tokens included.
    pub fn positions(&self) -> usize {
        self.text.first().map_or(77, |t| t.positions)
    }

    /// Width of a text embedding: that of all encoders side by side.
    pub fn text_width(&self) -> usize {
        self.text.iter().map(|t| t.width).sum()
    }

    /// What the latents are; where there is no autoencoder, what the network that predicts tells of them.
    pub fn latents(&self) -> Latents {
        match (&self.autoencoder, &self.predictor) {
            (Some(a), _) => a.latents(),
            (None, Some(p)) => p.latents(),
            (None, None) => Latents { channels: 4, scale: 1.0, shift: 0.0 },
        }
    }

    /// What the family's KL autoencoder scales its latents by.
    pub fn family_scale(&self) -> f32 {
        match (&self.autoencoder, &self.predictor) {
            (Some(Autoencoder::Kl(v)), _) => v.scaling,
            (_, Some(p)) => p.latents().scale,
            _ => 1.0,
        }
    }

    /// Pixels per latent along a side.
    pub fn factor(&self) -> usize {
        self.autoencoder.as_ref().map_or(8, Autoencoder::factor)
    }

    /// Channels of the latents that go into the network that predicts.
    pub fn in_channels(&self) -> usize {
        self.predictor.as_ref().map_or(0, Predictor::in_channels)
    }

    /// Whether the network that predicts is told a mask and a masked picture behind the noisy latents.
    pub fn inpaints(&self) -> bool {
        let channels = self.latents().channels;
        self.in_channels() == 2 * channels + 1
    }

    /// Widths of the keys and values of each cross-attention, keys and values counted: the outputs of the context part.
    pub fn keys_values(&self) -> Vec<usize> {
        self.predictor.as_ref().map_or_else(Vec::new, Predictor::keys_values)
    }

    /// Width of a row that the time part makes of a timestep.
    pub fn row_width(&self) -> usize {
        self.predictor.as_ref().map_or(0, Predictor::row_width)
    }

    /// What is embedded beside the timestep, where something is.
    pub fn added(&self) -> Option<AddedEmbedding> {
        match self.predictor.as_ref()? {
            Predictor::Unet(u) => u.added,
        }
    }

    /// Width of an embedded guidance scale, where the network was distilled to take one.
    pub fn guidance(&self) -> Option<usize> {
        match self.predictor.as_ref()? {
            Predictor::Unet(u) => u.guidance,
        }
    }

    /// Rows of a timestep in one call: one for all contexts, or one for each.
    pub fn times(&self, contexts: usize) -> usize {
        if self.conditions_time() { contexts } else { 1 }
    }

    /// Whether the rows of a timestep are others for each context.
    pub fn conditions_time(&self) -> bool {
        self.added().is_some() || self.guidance().is_some()
    }
}

fn lacking(what: &str) -> Error {
    let message = format!("the model has no {what}; use a complete checkpoint, or give the part in a file of its own");
    Error::new(crate::error::Kind::BadFile, message)
}

impl Predictor {
    /// Channels of the latents that go in.
    pub fn in_channels(&self) -> usize {
        match self {
            Self::Unet(u) => u.in_channels,
        }
    }

    /// Channels that come out.
    pub fn out_channels(&self) -> usize {
        match self {
            Self::Unet(u) => u.out_channels,
        }
    }

    /// Width of the text embedding.
    pub fn context_width(&self) -> usize {
        match self {
            Self::Unet(u) => u.context_width,
        }
    }

    /// As [`Networks::keys_values`].
    pub fn keys_values(&self) -> Vec<usize> {
        match self {
            Self::Unet(u) => u.cross_attentions().iter().map(|(_, c)| 2 * c).collect(),
        }
    }

    /// As [`Networks::row_width`].
    pub fn row_width(&self) -> usize {
        match self {
            Self::Unet(u) => u.time_width(),
        }
    }

    /// What the latents are as far as this network tells: its channels, and the scale of its family.
    pub fn latents(&self) -> Latents {
        match self {
            Self::Unet(u) => Latents { channels: u.out_channels, scale: u.latent_scale(), shift: 0.0 },
        }
    }
}

impl Autoencoder {
    /// What its latents are.
    pub fn latents(&self) -> Latents {
        match self {
            Self::Kl(v) => Latents { channels: v.latent_channels, scale: v.scaling, shift: v.shift },
            Self::Tiny(t) => Latents { channels: t.latent_channels, scale: t.scaling, shift: 0.0 },
        }
    }

    /// Whether pixels can be turned into latents.
    pub fn encodes(&self) -> bool {
        match self {
            Self::Kl(v) => v.encodes,
            Self::Tiny(t) => !t.encoder.is_empty(),
        }
    }

    /// Pixels per latent along a side.
    pub fn factor(&self) -> usize {
        match self {
            Self::Kl(v) => v.factor(),
            Self::Tiny(t) => t.factor(),
        }
    }
}
