//! A checkpoint as a set of named tensors, whatever file or folder it came from.
//!
//! Every reader ends in the same canonical names: the ones of a diffusers folder with the component in front
//! (`unet.down_blocks.0.resnets.0.conv1.weight`, `vae.decoder.conv_in.bias`, `text_encoder.final_layer_norm.weight`).

use crate::diffusion::clip::ClipConfig;
use crate::diffusion::denoise::schedule::ScheduleConfig;
use crate::diffusion::unet::UnetConfig;
use crate::diffusion::vae::VaeConfig;
use crate::error::Result;
use std::path::PathBuf;
use std::sync::Arc;

pub mod arch;
mod bytes;
mod ckpt;
mod config;
mod convert;
mod describe;
mod diffusers;
mod embedded;
mod embedding;
mod hash;
mod hash_cache;
mod names;
mod open;
mod quantized;
mod random;
mod safetensors;
mod save;
mod table;
#[cfg(test)]
mod tests;

pub use convert::{decode_f32, encode};
pub use describe::describe;
pub use embedding::read_embedding;
pub use hash::{PUBLISHED_SD_V1_4, legacy_hash, model_hash, sha256_file, vae_hash};
pub use hash_cache::{cached_model_hash, cached_vae_hash};
pub use open::{open, open_with_vae};
pub use save::{save_safetensors, save_safetensors_with};

/// How a tensor's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of binary32.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// One tensor of a checkpoint, torch-shaped (`[out, in]`, `[out, in, 3, 3]`, `[c]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type in which it is read.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Number of elements. Readers have checked that this does not overflow.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in that type.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.bytes()
    }
}

/// How a file holds a tensor, which is not always how it reads: 8-bit rows read as f16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The type, for people.
    pub name: &'static str,
    /// Bytes in the file, scales included.
    pub bytes: usize,
}

/// Where a model's tensors come from: a file, a folder, an archive entry or bytes in the binary.
///
/// Names are canonical. Reads are positioned (`pread`), so a source can be shared between threads.
pub trait WeightSource: Send + Sync {
    /// The canonical names, sorted.
    fn names(&self) -> Vec<&str>;

    /// What is known of a tensor without reading it.
    fn info(&self, name: &str) -> Option<&TensorInfo>;

    /// Replaces `out` by the tensor's elements of [`TensorInfo::dtype`], little-endian, row-major.
    fn read(&self, name: &str, out: &mut Vec<u8>) -> Result<()>;

    /// Replaces `out` by rows `first .. first + count` of dimension 0, in the same form.
    fn read_rows(&self, name: &str, first: usize, count: usize, out: &mut Vec<u8>) -> Result<()>;

    /// How the file holds a tensor; as it reads, unless the source says otherwise.
    fn stored(&self, name: &str) -> Option<Stored> {
        self.info(name).map(|info| Stored { name: info.dtype.name(), bytes: info.bytes() })
    }

    /// The format, for people.
    fn about(&self) -> String {
        "in memory".into()
    }
}

/// What a checkpoint is: its architecture, its schedule, its words and where its tensors are.
pub struct Model {
    /// What metadata calls it: the file's or folder's name without extension.
    pub name: String,
    /// Where it was read from; none for the embedded model.
    pub path: Option<PathBuf>,
    /// The tensors, under canonical names.
    pub source: Arc<dyn WeightSource>,
    /// The text encoder.
    pub clip: ClipConfig,
    /// The U-Net.
    pub unet: UnetConfig,
    /// The autoencoder.
    pub vae: VaeConfig,
    /// The training schedule.
    pub schedule: ScheduleConfig,
    /// The model's own vocabulary; none means OpenAI CLIP's.
    pub tokenizer: Option<TokenizerFiles>,
    /// The settings it was made for (the embedded model and diffusers folders say their size; the rest is SD 1.x's).
    pub defaults: Defaults,
}

/// A tokenizer folder's two files, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerFiles {
    /// `vocab.json`: token to id.
    pub vocab: String,
    /// `merges.txt`: one merge a line, most frequent first, after a `#version` line.
    pub merges: String,
}

/// The settings that suit a model; the user's flags go first.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// Side of the square picture that the model was trained on, in pixels.
    pub size: usize,
    /// Sampler steps.
    pub steps: usize,
    /// Guidance scale.
    pub guidance: f32,
    /// Sampler name.
    pub sampler: String,
}

impl Default for Defaults {
    /// SD 1.x: 512 pixels, 20 steps of Euler a at guidance 7.5.
    fn default() -> Self {
        Self { size: 512, steps: 20, guidance: 7.5, sampler: "euler_a".into() }
    }
}
