//! A model to its sha256, remembered between runs: a 4 GB file is read whole once, not for every picture.
//!
//! The cache is one small text file in the user's cache folder. A missing, damaged or unwritable one is rebuilt or left
//! out, never an error.

use super::hash::vae_file;
use super::{Model, model_hash, vae_hash};
use crate::error::Result;
use crate::files::write_private;
use crate::system::cache_dir;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::UNIX_EPOCH;

/// More entries than anybody has models; the oldest are dropped.
const MOST: usize = 200;
/// A larger file is not one that we wrote.
const MAX_BYTES: u64 = 1 << 20;

/// [`model_hash`], from the cache if the file's size and time of change are those of the last time.
///
/// # Errors
/// As [`model_hash`].
pub fn cached_model_hash(model: &Model, cancel: &AtomicBool) -> Result<String> {
    cached(model.path.as_deref(), || model_hash(model, cancel))
}

/// [`vae_hash`], from the cache like [`cached_model_hash`].
///
/// # Errors
/// As [`vae_hash`].
pub fn cached_vae_hash(path: &Path, cancel: &AtomicBool) -> Result<String> {
    let file = vae_file(path);
    cached(Some(&file), || vae_hash(&file, cancel))
}

fn cached(path: Option<&Path>, compute: impl Fn() -> Result<String>) -> Result<String> {
    let key = path.and_then(key);
    let file = cache_dir().map(|dir| dir.join("hashes.txt"));
    if let (Some(key), Some(file)) = (&key, &file)
        && let Some(hash) = lookup(&read(file), key)
    {
        return Ok(hash);
    }
    let hash = compute()?;
    if let (Some(key), Some(file)) = (&key, &file) {
        remember(file, key, &hash);
    }
    Ok(hash)
}

/// `size nanoseconds path` of a regular file. Folders are hashed anew: their U-Net's file is one of several candidates.
fn key(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    let path = path.to_str().filter(|p| !p.contains('\n'))?;
    Some(format!("{} {changed} {path}", meta.len()))
}

fn read(file: &Path) -> String {
    let small = fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() <= MAX_BYTES);
    if small { fs::read_to_string(file).unwrap_or_default() } else { String::new() }
}

fn lookup(text: &str, key: &str) -> Option<String> {
    let found = text.lines().find_map(|line| line.split_once(' ').filter(|(_, k)| *k == key))?;
    let hash = found.0;
    (hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())).then(|| hash.to_owned())
}

/// Writes the entry in front of the others.
fn remember(file: &Path, key: &str, hash: &str) {
    let path_of = |line: &str| line.splitn(4, ' ').nth(3).map(str::to_owned);
    let line = format!("{hash} {key}");
    let old = read(file);
    let others = old.lines().filter(|l| path_of(l).is_some() && path_of(l) != path_of(&line)).take(MOST);
    let text: String = std::iter::once(line.as_str()).chain(others).flat_map(|l| [l, "\n"]).collect();
    // A cache that cannot be kept is left out.
    let _ = write_private(file, text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_until_the_file_changes() {
        let dir = std::env::temp_dir().join(format!("lienzo-hash-cache-{}", std::process::id()));
        let file = dir.join("hashes.txt");
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        remember(&file, "10 5 /models/one two.ckpt", &a);
        remember(&file, "20 6 /models/other.ckpt", &b);
        assert_eq!(lookup(&read(&file), "10 5 /models/one two.ckpt"), Some(a.clone()));
        assert_eq!(lookup(&read(&file), "10 7 /models/one two.ckpt"), None);
        remember(&file, "10 7 /models/one two.ckpt", &b);
        assert_eq!(read(&file).lines().count(), 2);
        fs::write(&file, "zz 10 7 /models/one two.ckpt\n\u{0}garbage").unwrap();
        assert_eq!(lookup(&read(&file), "10 7 /models/one two.ckpt"), None);
        let _ = fs::remove_dir_all(dir);
    }
}
