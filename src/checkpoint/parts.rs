//! Tensors under canonical names, and what came along with them, to a [`Model`]: where every way of opening ends.

use super::config::{self, Sections};
use super::names::{Canonical, Portion};
use super::{Defaults, Evidence, Grounds, Model, arch, evidence};
use crate::models::autoencoder::kl::KlConfig;
use crate::models::text::TextConfig;
use crate::models::training::{ScheduleConfig, Spacing};
use crate::models::{Autoencoder, Networks, Predictor};
use crate::weights::WeightSource;
use crate::weights::table::{Located, Table};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tensors by canonical name.
pub type Tensors = BTreeMap<String, Located>;

/// Tensors under new names, 1x1 kernels as matrices, those without a name dropped. A tensor that is not of the shape
/// that its view needs is dropped too: the error then names what is missing.
pub fn rename(tensors: impl Iterator<Item = (Located, Vec<Canonical>)>) -> Tensors {
    let mut out = Tensors::new();
    for (mut tensor, names) in tensors {
        tensor.flatten_1x1();
        for Canonical { name, view } in names {
            let seen = match view {
                Portion::Whole => Some(tensor.clone()),
                Portion::Third(n) => tensor.third(n),
                Portion::Transposed => tensor.transposed(),
            };
            out.extend(seen.map(|t| (name, t)));
        }
    }
    out
}

/// Whether the transformers' projections are matrices in the file, and not 1x1 kernels.
pub fn linear<'a>(mut tensors: impl Iterator<Item = (&'a String, &'a Located)>) -> bool {
    tensors.any(|(name, tensor)| name.ends_with(".proj_in.weight") && tensor.info.shape.len() == 2)
}

/// What every way of opening collects before the model is put together.
pub struct Parts {
    /// Tensors under canonical names.
    pub map: Tensors,
    /// The format, for people.
    pub about: String,
    /// The configs that came along.
    pub sections: Sections,
    /// The schedule, unless the sections have one.
    pub schedule: ScheduleConfig,
    /// How it is known what the network predicts, unless the sections say.
    pub grounds: Grounds,
    /// The name, unless the sections have one.
    pub name: String,
    /// Which text encoders are in OpenCLIP's layout.
    pub openclip: [bool; 2],
    /// Whether the transformers' projections are matrices.
    pub linear: bool,
}

impl Parts {
    /// Reads the configs, fills the gaps from the tensors' shapes, and checks that every tensor is there.
    ///
    /// # Errors
    /// A sentence that lacks the file's name.
    pub fn model(self) -> Result<Model, String> {
        let Self { map, about, sections, schedule, mut grounds, name, openclip, linear } = self;
        let table = Table::new(map, about);
        let has = |part: &str| table.names().iter().any(|n| n.starts_with(part));
        // A part that is missing altogether gets one sentence, not the name of its first tensor.
        for (part, what) in [("unet.", "U-Net"), ("text_encoder", "text encoder")] {
            if !has(part) {
                return Err(format!("holds no {what}; use a complete checkpoint"));
            }
        }
        let from = |part: &'static str| move |why: String| format!("its {part} configuration {why}");
        let mut unet = match &sections.unet {
            Some(c) => config::unet(c).map_err(from("U-Net"))?,
            None => arch::unet(&table, linear)?,
        };
        let mut text = Vec::new();
        for (n, section) in [&sections.text_encoder, &sections.text_encoder_2].into_iter().enumerate() {
            if !has(&format!("{}.", crate::models::text::root(n))) {
                continue;
            }
            text.push(match section {
                Some(c) => config::clip(c).map_err(from("text encoder"))?,
                None => arch::text(&table, n, openclip[n])?,
            });
        }
        arch::trained(&table, &mut text, unet.added.is_some(), openclip);
        for (t, section) in text.iter_mut().zip([&sections.text_encoder, &sections.text_encoder_2]) {
            let said = section.as_ref().and_then(|c| c.get("trained_state")?.as_u64());
            t.trained = said.and_then(|n| usize::try_from(n).ok()).unwrap_or(t.trained);
        }
        arch::fit_added(&mut unet, &text)?;
        let autoencoder = match &sections.vae {
            _ if !has("vae.") => None,
            Some(c) if config::is_tiny(c) => Some(Autoencoder::Tiny(config::tiny(c, arch::tiny(&table)?)?)),
            Some(c) => {
                let encodes = has("vae.encoder.");
                Some(Autoencoder::Kl(KlConfig { encodes, ..config::vae(c).map_err(from("VAE"))? }))
            }
            None if has("vae.decoder.layers.") => Some(Autoencoder::Tiny(arch::tiny(&table)?)),
            None => Some(Autoencoder::Kl(KlConfig { scaling: unet.latent_scale(), ..arch::vae(&table)? })),
        };
        let said = sections.scheduler.is_some();
        let mut schedule = match &sections.scheduler {
            Some(c) => config::schedule(c).map_err(from("scheduler"))?,
            None => schedule,
        };
        let networks = Networks { text, predictor: Some(Predictor::Unet(unet)), autoencoder, upscaler: None };
        arch::sane(&networks)?;
        let required = arch::required(&networks)?;
        let remedy = "the file is incomplete or not of the Stable Diffusion 1.x/2.x/SDXL family";
        arch::check(&table, &required).map_err(|why| format!("{why}; {remedy}"))?;
        let name = sections.name.unwrap_or(name);
        if said {
            grounds = Grounds::Config;
        } else if let Some(prediction) = evidence::named(&name).filter(|_| grounds == Grounds::Family) {
            (schedule.prediction, grounds) = (prediction, Grounds::Name);
        }
        // A folder may be called anything; its configurations remember where they come from.
        let origin = sections.unet.as_ref().and_then(|c| c.get("_name_or_path")?.as_str()).unwrap_or("");
        let (usual, kind) = Defaults::of(&networks, &schedule, &format!("{name} {origin}"), said);
        if usual.guidance == 1.0 && !said {
            // Few steps have to begin where there is nothing but noise.
            schedule.spacing = Spacing::Trailing;
        }
        Ok(Model {
            schedule,
            tokenizer: sections.tokenizer,
            evidence: Evidence { prediction: grounds, kind: kind.filter(|_| sections.defaults.is_none()) },
            defaults: sections.defaults.unwrap_or(usual),
            ..Model::new(name, Arc::new(table.keep(&required)), networks)
        })
    }
}

/// A model's text encoders' widths, for sentences.
pub fn widths(text: &[TextConfig]) -> String {
    text.iter().map(|t| t.width.to_string()).collect::<Vec<_>>().join(" and ")
}
