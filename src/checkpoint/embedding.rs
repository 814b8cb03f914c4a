//! A textual inversion file to its vectors: one matrix under one of the names that trainers give it.

use crate::error::{Kind, Result, escape};
use crate::weights::bytes::Bytes;
use crate::weights::ckpt;
use crate::weights::decode_f32;
use crate::weights::format::raw;
use crate::weights::safetensors;
use crate::weights::table::{Located, RawFile};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// A thousand vectors of the widest encoder, with room to spare.
const MAX_BYTES: u64 = 64 << 20;

/// The vectors one behind the other, the width of one, and the first 12 digits of the file's sha256. Of several
/// matrices, the one that is `width` wide; the caller compares.
///
/// # Errors
/// Bad file: it is no embedding, or cannot be read. Usage: it is for SDXL.
pub fn read_embedding(path: &Path, width: usize) -> Result<(Vec<f32>, usize, String)> {
    let bytes = Bytes::open(path)?;
    if bytes.len() > MAX_BYTES {
        return Err(bytes.bad(format!("is {} bytes, too many for an embedding; is it a model?", bytes.len())));
    }
    let content = bytes.vec_at(0, bytes.len())?;
    let hash: String = Sha256::digest(&content).iter().take(6).map(|b| format!("{b:02x}")).collect();
    let file = if content.starts_with(b"PK\x03\x04") {
        ckpt::read_nested(Arc::new(bytes))?
    } else if content.get(8) == Some(&b'{') {
        safetensors::read(Arc::new(bytes))?
    } else {
        raw(bytes)?
    };
    let (tensor, own) = choose(&file, width)?;
    let mut stored = Vec::new();
    tensor.read(&mut stored)?;
    let mut values = Vec::new();
    decode_f32(tensor.info.dtype, &stored, &mut values);
    if values.iter().any(|v| !v.is_finite()) {
        return Err(file.bytes.bad("holds values that are not finite; it is damaged"));
    }
    Ok((values, own, hash))
}

/// The matrix, and its width.
fn choose(file: &RawFile, width: usize) -> Result<(&Located, usize)> {
    if file.tensors.contains_key("clip_g") {
        let bad = file.bytes.bad("is an embedding for SDXL; use one that was made for this kind of model");
        return Err(bad.into_kind(Kind::Usage));
    }
    // One vector may be a list of numbers.
    let rows = |t: &Located| match t.info.shape[..] {
        [n] | [_, n] => Some(n),
        _ => None,
    };
    // `string_to_param` of a .pt file maps `*` to the matrix.
    if let Some(tensor) = ["emb_params", "clip_l", "*"].iter().find_map(|name| file.tensors.get(*name)) {
        return rows(tensor).map(|n| (tensor, n)).ok_or_else(|| {
            file.bytes.bad(format!("is an embedding of shape {:?}, not a list of vectors", tensor.info.shape))
        });
    }
    let all: Vec<_> = file.tensors.values().filter_map(|t| Some((t, rows(t)?))).collect();
    let fitting: Vec<_> = all.iter().filter(|(_, n)| *n == width).collect();
    match (&all[..], &fitting[..]) {
        (_, [one]) => Ok(**one),
        ([one], _) => Ok(*one),
        _ => {
            let names: Vec<String> = file.tensors.keys().take(4).map(|n| escape(n)).collect();
            let names = names.join(", ");
            if let Some((name, dtype)) = file.other.first() {
                let (name, dtype) = (escape(name), escape(dtype));
                return Err(file.bytes.bad(format!("{name} is of type {dtype}, which is not read: convert it to f32")));
            }
            Err(file.bytes.bad(format!("is no textual inversion embedding: {} tensors ({names})", file.tensors.len())))
        }
    }
}
