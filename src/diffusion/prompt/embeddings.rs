//! A folder of textual inversion files goes in, the embeddings that a prompt names come out.
//!
//! A file's stem is the word that stands for it: `easynegative.safetensors` is `easynegative` in a prompt. Only files
//! whose names stand in a prompt are read, and only those matter whose tokens do: `art` is no word of `party`.

use super::chunks::Lexicon;
use crate::checkpoint::read_embedding;
use crate::diffusion::Request;
use crate::error::{Error, Result, escape};
use crate::models::Networks;
use crate::models::tokenizer::Tokenizer;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Folders within folders that are looked into.
const MAX_DEPTH: usize = 8;
/// Files that are looked at.
const MAX_FILES: usize = 100_000;
const EXTENSIONS: [&str; 4] = ["safetensors", "pt", "bin", "ckpt"];

/// A learned word: some vectors that stand in the place of tokens.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// The word.
    pub name: String,
    /// The file, for messages.
    pub file: String,
    /// Its vectors one behind the other, each as wide as the text encoders side by side.
    pub values: Vec<f32>,
    /// Values of one vector.
    pub width: usize,
    /// The first 12 digits of the file's sha256.
    pub hash: String,
    /// Why it cannot be used: an error once a prompt has its word.
    pub fault: Option<Error>,
}

impl Embedding {
    /// How many vectors it has; more than a chunk has room for is an error, as is its fault.
    pub(super) fn vectors(&self, room: usize) -> Result<usize> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let n = self.values.len() / self.width.max(1);
        if n <= room {
            return Ok(n);
        }
        Err(Error::bad_file(&self.file, format!("has {n} vectors, and a chunk has room for {room}; it cannot be used")))
    }
}

/// The embeddings of `folder`, and of the folders in it, whose names stand somewhere in the `texts`, for text encoders
/// of these widths. One that cannot be used is among them with its [fault](Embedding::fault): whether a prompt has its
/// word, and not only its letters, is found out when the prompt is read.
///
/// # Errors
/// Usage: no such folder.
pub fn load(folder: &Path, texts: &[&str], widths: &[usize]) -> Result<Vec<Embedding>> {
    let texts: Vec<String> = texts.iter().map(|t| plain(t)).collect();
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), 0)];
    let mut looked_at = 0;
    while let Some((folder, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if depth == 0 => {
                let shown = escape(&folder.to_string_lossy());
                let message = format!("the folder '{shown}' cannot be read: {e}");
                return Err(Error::of_option("embeddings", message).caused_by(e));
            }
            // A folder in it that is nobody's to read is left out.
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            looked_at += 1;
            if looked_at > MAX_FILES {
                break;
            }
            let path = entry.path();
            if path.is_dir() {
                folders.extend((depth < MAX_DEPTH).then_some((path, depth + 1)));
                continue;
            }
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
            let Some(name) = path.file_stem().and_then(|s| s.to_str()).map(str::to_owned) else { continue };
            let word = plain(&name);
            if !word.is_empty() && EXTENSIONS.contains(&&*extension) && texts.iter().any(|t| t.contains(&word)) {
                files.push((name, depth, path));
            }
        }
    }
    // The order of a folder is the file system's; of two files of one name the outer one comes first, then
    // .safetensors.
    let other = |path: &Path| path.extension().is_none_or(|e| e != "safetensors");
    files.sort_by_cached_key(|(name, depth, path)| (name.to_lowercase(), *depth, other(path), path.clone()));
    files.dedup_by(|a, b| a.0.to_lowercase() == b.0.to_lowercase());
    Ok(files.into_iter().map(|(name, _, path)| read(name, &path, widths)).collect())
}

/// Letters alone: neither case nor backslashes nor spaces tell tokens apart.
fn plain(text: &str) -> String {
    text.chars().filter(|c| *c != '\\' && !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

fn read(name: String, path: &Path, widths: &[usize]) -> Embedding {
    let width = widths.iter().sum();
    let file = path.to_string_lossy().into_owned();
    let read = read_embedding(path, widths).and_then(|(values, own, hash)| {
        if own == width {
            return Ok((values, hash));
        }
        let message =
            format!("is an embedding of width {own}, for another model: this one's text encoder is {width} wide");
        Err(Error::usage(message).at(escape(&file)))
    });
    match read {
        Ok((values, hash)) => Embedding { name, file, values, width, hash, fault: None },
        Err(e) => Embedding { name, file, values: Vec::new(), width, hash: String::new(), fault: Some(e) },
    }
}

/// Leaves each request the embeddings that its prompts use at some step.
///
/// # Errors
/// What [`read()`](super::read::read) refuses, and the fault of an embedding that is used.
pub fn keep_used(requests: &mut [Request], tokens: &Tokenizer, networks: &Networks) -> Result<()> {
    let positions = networks.positions();
    for request in requests {
        let lexicon = Lexicon { tokens, embeddings: &request.embeddings, positions };
        let (cond, uncond) = super::readings(request, networks, lexicon)?;
        let texts = cond.texts.iter().chain(uncond.iter().flat_map(|r| &r.texts));
        let tokens = texts.flat_map(|t| &t.chunks).flat_map(|c| &c.tokens);
        let used: BTreeSet<usize> = tokens.filter_map(|(token, _)| token.embedding()).collect();
        if used.len() < request.embeddings.len() {
            request.embeddings = Arc::new(used.iter().map(|&i| request.embeddings[i].clone()).collect());
        }
    }
    Ok(())
}
