//! A model to a clean single .safetensors file in the original key layout.

use super::arch::required_of;
use super::names::{Original, Portion};
use super::{Defaults, Model, arch, config};
use crate::dtype::Dtype;
use crate::error::{Error, Remedy, Result, escape};
use crate::files::{IfTaken, Temporary, cannot_write};
use crate::models::autoencoder::kl::KlConfig;
use crate::models::text::MlpActivation;
use crate::models::training::ScheduleConfig;
use crate::models::{Autoencoder, Networks, Predictor};
use crate::weights::table::product;
use crate::weights::{self, WeightSource};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Layers that the original layout stores as 1x1 kernels, as it does the VAE's attention.
const KERNELS_1X1: [&str; 5] = ["conv_shortcut", "proj_in", "proj_out", "quant_conv", "post_quant_conv"];

/// A tensor of the original layout.
struct Item {
    /// The canonical names of its rows, by their place.
    parts: BTreeMap<usize, String>,
    original: String,
    shape: Vec<usize>,
    /// Whether it is a matrix's transpose.
    transposed: bool,
}

/// Writes every tensor that the model needs, and nothing else, as `dtype` (f16 or f32), one tensor in memory at a time.
/// What the shapes of a file do not tell (another schedule, other heads, an own vocabulary) goes into the
/// metadata entry `lienzo`. The file appears under its name only when it is complete.
///
/// # Errors
/// Usage: the output exists or is the input. Otherwise what kept it from being read or written; nothing is left behind.
pub fn save_safetensors(model: &Model, path: &Path, dtype: Dtype) -> Result<()> {
    save_safetensors_with(model, path, dtype, &mut |_, _| ControlFlow::Continue(()))
}

/// [`save_safetensors`] with a listener that hears how many of how many tensors are written; `Break` gives up.
///
/// # Errors
/// As [`save_safetensors`], and Cancelled.
pub fn save_safetensors_with(
    model: &Model,
    path: &Path,
    dtype: Dtype,
    heard: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<()> {
    refuse_input(model, path)?;
    let items = items(model)?;
    let header = header(model, &items, dtype)?;
    if path.file_name().is_none() {
        return Err(Error::usage("the output needs a file name, like model.safetensors"));
    }
    let told = |e: io::Error| cannot_write(path, &e);
    let mut out = BufWriter::with_capacity(1 << 20, Temporary::beside(path).map_err(told)?);
    out.write_all(&header).map_err(told)?;
    write(model, &items, &mut |bytes| out.write_all(bytes).map_err(told), dtype, heard)?;
    let mut temporary = out.into_inner().map_err(|e| told(e.into_error()))?;
    temporary.publish(path, IfTaken::Fail).map_err(told)
}

fn items(model: &Model) -> Result<Vec<Item>> {
    let names = Original::new(&model.networks);
    let linear = matches!(&model.networks.predictor, Some(Predictor::Unet(u)) if u.linear);
    let mut items: BTreeMap<String, Item> = BTreeMap::new();
    for (canonical, mut shape) in required_of(model) {
        let original = names
            .name(&canonical)
            .ok_or_else(|| Error::other(format!("{}: has no name in the original layout", escape(&canonical))))?;
        let layer = canonical.strip_suffix(".weight").unwrap_or("");
        let layer = layer.strip_suffix(".0").unwrap_or(layer).rsplit('.').next().unwrap_or("");
        let vae_attention = canonical.starts_with("vae.") && matches!(layer, "to_q" | "to_k" | "to_v" | "to_out");
        let matrix = linear && matches!(layer, "proj_in" | "proj_out");
        let kernel = vae_attention || KERNELS_1X1.contains(&layer) && !matrix;
        if kernel && shape.len() == 2 {
            shape.extend([1, 1]);
        }
        let (place, transposed) = match original.view {
            Portion::Whole => (0, false),
            Portion::Transposed => (0, true),
            Portion::Third(n) => (n, false),
        };
        if transposed {
            shape.reverse();
        }
        let item = items.entry(original.name.clone());
        let item = item.or_insert_with(|| Item {
            parts: BTreeMap::new(),
            original: original.name,
            shape: vec![0],
            transposed,
        });
        // Of several parts each is some rows more.
        shape[0] += item.shape[0];
        item.shape = shape;
        item.parts.insert(place, canonical);
    }
    Ok(items.into_values().collect())
}

fn header(model: &Model, items: &[Item], dtype: Dtype) -> Result<Vec<u8>> {
    let stored = dtype.name().to_ascii_uppercase();
    let mut header = Map::new();
    let mut metadata = json!({"format": "pt"});
    let lienzo = match model.networks.predictor {
        Some(_) => config::to_json(model, &model_of_shapes(model)?),
        None => Value::Null,
    };
    if lienzo.as_object().is_some_and(|o| !o.is_empty()) {
        metadata["lienzo"] = Value::String(lienzo.to_string());
    }
    header.insert("__metadata__".into(), metadata);
    let mut at = 0;
    for item in items {
        // The model was opened, so its shapes were checked.
        let end = at + product(&item.shape).unwrap_or(0) * dtype.bytes() as u64;
        let entry = json!({"dtype": stored, "shape": item.shape, "data_offsets": [at, end]});
        header.insert(item.original.clone(), entry);
        at = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.append(&mut text);
    Ok(out)
}

/// What a reader would take the file for without metadata.
fn model_of_shapes(model: &Model) -> Result<Model> {
    let source: &dyn WeightSource = &*model.source;
    let own = &model.networks;
    let linear = matches!(&own.predictor, Some(Predictor::Unet(u)) if u.linear);
    let mut unet = arch::unet(source, linear).map_err(Error::other)?;
    // What they are written as.
    let openclip = [0, 1].map(|n| own.text.get(n).is_some_and(|t| t.activation == MlpActivation::Gelu));
    let text = own.text.iter().enumerate().map(|(n, _)| arch::text(source, n, openclip[n.min(1)]));
    let mut text = text.collect::<Result<Vec<_>, _>>().map_err(Error::other)?;
    arch::trained(source, &mut text, unet.added.is_some(), openclip);
    arch::fit_added(&mut unet, &text).map_err(Error::other)?;
    let autoencoder = match &own.autoencoder {
        Some(Autoencoder::Kl(_)) => {
            let vae = arch::vae(source).map_err(Error::other)?;
            Some(Autoencoder::Kl(KlConfig { scaling: unet.latent_scale(), ..vae }))
        }
        Some(Autoencoder::Tiny(_)) => Some(Autoencoder::Tiny(arch::tiny(source).map_err(Error::other)?)),
        None => None,
    };
    let networks = Networks { text, predictor: Some(Predictor::Unet(unet)), autoencoder, upscaler: None };
    let schedule = ScheduleConfig::default();
    let defaults = Defaults::of(&networks, &schedule, "", false).0;
    Ok(Model { schedule, defaults, ..Model::new("", model.source.clone(), networks) })
}

/// Hands on the tensors' bytes, in the header's order.
fn write(
    model: &Model,
    items: &[Item],
    out: &mut dyn FnMut(&[u8]) -> Result<()>,
    dtype: Dtype,
    heard: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<()> {
    let (mut stored, mut values, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for (i, Item { parts, transposed, .. }) in items.iter().enumerate() {
        if heard(i, items.len()).is_break() {
            return Err(Error::cancelled());
        }
        for canonical in parts.values() {
            model.source.read(canonical, &mut stored)?;
            let info = model.source.info(canonical).ok_or_else(|| Error::other("is missing").at(escape(canonical)))?;
            if let (true, [rows, columns]) = (*transposed, &info.shape[..]) {
                stored = turned(&stored, (*rows, *columns), info.dtype.bytes());
            }
            if info.dtype == dtype {
                out(&stored)?;
                continue;
            }
            weights::decode_f32(info.dtype, &stored, &mut values);
            if dtype == Dtype::F16 && values.iter().any(|v| v.is_finite() && v.abs() >= 65_520.0) {
                let error = Error::other("has values beyond the range of f16").at(escape(canonical));
                return Err(error.try_this(Remedy::F32Weights));
            }
            weights::encode(dtype, &values, &mut bytes);
            out(&bytes)?;
        }
    }
    Ok(())
}

/// A row-major matrix's transpose, of elements of `size` bytes.
fn turned(bytes: &[u8], (rows, columns): (usize, usize), size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            out.extend_from_slice(&bytes[(row * columns + column) * size..][..size]);
        }
    }
    out
}

/// The output must be new, and above all not one of the files that are read, under whatever name.
fn refuse_input(model: &Model, path: &Path) -> Result<()> {
    let shown = escape(&path.to_string_lossy());
    if let Some(input) = &model.path
        && inputs(input).iter().any(|input| same_file(input, path))
    {
        return Err(Error::usage(format!("{shown}: is the checkpoint that is read; choose another output name")));
    }
    if path.symlink_metadata().is_ok() {
        return Err(Error::usage(format!("{shown}: exists already; remove it or choose another output name")));
    }
    Ok(())
}

fn inputs(input: &Path) -> Vec<PathBuf> {
    let list =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>();
    let mut out = vec![input.to_path_buf()];
    for part in ["unet", "vae", "text_encoder", "text_encoder_2"] {
        out.extend(list(&input.join(part)));
    }
    out
}

fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |p: &Path| fs::metadata(p).ok().map(|m| (m.dev(), m.ino()));
        id(a).is_some_and(|a| Some(a) == id(b))
    }
    #[cfg(not(unix))]
    {
        let id = |p: &Path| fs::canonicalize(p).ok();
        id(a).is_some_and(|a| Some(a) == id(b))
    }
}
