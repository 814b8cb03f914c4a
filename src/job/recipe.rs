//! The settings in a picture go in, an order's gaps come out filled; what was asked for wins.
//!
//! Values become what a user could have asked for and nothing else, so that they pass the same limits, and no name in a
//! picture is ever opened as a file.

use super::note::{Field, Phrase, phrase};
use super::order::Order;
use super::word::{Seed, Word};
use crate::checkpoint::{Model, legacy_hash, model_hash, sha256_file, vae_hash};
use crate::diffusion::denoise::samplers::Family;
use crate::diffusion::denoise::sigmas::ScheduleKind;
use crate::diffusion::denoise::timesteps::Timesteps;
use crate::engine::devices::{NumberKind, WeightType};
use crate::error::{Error, Result, escape};
use crate::image::parameters::Parameters;
use crate::image::{PARAMETERS, Texts};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

/// Settings that change no picture here, or are looked at elsewhere in this file.
const HARMLESS: [&str; 20] = [
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
const NEUTRAL: [(&str, &str); 9] = [
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

/// What of a recipe cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// A share of noise that the program's version decides the meaning of.
    Eta(String),
    /// A schedule that the text does not tell: the sampler's name.
    Schedule(String),
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
            Self::Eta(value) => phrase![
                format!(
                    "Eta: {} (which older versions of stable-diffusion.cpp wrote without using it: give ",
                    escape(value)
                ),
                Field::Eta,
                " 1 or 0)"
            ],
            Self::Schedule(sampler) => phrase![
                format!("the schedule of {} (its text does not tell it: give it with ", escape(sampler)),
                Field::Schedule,
                ")"
            ],
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

/// stable-diffusion.cpp writes an eta with every picture, and only later versions give it to samplers that draw noise.
fn untold_eta(order: &mut Order, eta: Option<&str>) -> Option<Lacking> {
    let eta = eta.filter(|eta| eta.trim().parse() == Ok(0.0_f32))?;
    // With the webui's samplers 0 is no noise, and without noise of its own a sampler does not ask.
    let own = order.sampler.is_some_and(|named| named.sampler.family == Family::Sigma && named.sampler.takes_eta());
    order.eta = None;
    own.then(|| Lacking::Eta(eta.to_owned()))
}

/// Major and minor number of the webui's version, or of the one that Forge was made from.
fn webui_version(version: &str) -> Option<(u32, u32)> {
    if !is_webui(version) {
        return None;
    }
    let mut numbers = version[version.find('v')? + 1..].split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
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

    /// The order that a text gives, and what it lacks.
    fn filled(text: &str) -> (Order, Vec<String>) {
        let recipe =
            Recipe::read(&texts(&[("parameters", &format!("x\nSteps: 4, Seed: 1, Size: 64x64, {text}"))])).unwrap();
        let mut order = Order::default();
        let lacking = recipe.fill(&mut order, &[], &AtomicBool::new(false)).unwrap();
        (order, lacking.iter().map(|l| l.phrase().to_string()).collect())
    }

    #[test]
    fn a_schedule_that_was_not_written_is_what_its_program_meant() {
        let schedule = |text: &str| (filled(text).0.schedule, filled(text).1.len());
        let uniform = (Some(ScheduleKind::Uniform), 0);
        assert_eq!(schedule("Sampler: dpm++2m, Version: stable-diffusion.cpp"), uniform);
        assert_eq!(schedule("Sampler: DPM++ 2M, Version: v1.6.0"), uniform);
        assert_eq!(schedule("Sampler: DPM++ SDE, Version: f2.0.1v1.8.0-x"), uniform);
        // What is told, or was the same then.
        assert_eq!(schedule("Sampler: DPM++ 2M Karras, Version: v1.6.0"), (None, 0));
        assert_eq!(schedule("Sampler: Restart, Version: v1.6.0"), (None, 0));
        assert_eq!(schedule("Sampler: Euler a"), (None, 0));
        let told = "Sampler: DPM++ 2M, Schedule type: Karras, Version: v1.10.1";
        assert_eq!(schedule(told), (Some(ScheduleKind::Karras), 0));
        // Nobody can know.
        for text in ["Sampler: DPM++ 2M", "Sampler: dpmpp_2m, Version: ComfyUI"] {
            let lacking = filled(text).1;
            assert!(lacking.len() == 1 && lacking[0].contains("the schedule of DPM++ 2M"), "{lacking:?}");
        }
    }

    #[test]
    fn an_eta_that_may_mean_nothing_is_not_guessed() {
        let sdcpp = |sampler: &str, eta: &str| {
            filled(&format!("Eta: {eta}, Sampler: {sampler}, Version: stable-diffusion.cpp"))
        };
        let (order, lacking) = sdcpp("euler_a", "0.000000");
        assert!(order.eta.is_none() && lacking[0].starts_with("Eta: 0.000000"), "{lacking:?}");
        assert_eq!(sdcpp("euler", "0.000000").1, Vec::<String>::new());
        assert_eq!((sdcpp("euler_a", "0.500000").0.eta, sdcpp("euler_a", "0.5").1.len()), (Some(0.5), 0));
        assert_eq!(filled("Eta: 0, Sampler: Euler a, Version: v1.10.1").0.eta, Some(0.0));
    }

    #[test]
    fn what_changes_nothing_stops_nothing() {
        let text = "Sampler: Euler, Created Date: 2025-01-01T10:00:00.1Z, Civitai resources: [], Civitai metadata: {}";
        assert_eq!(filled(text).1, Vec::<String>::new());
        let resources = "[{\"type\":\"lora\",\"weight\":0.8,\"modelVersionId\":7}]";
        let lacking = filled(&format!("Sampler: Euler, Civitai resources: {resources}, Created Date: x")).1;
        assert_eq!(lacking, [format!("Civitai resources: {resources}")]);
    }

    #[test]
    fn seeds_of_64_bits_are_repeated() {
        let recipe =
            Recipe::read(&texts(&[("parameters", "x\nSteps: 4, Seed: 12345678901234567890, Size: 64x64")])).unwrap();
        let mut order = Order::default();
        recipe.fill(&mut order, &[], &AtomicBool::new(false)).unwrap();
        assert_eq!(order.seed, Some(Seed::Fixed(12_345_678_901_234_567_890)));
    }

    #[test]
    fn versions_of_the_webui() {
        for version in ["v1.10.1", "v1.6.0-2-g4afaaf8a", "f2.0.1v1.10.1-previous-664-gd557aef9"] {
            assert!(is_webui(version), "{version}");
        }
        assert_eq!(webui_version("v1.6.0-2-g4afaaf8a"), Some((1, 6)));
        assert_eq!(webui_version("f2.0.1v1.10.1-previous-664-gd557aef9"), Some((1, 10)));
        assert_eq!(webui_version("stable-diffusion.cpp"), None);
        for version in ["Lienzo v0.1.0", "stable-diffusion.cpp", "ComfyUI", "f", ""] {
            assert!(!is_webui(version), "{version}");
        }
    }
}
