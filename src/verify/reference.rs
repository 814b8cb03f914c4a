//! A folder of reference values: `reference.safetensors`, `samplers.json`, `tokens.json`.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Files above this are not reference values.
const MAX_FILE: u64 = 1 << 30;

/// Named tensors, torch-shaped, and what belongs to them.
#[derive(Debug, Default)]
pub struct Reference {
    tensors: BTreeMap<String, Values>,
    /// Timestep tables that need no network, by name.
    pub tables: BTreeMap<String, Vec<f32>>,
    /// The sampling loops, by name.
    pub loops: BTreeMap<String, ReferenceLoop>,
    /// Steps and tables of the `k.*` checks.
    pub k: K,
    /// Prompts with their ids.
    pub tokens: Vec<Tokens>,
}

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Elements, whatever they were stored as.
    pub data: Vec<f32>,
}

/// One guided sampling loop.
#[derive(Clone, Debug, Deserialize)]
pub struct ReferenceLoop {
    /// Sampler steps.
    pub steps: usize,
    /// Guidance scale.
    pub cfg: f32,
    /// The timesteps that are asked for, in order.
    pub timesteps: Vec<f32>,
    /// The noise levels, 0 at the end; empty for DDIM and PLMS.
    #[serde(default)]
    pub sigmas: Vec<f32>,
    /// The start is noise times this.
    #[serde(default = "one")]
    pub init_noise_sigma: f64,
    /// How far guidance is rescaled to the prompt's own contrast.
    #[serde(default)]
    pub guidance_rescale: f32,
    /// The share of fresh noise, where the loop was given one.
    #[serde(default)]
    pub eta: Option<f64>,
    /// The guidance that the network itself was told (a guidance embedding); `cfg` is then 1.
    #[serde(default)]
    pub guidance_scale: Option<f32>,
    /// diffusers' configuration of the scheduler.
    #[serde(default)]
    pub config: serde_json::Map<String, serde_json::Value>,
}

fn one() -> f64 {
    1.0
}

/// What the analytic sampler checks share.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct K {
    /// Sampler steps.
    #[serde(default)]
    pub steps: usize,
    /// Everything else, by name.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// A prompt with its ids.
#[derive(Clone, Debug, Deserialize)]
pub struct Tokens {
    /// The text.
    pub prompt: String,
    /// Padded and truncated, with start and end.
    pub ids77: Vec<u32>,
    /// Bare.
    pub ids: Vec<u32>,
}

impl Reference {
    /// Reads a folder. The two JSON files may be missing; their checks are then left out.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut reference = Self::open_file(&folder.join("reference.safetensors"))?;
        let path = folder.join("samplers.json");
        if path.exists() {
            reference.read_samplers(&read(&path)?).map_err(|e| Error::bad_file(&path, e))?;
        }
        let path = folder.join("tokens.json");
        if path.exists() {
            reference.tokens = serde_json::from_slice(&read(&path)?).map_err(|e| Error::bad_file(&path, e))?;
        }
        Ok(reference)
    }

    /// The tensors of one file.
    ///
    /// # Errors
    /// Bad file: it is missing or malformed, or of a type that no reference has.
    pub fn open_file(path: &Path) -> Result<Self> {
        Self::from_safetensors(&read(path)?).map_err(|e| Error::bad_file(path, e))
    }

    /// The embedded model's values, made by diffusers (`tools/export_golden.py`).
    pub fn embedded() -> Result<Self> {
        let mut reference = Self::from_safetensors(include_bytes!("../assets/reference/reference.safetensors"))?;
        reference.read_samplers(include_bytes!("../assets/reference/samplers.json"))?;
        let tokens = serde_json::from_slice(include_bytes!("../assets/reference/tokens.json"));
        reference.tokens = tokens.map_err(|e| Error::other(format!("the embedded tokens.json: {e}")))?;
        Ok(reference)
    }

    /// Tensors of type f32, i32, i64 and u8.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        let file = safetensors::SafeTensors::deserialize(bytes).map_err(|e| Error::other(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let raw = view.data();
            let data = match view.dtype() {
                safetensors::Dtype::F32 => words(raw, f32::from_le_bytes),
                safetensors::Dtype::I32 => words(raw, |b| i32::from_le_bytes(b) as f32),
                safetensors::Dtype::I64 => words(raw, |b| i64::from_le_bytes(b) as f32),
                safetensors::Dtype::U8 => raw.iter().map(|b| f32::from(*b)).collect(),
                other => {
                    return Err(Error::other(format!("tensor {name} is of type {other:?}, which no reference has")));
                }
            };
            tensors.insert(name, Values { shape: view.shape().to_vec(), data });
        }
        Ok(Self { tensors, ..Self::default() })
    }

    /// Adds the loops of a `samplers.json`.
    pub fn read_samplers(&mut self, json: &[u8]) -> Result<()> {
        let wrong = |e: serde_json::Error| Error::other(e.to_string());
        let all: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&without_python_numbers(json)).map_err(wrong)?;
        for (name, value) in all {
            if name == "k" {
                self.k = serde_json::from_value(value).map_err(wrong)?;
            } else if name == "tables" {
                self.tables = serde_json::from_value(value).map_err(wrong)?;
            } else {
                self.loops.insert(name, serde_json::from_value(value).map_err(wrong)?);
            }
        }
        Ok(())
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor that a check needs.
    pub fn get(&self, name: &str) -> Result<&Values> {
        self.tensors.get(name).ok_or_else(|| Error::other(format!("the reference has no tensor {name}")))
    }
}

/// Python's json module writes `NaN`, `Infinity` and `-Infinity`, which JSON does not have: they become null.
fn without_python_numbers(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut at, mut quoted) = (0, false);
    while at < json.len() {
        let word = [&b"-Infinity"[..], b"Infinity", b"NaN"].into_iter().find(|w| !quoted && json[at..].starts_with(w));
        if let Some(word) = word {
            out.extend_from_slice(b"null");
            at += word.len();
            continue;
        }
        if quoted && json[at] == b'\\' {
            out.push(json[at]);
            at += 1;
        } else if json[at] == b'"' {
            quoted = !quoted;
        }
        out.extend(json.get(at));
        at += 1;
    }
    out
}

fn words<const N: usize>(raw: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let mut word = [0; N];
    let one = |b: &[u8]| {
        word.copy_from_slice(b);
        f(word)
    };
    raw.chunks_exact(N).map(one).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|e| Error::bad_file(path, e))?.len();
    if size > MAX_FILE {
        return Err(Error::bad_file(path, format!("{size} bytes; reference values are at most {MAX_FILE}")));
    }
    std::fs::read(path).map_err(|e| Error::bad_file(path, e))
}

#[cfg(test)]
mod tests {
    use super::without_python_numbers;

    #[test]
    fn pythons_infinities_become_null() {
        let json = br#"{"a": -Infinity, "b": [NaN, 1], "c": "NaN \" Infinity", "d": Infinity}"#;
        let clean = String::from_utf8(without_python_numbers(json)).unwrap();
        assert_eq!(clean, r#"{"a": null, "b": [null, 1], "c": "NaN \" Infinity", "d": null}"#);
        assert_eq!(without_python_numbers(br#""\"#), br#""\"#);
    }
}
