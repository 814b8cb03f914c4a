//! A zip-pickled PyTorch checkpoint (.ckpt, .pt, .bin) to its tensors' places, as
//! inert data: nothing in it is executed.
//!
//! Such a file is a zip archive whose entries are stored uncompressed: `NAME/data.pkl`, a pickle that describes the
//! tensors, and `NAME/data/0`, `NAME/data/1`, ..., the storages that they are views of.

mod legacy;
pub(crate) mod pickle;
mod zip;

use super::TensorInfo;
use super::bytes::Bytes;
use super::table::{Located, RawFile};
use crate::error::{Result, escape};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A full training checkpoint with optimizer states has a pickle of a few MB.
const MAX_PICKLE: u64 = 64 << 20;

/// Reads the archive's directory and its pickle; no storage is touched.
///
/// # Errors
/// Bad file: what is wrong in the archive, the pickle or a tensor, and what to do.
pub fn read(bytes: Arc<Bytes>) -> Result<RawFile> {
    read_with(bytes, pickle::state_dict)
}

/// [`read`] of the tensors in every dictionary of the pickle; of two of one name the first.
///
/// # Errors
/// As [`read`].
pub fn read_nested(bytes: Arc<Bytes>) -> Result<RawFile> {
    read_with(bytes, |pickle| {
        let mut found = pickle::all_tensors(pickle)?;
        // The map below keeps the last.
        found.retain(|(_, t)| t.dtype.is_some());
        found.reverse();
        Ok(found)
    })
}

/// [`read`] of the tensors under the first of these names that is a dictionary, or at the top level when none is; of a
/// file of before PyTorch 1.6 too.
///
/// # Errors
/// As [`read`].
pub fn read_under(bytes: Arc<Bytes>, names: &[&str]) -> Result<RawFile> {
    let mut head = vec![0; bytes.len().min(legacy::MAGIC.len() as u64) as usize];
    bytes.read_at(0, &mut head)?;
    match head == legacy::MAGIC {
        true => legacy::read(bytes, names),
        false => read_with(bytes, |pickle| pickle::tensors_under(pickle, names)),
    }
}

type Named = Vec<(String, pickle::PickledTensor)>;

fn read_with(bytes: Arc<Bytes>, tensors_of: impl Fn(&[u8]) -> Result<Named, String>) -> Result<RawFile> {
    let entries = zip::entries(&bytes)?;
    let remedy = "use a .ckpt written by torch.save, or a .safetensors file";
    let mut pickles = entries.keys().filter(|n| n.ends_with("/data.pkl") && n.matches('/').count() == 1);
    let (Some(pickle), None) = (pickles.next(), pickles.next()) else {
        return Err(bytes.bad(format!("is a zip archive but not a PyTorch checkpoint (no single data.pkl); {remedy}")));
    };
    let root = pickle.strip_suffix("data.pkl").unwrap_or("");
    if let Some(order) = entries.get(&format!("{root}byteorder"))
        && stored(&bytes, "byteorder", order, 64)? == b"big"
    {
        return Err(bytes.bad("was written on a big-endian machine, which is not read; convert it to safetensors"));
    }
    let content = stored(&bytes, "data.pkl", &entries[pickle], MAX_PICKLE)?;
    let found = tensors_of(&content).map_err(|why| bytes.bad(format!("its pickle {why}; {remedy}")))?;
    let storages: HashMap<&str, &zip::ZipEntry> =
        entries.iter().filter_map(|(n, e)| Some((n.strip_prefix(root)?.strip_prefix("data/")?, e))).collect();
    let (mut tensors, mut other) = (BTreeMap::new(), Vec::new());
    for (name, tensor) in found {
        if tensor.dtype.is_none() || tensor.shape.contains(&0) {
            other.push((name, tensor.kind.into()));
            continue;
        }
        let located = locate(&bytes, &storages, &tensor)
            .map_err(|why| bytes.bad(format!("tensor {} {why}; the file is damaged or hostile", escape(&name))))?;
        tensors.insert(name, located);
    }
    Ok(RawFile { bytes, format: "PyTorch checkpoint (zip)", tensors, other, lienzo: None })
}

/// A small entry's content.
fn stored(bytes: &Bytes, name: &str, entry: &zip::ZipEntry, limit: u64) -> Result<Vec<u8>> {
    if !entry.stored {
        return Err(bytes.bad(format!("has a compressed or encrypted {name}; save it again with torch.save")));
    }
    if entry.len > limit {
        return Err(bytes.bad(format!("has a {name} of {} bytes; at most {limit} are read", entry.len)));
    }
    bytes.vec_at(entry.data, entry.len)
}

fn locate(
    bytes: &Arc<Bytes>,
    storages: &HashMap<&str, &zip::ZipEntry>,
    tensor: &pickle::PickledTensor,
) -> Result<Located, String> {
    let dtype = tensor.dtype.ok_or("is of a type that is not read")?;
    let key = tensor.storage.as_str();
    let entry = storages.get(key).ok_or_else(|| format!("has its data in {}, which is missing", escape(key)))?;
    if !entry.stored {
        return Err(format!("has its data in {}, which is compressed or encrypted", escape(key)));
    }
    // A storage without a type is counted in bytes.
    let bytes_each = if tensor.untyped { 1 } else { dtype.bytes() as u64 };
    let need = tensor.elements.checked_mul(bytes_each);
    if need != Some(entry.len) {
        let (n, have) = (tensor.elements, entry.len);
        return Err(format!("says that its storage has {n} elements of {}, but it has {have} bytes", dtype.name()));
    }
    let info = TensorInfo { dtype, shape: tensor.shape.clone() };
    let elements = entry.len / dtype.bytes() as u64;
    Located::strided(bytes.clone(), (entry.data, elements), info, tensor.offset, &tensor.strides)
}

/// Little-endian fields of a byte slice, read in order; none at its end.
struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let part = self.data.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(part)
    }

    fn uint(&mut self, n: usize) -> Option<u64> {
        self.take(n).map(|b| b.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b)))
    }
}
