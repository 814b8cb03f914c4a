//! Files and folders of models go in; models by id come out, their headers read, their weights not.

use crate::checkpoint::{self, Model, ModelId, cached_model_hash};
use crate::error::{Error, Result, escape};
use crate::server::fault::Fault;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::UNIX_EPOCH;

/// The id of the model in the binary.
pub(crate) const EMBEDDED: &str = "embedded";
/// Endings of model files.
const ENDINGS: [&str; 2] = ["safetensors", "ckpt"];
/// Models of one folder.
const MOST: usize = 1000;

/// A model that can be named.
pub(crate) struct Entry {
    /// The file's name without its folder.
    pub(crate) id: String,
    /// Where it is; nowhere for the one in the binary.
    pub(crate) path: Option<PathBuf>,
    /// Of its file.
    pub(crate) bytes: u64,
    /// Its headers, or why it cannot be used.
    pub(crate) model: Result<Arc<Model>>,
    /// Size and time of change: another file has others.
    stamp: String,
    sha256: OnceLock<String>,
}

impl Entry {
    /// The model.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn open(&self) -> Result<Arc<Model>, Fault> {
        self.model.clone().map_err(Fault::from)
    }

    /// Its sha256, if it was read before.
    pub(crate) fn known_sha256(&self) -> Option<&str> {
        self.sha256.get().map(String::as_str)
    }

    /// Its sha256; reads the file once.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn sha256(&self, cancel: &AtomicBool) -> Result<String> {
        if let Some(known) = self.sha256.get() {
            return Ok(known.clone());
        }
        let model = self.model.as_ref().map_err(Clone::clone)?;
        let hash = cached_model_hash(model, cancel)?;
        Ok(self.sha256.get_or_init(|| hash).clone())
    }

    /// What pictures of the same weights have in common: it changes with the file.
    pub(crate) fn stamp(&self) -> &str {
        &self.stamp
    }
}

/// The models of a server.
pub(crate) struct Models {
    files: Vec<PathBuf>,
    folder: Option<PathBuf>,
    list: RwLock<Vec<Arc<Entry>>>,
    vaes: RwLock<Vec<(String, PathBuf)>>,
    /// Models with another VAE, by both.
    dressed: Mutex<HashMap<(ModelId, PathBuf), Arc<Model>>>,
}

impl Models {
    /// Opens files, which must be usable, and what lies in a folder.
    ///
    /// # Errors
    /// A file that was named cannot be used, or the folder cannot be read.
    pub(crate) fn new(files: Vec<PathBuf>, folder: Option<PathBuf>) -> Result<Self> {
        let models =
            Self { files, folder, list: RwLock::default(), vaes: RwLock::default(), dressed: Mutex::default() };
        models.refresh()?;
        for entry in models.all().iter().take(models.files.len()) {
            entry.model.as_ref().map_err(Clone::clone)?;
        }
        Ok(models)
    }

    /// Looks again. What did not change stays open.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn refresh(&self) -> Result<()> {
        let old = self.all();
        let mut found = Vec::new();
        let mut vaes = Vec::new();
        if let Some(folder) = &self.folder {
            found = models_in(folder)?;
            vaes = models_in(&folder.join("vae")).or_else(|_| models_in(&folder.join("VAE"))).unwrap_or_default();
        }
        let mut list: Vec<Arc<Entry>> = Vec::new();
        for path in self.files.iter().chain(&found) {
            let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if list.iter().any(|e| e.id == id) {
                continue;
            }
            let stamp = stamp(path);
            let same = old.iter().find(|e| e.path.as_ref() == Some(path) && e.stamp == stamp && e.model.is_ok());
            list.push(same.cloned().unwrap_or_else(|| Arc::new(opened(id, path, stamp))));
        }
        let embedded = old.iter().find(|e| e.path.is_none()).cloned();
        list.push(embedded.unwrap_or_else(|| Arc::new(embedded_entry())));
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        *self.vaes.write().unwrap_or_else(|e| e.into_inner()) = vaes.iter().map(|p| (name(p), p.clone())).collect();
        *self.list.write().unwrap_or_else(|e| e.into_inner()) = list;
        Ok(())
    }

    /// All of them; the one in the binary is the last.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.list.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// VAEs that may take a model's own one's place: id and path.
    pub(crate) fn vaes(&self) -> Vec<(String, PathBuf)> {
        self.vaes.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// The one that is meant where none is named: the first that can be used.
    pub(crate) fn default(&self) -> Option<Arc<Entry>> {
        self.all().into_iter().find(|e| e.model.is_ok())
    }

    /// The model of this id, name or sha256 (64 or the first 10 digits).
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Entry>> {
        let all = self.all();
        let hash = name.to_ascii_lowercase();
        let digits = hash.len() == 64 || hash.len() == 10;
        let is_hash = |e: &&Arc<Entry>| digits && e.known_sha256().is_some_and(|known| known.starts_with(&hash));
        let stem = |e: &&Arc<Entry>| e.model.as_ref().is_ok_and(|m| m.name == name);
        let found = all.iter().find(|e| e.id == name).or_else(|| all.iter().find(stem));
        found.or_else(|| all.iter().find(is_hash)).cloned()
    }

    /// The entry that an order means.
    ///
    /// # Errors
    /// Usage: there is no such model, with those there are.
    pub(crate) fn of_order(&self, name: Option<&Path>) -> Result<Arc<Entry>, Fault> {
        let Some(name) = name else {
            return self.default().ok_or_else(|| Fault::of_order("model", "there is no model"));
        };
        let name = name.to_string_lossy();
        self.find(&name).ok_or_else(|| {
            let mut fault = Fault::of_order("model", format!("there is no model '{}' here", escape(&name)));
            fault.allowed = self.all().iter().map(|e| e.id.clone()).collect();
            let own = self.default().map(|e| e.id.clone());
            own.into_iter().fold(fault, |fault, id| fault.or_set(id.clone(), serde_json::json!({"model": id})))
        })
    }

    /// The model of an entry, with another VAE where an order names one; and that VAE's path.
    ///
    /// # Errors
    /// Usage: there is no such VAE. Otherwise why one of the two cannot be used.
    pub(crate) fn with_vae(&self, entry: &Entry, vae: Option<&Path>) -> Result<(Arc<Model>, Option<PathBuf>), Fault> {
        let model = entry.open()?;
        let Some(vae) = vae else { return Ok((model, None)) };
        let vaes = self.vaes();
        let name = vae.to_string_lossy();
        let Some((_, path)) =
            vaes.iter().find(|(id, path)| *id == name || path.file_stem().is_some_and(|s| *s == *name))
        else {
            let mut fault = Fault::of_order("vae", format!("there is no VAE '{}' here", escape(&name)));
            fault.allowed = vaes.into_iter().map(|(id, _)| id).collect();
            return Err(fault.or_set("the model's own", serde_json::json!({"vae": null})));
        };
        let key = (model.id(), path.clone());
        let mut dressed = self.dressed.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(known) = dressed.get(&key) {
            return Ok((known.clone(), Some(path.clone())));
        }
        // A model of its own over the same tensors; the engine shares what is equal.
        let own = match &entry.path {
            Some(file) => checkpoint::open(file)?,
            None => Model::embedded()?,
        };
        let model = Arc::new(checkpoint::open_with_vae(own, path)?);
        dressed.insert(key, model.clone());
        Ok((model, Some(path.clone())))
    }
}

fn opened(id: String, path: &Path, stamp: String) -> Entry {
    let model = checkpoint::open(path).map(Arc::new);
    let bytes = fs::metadata(path).map_or(0, |m| m.len());
    Entry { id, path: Some(path.to_path_buf()), bytes, model, stamp, sha256: OnceLock::new() }
}

fn embedded_entry() -> Entry {
    let model = Model::embedded().map(Arc::new);
    let sha256 = OnceLock::new();
    if let Some(hash) = model.as_ref().ok().and_then(|m| cached_model_hash(m, &AtomicBool::new(false)).ok()) {
        // Set for the first time.
        let _ = sha256.set(hash);
    }
    let bytes = Model::embedded_bytes().len() as u64;
    Entry { id: EMBEDDED.into(), path: None, bytes, model, stamp: env!("CARGO_PKG_VERSION").into(), sha256 }
}

fn stamp(path: &Path) -> String {
    let Ok(meta) = fs::metadata(path) else { return String::new() };
    let changed = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
    format!("{} {changed} {}", meta.len(), path.to_string_lossy())
}

/// Models of a folder, by name: files, and folders as diffusers lays them out.
fn models_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| Error::bad_file(folder, format!("the folder of models cannot be read: {e}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)?.take(MOST) {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let file = path.is_file() && ENDINGS.contains(&ending.as_str());
        if file || path.join("model_index.json").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
