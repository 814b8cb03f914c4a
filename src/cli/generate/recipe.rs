//! A picture of `--from-image` goes in, the flags that repeat it come out; flags that were given win.
//!
//! Values become flags and nothing else, so that they pass the limits of flags, and no name in a picture is ever opened
//! as a file.

use super::GenerateArgs;
use lienzo::checkpoint::{Model, legacy_hash, model_hash, sha256_file, vae_hash};
use lienzo::diffusion::denoise::samplers::{self, Family};
use lienzo::error::{Error, Result, escape};
use lienzo::image::parameters::Parameters;
use lienzo::image::{Limits, PARAMETERS, Texts, read_png};
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

/// Fills the flags that were not given from the picture of `--from-image`, if there is one; gives its embeddings'
/// hashes, for [`check_embeddings`].
///
/// # Errors
/// Bad file: no settings, or those of another program. Usage: settings that cannot be honoured.
pub fn apply(args: &mut GenerateArgs, cancel: &AtomicBool) -> Result<Option<String>> {
    let Some(path) = args.from_image.clone() else { return Ok(None) };
    let (_, texts) = read_png(&path, Limits::default())?;
    let p = settings(&texts).map_err(|why| Error::bad_file(&path, why))?;
    let mut lacking = fill(args, &p).map_err(|e| e.at(escape(&path.to_string_lossy())))?;
    lacking.extend(model(args, &p, cancel)?);
    lacking.extend(vae(args, &p, cancel)?);
    lacking.extend(picture(args, &p, cancel)?);
    if p.prompt.contains("<lora:") || p.prompt.contains("<hypernet:") {
        lacking.push("the <lora:...> in its prompt".into());
    }
    refuse(args, &path, &lacking)?;
    Ok(p.get("TI hashes").map(str::to_string))
}

/// Compares the embeddings that the picture was made with to those that were found.
///
/// # Errors
/// Usage: they are others.
pub fn check_embeddings(args: &GenerateArgs, wanted: Option<String>, found: Option<String>) -> Result<()> {
    let (Some(path), Some(wanted)) = (&args.from_image, wanted) else { return Ok(()) };
    let same = found.as_ref() == Some(&wanted);
    let lacking = if same { Vec::new() } else { vec![format!("TI hashes: {wanted} (give the same embeddings)")] };
    refuse(args, path, &lacking)
}

fn refuse(args: &GenerateArgs, path: &Path, lacking: &[String]) -> Result<()> {
    if lacking.is_empty() {
        return Ok(());
    }
    let list = lacking.iter().map(|l| escape(l)).collect::<Vec<_>>().join("; ");
    if args.ignore_unsupported {
        eprintln!("note: the picture will differ; not honoured: {list}");
        return Ok(());
    }
    let name = escape(&path.to_string_lossy());
    Err(Error::usage(format!(
        "{name} cannot be repeated exactly; not honoured: {list}; --ignore-unsupported goes on without"
    )))
}

/// The settings in a PNG's texts, or what the file is instead.
fn settings(texts: &Texts) -> Result<Parameters, String> {
    let text = |key: &str| texts.iter().find(|(k, _)| k == key).map(|(_, text)| text.as_str());
    let remedy = "; its settings are not the webui's: give them as flags";
    if let Some(text) = text(PARAMETERS) {
        if text.trim_start().starts_with('{') {
            let tool = if text.contains("sui_image_params") { "SwarmUI" } else { "a program that writes JSON" };
            return Err(format!("was written by {tool}{remedy}"));
        }
        let parameters = Parameters::parse(text);
        return if parameters.entries.is_empty() {
            Err("holds a prompt but no settings; give them as flags".into())
        } else {
            Ok(parameters)
        };
    }
    let known = [
        ("invokeai_metadata", "InvokeAI"),
        ("invokeai_graph", "InvokeAI"),
        ("sd-metadata", "InvokeAI"),
        ("Dream", "InvokeAI"),
        ("workflow", "ComfyUI"),
        ("prompt", "ComfyUI"),
        ("fooocus_scheme", "Fooocus"),
        ("Comment", "NovelAI"),
    ];
    match known.iter().find(|(key, _)| text(key).is_some()) {
        Some((_, tool)) => Err(format!("was written by {tool}{remedy}")),
        None => Err("holds no settings; programs that send pictures often remove them".into()),
    }
}

/// Fills what was not given, and tells what nobody here understands.
fn fill(args: &mut GenerateArgs, p: &Parameters) -> Result<Vec<String>> {
    let mut lacking = Vec::new();
    for (key, value) in &p.entries {
        match key.as_str() {
            "Steps" => number(&mut args.steps, key, value)?,
            "Sampler" if args.plms => {}
            "Sampler" => text(&mut args.sampling_method, value),
            "Schedule type" => text(&mut args.scheduler, value),
            "CFG scale" => number(&mut args.cfg_scale, key, value)?,
            "Seed" => number(&mut args.seed, key, value)?,
            // That of the result, which the picture's follows from.
            "Size" if p.get("Outpaint").is_some() => {}
            "Size" => size(args, value)?,
            "Outpaint" if args.init_img.is_some() => text(&mut args.inpaint.outpaint, value),
            _ if args.inpaint.mask.is_some() && mask(args, key, value)? => {}
            "Clip skip" => number(&mut args.clip_skip, key, value)?,
            "Eta" | "Eta DDIM" => number(&mut args.eta, key, value)?,
            "RNG" => text(&mut args.rng, value),
            "Timesteps" => text(&mut args.timesteps, value),
            "Prediction" => text(&mut args.prediction, value),
            "Resize mode" if args.init_img.is_some() => text(&mut args.resize_mode, value),
            "Variation seed strength" => number(&mut args.variation_strength, key, value)?,
            "Weight type" if value == "f32" => args.device.weight_type = value.clone(),
            "Precision" if value == "bf16" || value == "f16" => {
                if args.device.precision.eq_ignore_ascii_case("auto") {
                    args.device.precision = value.clone();
                }
            }
            _ if HARMLESS.contains(&key.as_str()) => {}
            _ if NEUTRAL.iter().any(|(k, v)| k == key && v.eq_ignore_ascii_case(value)) => {}
            _ => lacking.push(format!("{key}: {value}")),
        }
    }
    // Alone it changes nothing, and may be there for another reason.
    if let Some(seed) = p.get("Variation seed").filter(|_| args.variation_strength.is_some()) {
        number(&mut args.variation_seed, "Variation seed", seed)?;
    }
    let levels = |name: &String| samplers::find_named(name).is_ok_and(|n| n.sampler.family == Family::Sigma);
    let stepped = !args.sampling_method.as_ref().is_some_and(levels);
    if args.timesteps.is_none() && stepped && p.get("Version").is_some_and(is_webui) {
        args.timesteps = Some("webui".into());
    }
    if args.prompt.is_none() && args.prompt_flag.is_none() {
        args.prompt = Some(p.prompt.clone());
    }
    if args.negative_prompt.is_none() {
        args.negative_prompt = Some(p.negative_prompt.clone());
    }
    Ok(lacking)
}

/// `v1.10.1`, or Forge's `f2.0.1v1.10.1-...`; others name themselves.
fn is_webui(version: &str) -> bool {
    let digits = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let plain = |v: &str| v.strip_prefix('v').is_some_and(digits);
    plain(version) || version.strip_prefix('f').is_some_and(|rest| digits(rest) && rest.contains("v1."))
}

/// What a mask was used for, now that there is one; other settings are not its own.
fn mask(args: &mut GenerateArgs, key: &str, value: &str) -> Result<bool> {
    let given = &mut args.inpaint;
    match (key, value) {
        ("Mask blur", _) => number(&mut given.mask_blur, key, value)?,
        ("Inpaint area", "Whole picture") | ("Mask mode", "Inpaint masked") => {}
        ("Inpaint area", "Only masked") => given.only_masked = true,
        ("Masked area padding", _) => number(&mut given.only_masked_padding, key, value)?,
        ("Masked content", _) => text(&mut given.inpaint_fill, value),
        ("Mask mode", "Inpaint not masked") => given.mask_invert = true,
        ("Soft mask", "True") => given.soft_mask = true,
        ("Mask hash", _) => {}
        _ => return Ok(false),
    }
    Ok(true)
}

fn number<T: FromStr>(flag: &mut Option<T>, key: &str, value: &str) -> Result<()> {
    if flag.is_none() {
        let wrong = |_| Error::usage(format!("its '{key}' is not a usable number: {}", escape(value)));
        *flag = Some(value.trim().parse().map_err(wrong)?);
    }
    Ok(())
}

fn text(flag: &mut Option<String>, value: &str) {
    if flag.is_none() {
        *flag = Some(value.to_string());
    }
}

fn size(args: &mut GenerateArgs, value: &str) -> Result<()> {
    let (w, h) = value.split_once('x').unwrap_or((value, ""));
    number(&mut args.width, "Size", w)?;
    number(&mut args.height, "Size", h)
}

/// Chooses the model among the files of `-m`, and tells if none of them is the picture's.
fn model(args: &mut GenerateArgs, p: &Parameters, cancel: &AtomicBool) -> Result<Option<String>> {
    let (name, hash) = (p.get("Model"), p.get("Model hash").map(str::to_ascii_lowercase));
    let files = args.model.model.clone();
    let is_hash = |path: &Path, hash: &str| -> Result<bool> {
        let own = if hash.len() == 8 { legacy_hash(path)? } else { sha256_file(path, cancel)? };
        Ok(hash.len() >= 8 && own.starts_with(hash))
    };
    let named = |path: &PathBuf| path.file_stem().map(|s| s.to_string_lossy().into_owned()).as_deref() == name;
    let found = match (&hash, files.as_slice()) {
        (None, _) if name.is_none() => return Ok(None),
        (None, []) => Model::embedded().is_ok_and(|m| Some(m.name.as_str()) == name).then(PathBuf::new),
        (Some(hash), []) => {
            let own = Model::embedded().and_then(|m| model_hash(&m, cancel))?;
            (hash.len() >= 8 && own.starts_with(hash.as_str())).then(PathBuf::new)
        }
        (None, files) => files.iter().find(|f| named(f)).cloned(),
        (Some(hash), files) => {
            // The one of this name first: reading gigabytes takes time.
            let mut order: Vec<&PathBuf> = files.iter().collect();
            order.sort_by_key(|f| !named(f));
            let mut found = None;
            for file in order {
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
    match (found, files.len()) {
        (Some(file), 1..) => args.model.model = vec![file],
        (Some(_), 0) => {}
        (None, 0) => return Ok(Some(format!("{wanted} (give its file with -m)"))),
        (None, 1) => return Ok(Some(format!("{wanted} (the file of -m is another)"))),
        (None, _) => {
            return Err(Error::usage(format!("none of the files of -m is the picture's {}", escape(&wanted))));
        }
    }
    Ok(None)
}

/// Tells if the VAE of `--vae` is not the picture's: by its hash, or by its name where the picture has no hash.
fn vae(args: &GenerateArgs, p: &Parameters, cancel: &AtomicBool) -> Result<Option<String>> {
    let name = p.get("VAE").filter(|name| !matches!(*name, "None" | "Automatic"));
    let hash = p.get("VAE hash").map(str::to_ascii_lowercase).filter(|hash| hash != "none");
    if name.is_none() && hash.is_none() {
        return Ok(None);
    }
    let wanted =
        format!("VAE: {}{}", name.unwrap_or("?"), hash.as_ref().map(|h| format!(" [{h}]")).unwrap_or_default());
    let Some(path) = &args.model.vae else { return Ok(Some(format!("{wanted} (give its file with --vae)"))) };
    let same = match &hash {
        Some(hash) => hash.len() >= 8 && vae_hash(path, cancel)?.starts_with(hash.as_str()),
        // With or without the extension: programs differ.
        None => [path.file_name(), path.file_stem()].iter().flatten().any(|own| own.to_str() == name),
    };
    Ok((!same).then(|| format!("{wanted} (the file of --vae is another)")))
}

/// What the picture was made from.
fn picture(args: &mut GenerateArgs, p: &Parameters, cancel: &AtomicBool) -> Result<Option<String>> {
    let Some(strength) = p.get("Denoising strength") else { return Ok(None) };
    if p.entries.iter().any(|(key, _)| key.starts_with("Hires")) {
        // A second pass, which is told apart.
        return Ok(None);
    }
    let Some(file) = &args.init_img else {
        return Ok(Some(format!("Denoising strength: {strength} (made from a picture: give that with -i)")));
    };
    number(&mut args.strength, "Denoising strength", strength)?;
    let other = match p.get("Init image hash").filter(|hash| hash.len() == 10) {
        Some(hash) => !sha256_file(file, cancel)?.starts_with(hash),
        None => false,
    };
    Ok(other.then(|| "Init image hash (the picture of -i is another)".into()))
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
