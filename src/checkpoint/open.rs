//! A path to a [`Model`]: the content decides the format, never the extension.

use super::config::{self, Sections};
use super::{Model, ModelId, arch, diffusers, names};
use crate::error::{Error, Result, escape};
use crate::models::autoencoder::kl::KlConfig;
use crate::models::training::{Prediction, ScheduleConfig, ZeroSnr};
use crate::models::{Autoencoder, Networks};
use crate::weights::WeightSource;
use crate::weights::bytes::Bytes;
use crate::weights::format::raw;
use crate::weights::table::{Located, RawFile, Replaced, Table};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Opens a checkpoint: a single file (safetensors or a zip-pickled .ckpt, original or canonical names) or a diffusers
/// folder. Only headers are read.
///
/// # Errors
/// Bad file: what is wrong or missing, where, and what to do.
pub fn open(path: &Path) -> Result<Model> {
    let kind = std::fs::metadata(path).map_err(|e| Error::bad_file(path, format!("cannot be opened: {e}")))?;
    if kind.is_dir() {
        return diffusers::open(path);
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut model = single(raw(Bytes::open(path)?)?, name)?;
    model.path = Some(path.to_path_buf());
    Ok(model)
}

/// A single file whose header has been read.
pub fn single(file: RawFile, name: String) -> Result<Model> {
    let RawFile { bytes, format, tensors, other, lienzo } = file;
    let sections = lienzo.map(|text| config::sections(&text)).transpose().map_err(|why| bytes.bad(why))?;
    let mut keys: Vec<&str> = tensors.keys().map(String::as_str).collect();
    // Names of tensors that are not read still tell what kind of file it is.
    keys.extend(other.iter().map(|(name, _)| name.as_str()));
    let canonical = names::single_file(&keys).map_err(|why| bytes.bad(why))?;
    let mut schedule = ScheduleConfig::default();
    // Empty tensors of these names are how fine-tuned v-prediction checkpoints say what they are.
    if keys.contains(&"v_pred") {
        schedule.prediction = Prediction::V;
        schedule.zero_snr = keys.contains(&"ztsnr").then_some(ZeroSnr::Webui);
    }
    let (read, unread) = canonical.split_at(tensors.len());
    let unread = unread.iter().zip(&other).find_map(|(name, (_, dtype))| name.as_ref().map(|n| (n, dtype)));
    let note = unread.map(|(name, dtype)| format!("; {name} is of type {}, which is not read", escape(dtype)));
    let about = format!("{format}, single file");
    let map = rename(tensors.values().cloned().zip(read.iter().cloned()));
    let parts = Parts { map, about, sections: sections.unwrap_or_default(), schedule, name };
    parts.model().map_err(|why| bytes.bad(format!("{why}{}", note.unwrap_or_default())))
}

/// Tensors under new names, 1x1 kernels as matrices, those without a name dropped.
pub fn rename(tensors: impl Iterator<Item = (Located, Option<String>)>) -> BTreeMap<String, Located> {
    tensors
        .filter_map(|(mut tensor, name)| {
            tensor.flatten_1x1();
            Some((name?, tensor))
        })
        .collect()
}

/// What every way of opening collects before the model is put together.
pub struct Parts {
    /// Tensors under canonical names.
    pub map: BTreeMap<String, Located>,
    /// The format, for people.
    pub about: String,
    /// The configs that came along.
    pub sections: Sections,
    /// The schedule, unless the sections have one.
    pub schedule: ScheduleConfig,
    /// The name, unless the sections have one.
    pub name: String,
}

impl Parts {
    /// Reads the configs, fills the gaps from the tensors' shapes, and checks that every tensor is there.
    ///
    /// # Errors
    /// A sentence that lacks the file's name.
    pub fn model(self) -> Result<Model, String> {
        let Self { map, about, sections, schedule, name } = self;
        let table = Table::new(map, about);
        // A part that is missing altogether gets one sentence, not the name of its first tensor.
        for (part, what) in [("unet.", "U-Net"), ("vae.", "VAE"), ("text_encoder.", "text encoder")] {
            if !table.names().iter().any(|n| n.starts_with(part)) {
                return Err(format!("holds no {what}; use a complete checkpoint"));
            }
        }
        let from = |part: &'static str| move |why: String| format!("its {part} configuration {why}");
        let clip = match &sections.text_encoder {
            Some(c) => config::clip(c).map_err(from("text encoder"))?,
            None => arch::clip(&table)?,
        };
        let unet = match &sections.unet {
            Some(c) => config::unet(c).map_err(from("U-Net"))?,
            None => arch::unet(&table)?,
        };
        let vae = match &sections.vae {
            Some(c) => config::vae(c).map_err(from("VAE"))?,
            None => arch::vae(&table)?,
        };
        let schedule = match &sections.scheduler {
            Some(c) => config::schedule(c).map_err(from("scheduler"))?,
            None => schedule,
        };
        let networks = Networks::new(clip, unet, vae);
        arch::sane(&networks)?;
        let required = arch::required(&networks);
        let remedy = "the file is incomplete or not of the Stable Diffusion 1.x/2.x family";
        arch::check(&table, &required).map_err(|why| format!("{why}; {remedy}"))?;
        Ok(Model {
            schedule,
            tokenizer: sections.tokenizer,
            defaults: sections.defaults.unwrap_or_default(),
            ..Model::new(sections.name.unwrap_or(name), Arc::new(table.keep(&required)), networks)
        })
    }
}

/// Replaces a model's VAE by one from a file (safetensors or ckpt; bare, `first_stage_model.` or diffusers' names) or a
/// diffusers folder (the VAE's own or a whole model's).
///
/// # Errors
/// Bad file: the file is no VAE, is incomplete, or its latents are not the model's.
pub fn open_with_vae(model: Model, vae_path: &Path) -> Result<Model> {
    let bad = |why: String| Error::bad_file(vae_path, why);
    let (map, config) = if vae_path.is_dir() {
        diffusers::vae_folder(vae_path)?
    } else {
        let RawFile { tensors, .. } = raw(Bytes::open(vae_path)?)?;
        let keys: Vec<&str> = tensors.keys().map(String::as_str).collect();
        let canonical = names::vae_file(&keys);
        (rename(tensors.values().cloned().zip(canonical)), None)
    };
    let table = Table::new(map, "file of its own");
    let latents = model.networks.latents();
    let vae = match config {
        Some(config) => config::vae(&config).map_err(bad)?,
        None => {
            let shapes = arch::vae(&table).map_err(|why| bad(format!("{why}; --vae takes a VAE")))?;
            KlConfig { scaling: latents.scale, shift: latents.shift, ..shapes }
        }
    };
    let networks = Networks { autoencoder: Some(Autoencoder::Kl(vae)), ..model.networks.clone() };
    arch::sane(&networks).map_err(bad)?;
    if networks.factor() != model.networks.factor() {
        let (has, wants) = (networks.factor(), model.networks.factor());
        return Err(bad(format!("is a VAE of {has} pixels per latent; the model needs one of {wants}")));
    }
    let mut required = arch::required(&networks);
    required.retain(|(name, _)| name.starts_with("vae."));
    arch::check(&table, &required).map_err(|why| bad(format!("{why}; it is not a complete VAE")))?;
    let source = Arc::new(Replaced { base: model.source.clone(), prefix: "vae.", with: table.keep(&required) });
    Ok(Model { id: ModelId::next(), source, networks, ..model })
}
