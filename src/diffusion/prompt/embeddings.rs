//! A folder of textual inversion files goes in, the embeddings that a prompt names come out.
//!
//! A file's stem is the word that stands for it: `easynegative.safetensors` is `easynegative` in a prompt. Only files
//! that a prompt names are read.

use crate::checkpoint::read_embedding;
use crate::error::{Error, Kind, Result, escape};
use std::path::Path;

/// Files in one folder that are looked at.
const MAX_FILES: usize = 100_000;
const EXTENSIONS: [&str; 4] = ["safetensors", "pt", "bin", "ckpt"];

/// A learned word: some vectors that stand in the place of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The word.
    pub name: String,
    /// The file, for messages.
    pub file: String,
    /// Its vectors one behind the other, each as wide as the text encoder.
    pub values: Vec<f32>,
    /// Values of one vector.
    pub width: usize,
    /// The first 12 digits of the file's sha256.
    pub hash: String,
}

impl Embedding {
    /// How many vectors it has; more than a chunk has room for is an error.
    pub(super) fn vectors(&self, room: usize) -> Result<usize> {
        let n = self.values.len() / self.width.max(1);
        if n <= room {
            return Ok(n);
        }
        Err(Error::bad_file(&self.file, format!("has {n} vectors, and a chunk has room for {room}; it cannot be used")))
    }
}

/// The embeddings of `folder` that one of the `texts` names, for a text encoder of this width.
///
/// # Errors
/// Usage: no such folder. Usage too, naming the file: an embedding of another width or for another kind of model. Bad
/// file: one that cannot be read.
pub fn load(folder: &Path, texts: &[&str], width: usize) -> Result<Vec<Embedding>> {
    let shown = escape(&folder.to_string_lossy());
    let unusable = |e: std::io::Error| Error::usage(format!("--embd-dir: the folder '{shown}' cannot be read: {e}"));
    let plain = |text: &str| text.replace('\\', "").to_lowercase();
    let texts: Vec<String> = texts.iter().map(|t| plain(t)).collect();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unusable)?.take(MAX_FILES) {
        let path = entry.map_err(unusable)?.path();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        let Some(stem) = path.file_stem().and_then(|s| s.to_str()) else { continue };
        let (name, word) = (stem.to_string(), plain(stem));
        if !word.is_empty() && EXTENSIONS.contains(&&*extension) && texts.iter().any(|t| t.contains(&word)) {
            files.push((name, path));
        }
    }
    // The order of a folder is the file system's; of two files of one name the .safetensors one comes first.
    files.sort_by_key(|(name, path)| (name.to_lowercase(), path.extension().is_none_or(|e| e != "safetensors")));
    files.dedup_by(|a, b| a.0.eq_ignore_ascii_case(&b.0));
    files.into_iter().map(|(name, path)| read(name, &path, width)).collect()
}

fn read(name: String, path: &Path, width: usize) -> Result<Embedding> {
    let (tensor, own, hash) = read_embedding(path, width)?;
    if own != width {
        let file = escape(&path.to_string_lossy());
        let message = format!(
            "{file}: is an embedding of width {own}, for another model: this one's text encoder is {width} wide"
        );
        return Err(Error::new(Kind::Usage, message));
    }
    Ok(Embedding { name, file: path.to_string_lossy().into_owned(), values: tensor, width, hash })
}
