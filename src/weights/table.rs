//! Tensors with their places in files to a [`WeightSource`]: every format ends here.

use super::bytes::Bytes;
use super::{PatchId, SourceId, StoredAs, TensorInfo, WeightSource, decode_f32, encode, quantized};
use crate::dtype::Dtype;
use crate::error::{Error, Kind, Result, escape};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Dimensions that any tensor of the family needs, with room to spare.
pub const MAX_RANK: usize = 8;

/// A tensor and where its elements are.
#[derive(Clone)]
pub struct Located {
    /// Type and shape.
    pub info: TensorInfo,
    bytes: Arc<Bytes>,
    /// Of the first element, in the file.
    offset: u64,
    /// In elements, one a dimension, for tensors that are not row-major in the file (only pickles have them).
    strides: Option<Vec<usize>>,
    encoding: Encoding,
}

/// How the file holds a tensor's elements.
#[derive(Clone, Copy)]
enum Encoding {
    /// One by one, in a type that may not be the one in which they read.
    Plain(Dtype),
    /// As 8-bit rows, whose scales begin there; they read as f16.
    Rows(u64),
}

/// What a file holds before its names are understood.
pub struct RawFile {
    /// The file.
    pub bytes: Arc<Bytes>,
    /// What to call the format.
    pub format: &'static str,
    /// Tensors under the file's own names.
    pub tensors: BTreeMap<String, Located>,
    /// Tensors of other types (name, type): integers, other quantised ones. They are not read.
    pub other: Vec<(String, String)>,
    /// The `lienzo` entry of a safetensors file's metadata.
    pub lienzo: Option<String>,
}

impl Located {
    /// A row-major tensor at `offset`, of the file's own type. The caller has checked that shape and file agree.
    pub fn contiguous(bytes: Arc<Bytes>, offset: u64, stored: TensorInfo) -> Self {
        let encoding = Encoding::Plain(stored.dtype);
        let info = TensorInfo { dtype: stored.dtype.read_as(), ..stored };
        Self { info, bytes, offset, strides: None, encoding }
    }

    /// A tensor of `shape` that is stored as 8-bit rows at `offset`, with an f32 scale a row at `scales`; it reads as
    /// f16. The caller has checked that shape and file agree.
    pub fn quantized(bytes: Arc<Bytes>, (offset, scales): (u64, u64), shape: Vec<usize>) -> Self {
        Self {
            info: TensorInfo { dtype: Dtype::F16, shape },
            bytes,
            offset,
            strides: None,
            encoding: Encoding::Rows(scales),
        }
    }

    /// How the file holds it.
    fn stored(&self) -> StoredAs {
        let (len, rows) = (self.info.len(), self.info.shape.first().copied().unwrap_or(1));
        match self.encoding {
            Encoding::Rows(_) => StoredAs { name: "i8 rows", bytes: len + 4 * rows },
            Encoding::Plain(dtype) => StoredAs { name: dtype.name(), bytes: len * dtype.bytes() },
        }
    }

    /// A view of a storage of `elements` at file offset `start`, as torch describes it; `stored` has the file's own
    /// type.
    ///
    /// # Errors
    /// A sentence when the view leaves its storage, or has more elements than it (torch's expanded tensors).
    pub fn strided(
        bytes: Arc<Bytes>,
        (start, elements): (u64, u64),
        stored: TensorInfo,
        first: u64,
        strides: &[usize],
    ) -> Result<Self, String> {
        if stored.shape.len() != strides.len() || stored.shape.len() > MAX_RANK {
            return Err(format!("has {} dimensions and {} strides", stored.shape.len(), strides.len()));
        }
        let count = product(&stored.shape).ok_or("has a shape that overflows")?;
        if count == 0 {
            return Err("is empty".into());
        }
        let mut last = first;
        for (&n, &stride) in stored.shape.iter().zip(strides) {
            let reach = (n as u64 - 1).checked_mul(stride as u64);
            last = reach.and_then(|r| last.checked_add(r)).ok_or("has strides that overflow")?;
        }
        if last >= elements || count > elements {
            return Err(format!("reaches element {last} of a storage of {elements}"));
        }
        let offset = start + first * stored.dtype.bytes() as u64;
        let strides = (!row_major(&stored.shape, strides)).then(|| strides.to_vec());
        Ok(Self { strides, ..Self::contiguous(bytes, offset, stored) })
    }

    /// Shows a 1x1 kernel `[out, in, 1, 1]` as the matrix `[out, in]` that it is.
    pub fn flatten_1x1(&mut self) {
        if let [_, _, 1, 1] = self.info.shape[..] {
            self.info.shape.truncate(2);
            if let Some(strides) = &mut self.strides {
                strides.truncate(2);
            }
        }
    }

    /// One of three equal parts along dimension 0; none where it cannot be cut so.
    pub fn third(&self, n: usize) -> Option<Self> {
        let rows = *self.info.shape.first()?;
        if n < 3 && rows.is_multiple_of(3) { self.rows(n * (rows / 3), rows / 3) } else { None }
    }

    /// A matrix with its dimensions exchanged; none for what is no matrix of plain elements.
    pub fn transposed(&self) -> Option<Self> {
        let [rows, columns] = self.info.shape[..] else { return None };
        if matches!(self.encoding, Encoding::Rows(_)) {
            return None;
        }
        let strides = self.strides.clone().unwrap_or_else(|| vec![columns, 1]);
        let info = TensorInfo { shape: vec![columns, rows], ..self.info.clone() };
        Some(Self { info, strides: Some(vec![strides[1], strides[0]]), ..self.clone() })
    }

    /// Replaces `out` by the elements, row-major, as `info` says.
    pub fn read(&self, out: &mut Vec<u8>) -> Result<()> {
        let dtype = match self.encoding {
            Encoding::Rows(scales) => {
                return quantized::read(&self.bytes, (self.offset, scales), &self.info.shape, out);
            }
            Encoding::Plain(dtype) => dtype,
        };
        self.read_stored(dtype.bytes(), out)?;
        if dtype != self.info.dtype {
            *out = converted(dtype, out, self.info.dtype)?;
        }
        Ok(())
    }

    /// The elements of `size` bytes as the file has them, row-major.
    fn read_stored(&self, size: usize, out: &mut Vec<u8>) -> Result<()> {
        let Some(strides) = &self.strides else {
            return self.bytes.read_into(self.offset, (self.info.len() * size) as u64, out);
        };
        let span: usize = 1 + self.info.shape.iter().zip(strides).map(|(n, s)| (n - 1) * s).sum::<usize>();
        let span = self.bytes.vec_at(self.offset, (span * size) as u64)?;
        out.clear();
        out.reserve_exact(self.info.len() * size);
        gather(&span, size, &self.info.shape, strides, out);
        Ok(())
    }

    fn rows(&self, first: usize, count: usize) -> Option<Self> {
        let rows = *self.info.shape.first()?;
        if count == 0 || first.checked_add(count)? > rows {
            return None;
        }
        let mut part = self.clone();
        part.info.shape[0] = count;
        let row = self.strides.as_ref().map_or(self.info.len() / rows, |s| s[0]);
        let size = match &mut part.encoding {
            Encoding::Plain(dtype) => dtype.bytes(),
            Encoding::Rows(scales) => {
                *scales += 4 * first as u64;
                1
            }
        };
        part.offset += (first * row * size) as u64;
        Some(part)
    }
}

/// Elements of one type as another, some at a time: what is in between is four times as large as 8-bit ones.
fn converted(from: Dtype, bytes: &[u8], to: Dtype) -> Result<Vec<u8>> {
    const ELEMENTS: usize = 1 << 16;
    let (mut out, mut values, mut part) = (Vec::new(), Vec::new(), Vec::new());
    let size = bytes.len() / from.bytes() * to.bytes();
    out.try_reserve_exact(size)
        .map_err(|_| Error::new(Kind::OutOfMemory, format!("no memory for {size} bytes of weights")))?;
    for block in bytes.chunks(ELEMENTS * from.bytes()) {
        decode_f32(from, block, &mut values);
        encode(to, &values, &mut part);
        out.extend_from_slice(&part);
    }
    Ok(out)
}

/// The product of a shape, or none when it overflows.
pub fn product(shape: &[usize]) -> Option<u64> {
    shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64))
}

fn row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expect = 1;
    shape.iter().zip(strides).rev().all(|(&n, &stride)| {
        let fits = n == 1 || stride == expect;
        expect *= n;
        fits
    })
}

/// Copies the elements of a strided view in row-major order; shape and strides have been checked against `span`.
fn gather(span: &[u8], size: usize, shape: &[usize], strides: &[usize], out: &mut Vec<u8>) {
    let mut index = [0usize; MAX_RANK];
    let mut at = 0;
    loop {
        out.extend_from_slice(&span[at * size..][..size]);
        let mut d = shape.len();
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            index[d] += 1;
            at += strides[d];
            if index[d] < shape[d] {
                break;
            }
            at -= strides[d] * shape[d];
            index[d] = 0;
        }
    }
}

/// Tensors under canonical names.
#[derive(Clone)]
pub struct Table {
    id: SourceId,
    tensors: BTreeMap<String, Located>,
    about: String,
}

impl Table {
    /// `about` is what `inspect` prints of the format.
    pub fn new(tensors: BTreeMap<String, Located>, about: impl Into<String>) -> Self {
        Self { id: SourceId::new(), tensors, about: about.into() }
    }

    /// Drops the tensors that the model does not need.
    #[must_use]
    pub fn keep(mut self, required: &[(String, Vec<usize>)]) -> Self {
        let tensors = required.iter().filter_map(|(name, _)| self.tensors.remove_entry(name)).collect();
        Self { tensors, ..self }
    }

    fn get(&self, name: &str) -> Result<&Located> {
        self.tensors.get(name).ok_or_else(|| no_such(name))
    }
}

fn no_such(name: &str) -> Error {
    Error::other(format!("the checkpoint has no tensor {}", escape(name)))
}

impl WeightSource for Table {
    fn id(&self, _: &str) -> SourceId {
        self.id
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|t| &t.info)
    }

    fn read(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        self.get(name)?.read(out).map_err(|e| e.at(escape(name)))
    }

    fn read_rows(&self, name: &str, first: usize, count: usize, out: &mut Vec<u8>) -> Result<()> {
        let tensor = self.get(name)?;
        if count == 0 {
            out.clear();
            return Ok(());
        }
        let part = tensor.rows(first, count).ok_or_else(|| {
            let shape = &tensor.info.shape;
            Error::other(format!("{}: rows {first} to {first} + {count} of a tensor {shape:?}", escape(name)))
        })?;
        part.read(out).map_err(|e| e.at(escape(name)))
    }

    fn stored(&self, name: &str) -> Option<StoredAs> {
        self.tensors.get(name).map(Located::stored)
    }

    fn about(&self) -> String {
        self.about.clone()
    }
}

/// A source whose names under one prefix come from another source (`--vae FILE`).
pub struct Replaced {
    /// Everything else.
    pub base: Arc<dyn WeightSource>,
    /// The names that are replaced, all of them.
    pub prefix: &'static str,
    /// The replacement.
    pub with: Table,
}

impl Replaced {
    fn side(&self, name: &str) -> &dyn WeightSource {
        if name.starts_with(self.prefix) { &self.with } else { &*self.base }
    }
}

impl WeightSource for Replaced {
    fn id(&self, name: &str) -> SourceId {
        self.side(name).id(name)
    }

    fn patches(&self, name: &str) -> &[PatchId] {
        self.side(name).patches(name)
    }

    fn names(&self) -> Vec<&str> {
        let mut names = self.base.names();
        names.retain(|n| !n.starts_with(self.prefix));
        names.extend(self.with.names());
        names.sort_unstable();
        names
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.side(name).info(name)
    }

    fn read(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        self.side(name).read(name, out)
    }

    fn read_rows(&self, name: &str, first: usize, count: usize, out: &mut Vec<u8>) -> Result<()> {
        self.side(name).read_rows(name, first, count, out)
    }

    fn stored(&self, name: &str) -> Option<StoredAs> {
        self.side(name).stored(name)
    }

    fn about(&self) -> String {
        format!("{}, VAE: {}", self.base.about(), self.with.about())
    }
}
