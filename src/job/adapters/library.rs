//! Folders of adapters and a name go in, the file that it stands for comes out.

use crate::checkpoint::adapter::AdapterFile;
use crate::error::{Error, Result, escape};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// How adapters' files end.
const ENDS: [&str; 5] = ["safetensors", "pt", "ckpt", "bin", "pth"];
/// Folders in folders, and files, at most.
const MOST: (usize, usize) = (8, 50_000);
/// Likeness from which a name is near another.
const NEAR: f64 = 0.75;

/// A file that may be meant.
struct Candidate {
    path: PathBuf,
    /// Below its folder, with slashes and ending.
    inside: String,
    /// The file's name without ending; dots are a part of it.
    stem: String,
}

/// Where adapters are looked up. Files are opened once.
#[derive(Default)]
pub struct Library {
    folders: Vec<PathBuf>,
    /// Names with the first digits of hashes: what a picture says that it was made with.
    hashes: Vec<(String, String)>,
    candidates: OnceLock<Vec<Candidate>>,
    opened: Mutex<HashMap<PathBuf, Arc<AdapterFile>>>,
}

impl Library {
    /// Of these folders and what is in them.
    pub fn new(folders: &[PathBuf]) -> Self {
        Self { folders: folders.to_vec(), ..Self::default() }
    }

    /// The same, with what a picture calls its adapters: a file of the hash goes before another of the name.
    #[must_use]
    pub fn with_hashes(self, hashes: Vec<(String, String)>) -> Self {
        Self { hashes, ..self }
    }

    /// The file that a name stands for: its own name without ending, that and folders in front of it, what its trainer
    /// called it, or a path.
    ///
    /// # Errors
    /// Usage: no file is called so, with those whose names are near; or more than one is. Bad file: it is no adapter.
    pub fn find(&self, name: &str) -> Result<Arc<AdapterFile>> {
        let wanted = self.hashes.iter().find(|(own, _)| *own == super::listed(name)).map(|(_, hash)| hash.as_str());
        let named = self.named(name);
        if let Some(hash) = wanted {
            if let Ok(found) = &named
                && found.is_hash(hash)?
            {
                return named;
            }
            for one in self.all() {
                // What cannot be read is not it.
                let Ok(adapter) = self.open(&one.path) else { continue };
                if adapter.is_hash(hash)? {
                    return Ok(adapter);
                }
            }
        }
        named
    }

    fn named(&self, name: &str) -> Result<Arc<AdapterFile>> {
        let plain = name.replace('\\', "/");
        let plain = plain.trim_start_matches('/');
        let fits = |one: &&Candidate| {
            let ended = |whole: &str| {
                whole == plain || whole.ends_with(plain) && whole[..whole.len() - plain.len()].ends_with('/')
            };
            let bare = one.inside.rsplit_once('.').map_or(one.inside.as_str(), |(bare, _)| bare);
            ended(&one.inside) || ended(bare)
        };
        let mut found: Vec<&Candidate> = self.all().iter().filter(fits).collect();
        // A path that is written out in full tells it from one that only ends so.
        if let Some(exact) = found.iter().position(|one| one.inside == plain) {
            found = vec![found[exact]];
        }
        match found[..] {
            [one] => return self.open(&one.path),
            [] => {}
            _ => return Err(several(name, &found)),
        }
        let path = Path::new(name);
        if path.is_file() {
            return self.open(path);
        }
        let alias = |one: &&Candidate| self.open(&one.path).is_ok_and(|a| a.alias() == Some(name));
        let found: Vec<&Candidate> = self.all().iter().filter(alias).collect();
        match found[..] {
            [one] => self.open(&one.path),
            [] => Err(self.unknown(name)),
            _ => Err(several(name, &found)),
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let message = format!("no adapter is called '{}'", escape(name));
        if self.folders.is_empty() {
            return Error::of_option("lora_model_dir", format!("{message}: give the folder of your adapters here"));
        }
        let lower = name.to_lowercase();
        let mut near: Vec<(f64, &str)> = Vec::new();
        for one in self.all() {
            let own = one.stem.to_lowercase();
            let likeness = strsim::jaro_winkler(&own, &lower).max(f64::from(u8::from(own.contains(&lower))));
            near.extend((likeness > NEAR).then_some((likeness, one.stem.as_str())));
        }
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let near: Vec<String> = near.iter().take(3).map(|(_, name)| escape(name)).collect();
        Error::usage(match (near.is_empty(), self.all().len()) {
            (false, _) => format!("{message}: did you mean {}?", near.join(", ")),
            (true, n) => format!("{message}; the folders hold {n} others"),
        })
    }

    fn open(&self, path: &Path) -> Result<Arc<AdapterFile>> {
        if let Some(known) = self.lock().get(path) {
            return Ok(known.clone());
        }
        let new = Arc::new(AdapterFile::open(path)?);
        Ok(self.lock().entry(path.to_path_buf()).or_insert(new).clone())
    }

    fn all(&self) -> &[Candidate] {
        self.candidates.get_or_init(|| {
            let mut all = Vec::new();
            self.folders.iter().for_each(|folder| scan(folder, folder, 0, &mut all));
            all.sort_by(|a, b| a.path.cmp(&b.path));
            all.dedup_by(|a, b| a.path == b.path);
            all
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<AdapterFile>>> {
        // Consistent between any two statements.
        self.opened.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn several(name: &str, found: &[&Candidate]) -> Error {
    let paths: Vec<String> = found.iter().take(4).map(|one| escape(&one.path.to_string_lossy())).collect();
    let why = "write folder/name, or the name with its ending";
    Error::usage(format!("'{}' may be {}: {why}", escape(name), paths.join(" or ")))
}

fn scan(top: &Path, folder: &Path, depth: usize, all: &mut Vec<Candidate>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if all.len() >= MOST.1 {
            return;
        }
        if path.is_dir() {
            if depth < MOST.0 {
                scan(top, &path, depth + 1, all);
            }
            continue;
        }
        let ends = path.extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase);
        let (true, Some(stem)) = (ends.is_some_and(|end| ENDS.contains(&end.as_str())), path.file_stem()) else {
            continue;
        };
        let stem = stem.to_string_lossy().into_owned();
        let inside = path.strip_prefix(top).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        all.push(Candidate { inside, stem, path });
    }
}
