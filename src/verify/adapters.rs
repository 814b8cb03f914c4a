//! A folder of adapters with reference values in, one line per comparison out: `reference_adapters.safetensors` names
//! the checks, `adapters.json` says what each case is made of.
//!
//! One file a kind of adapter; a kind that nobody here computes is reported as unknown, never left out.

mod lora;

use super::reference::Reference;
use super::{Check, Status, VerifyOptions};
use crate::checkpoint::{Model, ModelId};
use crate::engine::Engine;
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

/// Files above this are not descriptions of cases.
const MAX_CASES: u64 = 16 << 20;

/// A model with the adapters of a case, by the case and what it was made of.
type Merged = ((String, ModelId), Arc<Model>);

/// What adapters are checked with.
pub struct AdapterChecks<'a> {
    engine: &'a Engine,
    model: &'a Arc<Model>,
    /// The inpainting model of the same family, for what it does otherwise.
    inpainting: Option<&'a Arc<Model>>,
    folder: &'a Path,
    reference: Reference,
    /// By case, how it was made.
    cases: serde_json::Map<String, serde_json::Value>,
    /// The last model with adapters: by the case and what it was made of.
    last: RefCell<Option<Merged>>,
}

impl<'a> AdapterChecks<'a> {
    /// Reads a folder's reference values and descriptions.
    ///
    /// # Errors
    /// Bad file: they are missing or malformed.
    pub fn open(
        engine: &'a Engine,
        model: &'a Arc<Model>,
        inpainting: Option<&'a Arc<Model>>,
        folder: &'a Path,
    ) -> Result<Self> {
        let reference = Reference::open_file(&folder.join("reference_adapters.safetensors"))?;
        let path = folder.join("adapters.json");
        let size = std::fs::metadata(&path).map_err(|e| Error::bad_file(&path, e))?.len();
        if size > MAX_CASES {
            return Err(Error::bad_file(&path, format!("is {size} bytes; at most {MAX_CASES} are read")));
        }
        let text = std::fs::read(&path).map_err(|e| Error::bad_file(&path, e))?;
        let cases = serde_json::from_slice(&text).map_err(|e| Error::bad_file(&path, e))?;
        Ok(Self { engine, model, inpainting, folder, reference, cases, last: RefCell::default() })
    }

    /// Runs every selected check and reports it; an `only` that selects nothing is a usage error.
    ///
    /// # Errors
    /// Cancelled; nothing is selected.
    pub fn verify(&self, options: &VerifyOptions, report: &mut dyn FnMut(&Check)) -> Result<()> {
        let names: Vec<String> = self.names().into_iter().filter(|name| options.selects(name)).collect();
        if names.is_empty() {
            let only = crate::error::escape(&options.only.join(","));
            return Err(Error::of_option("only", format!("{only} selects no check of these adapters")));
        }
        for name in names {
            let check = match self.limit(&name) {
                Some(limit) => super::compared(name.clone(), options.limit(limit), self.compute(&name))?,
                None => Check { name, error: None, limit: 0.0, status: Status::Unknown, note: None },
            };
            report(&check);
        }
        Ok(())
    }

    /// The checks, in the order of the data. Inputs of others are none.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.reference.names().filter(|n| !is_input(n)).map(str::to_owned).collect();
        // What is refused has no values.
        names.extend(self.cases.contains_key("wrong_model").then(|| lora::REFUSED.to_owned()));
        names
    }

    /// The largest error of a check that passes; none for what nobody here computes.
    fn limit(&self, name: &str) -> Option<f64> {
        match name.split('.').next()? {
            "lora" => Self::lora_limit(name),
            _ => None,
        }
    }

    fn compute(&self, name: &str) -> Result<f64> {
        match name.split('.').next() {
            Some("lora") => self.lora(name),
            _ => Err(Error::other(format!("{name} is not computed here"))),
        }
    }
}

/// Whether a tensor is what others are computed from.
fn is_input(name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    matches!(
        parts.as_slice(),
        ["lora" | "control", "sample" | "timestep" | "context" | "ids" | "hint_a" | "hint_b"]
            | ["upscale", _, "image"]
            | ["resize", "latents" | "image"]
            | ["canny", "image"]
    )
}
