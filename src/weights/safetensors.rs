//! A .safetensors file to its tensors' places: the header is parsed and every number in it is checked.

use super::bytes::Bytes;
use super::table::{Located, MAX_RANK, RawFile, product};
use super::{TensorInfo, quantized};
use crate::dtype::Dtype;
use crate::error::{Result, escape};
use safetensors::Dtype as Stored;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The format's own limit.
const MAX_HEADER: u64 = 100_000_000;
/// SD 1.x has 1143 tensors; the cap bounds the memory that a hostile header can ask for.
const MAX_TENSORS: usize = 100_000;

/// Reads the header; no tensor is touched.
///
/// # Errors
/// Bad file: what is wrong with the header or with which tensor, and what to do.
pub fn read(bytes: Arc<Bytes>) -> Result<RawFile> {
    let header = read_header(&bytes)?;
    let data_start = 8 + header.len;
    let data_len = bytes.len() - data_start;
    let mut order: Vec<_> = header.parsed.tensors.iter().collect();
    order.sort_by_key(|(name, entry)| (entry.data_offsets, *name));
    let mut end = 0;
    for (name, entry) in order {
        check_entry(entry, end)
            .map_err(|why| bytes.bad(format!("tensor {} {why}; download it again", escape(name))))?;
        end = entry.data_offsets.1;
    }
    if end > data_len {
        let (want, have) = (data_start.saturating_add(end), bytes.len());
        return Err(bytes.bad(format!("is truncated: {have} of {want} bytes; download it again")));
    }
    if end < data_len {
        return Err(bytes.bad(format!("has {} bytes that belong to no tensor; download it again", data_len - end)));
    }
    let Parsed { tensors: mut entries, lienzo } = header.parsed;
    let mut tensors = quantized_rows(&mut entries, &bytes, data_start)?;
    let mut other = scaled(&mut entries);
    for (name, entry) in entries {
        match dtype(entry.dtype) {
            Some(dtype) if !entry.shape.0.contains(&0) => {
                let info = TensorInfo { dtype, shape: entry.shape.0 };
                tensors.insert(name, Located::contiguous(bytes.clone(), data_start + entry.data_offsets.0, info));
            }
            _ => other.push((name, format!("{:?}", entry.dtype))),
        }
    }
    Ok(RawFile { bytes, format: "safetensors", tensors, other, lienzo })
}

/// Takes out the I8 tensors that have a `NAME.scale` beside them, with it; an I8 tensor without one is of a type that
/// is not read.
fn quantized_rows(
    entries: &mut BTreeMap<String, Entry>,
    bytes: &Arc<Bytes>,
    data_start: u64,
) -> Result<BTreeMap<String, Located>> {
    let scale_of = |name: &str| format!("{name}{}", quantized::SCALE);
    let scaled = |(name, entry): (&String, &Entry)| {
        let found = entry.dtype == Stored::I8 && !entry.shape.0.contains(&0) && entries.contains_key(&scale_of(name));
        found.then(|| name.clone())
    };
    let names: Vec<String> = entries.iter().filter_map(scaled).collect();
    let mut tensors = BTreeMap::new();
    for name in names {
        let (Some(entry), Some(scale)) = (entries.remove(&name), entries.remove(&scale_of(&name))) else { continue };
        let (shape, scales) = (entry.shape.0, &scale.shape.0);
        if scale.dtype != Stored::F32 || shape.first() != scales.first() || scales.len() != 1 {
            let (name, kind) = (escape(&scale_of(&name)), scale.dtype);
            let why = format!("tensor {name} is of {kind:?} {scales:?}; 8-bit rows of {shape:?} need one F32 a row");
            return Err(bytes.bad(why));
        }
        let places = (data_start + entry.data_offsets.0, data_start + scale.data_offsets.0);
        tensors.insert(name, Located::quantized(bytes.clone(), places, shape));
    }
    Ok(tensors)
}

/// Takes out the 8-bit floats that have scales beside them: without those their values mean nothing.
fn scaled(entries: &mut BTreeMap<String, Entry>) -> Vec<(String, String)> {
    let scaled = |(name, entry): (&String, &Entry)| {
        let layer = name.strip_suffix("weight").filter(|_| entry.dtype.bitsize() == 8)?;
        let scale = ["scale_weight", "weight_scale", "weight_scale_inv"].map(|end| format!("{layer}{end}"));
        scale.iter().any(|s| entries.contains_key(s)).then(|| (name.clone(), format!("{:?} with scales", entry.dtype)))
    };
    let found: Vec<_> = entries.iter().filter_map(scaled).collect();
    found.iter().for_each(|(name, _)| drop(entries.remove(name)));
    found
}

/// What a header holds beside tensors that are read.
#[derive(Debug, Default)]
pub struct Extras {
    /// The texts of `__metadata__`, without those of more than a million bytes.
    pub metadata: BTreeMap<String, String>,
    /// Single integers and truth values, by name.
    pub integers: BTreeMap<String, i64>,
}

/// Longer texts are training logs.
const MAX_TEXT: usize = 1 << 20;

/// Metadata and single integers of a file whose header has been read and checked.
///
/// # Errors
/// Bad file: the header is malformed, or an integer cannot be read.
pub fn extras(bytes: &Bytes) -> Result<Extras> {
    let header = read_header(bytes)?;
    let text = bytes.vec_at(8, header.len)?;
    #[derive(Deserialize)]
    struct Only {
        #[serde(rename = "__metadata__", default)]
        metadata: Option<BTreeMap<String, String>>,
    }
    let only: Only = serde_json::from_slice(&text)
        .map_err(|e| bytes.bad(format!("has malformed metadata: {}; download it again", escape(&e.to_string()))))?;
    let mut metadata = only.metadata.unwrap_or_default();
    metadata.retain(|_, text| text.len() <= MAX_TEXT);
    let mut integers = BTreeMap::new();
    for (name, entry) in header.parsed.tensors {
        let size = match entry.dtype {
            Stored::BOOL | Stored::U8 | Stored::I8 => 1,
            Stored::U16 | Stored::I16 => 2,
            Stored::U32 | Stored::I32 => 4,
            Stored::U64 | Stored::I64 => 8,
            _ => continue,
        };
        if entry.data_offsets.1 - entry.data_offsets.0 != size {
            continue;
        }
        let mut raw = [0; 8];
        bytes.read_at(8 + header.len + entry.data_offsets.0, &mut raw[..size as usize])?;
        let unused = 64 - 8 * size;
        let value = i64::from_le_bytes(raw) << unused;
        let signed = matches!(entry.dtype, Stored::I8 | Stored::I16 | Stored::I32 | Stored::I64);
        integers.insert(name, if signed { value >> unused } else { (value as u64 >> unused) as i64 });
    }
    Ok(Extras { metadata, integers })
}

struct Header {
    len: u64,
    parsed: Parsed,
}

fn read_header(bytes: &Bytes) -> Result<Header> {
    if bytes.len() < 8 {
        return Err(bytes.bad(format!("is {} bytes long; a safetensors file has at least 8", bytes.len())));
    }
    let mut length = [0; 8];
    bytes.read_at(0, &mut length)?;
    let len = u64::from_le_bytes(length);
    if len > MAX_HEADER {
        return Err(bytes.bad(format!("has a header of {len} bytes, more than the format allows; download it again")));
    }
    if len > bytes.len() - 8 {
        return Err(bytes.bad(format!("is truncated inside its header of {len} bytes; download it again")));
    }
    let text = bytes.vec_at(8, len)?;
    if text.first() != Some(&b'{') {
        return Err(bytes.bad("has a header that does not begin with {; it is not a safetensors file"));
    }
    let text = std::str::from_utf8(&text)
        .map_err(|e| bytes.bad(format!("has a header that is not UTF-8 at byte {}", 8 + e.valid_up_to())))?;
    let parsed = serde_json::from_str(text)
        .map_err(|e| bytes.bad(format!("has a malformed header: {}; download it again", escape(&e.to_string()))))?;
    Ok(Header { len, parsed })
}

/// One tensor against where the previous one ended: no hole, no overlap, and as many bytes as the shape needs.
fn check_entry(entry: &Entry, end: u64) -> Result<(), String> {
    let (from, to) = entry.data_offsets;
    if from != end || to < from {
        let what = if from < end { "overlaps another" } else { "leaves a gap before it" };
        return Err(format!("at bytes {from} to {to} {what}"));
    }
    let bits = product(&entry.shape.0).and_then(|n| n.checked_mul(entry.dtype.bitsize() as u64));
    match bits {
        Some(bits) if bits % 8 == 0 && bits / 8 == to - from => Ok(()),
        Some(bits) => Err(format!("of shape {:?} needs {} bytes and has {}", entry.shape.0, bits / 8, to - from)),
        None => Err(format!("has a shape that overflows: {:?}", entry.shape.0)),
    }
}

fn dtype(stored: Stored) -> Option<Dtype> {
    match stored {
        Stored::F32 => Some(Dtype::F32),
        Stored::F16 => Some(Dtype::F16),
        Stored::BF16 => Some(Dtype::Bf16),
        Stored::F64 => Some(Dtype::F64),
        Stored::F8_E4M3 => Some(Dtype::F8E4m3),
        Stored::F8_E5M2 => Some(Dtype::F8E5m2),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: Stored,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// A shape of at most [`MAX_RANK`] dimensions; a longer one is refused while it is parsed, before it is stored.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Dims;
        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_RANK} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut dims = Vec::new();
                while let Some(n) = seq.next_element()? {
                    if dims.len() == MAX_RANK {
                        return Err(A::Error::custom(format!("more than {MAX_RANK} dimensions")));
                    }
                    dims.push(n);
                }
                Ok(Shape(dims))
            }
        }
        from.deserialize_seq(Dims)
    }
}

struct Parsed {
    tensors: BTreeMap<String, Entry>,
    lienzo: Option<String>,
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Parsed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
                let (mut tensors, mut metadata) = (BTreeMap::new(), None);
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        if metadata.replace(map.next_value::<Metadata>()?).is_some() {
                            return Err(A::Error::custom("two __metadata__"));
                        }
                        continue;
                    }
                    let entry = map.next_value().map_err(|e| A::Error::custom(format!("tensor {key}: {e}")))?;
                    if tensors.len() == MAX_TENSORS {
                        return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
                    }
                    if let Some(Entry { .. }) = tensors.insert(key, entry) {
                        return Err(A::Error::custom("two tensors of one name"));
                    }
                }
                Ok(Parsed { tensors, lienzo: metadata.and_then(|m| m.0) })
            }
        }
        from.deserialize_map(Keys)
    }
}

/// Only our own entry is kept; training logs of megabytes are skipped without being stored.
struct Metadata(Option<String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_unit<E>(self) -> Result<Metadata, E> {
                Ok(Metadata(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut lienzo = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key == "lienzo" {
                        lienzo = Some(map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Metadata(lienzo))
            }
        }
        // `null` is how some writers say that there is none.
        from.deserialize_any(Entries)
    }
}
