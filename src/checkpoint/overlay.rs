//! A checkpoint, and files whose tensors take the place of its own, to a [`Model`]: what a fine-tuned variant changes,
//! without a second copy of the rest. For comparisons ([`mod@crate::verify`]).

use super::open::{file_over, open};
use super::parts::{Tensors, rename};
use super::{Grounds, Model, diffusers, names};
use crate::error::Result;
use crate::models::training::{Prediction, ZeroSnr};
use crate::weights::bytes::Bytes;
use crate::weights::format::raw;
use crate::weights::table::RawFile;
use std::path::{Path, PathBuf};

/// Opens a checkpoint as [`super::open`] does, under files of the same layout or of the original one: each tensor of
/// theirs replaces or joins the checkpoint's, and the empty markers `v_pred` and `ztsnr` count too.
///
/// # Errors
/// Bad file: one of them cannot be read, or what comes out is no model.
pub fn open_over(path: &Path, overlays: &[PathBuf]) -> Result<Model> {
    let over = overlays.iter().map(|path| raw(Bytes::open(path)?)).collect::<Result<Vec<_>>>()?;
    if over.is_empty() {
        return open(path);
    }
    if !path.is_dir() {
        return file_over(path, over);
    }
    let mut markers = Vec::new();
    let mut tensors = Tensors::new();
    for RawFile { tensors: own, other, .. } in over {
        markers.extend(other.into_iter().map(|(name, _)| name));
        markers.extend(own.keys().filter(|name| !name.contains('.')).cloned());
        let keys: Vec<&str> = own.keys().map(String::as_str).collect();
        let canonical = names::naming(&keys).names;
        tensors.extend(rename(own.values().cloned().zip(canonical)));
    }
    let mut model = diffusers::open_over(path, tensors)?;
    let has = |marker: &str| markers.iter().any(|name| name == marker);
    if has("v_pred") {
        (model.schedule.prediction, model.evidence.prediction) = (Prediction::V, Grounds::Marker);
        model.schedule.zero_snr = has("ztsnr").then_some(ZeroSnr::Webui);
    }
    Ok(model)
}
