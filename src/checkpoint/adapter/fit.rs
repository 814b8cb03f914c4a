//! Adapters and a model to the model with them: whether they belong together is decided from shapes, before anything
//! is computed.

use super::names::{Spellings, Spoken};
use super::parts::ModulePart;
use super::{AdapterFile, AdapterUse};
use crate::checkpoint::Model;
use crate::checkpoint::names::Original;
use crate::error::{Error, Result, escape};
use crate::models::Predictor;
use crate::weights::PatchId;
use crate::weights::patch::delta::Delta;
use crate::weights::patch::{Patch, Patched};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What of an adapter fits a model.
struct Fitted {
    /// By canonical tensor.
    deltas: BTreeMap<String, Arc<Delta>>,
    /// Modules that the model does not have, as the file spells them.
    unknown: Vec<String>,
}

/// Looks whether adapters belong to a model, and tells what of them fits nowhere.
///
/// # Errors
/// Usage: one is for another family, fits nowhere, or is damaged.
pub fn check_adapters(model: &Model, uses: &[AdapterUse]) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let spellings = Spellings::of(model);
    for (n, one) in uses.iter().enumerate() {
        let adapter = &one.adapter;
        if let Some(blocks) = &one.blocks {
            blocks.check(levels(model)).map_err(|e| e.at(escape(&adapter.name)))?;
        }
        // The same file twice is looked at once.
        if uses[..n].iter().any(|other| other.adapter.id == adapter.id) {
            continue;
        }
        let fitted = adapter.fit(model, &spellings)?;
        let name = escape(&file_name(&adapter.path));
        let (have, lost) = (fitted.deltas.len(), fitted.unknown.len() + adapter.strange.len());
        if lost > 0 {
            let some: Vec<String> = fitted.unknown.iter().chain(&adapter.strange).take(3).map(|n| escape(n)).collect();
            let more = if lost > some.len() { ", ..." } else { "" };
            let some = some.join(", ");
            notes.push(format!("{name}: {lost} of its parts fit nowhere in this model ({some}{more}); {have} do"));
        }
        if adapter.embeddings > 0 {
            notes.push(format!("{name} holds embeddings too, which are not read"));
        }
    }
    Ok(notes)
}

/// A model with adapters, in the order in which they apply: a model of its own over the same tensors, of which those
/// that nothing touches are shared. The same file twice adds up.
///
/// # Errors
/// As [`check_adapters`].
pub fn with_adapters(model: &Model, uses: &[AdapterUse]) -> Result<Model> {
    let (spellings, original) = (Spellings::of(model), Original::new(&model.networks));
    let mut patches: BTreeMap<String, Vec<Patch>> = BTreeMap::new();
    for one in uses {
        for (name, delta) in one.adapter.fit(model, &spellings)?.deltas {
            let text = !name.starts_with("unet.");
            let block = one.blocks.as_ref().map_or(1.0, |blocks| match text {
                true => blocks.of(None),
                // What has no name there is in no block.
                false => blocks.of(Some(original.name(&name).map(|o| o.name).as_deref().unwrap_or(""))),
            });
            let strength = block * if text { one.text } else { one.unet };
            let own = patches.entry(name).or_default();
            match own.iter_mut().find(|patch| patch.id.source == one.adapter.id) {
                Some(patch) => patch.strength += strength,
                None => {
                    let id = PatchId { source: one.adapter.id, strength: 0 };
                    own.push(Patch { delta, strength, id });
                }
            }
        }
    }
    for own in patches.values_mut() {
        own.retain(|patch| patch.strength != 0.0);
        own.iter_mut().for_each(|patch| patch.id.strength = patch.strength.to_bits());
    }
    patches.retain(|_, own| !own.is_empty());
    let source = Patched::new(model.source.clone(), patches, uses.len());
    Ok(model.over(Arc::new(source)))
}

impl AdapterFile {
    /// What of it fits a model.
    fn fit(&self, model: &Model, spellings: &Spellings) -> Result<Fitted> {
        let (mut deltas, mut unknown) = (BTreeMap::new(), Vec::new());
        let mut numbered = Vec::new();
        for (spelt, module) in &self.modules {
            let found = match spellings.find(spelt) {
                Ok(found) => found,
                Err(Spoken::Text(n)) if n >= model.networks.text.len().max(1) => {
                    let why = format!("{} is of a second text encoder, which the model lacks", escape(spelt));
                    return Err(self.foreign(model, &why));
                }
                Err(_) => {
                    unknown.push(spelt.clone());
                    continue;
                }
            };
            let changes = self.changes(module, &found.module, &*model.source);
            let changes = changes.map_err(|why| self.foreign(model, &format!("{} {why}", escape(spelt))))?;
            // Of a module in both spellings the original layout's is a copy.
            match found.original {
                true => numbered.extend(changes),
                false => deltas.extend(changes.into_iter().map(|(name, delta)| (name, Arc::new(delta)))),
            }
        }
        for (name, delta) in numbered {
            deltas.entry(name).or_insert_with(|| Arc::new(delta));
        }
        if deltas.is_empty() {
            let some: Vec<String> = unknown.iter().take(3).map(|n| escape(n)).collect();
            return Err(
                self.foreign(model, &format!("none of its {} modules fits ({})", unknown.len(), some.join(", ")))
            );
        }
        Ok(Fitted { deltas, unknown })
    }

    /// Why it cannot be used with a model.
    fn foreign(&self, model: &Model, why: &str) -> Error {
        let own = match &model.networks.predictor {
            Some(Predictor::Unet(unet)) => family_of(unet.context_width),
            None => None,
        };
        let (own, theirs) = (own.unwrap_or("of another shape"), self.family());
        let message = match theirs {
            Some((family, signs)) if family != own => {
                format!("this adapter is for {family} ({signs}); the model is {own}: {why}")
            }
            _ => format!("does not fit the model ({own}): {why}; use one that was made for this kind of model"),
        };
        Error::usage(message).at(escape(&file_name(&self.path)))
    }

    /// The family that it was made for, and what tells so.
    pub(super) fn family(&self) -> Option<(&'static str, String)> {
        let told = self.metadata("ss_base_model_version").or(self.metadata("modelspec.architecture"));
        let mut signs: Vec<String> = told.map(escape).into_iter().collect();
        let width = self.modules.iter().find_map(|(name, module)| {
            let cross = name.contains("attn2") && (name.ends_with("to_k") || name.ends_with("to_v"));
            let down = module.factors.get(&ModulePart::Down).filter(|_| cross)?;
            let width = down.tensor.info.shape.get(1).copied()?;
            family_of(width).map(|family| (family, width))
        });
        if let Some((family, width)) = width {
            signs.push(format!("text of {width} channels"));
            return Some((family, signs.join(", ")));
        }
        let second = |name: &String| {
            ["lora_te2_", "text_encoder_2.", "text_encoders.clip_g"].iter().any(|p| name.starts_with(p))
        };
        if self.modules.keys().any(second) {
            signs.push("two text encoders".into());
            return Some(("SDXL", signs.join(", ")));
        }
        let told = told?.to_ascii_lowercase();
        let family = match () {
            _ if told.contains("sdxl") || told.contains("xl-v1") => "SDXL",
            _ if told.contains("sd_v2") || told.contains("diffusion-v2") => "SD 2.x",
            _ if told.contains("sd_v1") || told.contains("diffusion-v1") => "SD 1.x",
            _ => return None,
        };
        Some((family, signs.join(", ")))
    }
}

fn family_of(width: usize) -> Option<&'static str> {
    match width {
        768 => Some("SD 1.x"),
        1024 => Some("SD 2.x"),
        1280 => Some("SDXL refiner"),
        2048 => Some("SDXL"),
        _ => None,
    }
}

fn levels(model: &Model) -> usize {
    match &model.networks.predictor {
        Some(Predictor::Unet(unet)) => unet.down.len(),
        None => 0,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
