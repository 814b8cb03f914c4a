//! A model's file to its sha256, by which webui tools know models.

use super::Model;
use crate::error::{Error, Result};
use crate::weights::bytes::Bytes;
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

/// [`sha256_file`] of a VAE's file; of a diffusers folder (the VAE's own or a whole
/// model's), that of the VAE's file in it.
///
/// # Errors
/// As [`sha256_file`].
pub fn vae_hash(path: &Path, cancel: &AtomicBool) -> Result<String> {
    sha256_file(&vae_file(path), cancel)
}

/// The file that holds the weights of the VAE at `path`.
pub(super) fn vae_file(path: &Path) -> PathBuf {
    weights_file(&path.join("vae")).or_else(|| weights_file(path)).unwrap_or_else(|| path.to_path_buf())
}

/// The sha256 of `sd-v1-4.ckpt` as CompVis published it.
pub const PUBLISHED_SD_V1_4: &str = "fe4efff1e174c627256e44ec2991ba279b3816e364b49f9be2abc0b3ff3f8556";

/// The webui's hash of before version 1.0: 8 hex digits of the sha256 of the 64 KiB at 1 MiB. Few bytes tell little:
/// different models may share it.
///
/// # Errors
/// What kept the file from being read.
pub fn legacy_hash(path: &Path) -> Result<String> {
    let bytes = Bytes::open(&unet_file(path))?;
    let start = bytes.len().min(0x10_0000);
    let mut block = vec![0; (bytes.len() - start).min(0x1_0000) as usize];
    bytes.read_at(start, &mut block)?;
    Ok(hex(&Sha256::digest(&block)).chars().take(8).collect())
}

fn unet_file(path: &Path) -> PathBuf {
    weights_file(&path.join("unet")).unwrap_or_else(|| path.to_path_buf())
}

/// The file of weights in one folder of a diffusers model.
fn weights_file(folder: &Path) -> Option<PathBuf> {
    let names = ["safetensors", "safetensors.index.json", "fp16.safetensors", "bin", "fp16.bin"];
    let mut files = names.iter().map(|ext| folder.join(format!("diffusion_pytorch_model.{ext}")));
    files.find(|f| f.is_file())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_webui() {
        let path = std::env::temp_dir().join(format!("lienzo-hash-{}", std::process::id()));
        std::fs::write(&path, b"abc").unwrap();
        let sha = sha256_file(&path, &AtomicBool::new(false)).unwrap();
        assert_eq!(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        // Python's read behind the end gives nothing, and this is the sha256 of nothing.
        assert_eq!(legacy_hash(&path).unwrap(), "e3b0c442");
        let mut long = vec![7; 0x10_0000];
        long.extend_from_slice(b"abc");
        std::fs::write(&path, &long).unwrap();
        assert_eq!(legacy_hash(&path).unwrap(), "ba7816bf");
        assert!(sha256_file(&path, &AtomicBool::new(true)).is_err());
        let folder = std::env::temp_dir().join(format!("lienzo-hash-folder-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("vae")).unwrap();
        std::fs::write(folder.join("vae/diffusion_pytorch_model.safetensors"), b"abc").unwrap();
        for path in [folder.join("vae"), folder.clone(), folder.join("vae/diffusion_pytorch_model.safetensors")] {
            assert_eq!(vae_hash(&path, &AtomicBool::new(false)).unwrap(), sha);
        }
        std::fs::remove_dir_all(folder).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
