//! A diffusers folder to a model: one subfolder a component, each with its config.json and its tensors.

use super::config::Sections;
use super::parts::{Parts, Tensors, rename};
use super::{Defaults, Grounds, Model, TokenizerFiles, names};
use crate::error::{Error, Result, escape};
use crate::models::training::ScheduleConfig;
use crate::weights::bytes::Bytes;
use crate::weights::format::raw;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Configs are a few KB.
const MAX_CONFIG: u64 = 1 << 20;
/// Vocabularies and shard lists are a few MB.
const MAX_LIST: u64 = 16 << 20;

/// Opens a folder with `unet/`, `vae/`, `text_encoder/` and what else a pipeline has; `safety_checker/` is ignored.
///
/// # Errors
/// Bad file: which file is missing or wrong.
pub fn open(folder: &Path) -> Result<Model> {
    open_over(folder, Tensors::new())
}

/// The same with tensors, under canonical names, that take the place of the folder's.
///
/// # Errors
/// As [`open`].
pub fn open_over(folder: &Path, over: Tensors) -> Result<Model> {
    refuse_other_pipelines(folder)?;
    let mut map = Tensors::new();
    // A refiner has one text encoder, which some call the second; a file of its own may bring the VAE.
    let lone = !folder.join("text_encoder").is_dir() && folder.join("text_encoder_2").is_dir();
    let first = if lone { "text_encoder_2" } else { "text_encoder" };
    let second = (!lone && folder.join("text_encoder_2").is_dir()).then_some("text_encoder_2");
    let vae = folder.join("vae").is_dir().then_some("vae");
    let all = [("unet", "unet"), (first, "text_encoder")].into_iter();
    for (at, part) in all.chain(second.map(|s| (s, s))).chain(vae.map(|v| (v, v))) {
        map.extend(component(&folder.join(at), part)?);
    }
    let part = |name: &str| json(&folder.join(name).join("config.json"), MAX_CONFIG);
    let scheduler = folder.join("scheduler/scheduler_config.json");
    if !scheduler.exists() {
        let why = "has no scheduler/scheduler_config.json, which says what its U-Net predicts and on which schedule; \
                   download the scheduler folder too";
        return Err(Error::bad_file(folder, why));
    }
    let mut unet = part("unet")?;
    if let Some([_, channels, ..]) = over.get("unet.conv_in.weight").map(|t| &t.info.shape[..]) {
        unet["in_channels"] = Value::from(*channels);
    }
    map.extend(over);
    let sections = Sections {
        unet: Some(unet),
        vae: vae.map(part).transpose()?,
        text_encoder: Some(part(first)?),
        text_encoder_2: second.map(part).transpose()?,
        scheduler: Some(json(&scheduler, MAX_CONFIG)?),
        tokenizer: match tokenizer(&folder.join("tokenizer"))? {
            None => tokenizer(&folder.join("tokenizer_2"))?,
            some => some,
        },
        ..Sections::default()
    };
    let sample = sections.unet.as_ref().and_then(|u| u.get("sample_size")?.as_u64());
    // A folder given as `.` or with a trailing slash still has a name.
    let named = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let name = named.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (about, schedule) = ("diffusers folder".into(), ScheduleConfig::default());
    let parts =
        Parts { map, about, sections, schedule, grounds: Grounds::Family, name, openclip: [false; 2], linear: true };
    let mut model = parts.model().map_err(|why| Error::bad_file(folder, why))?;
    let side = sample.and_then(|n| usize::try_from(n).ok()?.checked_mul(model.networks.factor()));
    if let Some(size) = side.filter(|side| (8..=4096).contains(side)) {
        model.defaults = Defaults { size, ..model.defaults };
    }
    model.path = Some(folder.to_path_buf());
    Ok(model)
}

/// The VAE of a folder: its own (`config.json` beside the weights) or a whole model's.
pub fn vae_folder(folder: &Path) -> Result<(Tensors, Option<Value>)> {
    let inner = folder.join("vae");
    let folder = if inner.is_dir() { &inner } else { folder };
    Ok((component(folder, "vae")?, Some(json(&folder.join("config.json"), MAX_CONFIG)?)))
}

/// The U-Net of a folder: its own or a whole model's, and its configuration.
pub fn unet_folder(folder: &Path) -> Result<(Tensors, Value)> {
    let inner = folder.join("unet");
    let folder = if inner.is_dir() { &inner } else { folder };
    Ok((component(folder, "unet")?, json(&folder.join("config.json"), MAX_CONFIG)?))
}

fn refuse_other_pipelines(folder: &Path) -> Result<()> {
    let index = folder.join("model_index.json");
    let class = if index.exists() { json(&index, MAX_CONFIG)? } else { Value::Null };
    let class = class.get("_class_name").and_then(Value::as_str).unwrap_or("");
    let others = ["Kolors", "UnCLIP", "VideoDiffusion", "InstructPix2Pix", "Kandinsky"];
    if let Some(other) = others.iter().find(|other| class.contains(**other)) {
        let why = format!("is a {other} model; the Stable Diffusion 1.x, 2.x and SDXL family is supported");
        return Err(Error::bad_file(folder, why));
    }
    if !folder.join("unet").is_dir() {
        let what = if folder.join("transformer").is_dir() { "a transformer model" } else { "no diffusers model" };
        let why = format!("is {what}: it has no unet folder; give a Stable Diffusion diffusers folder");
        return Err(Error::bad_file(folder, why));
    }
    Ok(())
}

/// A component's tensors under canonical names, from the first of the usual file names that is there.
fn component(folder: &Path, part: &str) -> Result<Tensors> {
    let (stem, pickled) = match part {
        "text_encoder" | "text_encoder_2" => ("model", "pytorch_model"),
        _ => ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    };
    let candidates = [
        format!("{stem}.safetensors"),
        format!("{stem}.safetensors.index.json"),
        format!("{stem}.fp16.safetensors"),
        format!("{stem}.safetensors.index.fp16.json"),
        format!("{stem}.fp16.safetensors.index.json"),
        format!("{pickled}.bin"),
        format!("{pickled}.fp16.bin"),
    ];
    let found = candidates.iter().map(|name| folder.join(name)).find(|path| path.exists());
    let Some(found) = found else {
        let why = format!("has no {} (nor its fp16 or .bin form); download the {part} folder again", candidates[0]);
        return Err(Error::bad_file(folder, why));
    };
    let files = if found.extension().is_some_and(|e| e == "json") { shards(&found)? } else { vec![found] };
    let mut out = Tensors::new();
    for file in files {
        let tensors = raw(Bytes::open(&file)?)?.tensors.into_iter();
        out.extend(rename(tensors.map(|(name, tensor)| (tensor, names::whole(names::component(part, &name))))));
    }
    Ok(out)
}

/// The files that an index lists, beside it.
fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let list = json(index, MAX_LIST)?;
    let map = list.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::bad_file(index, "has no weight_map; download it again"))?;
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    let path = |name: &str| {
        // An index names its neighbours and nothing else of the file system.
        let plain = Path::new(name).file_name().is_some_and(|n| n == name) && !name.contains(['/', '\\', ':']);
        let why = || Error::bad_file(index, format!("lists {}, which is not a file beside it", escape(name)));
        if plain { Ok(index.with_file_name(name)) } else { Err(why()) }
    };
    names.into_iter().map(path).collect()
}

/// `tokenizer/vocab.json` and `merges.txt`, or the same out of `tokenizer.json`; none when the folder has neither.
fn tokenizer(folder: &Path) -> Result<Option<TokenizerFiles>> {
    let (vocab, merges, both) = (folder.join("vocab.json"), folder.join("merges.txt"), folder.join("tokenizer.json"));
    if vocab.exists() && merges.exists() {
        return Ok(Some(TokenizerFiles { vocab: text(&vocab, MAX_LIST)?, merges: text(&merges, MAX_LIST)? }));
    }
    if !both.exists() {
        return Ok(None);
    }
    let model = json(&both, MAX_LIST)?;
    let vocab = model.pointer("/model/vocab").filter(|v| v.is_object());
    let merges = model.pointer("/model/merges").and_then(Value::as_array);
    let (vocab, merges) = vocab
        .zip(merges)
        .ok_or_else(|| Error::bad_file(&both, "has no model.vocab and model.merges; download the tokenizer again"))?;
    let mut lines = String::from("#version: 0.2\n");
    for merge in merges {
        // Either "a b" or ["a", "b"], depending on the library's version.
        let line = match merge {
            Value::String(line) => line.clone(),
            Value::Array(pair) => pair.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            _ => return Err(Error::bad_file(&both, "has a merge that is not a pair of strings")),
        };
        lines.push_str(&line);
        lines.push('\n');
    }
    Ok(Some(TokenizerFiles { vocab: vocab.to_string(), merges: lines }))
}

fn text(path: &Path, limit: u64) -> Result<String> {
    let bytes = Bytes::open(path)?;
    if bytes.len() > limit {
        return Err(bytes.bad(format!("is {} bytes long; at most {limit} make sense here", bytes.len())));
    }
    let content = bytes.vec_at(0, bytes.len())?;
    String::from_utf8(content).map_err(|_| bytes.bad("is not UTF-8 text; download it again"))
}

fn json(path: &Path, limit: u64) -> Result<Value> {
    let content = text(path, limit)?;
    let malformed = |e: serde_json::Error| Error::bad_file(path, format!("is not JSON: {}", escape(&e.to_string())));
    serde_json::from_str(&content).map_err(malformed)
}
