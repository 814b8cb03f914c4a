//! What a file is: its tensors recognised as the networks of a model, with their schedule, words and defaults.
//!
//! Every way of opening ends in the same canonical names: the ones of a diffusers folder with the component in front
//! (`unet.down_blocks.0.resnets.0.conv1.weight`, `vae.decoder.conv_in.bias`, `text_encoder.final_layer_norm.weight`).
//! Bytes and formats are read below, in [`crate::weights`]; nothing here draws.

use crate::error::Result;
use crate::models::Networks;
use crate::models::tokenizer::Tokenizer;
use crate::models::training::ScheduleConfig;
use crate::weights::WeightSource;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub mod adapter;
pub mod arch;
mod config;
mod defaults;
mod describe;
mod diffusers;
mod embedded;
mod embedding;
mod evidence;
mod hash;
mod hash_cache;
mod names;
mod open;
mod overlay;
mod parts;
mod random;
mod save;
#[cfg(test)]
mod tests;
mod upscaler;

pub use defaults::Defaults;
pub use describe::describe;
pub use embedding::read_embedding;
pub use evidence::{Evidence, Grounds};
pub use hash::{PUBLISHED_SD_V1_4, legacy_hash, model_hash, sha256_file, vae_hash};
pub use hash_cache::{cached_model_hash, cached_vae_hash};
pub use open::{is_autoencoder, open, open_autoencoder, open_with_text_encoder, open_with_unet, open_with_vae};
pub use overlay::open_over;
pub use save::{save_safetensors, save_safetensors_with};
pub use upscaler::open_upscaler;

/// Which model it is, as long as the process lives: no two ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId(u64);

impl ModelId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a checkpoint is: the networks that it holds, their training schedule, its words and where its tensors are.
pub struct Model {
    id: ModelId,
    /// What metadata calls it: the file's or folder's name without extension.
    pub name: String,
    /// Where it was read from; none for the embedded model.
    pub path: Option<PathBuf>,
    /// The tensors, under canonical names.
    pub source: Arc<dyn WeightSource>,
    /// The networks.
    pub networks: Networks,
    /// The training schedule.
    pub schedule: ScheduleConfig,
    /// The model's own vocabulary; none means OpenAI CLIP's. Read it with [`Model::tokenizer`].
    pub tokenizer: Option<TokenizerFiles>,
    /// The settings it was made for (the embedded model and diffusers folders say their size; the rest is SD 1.x's).
    pub defaults: Defaults,
    /// How it is known what the tensors do not show.
    pub evidence: Evidence,
}

impl Model {
    /// A model of its own, with the schedule and the defaults of SD 1.x and CLIP's words.
    pub fn new(name: impl Into<String>, source: Arc<dyn WeightSource>, networks: Networks) -> Self {
        Self {
            id: ModelId::next(),
            name: name.into(),
            path: None,
            source,
            networks,
            schedule: ScheduleConfig::default(),
            tokenizer: None,
            defaults: Defaults::default(),
            evidence: Evidence::default(),
        }
    }

    /// Other networks over the same tensors: a model of its own.
    #[must_use]
    pub fn with_networks(&self, networks: Networks) -> Self {
        Self {
            id: ModelId::next(),
            name: self.name.clone(),
            path: self.path.clone(),
            source: self.source.clone(),
            networks,
            schedule: self.schedule.clone(),
            tokenizer: self.tokenizer.clone(),
            defaults: self.defaults.clone(),
            evidence: self.evidence,
        }
    }

    /// The same networks over other tensors of the same shapes: a model of its own.
    #[must_use]
    pub fn over(&self, source: Arc<dyn WeightSource>) -> Self {
        Self { source, ..self.with_networks(self.networks.clone()) }
    }

    /// Its number: what loaded programs and packed weights are kept by.
    pub fn id(&self) -> ModelId {
        self.id
    }

    /// Its own tokenizer, or CLIP's.
    ///
    /// # Errors
    /// Bad file: its vocabulary cannot be used.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        match &self.tokenizer {
            Some(files) => Tokenizer::from_files(&files.vocab, &files.merges),
            None => Ok(Tokenizer::clip()),
        }
    }
}

/// A tokenizer folder's two files, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerFiles {
    /// `vocab.json`: token to id.
    pub vocab: String,
    /// `merges.txt`: one merge a line, most frequent first, after a `#version` line.
    pub merges: String,
}
