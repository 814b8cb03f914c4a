//! A PNG's texts go in; the settings in them, or who wrote them instead, come out.

use crate::image::parameters::Parameters;
use crate::image::{PARAMETERS, Texts};

/// The settings in a PNG's texts, or what the file is instead.
pub(super) fn settings(texts: &Texts) -> Result<Parameters, String> {
    let text = |key: &str| texts.iter().find(|(k, _)| k == key).map(|(_, text)| text.as_str());
    let remedy = "; its settings are not the webui's: give them yourself";
    if let Some(text) = text(PARAMETERS) {
        if text.trim_start().starts_with('{') {
            let tool = match () {
                () if text.contains("sui_image_params") => "SwarmUI",
                () if texts.iter().any(|(key, _)| key == "fooocus_scheme") => "Fooocus",
                () => "a program that writes JSON",
            };
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
        () if says("XML:com.adobe.xmp", "Draw Things") => Some("Draw Things"),
        () if says("Description", "Job ID:") => Some("Midjourney"),
        // Others write comments too, GIMP for one.
        () if says("Software", "NovelAI") || says("Source", "NovelAI") || json("Comment") => Some("NovelAI"),
        () if text("prompt").is_some() => Some("a program that keeps each setting apart, as Easy Diffusion does"),
        () => None,
    }
}

/// Major and minor number of the webui's version, or of the one that Forge was made from.
pub(super) fn webui_version(version: &str) -> Option<(u32, u32)> {
    if !is_webui(version) {
        return None;
    }
    let mut numbers = version[version.find('v')? + 1..].split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// `v1.10.1`, or Forge's `f2.0.1v1.10.1-...`; others name themselves.
pub(super) fn is_webui(version: &str) -> bool {
    let digits = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let plain = |v: &str| v.strip_prefix('v').is_some_and(digits);
    plain(version) || version.strip_prefix('f').is_some_and(|rest| digits(rest) && rest.contains("v1."))
}
