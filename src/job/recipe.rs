//! The settings in a picture go in, an order's gaps come out filled; what was asked for wins.
//!
//! Values become what a user could have asked for and nothing else, so that they pass the same limits, and no name in a
//! picture is ever opened as a file.

use super::note::{Field, Phrase, phrase};
use super::order::Order;
use super::word::{Seed, Word};
use crate::checkpoint::{Model, legacy_hash, model_hash, sha256_file, vae_hash};
use crate::diffusion::denoise::samplers::Family;
use crate::diffusion::denoise::timesteps::Timesteps;
use crate::engine::devices::{NumberKind, WeightType};
use crate::error::{Error, Result, escape};
use crate::image::parameters::Parameters;
use crate::image::{PARAMETERS, Texts};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

/// Settings that change no picture here, or are looked at elsewhere in this file.
const HARMLESS: [&str; 19] = [
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
const NEUTRAL: [(&str, &str); 7] = [
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

/// What of a recipe cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// A setting that nobody here understands.
    Setting(String),
    /// Another model: its name and hash, and whether one was given.
    Model(String, bool),
    /// Another VAE: its name and hash, and whether one was given.
    Vae(String, bool),
    /// A picture to begin with: the strength.
    Picture(String),
    /// The picture that was given is another.
    OtherPicture,
    /// A tag in the prompt that would change the model.
    Tag(String),
    /// The embeddings.
    Embeddings(String),
}

impl Lacking {
    /// In words.
    pub fn phrase(&self) -> Phrase {
        match self {
            Self::Setting(text) => escape(text).into(),
            Self::Model(wanted, true) => phrase![escape(wanted), " (the file of ", Field::Model, " is another)"],
            Self::Model(wanted, false) => phrase![escape(wanted), " (give its file with ", Field::Model, ")"],
            Self::Vae(wanted, true) => phrase![escape(wanted), " (the file of ", Field::Vae, " is another)"],
            Self::Vae(wanted, false) => phrase![escape(wanted), " (give its file with ", Field::Vae, ")"],
            Self::Picture(strength) => phrase![
                format!("Denoising strength: {} (made from a picture: give that with ", escape(strength)),
                Field::InitImage,
                ")"
            ],
            Self::OtherPicture => phrase!["Init image hash (the picture of ", Field::InitImage, " is another)"],
            Self::Tag(tag) => format!("the {} in its prompt", escape(tag)).into(),
            Self::Embeddings(wanted) => format!("TI hashes: {} (give the same embeddings)", escape(wanted)).into(),
        }
    }
}

/// All of it as one list.
pub fn listed(lacking: &[Lacking]) -> Phrase {
    let mut out = Phrase::default();
    for (i, lacking) in lacking.iter().enumerate() {
        if i > 0 {
            out.0.push("; ".into());
        }
        out.0.extend(lacking.phrase().0);
    }
    out
}

impl Recipe {
    /// The settings in a PNG's texts, or what the file is instead.
    ///
    /// # Errors
    /// A sentence: no settings, or those of another program.
    pub fn read(texts: &Texts) -> Result<Self, String> {
        settings(texts).map(Self)
    }

    /// Fills what was not asked for, and tells what nobody here understands. The files that the order names are
    /// compared with those that the picture was made with.
    ///
    /// # Errors
    /// Usage: a value that is none. Cancelled, or what keeps a file from being read.
    pub fn fill(&self, order: &mut Order, models: &[PathBuf], cancel: &AtomicBool) -> Result<Vec<Lacking>> {
        let mut lacking = self.settings(order)?;
        lacking.extend(self.model(order, models, cancel)?);
        lacking.extend(self.vae(order, cancel)?);
        lacking.extend(self.picture(order, cancel)?);
        lacking.extend(super::tags::first(&self.0.prompt).map(Lacking::Tag));
        Ok(lacking)
    }

    /// Compares the embeddings that the picture was made with to those that were found.
    pub fn embeddings(&self, found: Option<&str>) -> Option<Lacking> {
        let wanted = self.0.get("TI hashes")?;
        (found != Some(wanted)).then(|| Lacking::Embeddings(wanted.into()))
    }

    fn settings(&self, order: &mut Order) -> Result<Vec<Lacking>> {
        let p = &self.0;
        let mut lacking = Vec::new();
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
                "Prediction" => word(&mut order.prediction, value)?,
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
        let stepped = !order.sampler.is_some_and(|named| named.sampler.family == Family::Sigma);
        if order.timesteps.is_none() && stepped && p.get("Version").is_some_and(is_webui) {
            order.timesteps = Some(Timesteps::Webui);
        }
        order.prompt.get_or_insert_with(|| p.prompt.clone());
        order.negative_prompt.get_or_insert_with(|| p.negative_prompt.clone());
        Ok(lacking)
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

    /// What the picture was made from.
    fn picture(&self, order: &mut Order, cancel: &AtomicBool) -> Result<Option<Lacking>> {
        let Some(strength) = self.0.get("Denoising strength") else { return Ok(None) };
        if self.0.entries.iter().any(|(key, _)| key.starts_with("Hires")) {
            // A second pass, which is told apart.
            return Ok(None);
        }
        let Some(file) = &order.init_image else { return Ok(Some(Lacking::Picture(strength.into()))) };
        let other = match self.0.get("Init image hash").filter(|hash| hash.len() == 10) {
            Some(hash) => !sha256_file(file, cancel)?.starts_with(hash),
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

/// The settings in a PNG's texts, or what the file is instead.
fn settings(texts: &Texts) -> Result<Parameters, String> {
    let text = |key: &str| texts.iter().find(|(k, _)| k == key).map(|(_, text)| text.as_str());
    let remedy = "; its settings are not the webui's: give them yourself";
    if let Some(text) = text(PARAMETERS) {
        if text.trim_start().starts_with('{') {
            let tool = if text.contains("sui_image_params") { "SwarmUI" } else { "a program that writes JSON" };
            return Err(format!("was written by {tool}{remedy}"));
        }
        let parameters = Parameters::parse(text);
        return if parameters.entries.is_empty() {
            Err("holds a prompt but no settings; give them yourself".into())
        } else {
            Ok(parameters)
        };
    }
    match author(&text) {
        Some(tool) => Err(format!("was written by {tool}{remedy}")),
        None => Err("holds no settings; programs that send pictures often remove them".into()),
    }
}

/// The program that wrote these texts, where they tell.
fn author<'t>(text: &impl Fn(&str) -> Option<&'t str>) -> Option<&'static str> {
    let json = |key: &str| text(key).is_some_and(|text| text.trim_start().starts_with('{'));
    let says = |key: &str, word: &str| text(key).is_some_and(|text| text.contains(word));
    let invoke = ["invokeai_metadata", "invokeai_graph", "sd-metadata", "Dream"];
    match () {
        () if invoke.iter().any(|key| text(key).is_some()) => Some("InvokeAI"),
        () if json("workflow") || json("prompt") => Some("ComfyUI"),
        () if text("fooocus_scheme").is_some() => Some("Fooocus"),
        // Others write comments too, GIMP for one.
        () if says("Software", "NovelAI") || says("Source", "NovelAI") || json("Comment") => Some("NovelAI"),
        () if text("prompt").is_some() => Some("a program that keeps each setting apart, as Easy Diffusion does"),
        () => None,
    }
}

/// `v1.10.1`, or Forge's `f2.0.1v1.10.1-...`; others name themselves.
fn is_webui(version: &str) -> bool {
    let digits = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let plain = |v: &str| v.strip_prefix('v').is_some_and(digits);
    plain(version) || version.strip_prefix('f').is_some_and(|rest| digits(rest) && rest.contains("v1."))
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
mod tests {
    use super::*;

    fn texts(list: &[(&str, &str)]) -> Texts {
        list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn other_programs_are_named() {
        for (key, text, tool) in [
            ("prompt", "{\"3\": {}}", "ComfyUI"),
            ("workflow", "{}", "ComfyUI"),
            ("invokeai_metadata", "{}", "InvokeAI"),
            ("parameters", "{\"sui_image_params\": {}}", "SwarmUI"),
            ("parameters", "just a prompt", "no settings"),
            ("Software", "GIMP", "holds no settings"),
            ("Comment", "Created with GIMP", "holds no settings"),
            ("Comment", "{\"steps\": 28}", "NovelAI"),
            ("Software", "NovelAI", "NovelAI"),
            ("prompt", "a red apple", "Easy Diffusion"),
        ] {
            let why = settings(&texts(&[(key, text)])).unwrap_err();
            assert!(why.contains(tool), "{key}: {why}");
        }
        let p = settings(&texts(&[("prompt", "{}"), ("parameters", "x\nSteps: 1, Seed: 2, Size: 8x8")]));
        assert_eq!(p.unwrap().prompt, "x");
    }

    #[test]
    fn versions_of_the_webui() {
        for version in ["v1.10.1", "v1.6.0-2-g4afaaf8a", "f2.0.1v1.10.1-previous-664-gd557aef9"] {
            assert!(is_webui(version), "{version}");
        }
        for version in ["Lienzo v0.1.0", "stable-diffusion.cpp", "ComfyUI", "f", ""] {
            assert!(!is_webui(version), "{version}");
        }
    }
}
