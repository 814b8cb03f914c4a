//! What several test modules need: a tiny model, temporary folders, the binary.

use lienzo::checkpoint::Model;
use lienzo::models::Networks;
use lienzo::models::autoencoder::kl::KlConfig;
use lienzo::models::text::TextConfig;
use lienzo::models::unet::UnetConfig;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A model with every kind of block and awkward widths.
pub fn tiny_model() -> Model {
    let clip =
        TextConfig { vocab: 100, width: 24, layers: 3, heads: 2, mlp_width: 40, positions: 7, ..TextConfig::default() };
    let levels = [(16, 2, true), (32, 4, true), (48, 4, false)];
    let unet = UnetConfig { groups: 8, ..UnetConfig::new(&levels, 1, 24) };
    let vae = KlConfig { channels: vec![8, 16], blocks: 1, latent_channels: 4, groups: 4, ..KlConfig::default() };
    Model::random("tiny", Networks::new(clip, unet, vae))
}

/// `tests/golden/NAME`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A folder of its own for one test, removed at the end.
pub struct Temp(PathBuf);

impl Temp {
    /// A fresh, empty folder.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("lienzo-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names of what is inside, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the temporary folder");
        let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the built command in `dir`.
pub fn lienzo(dir: &Temp, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lienzo"));
    command.current_dir(&dir.0).env("LIENZO_CACHE_DIR", dir.join(".cache")).args(args);
    command.output().expect("the binary runs")
}

/// What it printed on stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
