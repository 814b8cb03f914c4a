//! A path to a [`Model`]: the content decides the format, never the extension.

use super::config;
use super::parts::{Parts, Tensors, linear, rename, widths};
use super::{Grounds, Model, ModelId, arch, diffusers, evidence, names};
use crate::error::{Error, Result, escape};
use crate::models::autoencoder::kl::KlConfig;
use crate::models::training::{Prediction, ScheduleConfig, ZeroSnr};
use crate::models::{Autoencoder, Networks, Predictor};
use crate::weights::WeightSource;
use crate::weights::bytes::Bytes;
use crate::weights::format::raw;
use crate::weights::table::{RawFile, Replaced, Table};
use std::path::{Path, PathBuf};
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
    file_over(path, Vec::new())
}

/// A single file, with the tensors of others in the place of its own.
///
/// # Errors
/// As [`open`].
pub fn file_over(path: &Path, over: Vec<RawFile>) -> Result<Model> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut file = raw(Bytes::open(path)?)?;
    for RawFile { tensors, other, .. } in over {
        file.tensors.extend(tensors);
        file.other.extend(other);
    }
    let mut model = single(file, name)?;
    if let Some(prediction) = evidence::beside(path) {
        model = model.predicting(prediction, Grounds::Beside);
    }
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
    let names::Naming { names: canonical, openclip } = names::single_file(&keys).map_err(|why| bytes.bad(why))?;
    let mut schedule = ScheduleConfig::default();
    let mut grounds = Grounds::Family;
    // Empty tensors of these names are how fine-tuned v-prediction checkpoints say what they are.
    if keys.contains(&"v_pred") {
        (schedule.prediction, grounds) = (Prediction::V, Grounds::Marker);
        schedule.zero_snr = keys.contains(&"ztsnr").then_some(ZeroSnr::Webui);
    }
    let (read, unread) = canonical.split_at(tensors.len());
    let unread = unread.iter().zip(&other).find_map(|(names, (_, dtype))| names.first().map(|n| (&n.name, dtype)));
    let note = unread
        .map(|(name, dtype)| format!("; {name} is of type {}, which is not read: convert it to f16", escape(dtype)));
    let about = format!("{format}, single file");
    let linear = linear(tensors.iter());
    let map = rename(tensors.values().cloned().zip(read.iter().cloned()));
    let sections = sections.unwrap_or_default();
    let parts = Parts { map, about, sections, schedule, grounds, name, openclip, linear };
    parts.model().map_err(|why| bytes.bad(format!("{why}{}", note.unwrap_or_default())))
}

/// Replaces a model's VAE, or gives it one, from a file (safetensors or ckpt; bare, `first_stage_model.` or diffusers'
/// names; the KL autoencoder or the tiny one) or a diffusers folder (the VAE's own or a whole model's).
///
/// # Errors
/// Bad file: the file is no VAE, is incomplete, or its latents are not the model's.
pub fn open_with_vae(model: Model, vae_path: &Path) -> Result<Model> {
    let bad = |why: String| Error::bad_file(vae_path, why);
    let (map, config) = if vae_path.is_dir() {
        diffusers::vae_folder(vae_path)?
    } else {
        let mut map = vae_tensors(vae_path)?;
        // The halves of a tiny autoencoder are published in files of their own.
        if let Some(other) = other_half(vae_path) {
            map.extend(vae_tensors(&other)?);
        }
        (map, None)
    };
    let table = Table::new(map, "file of its own");
    let latents = model.networks.latents();
    let tiny = table.names().iter().any(|n| n.starts_with("vae.decoder.layers."));
    let encodes = table.names().iter().any(|n| n.starts_with("vae.encoder."));
    let vae = match config {
        Some(config) if config::is_tiny(&config) => {
            Autoencoder::Tiny(config::tiny(&config, arch::tiny(&table).map_err(bad)?).map_err(bad)?)
        }
        Some(config) => {
            let own = config::vae(&config).map_err(bad)?;
            let family = model.networks.family_scale();
            // Their shapes are equal, and their latents are not.
            if model.networks.predictor.is_some() && own.scaling != family {
                let (own, name) = (own.scaling, escape(&model.name));
                return Err(bad(format!(
                    "is a VAE whose latents are scaled by {own}; those of {name} are scaled by {family}: use a VAE of the \
                     model's own family"
                )));
            }
            Autoencoder::Kl(KlConfig { encodes, ..own })
        }
        None if tiny => Autoencoder::Tiny(arch::tiny(&table).map_err(bad)?),
        None => {
            let shapes = arch::vae(&table).map_err(|why| bad(format!("{why}; it is no VAE")))?;
            Autoencoder::Kl(KlConfig { scaling: model.networks.family_scale(), shift: latents.shift, ..shapes })
        }
    };
    let networks = Networks { autoencoder: Some(vae), ..model.networks.clone() };
    arch::sane(&networks).map_err(bad)?;
    if networks.predictor.is_some() && networks.factor() != model.networks.factor() {
        let (has, wants) = (networks.factor(), model.networks.factor());
        return Err(bad(format!("is a VAE of {has} pixels per latent; the model needs one of {wants}")));
    }
    replaced(model, networks, "vae.", table, vae_path, "VAE")
}

/// An autoencoder alone, as a model without text and U-Net: for comparisons. The file or folder is one of those that
/// [`open_with_vae`] takes.
///
/// # Errors
/// As [`open_with_vae`].
pub fn open_autoencoder(path: &Path) -> Result<Model> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let empty = Arc::new(Table::new(Tensors::new(), "autoencoder alone"));
    let model = open_with_vae(Model::new(name, empty, Networks::default()), path)?;
    Ok(Model { path: Some(path.to_path_buf()), ..model })
}

/// Whether a path is that of an autoencoder alone, by its names; what cannot be read is none.
pub fn is_autoencoder(path: &Path) -> bool {
    if path.is_dir() {
        return !path.join("unet").exists() && !path.join("vae").exists() && diffusers::vae_folder(path).is_ok();
    }
    let Ok(file) = Bytes::open(path).and_then(raw) else { return false };
    let keys: Vec<&str> = file.tensors.keys().map(String::as_str).collect();
    names::single_file(&keys).is_err() && names::vae_file(&keys).iter().any(Option::is_some)
}

fn vae_tensors(path: &Path) -> Result<Tensors> {
    let RawFile { bytes, tensors, other, .. } = raw(Bytes::open(path)?)?;
    let unread: Vec<&str> = other.iter().map(|(name, _)| name.as_str()).collect();
    let unread = names::vae_file(&unread).into_iter().zip(&other).find(|(known, _)| known.is_some());
    if let Some((_, (name, dtype))) = unread {
        let (name, dtype) = (escape(name), escape(dtype));
        return Err(bytes.bad(format!("{name} is of type {dtype}, which is not read: convert it to f16")));
    }
    let keys: Vec<&str> = tensors.keys().map(String::as_str).collect();
    let canonical = names::vae_file(&keys).into_iter().map(names::whole);
    Ok(rename(tensors.values().cloned().zip(canonical)))
}

/// The encoder's file beside a tiny decoder's, or the other way round.
fn other_half(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let other = [("decoder", "encoder"), ("encoder", "decoder")].into_iter().find_map(|(one, two)| {
        let other = path.with_file_name(name.replace(one, two));
        (name.contains("taesd") && name.contains(one) && other.is_file()).then_some(other)
    })?;
    Some(other)
}

/// Replaces a model's U-Net by one from a file (safetensors or ckpt, bare or with a prefix, in either layout) or a
/// diffusers folder (the U-Net's own or a whole model's).
///
/// # Errors
/// Bad file: the file holds no U-Net, is incomplete, or is of another family than the model's text encoders and VAE.
pub fn open_with_unet(model: Model, path: &Path) -> Result<Model> {
    let bad = |why: String| Error::bad_file(path, why);
    let (table, mut unet) = if path.is_dir() {
        let (map, config) = diffusers::unet_folder(path)?;
        (Table::new(map, "folder of its own"), config::unet(&config).map_err(bad)?)
    } else {
        let RawFile { tensors, .. } = raw(Bytes::open(path)?)?;
        let keys: Vec<&str> = tensors.keys().map(String::as_str).collect();
        let linear = linear(tensors.iter());
        let table = Table::new(rename(tensors.values().cloned().zip(names::unet_file(&keys))), "file of its own");
        let unet = arch::unet(&table, linear).map_err(|why| bad(format!("{why}; a U-Net is expected here")))?;
        (table, unet)
    };
    arch::fit_added(&mut unet, &model.networks.text).map_err(bad)?;
    let networks = Networks { predictor: Some(Predictor::Unet(unet)), ..model.networks.clone() };
    arch::sane(&networks).map_err(bad)?;
    replaced(model, networks, "unet.", table, path, "U-Net")
}

/// Replaces one of a model's text encoders, the one that is as wide, by one from a file (safetensors or ckpt, Hugging
/// Face's or OpenCLIP's names).
///
/// # Errors
/// Bad file: the file holds no text encoder, is incomplete, or is as wide as none of the model's.
pub fn open_with_text_encoder(model: Model, path: &Path) -> Result<Model> {
    let bad = |why: String| Error::bad_file(path, why);
    let RawFile { tensors, .. } = raw(Bytes::open(path)?)?;
    let keys: Vec<&str> = tensors.keys().map(String::as_str).collect();
    for (n, have) in model.networks.text.iter().enumerate() {
        let (canonical, open) = names::text_file(&keys, n);
        let table = Table::new(rename(tensors.values().cloned().zip(canonical)), "file of its own");
        let shapes =
            arch::text(&table, n, open).map_err(|why| bad(format!("{why}; a text encoder is expected here")))?;
        if shapes.width != have.width {
            continue;
        }
        let mut networks = model.networks.clone();
        // A file may hold a last layer that was cut off elsewhere, or lack it.
        let trained = (have.trained + shapes.layers).saturating_sub(have.layers).max(1);
        networks.text[n] = crate::models::text::TextConfig { layers: shapes.layers, trained, ..have.clone() };
        arch::sane(&networks).map_err(bad)?;
        let prefix = ["text_encoder.", "text_encoder_2."][n.min(1)];
        return replaced(model, networks, prefix, table, path, "text encoder");
    }
    Err(bad(format!("is not as wide as the model's text encoders ({})", widths(&model.networks.text))))
}

/// The model with other networks, of which those below `prefix` come from a table.
fn replaced(
    model: Model,
    networks: Networks,
    prefix: &'static str,
    table: Table,
    path: &Path,
    what: &str,
) -> Result<Model> {
    let bad = |why: String| Error::bad_file(path, why);
    let mut required = arch::required(&networks).map_err(bad)?;
    required.retain(|(name, _)| name.starts_with(prefix));
    arch::check(&table, &required).map_err(|why| bad(format!("{why}; it is not a complete {what}")))?;
    let source = Arc::new(Replaced { base: model.source.clone(), prefix, with: table.keep(&required) });
    Ok(Model { id: ModelId::next(), source, networks, ..model })
}
