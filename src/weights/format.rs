//! The first bytes of a file decide its format, never its extension.

use super::bytes::Bytes;
use super::table::RawFile;
use super::{ckpt, safetensors};
use crate::error::Result;
use std::sync::Arc;

/// Reads the header of a file of any known format.
pub fn raw(bytes: Bytes) -> Result<RawFile> {
    let mut head = vec![0; bytes.len().min(16) as usize];
    bytes.read_at(0, &mut head)?;
    let starts = |magic: &[u8]| head.starts_with(magic);
    let remedy = "give a .safetensors file, a .ckpt file or a diffusers folder";
    if starts(b"PK\x03\x04") {
        ckpt::read(Arc::new(bytes))
    } else if head.get(8) == Some(&b'{') || head.len() < 8 {
        safetensors::read(Arc::new(bytes))
    } else if starts(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") {
        Err(bytes.bad(
            "is a PyTorch file of before version 1.6, which is not read; load it with torch.load and save it again \
             with torch.save, or convert it to safetensors",
        ))
    } else if starts(b"\x80") {
        Err(bytes.bad(format!("is a bare pickle, not a PyTorch checkpoint; {remedy}")))
    } else if starts(b"GGUF") {
        Err(bytes.bad(format!("is a GGUF file, which is not supported; {remedy}")))
    } else if starts(b"version https://") {
        Err(bytes.bad("is a Git LFS pointer, not the file itself; fetch it with git lfs pull"))
    } else if starts(b"<") {
        Err(bytes.bad("is a web page, not a checkpoint; download the file itself"))
    } else if u64::from_le_bytes(std::array::from_fn(|i| head[i])) < bytes.len() {
        // A plausible length of a header that does not begin as one: let the reader name what it found.
        safetensors::read(Arc::new(bytes))
    } else {
        Err(bytes.bad(format!("is not a checkpoint of a format that is read; {remedy}")))
    }
}
