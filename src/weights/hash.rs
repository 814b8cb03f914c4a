//! A model's file to its sha256, by which webui tools know models.

use super::Model;
use super::bytes::Bytes;
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The sha256 of a file as 64 hex digits; of a diffusers folder, that of its U-Net's file. Reads all of it, a megabyte
/// at a time; `cancel` stops it between two.
///
/// # Errors
/// Cancelled, or what kept the file from being read.
pub fn sha256_file(path: &Path, cancel: &AtomicBool) -> Result<String> {
    let bytes = Bytes::open(&unet_file(path))?;
    let (mut hasher, mut at, mut block) = (Sha256::new(), 0, vec![0; 1 << 20]);
    while at < bytes.len() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::cancelled());
        }
        let n = (bytes.len() - at).min(block.len() as u64);
        bytes.read_at(at, &mut block[..n as usize])?;
        hasher.update(&block[..n as usize]);
        at += n;
    }
    Ok(hex(&hasher.finalize()))
}

/// [`sha256_file`] of the model's file, or of the bundle in the binary.
///
/// # Errors
/// As [`sha256_file`].
pub fn model_hash(model: &Model, cancel: &AtomicBool) -> Result<String> {
    match &model.path {
        Some(path) => sha256_file(path, cancel),
        None => Ok(hex(&Sha256::digest(Model::embedded_bytes()))),
    }
}

fn unet_file(path: &Path) -> PathBuf {
    let unet = path.join("unet");
    let names = ["safetensors", "safetensors.index.json", "fp16.safetensors", "bin", "fp16.bin"];
    let files = names.iter().map(|ext| unet.join(format!("diffusion_pytorch_model.{ext}")));
    files.into_iter().find(|f| f.is_file()).unwrap_or_else(|| path.to_path_buf())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
