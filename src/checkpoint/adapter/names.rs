//! Every accepted spelling of every module of a model to its canonical name.
//!
//! Names are looked up, never parsed: with underscores for dots they are ambiguous to cut and unambiguous to find.

use crate::checkpoint::Model;
use crate::checkpoint::names::Original;
use std::collections::HashMap;

/// Which network of a model a module's name speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spoken {
    Unet,
    Text(usize),
}

/// What stands in front of a module's path, with underscores, the longest of one beginning first.
const PREFIXES: [(&str, Spoken); 22] = [
    ("lora_unet_", Spoken::Unet),
    ("lycoris_unet_", Spoken::Unet),
    ("model_diffusion_model_", Spoken::Unet),
    ("diffusion_model_", Spoken::Unet),
    ("unet_", Spoken::Unet),
    ("lora_te1_", Spoken::Text(0)),
    ("lora_te2_", Spoken::Text(1)),
    ("lora_te_", Spoken::Text(0)),
    ("lycoris_te1_", Spoken::Text(0)),
    ("lycoris_te2_", Spoken::Text(1)),
    ("lycoris_te_", Spoken::Text(0)),
    ("lycoris_", Spoken::Unet),
    ("text_encoders_clip_l_transformer_", Spoken::Text(0)),
    ("text_encoders_clip_h_transformer_", Spoken::Text(0)),
    ("text_encoders_clip_g_transformer_", Spoken::Text(1)),
    ("text_encoders_clip_l_", Spoken::Text(0)),
    ("text_encoders_clip_g_", Spoken::Text(1)),
    ("text_encoder_2_", Spoken::Text(1)),
    ("text_encoder_", Spoken::Text(0)),
    ("clip_l_", Spoken::Text(0)),
    ("clip_g_", Spoken::Text(1)),
    ("", Spoken::Unet),
];
/// What PEFT puts in front of a path.
const WRAPPED: &str = "base_model_model_";

/// A model's modules by path with underscores, in either layout.
pub struct Spellings {
    paths: HashMap<(usize, String), Spelt>,
}

/// A module that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelt {
    /// The canonical name: `unet.down_blocks.0....to_q`.
    pub module: String,
    /// Whether it was spelt with the original layout's numbers.
    pub original: bool,
}

impl Spellings {
    /// Of every module that the model has.
    pub fn of(model: &Model) -> Self {
        let original = Original::new(&model.networks);
        let mut paths = HashMap::new();
        for name in model.source.names() {
            let Some(module) = name.strip_suffix(".weight") else { continue };
            let Some((part, path)) = module.split_once('.') else { continue };
            let spelt = |original| Spelt { module: module.to_owned(), original };
            match part {
                "unet" => {
                    paths.insert((key(Spoken::Unet), underscored(path)), spelt(false));
                    let old = original.name(name).and_then(|o| o.name.strip_suffix(".weight").map(str::to_owned));
                    if let Some(path) = old.as_deref().and_then(|o| o.strip_prefix("model.diffusion_model.")) {
                        paths.entry((key(Spoken::Unet), underscored(path))).or_insert_with(|| spelt(true));
                    }
                }
                "text_encoder" | "text_encoder_2" => {
                    let n = key(Spoken::Text(usize::from(part == "text_encoder_2")));
                    let path = underscored(path);
                    paths.insert((n, format!("text_model_{path}")), spelt(false));
                    paths.insert((n, path), spelt(false));
                }
                _ => {}
            }
        }
        Self { paths }
    }

    /// The canonical module of a name; where there is none, the network that the name speaks of.
    pub fn find(&self, name: &str) -> Result<Spelt, Spoken> {
        let name = underscored(name);
        let mut first = None;
        let bare = unwrapped(&name);
        for (prefix, component) in PREFIXES {
            let Some(rest) = bare.strip_prefix(prefix) else { continue };
            if let Some(found) = self.paths.get(&(key(component), unwrapped(rest).to_owned())) {
                return Ok(found.clone());
            }
            first = first.or(Some(component));
        }
        Err(first.unwrap_or(Spoken::Unet))
    }
}

fn key(component: Spoken) -> usize {
    match component {
        Spoken::Unet => 0,
        Spoken::Text(n) => n + 1,
    }
}

fn underscored(path: &str) -> String {
    path.replace('.', "_")
}

fn unwrapped(mut name: &str) -> &str {
    while let Some(rest) = name.strip_prefix(WRAPPED) {
        name = rest;
    }
    name
}
