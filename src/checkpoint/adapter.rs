//! An adapter's file (LoRA and its kin) to what it changes of a model: every form, every spelling of a module's name.
//!
//! A file is a flat map from a module and a part of it to a tensor. `parts` cuts its keys, `names` knows each
//! spelling of each module that the model has, `forms` makes deltas of a module's parts, `fit` decides, from shapes
//! alone, whether the file belongs to the model. The arithmetic is in [`crate::weights`].

mod about;
mod blocks;
mod fit;
mod forms;
mod names;
mod parts;

pub use blocks::BlockWeights;
pub use fit::{check_adapters, with_adapters};

use crate::error::{Result, escape};
use crate::weights::SourceId;
use crate::weights::bytes::Bytes;
use crate::weights::format::raw;
use crate::weights::patch::delta::Factor;
use crate::weights::safetensors;
use crate::weights::table::RawFile;
use parts::{AdapterModule, ModulePart};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Values that a file holds beside its matrices at most: alphas and the like, one a module.
const MAX_MODULES: usize = 20_000;

/// A file of changes to a model's weights. Only its header and its scalars have been read.
pub struct AdapterFile {
    id: SourceId,
    /// The file's name without its ending.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    bytes: Arc<Bytes>,
    /// By the module's name as the file spells it.
    modules: BTreeMap<String, AdapterModule>,
    /// Keys that are no part of a module which is known.
    strange: Vec<String>,
    /// Textual inversion embeddings inside.
    embeddings: usize,
    metadata: BTreeMap<String, String>,
    hash: OnceLock<String>,
}

/// An adapter, and how much of it.
#[derive(Clone)]
pub struct AdapterUse {
    /// The file.
    pub adapter: Arc<AdapterFile>,
    /// What the prompt calls it.
    pub told: String,
    /// How much of what it does to text encoders.
    pub text: f32,
    /// How much of what it does to the U-Net.
    pub unet: f32,
    /// What the U-Net's blocks, and the text encoders, multiply that by.
    pub blocks: Option<Arc<BlockWeights>>,
}

impl AdapterUse {
    /// Whether it is the same of the same file.
    pub fn is(&self, other: &Self) -> bool {
        let numbers = |one: &Self| (one.adapter.id, one.text.to_bits(), one.unet.to_bits());
        numbers(self) == numbers(other) && self.blocks == other.blocks
    }
}

impl std::fmt::Debug for AdapterUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {}, {:?})", self.adapter.name, self.text, self.unet, self.blocks)
    }
}

/// What such files' keys hold, and no other file's.
const SIGNS: [&str; 12] = [
    ".lora_up.weight",
    ".lora_down.weight",
    ".lora_A.",
    ".lora_B.",
    "lora.up.weight",
    "lora_linear_layer.",
    ".hada_w1_",
    ".lokr_w",
    ".on_input",
    ".oft_",
    ".w_norm",
    ".diff",
];

impl AdapterFile {
    /// Reads a file's header and scalars; the content decides the format.
    ///
    /// # Errors
    /// Bad file: it cannot be read, is no adapter, or one of a kind that is not read, which is named.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(Bytes::open(path)?, path)
    }

    /// The same of bytes that are there already.
    ///
    /// # Errors
    /// As [`AdapterFile::open`].
    pub(crate) fn read(bytes: Bytes, path: &Path) -> Result<Self> {
        let RawFile { bytes, format, tensors, other, .. } = raw(bytes)?;
        let extras =
            if format == "safetensors" { safetensors::extras(&bytes)? } else { safetensors::Extras::default() };
        parts::refused(tensors.keys().chain(other.iter().map(|(name, _)| name))).map_err(|why| bytes.bad(why))?;
        let mut modules: BTreeMap<String, AdapterModule> = BTreeMap::new();
        let (mut strange, mut embeddings) = (Vec::new(), 0);
        let told: BTreeMap<&str, bool> =
            other.iter().filter_map(|(name, _)| Some((name.strip_suffix(".on_input")?, true))).collect();
        for (key, tensor) in &tensors {
            if key.starts_with("bundle_emb.") {
                embeddings += 1;
                continue;
            }
            let Some((module, part)) = parts::split(key, |module| told.contains_key(module)) else {
                strange.push(key.clone());
                continue;
            };
            if modules.len() >= MAX_MODULES && !modules.contains_key(&module) {
                return Err(bytes.bad(format!("has more than {MAX_MODULES} modules; it is damaged or hostile")));
            }
            let entry = modules.entry(module).or_default();
            let factor = Factor { name: key.clone(), tensor: tensor.clone() };
            match part {
                ModulePart::Alpha | ModulePart::Scale => {
                    let value = parts::scalar(&factor)?;
                    entry.numbers.insert(part, value);
                }
                part => drop(entry.factors.insert(part, factor)),
            }
        }
        for (key, dtype) in &other {
            match (parts::split(key, |_| false), extras.integers.get(key)) {
                (Some((module, part @ (ModulePart::Alpha | ModulePart::Scale | ModulePart::OnInput))), Some(value)) => {
                    modules.entry(module).or_default().numbers.insert(part, *value as f64);
                }
                (Some(_), _) => {
                    let (key, dtype) = (escape(key), escape(dtype));
                    let why = format!("{key} is of type {dtype}, which is not read; convert the file to safetensors");
                    return Err(bytes.bad(format!("{why} with f16 or f32 weights")));
                }
                (None, _) => strange.push(key.clone()),
            }
        }
        if modules.is_empty() {
            let first = tensors.keys().next().map_or_else(|| "nothing".into(), |name| escape(name));
            return Err(bytes.bad(format!("is no LoRA or other adapter that is read (its first tensor: {first})")));
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (id, path, metadata) = (SourceId::new(), path.to_path_buf(), extras.metadata);
        Ok(Self { id, name, path, bytes, modules, strange, embeddings, metadata, hash: OnceLock::new() })
    }

    /// Whether a file looks like one, whatever else may be wrong with it.
    pub fn is_one(path: &Path) -> bool {
        let Ok(file) = Bytes::open(path).and_then(raw) else { return false };
        let mut names = file.tensors.keys().chain(file.other.iter().map(|(name, _)| name));
        names.any(|name| SIGNS.iter().any(|sign| name.contains(sign)))
    }

    /// A text of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str).filter(|text| !text.is_empty() && *text != "None")
    }

    /// The name that its trainer gave it, which prompts may use too.
    pub fn alias(&self) -> Option<&str> {
        self.metadata("ss_output_name")
    }
}
