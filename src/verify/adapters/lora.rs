//! The checks of `lora.*`: merged weights as they are read, one call of the U-Net, the text encoder's last state.

use super::AdapterChecks;
use crate::checkpoint::Model;
use crate::checkpoint::adapter::{AdapterFile, AdapterUse, check_adapters, with_adapters};
use crate::diffusion::prompt::chunks::Token;
use crate::diffusion::prompt::token_rows;
use crate::diffusion::{Conditioning, Stages};
use crate::error::{Error, Kind, Result, escape};
use crate::models::part::StepShape;
use crate::verify::model::{nhwc, tokens};
use crate::verify::{error, limit};
use crate::weights::decode_f32;
use serde::Deserialize;
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A case that must not be applied at all.
pub(super) const REFUSED: &str = "lora.wrong_model";

/// One file of a case, and how much of it.
#[derive(Deserialize)]
struct File {
    file: String,
    #[serde(default = "one")]
    unet: f32,
    #[serde(default = "one")]
    text: f32,
}

fn one() -> f32 {
    1.0
}

impl AdapterChecks<'_> {
    /// The largest error of a check that passes.
    pub(super) fn lora_limit(name: &str) -> Option<f64> {
        let parts: Vec<&str> = name.split('.').collect();
        match parts.as_slice() {
            _ if name == REFUSED => Some(0.0),
            [_, _, "w" | "b" | "w9", ..] => Some(limit::MERGED),
            [_, _, "unet"] => Some(limit::UNET),
            [_, _, "text"] => Some(limit::TEXT),
            _ => None,
        }
    }

    pub(super) fn lora(&self, name: &str) -> Result<f64> {
        if name == REFUSED {
            return self.refused();
        }
        let mut parts = name.splitn(4, '.').skip(1);
        let (case, what, module) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next());
        let base = if what == "w9" { self.inpainting } else { Some(self.model) };
        let base = base.ok_or_else(|| Error::other("needs the inpainting model of the same family"))?;
        let model = if case == "base" { base.clone() } else { self.merged(case, base)? };
        let want = &self.reference.get(name)?.data;
        match (what, module) {
            ("w" | "w9", Some(module)) => error(&merged(&model, module, "weight")?, want),
            ("b", Some(module)) => error(&merged(&model, module, "bias")?, want),
            ("unet", None) => error(&self.predicted(&model)?, want),
            _ => error(&self.hidden(&model, want.len())?, want),
        }
    }

    /// A model with the files of a case. The last one is kept: several checks look at it.
    fn merged(&self, case: &str, base: &Arc<Model>) -> Result<Arc<Model>> {
        let key = (case.to_owned(), base.id());
        if let Some((known, model)) = &*self.last.borrow()
            && *known == key
        {
            return Ok(model.clone());
        }
        let uses = self.uses(case)?;
        check_adapters(base, &uses)?;
        let model = Arc::new(with_adapters(base, &uses)?);
        *self.last.borrow_mut() = Some((key, model.clone()));
        Ok(model)
    }

    fn uses(&self, case: &str) -> Result<Vec<AdapterUse>> {
        let unknown = || Error::other(format!("{} is not described in adapters.json", escape(case)));
        let files = self.cases.get(case).and_then(|c| c.get("files")).ok_or_else(unknown)?;
        let files: Vec<File> = serde_json::from_value(files.clone()).map_err(|e| Error::other(e.to_string()))?;
        let opened = |file: &File| {
            let path = Path::new(&file.file);
            if !path.components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(Error::other(format!("{} lies outside of the folder", escape(&file.file))));
            }
            let adapter = Arc::new(AdapterFile::open(&self.folder.join(path))?);
            let told = adapter.name.clone();
            Ok(AdapterUse { adapter, told, text: file.text, unet: file.unet, blocks: None })
        };
        files.iter().map(opened).collect()
    }

    /// 0 where the files are refused with a reason.
    fn refused(&self) -> Result<f64> {
        let case = REFUSED.trim_start_matches("lora.");
        match self.uses(case).and_then(|uses| check_adapters(self.model, &uses)) {
            Err(e) if *e.kind() == Kind::Usage => Ok(0.0),
            Err(e) => Err(e),
            Ok(_) => Err(Error::other("belongs to another family and was taken all the same")),
        }
    }

    /// One call of the U-Net.
    fn predicted(&self, model: &Arc<Model>) -> Result<Vec<f32>> {
        let get = |name: &str| self.reference.get(&format!("lora.{name}"));
        let (latents, context) = (nhwc(get("sample")?)?, tokens(get("context")?)?);
        let times = &get("timestep")?.data;
        let (size, contexts) = (latents.shape(), context.shape());
        let shape = StepShape {
            samples: size.b,
            contexts: contexts.b,
            times: times.len(),
            h: size.h,
            w: size.w,
            tokens: contexts.w,
        };
        let cancel = AtomicBool::new(false);
        let session = self.engine.session(model, &cancel);
        let told = Conditioning { context, added: Vec::new(), guidance: Vec::new() };
        let output = session.unet(shape, told, Some(times))?.predict(&latents, times)?;
        // A case is computed once.
        self.engine.release(model, |_| true);
        Ok(output.to_nchw())
    }

    /// The first values of the text encoder's last hidden state.
    fn hidden(&self, model: &Arc<Model>, count: usize) -> Result<Vec<f32>> {
        let ids = &self.reference.get("lora.ids")?.data;
        let ids: Vec<Token> = ids.iter().map(|id| Token::Id(*id as u32)).collect();
        let cancel = AtomicBool::new(false);
        let rows = token_rows(model, 0, &ids, &[])?;
        let hidden = self.engine.session(model, &cancel).text(0, rows, model.networks.encoder(0)?.called)?;
        self.engine.release(model, |_| true);
        Ok(hidden.data().iter().take(count).copied().collect())
    }
}

/// A tensor as every backend reads it, in f32. Text encoders' modules begin with `encoder.`.
fn merged(model: &Model, module: &str, end: &str) -> Result<Vec<f32>> {
    let part = if module.starts_with("encoder.") { "text_encoder" } else { "unet" };
    let name = format!("{part}.{module}.{end}");
    let info = model.source.info(&name).ok_or_else(|| Error::other(format!("{} is missing", escape(&name))))?;
    let (mut raw, mut values) = (Vec::new(), Vec::new());
    model.source.read(&name, &mut raw)?;
    decode_f32(info.dtype, &raw, &mut values);
    Ok(values)
}
