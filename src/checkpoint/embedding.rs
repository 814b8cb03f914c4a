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

/// The vectors one behind the other, the width of one, and the first 12 digits of the file's sha256. For one text
/// encoder of `widths`, of several matrices the one that is as wide; the caller compares. For several encoders, the
/// vectors of all side by side.
///
/// # Errors
/// Bad file: it is no embedding, or cannot be read. Usage: it is for models with other text encoders.
pub fn read_embedding(path: &Path, widths: &[usize]) -> Result<(Vec<f32>, usize, String)> {
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
    let (values, own) = match *widths {
        [width] => {
            let (tensor, own) = choose(&file, width)?;
            (elements(tensor)?, own)
        }
        _ => side_by_side(&file, widths)?,
    };
    if values.iter().any(|v| !v.is_finite()) {
        return Err(file.bytes.bad("holds values that are not finite; it is damaged"));
    }
    Ok((values, own, hash))
}

fn elements(tensor: &Located) -> Result<Vec<f32>> {
    let (mut stored, mut values) = (Vec::new(), Vec::new());
    tensor.read(&mut stored)?;
    decode_f32(tensor.info.dtype, &stored, &mut values);
    Ok(values)
}

/// SDXL's: a matrix for each text encoder, `clip_l` and `clip_g`, of equally many rows.
fn side_by_side(file: &RawFile, widths: &[usize]) -> Result<(Vec<f32>, usize)> {
    let mut parts = Vec::new();
    for (name, width) in ["clip_l", "clip_g"].into_iter().zip(widths) {
        let Some(tensor) = file.tensors.get(name) else {
            let why = format!(
                "is an embedding for one text encoder; this model has two ({}), and needs one that holds clip_l and clip_g",
                widths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
            );
            return Err(file.bytes.bad(why).into_kind(Kind::Usage));
        };
        let (rows, own) = match tensor.info.shape[..] {
            [n] => (1, n),
            [rows, n] => (rows, n),
            _ => (0, 0),
        };
        if own != *width || rows == 0 {
            let shape = &tensor.info.shape;
            return Err(file.bytes.bad(format!("has {name} of shape {shape:?}; vectors of {width} are expected")));
        }
        parts.push((elements(tensor)?, rows, own));
    }
    let rows = parts.first().map_or(0, |p| p.1);
    if parts.len() < widths.len() || parts.iter().any(|p| p.1 != rows) {
        return Err(file.bytes.bad("has not as many vectors for one text encoder as for the other; it is damaged"));
    }
    let row = |r: usize| parts.iter().flat_map(move |(values, _, n)| &values[r * n..(r + 1) * n]).copied();
    Ok(((0..rows).flat_map(row).collect(), widths.iter().sum()))
}

/// The matrix, and its width.
fn choose(file: &RawFile, width: usize) -> Result<(&Located, usize)> {
    let one_of_two = |t: &&Located| t.info.shape.last() == Some(&width);
    if let Some(tensor) = file.tensors.get("clip_g") {
        if one_of_two(&tensor) {
            return Ok((tensor, width));
        }
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
