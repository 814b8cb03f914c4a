//! The settings in a picture go in, an order's gaps come out filled; what was asked for wins.
//!
//! Values become what a user could have asked for and nothing else, so that they pass the same limits, and no name in a
//! picture is ever opened as a file.

mod author;
mod lacking;

pub use lacking::{Lacking, listed};

use super::order::Order;
use super::picture::Shelf;
use super::word::{Seed, Word};
use crate::checkpoint::{Model, legacy_hash, model_hash, sha256_file, vae_hash};
use crate::diffusion::Request;
use crate::diffusion::denoise::samplers::Family;
use crate::diffusion::denoise::sigmas::ScheduleKind;
use crate::diffusion::denoise::timesteps::Timesteps;
use crate::engine::devices::{NumberKind, WeightType};
use crate::error::{Error, Result, escape};
use crate::image::Texts;
use crate::image::parameters::Parameters;
use author::{is_webui, settings, webui_version};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

/// Settings that change no picture here, or are looked at elsewhere in this file.
const HARMLESS: [&str; 26] = [
    "Refiner",
    // What choices and wildcards were written; the prompt has what was chosen.
    "Template",
    "Negative Template",
    "Wildcard prompt",
    "Wildcard negative prompt",
    "Created Date",
    "Device",
    "Tensor cores",
    "TI hashes",
    "Model",
    "Model hash",
    "VAE",
    "VAE hash",
    "Denoising strength",
    "Init image hash",
    "Version",
    "Hashes",
    "Lora hashes",
    "Batch size",
    "Batch pos",
    "User",
    "SDCPP",
    "Guidance",
    "Conditional mask weight",
    "Face restoration model",
    "Variation seed",
];
/// Settings that change nothing while they have this value.
const NEUTRAL: [(&str, &str); 10] = [
    ("workflow", "txt2img"),
    ("Civitai metadata", "{}"),
    ("Civitai resources", "[]"),
    ("ENSD", "0"),
    ("Emphasis", "Original"),
    ("FP8 weight", "Disable"),
    ("Tiling", "False"),
    ("Token merging ratio", "0"),
    ("Noise multiplier", "1.0"),
    ("Cache FP16 weight for LoRA", "False"),
];

/// The settings that a picture was made with.
#[derive(Clone, Debug)]
pub struct Recipe(Parameters);

impl Recipe {
    /// The settings in a PNG's texts, or what the file is instead.
    ///
    /// # Errors
    /// A sentence: no settings, or those of another program.
    pub fn read(texts: &Texts) -> Result<Self, String> {
        settings(texts).map(Self)
    }

    /// The settings in the PNG of this name.
    ///
    /// # Errors
    /// What keeps it from being read. Bad file: no settings, or those of another program.
    pub fn of(name: &Path, shelf: &dyn Shelf) -> Result<Self> {
        Self::read(&shelf.texts(name)?).map_err(|why| Error::bad_file(name, why))
    }

    /// Fills what was not asked for, and tells what nobody here understands. The files that the order names are
    /// compared with those that the picture was made with.
    ///
    /// # Errors
    /// Usage: a value that is none. Cancelled, or what keeps a file from being read.
    pub fn fill(
        &self,
        order: &mut Order,
        models: &[PathBuf],
        shelf: &dyn Shelf,
        cancel: &AtomicBool,
    ) -> Result<Vec<Lacking>> {
        let mut lacking = self.settings(order)?;
        lacking.extend(self.model(order, models, cancel)?);
        lacking.extend(self.vae(order, cancel)?);
        lacking.extend(self.refiner(order, cancel)?);
        lacking.extend(self.picture(order, shelf)?);
        lacking.extend(super::tags::first(&self.0.prompt).map(Lacking::Tag));
        Ok(lacking)
    }

    /// Compares the embeddings that the picture was made with to those that were found.
    pub fn embeddings(&self, found: Option<&str>) -> Option<Lacking> {
        let wanted = self.0.get("TI hashes")?;
        (found != Some(wanted)).then(|| Lacking::Embeddings(wanted.into()))
    }

    /// The adapters that the picture was made with: names and the first digits of hashes.
    pub fn adapters(&self) -> Vec<(String, String)> {
        let all = self.0.get("Lora hashes").unwrap_or_default().split(',');
        all.filter_map(|one| one.split_once(':')).map(|(name, hash)| (name.trim().into(), hash.trim().into())).collect()
    }

    /// Compares the adapters that the picture was made with to those that a request has.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn other_adapters(&self, request: &Request) -> Result<Vec<Lacking>> {
        let mut lacking = Vec::new();
        for (name, hash) in self.adapters() {
            let mut same = false;
            for one in request.adapters.iter().filter(|one| one.told == name) {
                same |= one.adapter.is_hash(&hash)?;
            }
            if !same {
                lacking.push(Lacking::Adapter(format!("{name} [{hash}]")));
            }
        }
        Ok(lacking)
    }

    fn settings(&self, order: &mut Order) -> Result<Vec<Lacking>> {
        let p = &self.0;
        let mut lacking = Vec::new();
        let (own_sampler, own_schedule, own_eta) = (order.sampler, order.schedule, order.eta);
        // A sampler that was asked for by a name like `DPM++ 2M Karras` has its schedule.
        let scheduled = order.sampler.is_some_and(|named| named.schedule.is_some());
        for (key, value) in &p.entries {
            match key.as_str() {
                "Steps" => number(&mut order.steps, key, value)?,
                "Sampler" => word(&mut order.sampler, value)?,
                "Schedule type" if scheduled => {}
                "Schedule type" => word(&mut order.schedule, value)?,
                "CFG rescale" => number(&mut order.guidance_rescale, key, value)?,
                "CFG scale" => number(&mut order.guidance, key, value)?,
                "Seed" => seed(&mut order.seed, value)?,
                // That of the result, which the picture's follows from.
                "Size" if p.get("Outpaint").is_some() => {}
                "Size" => size(order, value)?,
                "Outpaint" if order.init_image.is_some() => word(&mut order.outpaint, value)?,
                _ if order.mask.is_some() && mask(order, key, value)? => {}
                "Clip skip" => number(&mut order.clip_skip, key, value)?,
                "Eta" | "Eta DDIM" => number(&mut order.eta, key, value)?,
                "RNG" => word(&mut order.rng, value)?,
                "Timesteps" => word(&mut order.timesteps, value)?,
                "Refiner switch at" => number(&mut order.refiner_switch, key, value)?,
                "Prediction" => word(&mut order.prediction, value)?,
                "Original size" => word(&mut order.original_size, value)?,
                "Crop" => word(&mut order.crop, value)?,
                "Target size" => word(&mut order.target_size, value)?,
                "Empty negative" => word(&mut order.empty_negative, value)?,
                "Resize mode" if order.init_image.is_some() => word(&mut order.resize_mode, value)?,
                "Variation seed strength" => number(&mut order.variation_strength, key, value)?,
                "Weight type" if value == "f32" => order.weight_type = order.weight_type.or(Some(WeightType::F32)),
                "Precision" if value == "bf16" || value == "f16" => precision(order, value)?,
                _ if HARMLESS.contains(&key.as_str()) => {}
                _ if NEUTRAL.iter().any(|(k, v)| k == key && v.eq_ignore_ascii_case(value)) => {}
                _ => lacking.push(Lacking::Setting(format!("{key}: {value}"))),
            }
        }
        // Alone it changes nothing, and may be there for another reason.
        if let Some(seed) = p.get("Variation seed").filter(|_| order.variation_strength.is_some()) {
            number(&mut order.variation_seed, "Variation seed", seed)?;
        }
        if own_sampler.is_none() && own_schedule.is_none() {
            lacking.extend(self.untold_schedule(order));
        }
        if own_eta.is_none() && self.is_sdcpp() {
            lacking.extend(untold_eta(order, p.get("Eta")));
        }
        let stepped = !order.sampler.is_some_and(|named| named.sampler.family == Family::Sigma);
        if order.timesteps.is_none() && stepped && p.get("Version").is_some_and(is_webui) {
            order.timesteps = Some(Timesteps::Webui);
        }
        order.prompt.get_or_insert_with(|| p.prompt.clone());
        order.negative_prompt.get_or_insert_with(|| p.negative_prompt.clone());
        Ok(lacking)
    }

    fn is_sdcpp(&self) -> bool {
        self.0.get("Version").is_some_and(|version| version.starts_with("stable-diffusion.cpp"))
    }

    /// The schedule where the text has none: programs that write none mean the uniform one, whatever the sampler's own
    /// is today. Who wrote it must be known.
    fn untold_schedule(&self, order: &mut Order) -> Option<Lacking> {
        let named = order.sampler.filter(|named| named.schedule.is_none() && order.schedule.is_none())?;
        let uniform = matches!(named.sampler.schedule, ScheduleKind::Uniform | ScheduleKind::Automatic);
        if named.sampler.family != Family::Sigma || named.sampler.distilled || uniform {
            return None;
        }
        let version = self.0.get("Version").unwrap_or_default();
        let before = webui_version(version).is_some_and(|(major, minor)| (major, minor) < (1, 9));
        // The only one that had a schedule of its own then.
        let fixed = named.sampler.name == "Restart";
        match (self.is_sdcpp(), before) {
            (true, _) => order.schedule = Some(ScheduleKind::Uniform),
            (false, true) if fixed => {}
            (false, true) => order.schedule = Some(ScheduleKind::Uniform),
            (false, false) => return Some(Lacking::Schedule(named.sampler.name.into())),
        }
        None
    }

    /// Chooses the model among some files, and tells if none of them is the picture's.
    fn model(&self, order: &mut Order, files: &[PathBuf], cancel: &AtomicBool) -> Result<Option<Lacking>> {
        let (name, hash) = (self.0.get("Model"), self.0.get("Model hash").map(str::to_ascii_lowercase));
        let is_hash = |path: &Path, hash: &str| -> Result<bool> {
            let own = if hash.len() == 8 { legacy_hash(path)? } else { sha256_file(path, cancel)? };
            Ok(hash.len() >= 8 && own.starts_with(hash))
        };
        let named = |path: &Path| is_named(path, name);
        let found = match (&hash, files) {
            (None, _) if name.is_none() => {
                order.model = files.first().cloned();
                return Ok(None);
            }
            (None, []) => Model::embedded().is_ok_and(|m| Some(m.name.as_str()) == name).then(PathBuf::new),
            (Some(hash), []) => {
                let own = Model::embedded().and_then(|m| model_hash(&m, cancel))?;
                (hash.len() >= 8 && own.starts_with(hash.as_str())).then(PathBuf::new)
            }
            (None, files) => files.iter().find(|f| named(f)).cloned(),
            (Some(hash), files) => {
                // The one of this name first: reading gigabytes takes time.
                let mut sorted: Vec<&PathBuf> = files.iter().collect();
                sorted.sort_by_key(|f| !named(f));
                let mut found = None;
                for file in sorted {
                    if is_hash(file, hash)? {
                        found = Some(file.clone());
                        break;
                    }
                }
                found
            }
        };
        let hash = hash.map(|h| format!(" [{h}]")).unwrap_or_default();
        let wanted = format!("Model: {}{hash}", name.unwrap_or_default());
        match (found, files) {
            (Some(file), [_, ..]) => order.model = Some(file),
            (Some(_), []) => {}
            (None, []) => return Ok(Some(Lacking::Model(wanted, false))),
            (None, [file]) => {
                order.model = Some(file.clone());
                return Ok(Some(Lacking::Model(wanted, true)));
            }
            (None, _) => {
                return Err(Error::usage(format!("none of the models given is the picture's {}", escape(&wanted))));
            }
        }
        Ok(None)
    }

    /// Tells if the VAE that was given is not the picture's: by its hash, or by its name where the picture has no hash.
    fn vae(&self, order: &Order, cancel: &AtomicBool) -> Result<Option<Lacking>> {
        let name = self.0.get("VAE").filter(|name| !matches!(*name, "None" | "Automatic"));
        let hash = self.0.get("VAE hash").map(str::to_ascii_lowercase).filter(|hash| hash != "none");
        if name.is_none() && hash.is_none() {
            return Ok(None);
        }
        let wanted =
            format!("VAE: {}{}", name.unwrap_or("?"), hash.as_ref().map(|h| format!(" [{h}]")).unwrap_or_default());
        let Some(path) = &order.vae else { return Ok(Some(Lacking::Vae(wanted, false))) };
        let same = match &hash {
            Some(hash) => hash.len() >= 8 && vae_hash(path, cancel)?.starts_with(hash.as_str()),
            None => is_named(path, name),
        };
        Ok((!same).then_some(Lacking::Vae(wanted, true)))
    }

    /// Tells if the refiner that was given is not the picture's: by its hash, or by its name where that is all.
    fn refiner(&self, order: &Order, cancel: &AtomicBool) -> Result<Option<Lacking>> {
        let Some(told) = self.0.get("Refiner").filter(|told| *told != "None") else { return Ok(None) };
        let wanted = format!("Refiner: {told}");
        let Some(path) = &order.refiner else { return Ok(Some(Lacking::Refiner(wanted, false))) };
        let hash = told.rsplit_once(" [").and_then(|(_, hash)| hash.strip_suffix(']'));
        let same = match hash.filter(|hash| hash.len() >= 8) {
            Some(hash) => sha256_file(path, cancel)?.starts_with(&hash.to_ascii_lowercase()),
            None => is_named(path, Some(told)),
        };
        Ok((!same).then_some(Lacking::Refiner(wanted, true)))
    }

    /// What the picture was made from.
    fn picture(&self, order: &mut Order, shelf: &dyn Shelf) -> Result<Option<Lacking>> {
        let Some(strength) = self.0.get("Denoising strength") else { return Ok(None) };
        if self.0.entries.iter().any(|(key, _)| key.starts_with("Hires")) {
            // A second pass, which is told apart.
            return Ok(None);
        }
        let Some(file) = &order.init_image else { return Ok(Some(Lacking::Picture(strength.into()))) };
        let other = match self.0.get("Init image hash").filter(|hash| hash.len() == 10) {
            Some(hash) => shelf.hash(file)? != *hash,
            None => false,
        };
        number(&mut order.strength, "Denoising strength", strength)?;
        Ok(other.then_some(Lacking::OtherPicture))
    }
}

/// Whether a file has this name, with or without its ending: programs differ.
fn is_named(path: &Path, name: Option<&str>) -> bool {
    [path.file_name(), path.file_stem()].iter().flatten().any(|own| own.to_str().is_some() && own.to_str() == name)
}

/// stable-diffusion.cpp writes an eta with every picture, and only later versions give it to samplers that draw noise.
fn untold_eta(order: &mut Order, eta: Option<&str>) -> Option<Lacking> {
    let eta = eta.filter(|eta| eta.trim().parse() == Ok(0.0_f32))?;
    // With the webui's samplers 0 is no noise, and without noise of its own a sampler does not ask.
    let own = order.sampler.is_some_and(|named| named.sampler.family == Family::Sigma && named.sampler.takes_eta());
    order.eta = None;
    own.then(|| Lacking::Eta(eta.to_owned()))
}

/// What a mask was used for, now that there is one; other settings are not its own.
fn mask(order: &mut Order, key: &str, value: &str) -> Result<bool> {
    match (key, value) {
        ("Mask blur", _) => number(&mut order.mask_blur, key, value)?,
        ("Inpaint area", "Whole picture") | ("Mask mode", "Inpaint masked") => {}
        ("Inpaint area", "Only masked") => order.only_masked = order.only_masked.or(Some(true)),
        ("Masked area padding", _) => number(&mut order.only_masked_padding, key, value)?,
        ("Masked content", _) => word(&mut order.inpaint_fill, value)?,
        ("Mask mode", "Inpaint not masked") => order.mask_invert = order.mask_invert.or(Some(true)),
        ("Soft mask", "True") => order.soft_mask = order.soft_mask.or(Some(true)),
        ("Mask hash", _) => {}
        _ => return Ok(false),
    }
    Ok(true)
}

fn number<T: FromStr>(gap: &mut Option<T>, key: &str, value: &str) -> Result<()> {
    if gap.is_none() {
        let wrong = |_| Error::usage(format!("its '{key}' is not a usable number: {}", escape(value)));
        *gap = Some(value.trim().parse().map_err(wrong)?);
    }
    Ok(())
}

fn word<T: Word>(gap: &mut Option<T>, value: &str) -> Result<()> {
    if gap.is_none() {
        *gap = Some(T::parse(value)?);
    }
    Ok(())
}

fn seed(gap: &mut Option<Seed>, value: &str) -> Result<()> {
    if gap.is_none() {
        let mut read: Option<u64> = None;
        number(&mut read, "Seed", value)?;
        *gap = read.map(Seed::Fixed);
    }
    Ok(())
}

fn precision(order: &mut Order, value: &str) -> Result<()> {
    if order.precision.is_none_or(|kind| kind == NumberKind::Auto) {
        order.precision = Some(Word::parse(value)?);
    }
    Ok(())
}

fn size(order: &mut Order, value: &str) -> Result<()> {
    let (w, h) = value.split_once('x').unwrap_or((value, ""));
    number(&mut order.width, "Size", w)?;
    number(&mut order.height, "Size", h)
}

#[cfg(test)]
mod tests;
