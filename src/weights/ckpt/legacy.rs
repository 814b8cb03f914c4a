//! A file of before PyTorch 1.6 to its tensors' places: pickles one behind the other, and then the storages, each its
//! number of elements and its bytes. Most community upscalers are such files.

use super::pickle::{self, Legacy, PickledTensor};
use super::{MAX_PICKLE, Named};
use crate::error::{Result, escape};
use crate::weights::TensorInfo;
use crate::weights::bytes::Bytes;
use crate::weights::table::{Located, RawFile};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The first pickle of every such file: one number.
pub const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e";

/// How much is read to find the end of the pickles; most end in the first piece.
const PIECES: [u64; 3] = [1 << 20, 8 << 20, MAX_PICKLE];

/// Where a storage's bytes begin, and how many there are.
type Places = HashMap<String, (u64, u64)>;

/// Reads the pickles and the storages' lengths; no storage is touched.
///
/// # Errors
/// Bad file: what is wrong in the pickles or with a tensor, and what to do.
pub fn read(bytes: Arc<Bytes>, names: &[&str]) -> Result<RawFile> {
    let remedy = "load it with torch.load and save it again with torch.save";
    let Legacy { tensors: found, keys, end } =
        pickles(&bytes, names)?.map_err(|why| bytes.bad(format!("its pickle {why}; {remedy}")))?;
    let places =
        places(&bytes, &found, &keys, end as u64)?.map_err(|why| bytes.bad(format!("{why}; it is damaged")))?;
    let (mut tensors, mut other) = (BTreeMap::new(), Vec::new());
    for (name, tensor) in found {
        if tensor.dtype.is_none() || tensor.shape.contains(&0) {
            other.push((name, tensor.kind.into()));
            continue;
        }
        let located = locate(&bytes, &places, &tensor)
            .map_err(|why| bytes.bad(format!("tensor {} {why}; the file is damaged or hostile", escape(&name))))?;
        tensors.insert(name, located);
    }
    Ok(RawFile { bytes, format: "PyTorch file of before 1.6", tensors, other, lienzo: None })
}

/// What they say; the end is counted from the file's beginning.
fn pickles(bytes: &Bytes, names: &[&str]) -> Result<Result<Legacy, String>> {
    let mut last = Err("is empty".into());
    for piece in PIECES {
        let data = bytes.vec_at(0, piece.min(bytes.len()))?;
        let from = MAGIC.len().min(data.len());
        last = pickle::legacy(&data[from..], names).map(|found| Legacy { end: from + found.end, ..found });
        if last.is_ok() || piece >= bytes.len() {
            break;
        }
    }
    Ok(last)
}

/// Where each storage lies. Those behind one of a type that is not read cannot be found.
fn places(bytes: &Bytes, found: &Named, keys: &[String], start: u64) -> Result<Result<Places, String>> {
    let size = |key: &String| {
        let of = |(_, t): &&(String, PickledTensor)| t.storage == *key;
        found.iter().find(of).and_then(|(_, t)| t.dtype).map(|dtype| dtype.bytes() as u64)
    };
    let sizes: HashMap<&String, Option<u64>> = keys.iter().map(|key| (key, size(key))).collect();
    let (mut at, mut places) = (start, Places::new());
    for key in keys {
        let Some(each) = sizes[key] else { break };
        let mut count = [0; 8];
        if at.checked_add(8).is_none_or(|end| end > bytes.len()) {
            return Ok(Err(format!("ends before storage {}", escape(key))));
        }
        bytes.read_at(at, &mut count)?;
        let len = u64::from_le_bytes(count).checked_mul(each);
        let end = len.and_then(|len| (at + 8).checked_add(len));
        let (Some(len), Some(end)) = (len, end.filter(|end| *end <= bytes.len())) else {
            return Ok(Err(format!("ends within storage {}", escape(key))));
        };
        places.insert(key.clone(), (at + 8, len));
        at = end;
    }
    Ok(Ok(places))
}

fn locate(bytes: &Arc<Bytes>, places: &Places, tensor: &PickledTensor) -> Result<Located, String> {
    let dtype = tensor.dtype.ok_or("is of a type that is not read")?;
    let key = tensor.storage.as_str();
    let &(start, len) = places.get(key).ok_or_else(|| format!("has its data in {}, which is missing", escape(key)))?;
    if tensor.untyped || tensor.elements.checked_mul(dtype.bytes() as u64) != Some(len) {
        let (n, name) = (tensor.elements, dtype.name());
        return Err(format!("says that its storage has {n} elements of {name}, but it has {len} bytes"));
    }
    let info = TensorInfo { dtype, shape: tensor.shape.clone() };
    Located::strided(bytes.clone(), (start, tensor.elements), info, tensor.offset, &tensor.strides)
}
