//! Weights as the kernels read them: from torch's row-major tensors to panels of 32 output channels.
//!
//! A panel holds `[tap][k][32]`: for each input of a dot product, the weights of 32 neighbouring outputs, so that a
//! kernel reads it from front to back. Outputs beyond n are zeros. With `geglu` a panel is 16 value columns, then the
//! 16 gate columns that belong to them.
#![allow(unsafe_code, reason = "panels are written in parallel into memory that is not yet initialised")]

use crate::dtype::{Dtype, beyond_f16};
use crate::error::{Error, Kind, Result};
use crate::kernels::{Dims, Packing};
use crate::workers::Workers;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::ops::Range;

/// Columns of a panel.
pub const PANEL: usize = 32;

/// A weight in the layout that its op asked for.
pub struct Packed {
    dims: Dims,
    geglu: bool,
    store: Store,
}

enum Store {
    /// Padded with zeros to whole panels.
    Vector(Vec<f32>),
    F16(Vec<Line<u16>>),
    F32(Vec<Line<f32>>),
}

/// One line of a panel, which for f16 is a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line<T>([T; PANEL]);

/// A panel's elements.
#[derive(Clone, Copy)]
pub enum Panel<'a> {
    /// Bits of IEEE binary16.
    F16(&'a [u16]),
    /// Single precision.
    F32(&'a [f32]),
}

/// A tensor as a checkpoint stores it: little-endian elements in torch's order, at any alignment.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// `dims.len()` elements.
    pub bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Values in memory.
    pub fn f32(values: &'a [f32]) -> Self {
        Self { dtype: Dtype::F32, bytes: bytemuck::cast_slice(values) }
    }
}

/// Element types that a panel can be made of.
trait Element: Copy + Send + Sync {
    /// Converts one line of stored elements.
    fn line(dtype: Dtype, bytes: &[[u8; 4]; PANEL]) -> [Self; PANEL];
}

impl Element for u16 {
    #[inline]
    fn line(dtype: Dtype, bytes: &[[u8; 4]; PANEL]) -> [Self; PANEL] {
        match dtype {
            Dtype::F16 => bytes.map(|b| Self::from_le_bytes([b[0], b[1]])),
            _ => {
                let mut out = [f16::ZERO; PANEL];
                out.convert_from_f32_slice(&f32::line(dtype, bytes));
                out.map(f16::to_bits)
            }
        }
    }
}

impl Element for f32 {
    #[inline]
    fn line(dtype: Dtype, bytes: &[[u8; 4]; PANEL]) -> [Self; PANEL] {
        match dtype {
            Dtype::F32 => bytes.map(Self::from_le_bytes),
            Dtype::Bf16 => bytes.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()),
            Dtype::F16 => {
                let mut out = [0.0; PANEL];
                bytes.map(|b| f16::from_le_bytes([b[0], b[1]])).convert_to_f32_slice(&mut out);
                out
            }
        }
    }
}

/// Lays a weight out. `geglu` interleaves value and gate rows; `keep_f32` stores panels as f32 instead of f16.
///
/// Errors when `values` does not hold `dims.len()` elements. Values that f16 cannot hold become infinite: the caller
/// decides what is stored as f16.
pub fn pack(
    dims: Dims,
    packing: Packing,
    geglu: bool,
    values: Stored<'_>,
    keep_f32: bool,
    workers: &Workers,
) -> Result<Packed> {
    pack_whole(dims, packing, geglu, values, keep_f32, Some(workers))
}

/// As [`pack`], on this thread.
pub fn pack_here(dims: Dims, packing: Packing, geglu: bool, values: Stored<'_>, keep_f32: bool) -> Result<Packed> {
    pack_whole(dims, packing, geglu, values, keep_f32, None)
}

fn pack_whole(
    dims: Dims,
    packing: Packing,
    geglu: bool,
    values: Stored<'_>,
    keep_f32: bool,
    workers: Option<&Workers>,
) -> Result<Packed> {
    if values.bytes.len() != dims.len() * values.dtype.bytes() {
        let got = values.bytes.len();
        return Err(Error::other(format!("{got} bytes given for a weight of {dims:?} stored as {:?}", values.dtype)));
    }
    if geglu && !dims.n.is_multiple_of(2) {
        return Err(Error::other(format!("a gated weight needs an even number of rows, not {}", dims.n)));
    }
    let store = match packing {
        Packing::Vector => Store::Vector(vector(values, dims.len())),
        Packing::Panels if keep_f32 => Store::F32(panels(dims, geglu, values, workers)),
        Packing::Panels => Store::F16(panels(dims, geglu, values, workers)),
    };
    Ok(Packed { dims, geglu, store })
}

fn vector(values: Stored<'_>, len: usize) -> Vec<f32> {
    let size = values.dtype.bytes();
    let mut out = Vec::with_capacity(len.next_multiple_of(PANEL));
    for chunk in values.bytes.chunks(size * PANEL) {
        let mut raw = [[0; 4]; PANEL];
        for (to, from) in raw.iter_mut().zip(chunk.chunks_exact(size)) {
            to[..size].copy_from_slice(from);
        }
        out.extend(f32::line(values.dtype, &raw));
    }
    out
}

/// The row of the weight that column `c` of a panel holds; none for padding.
fn source_row(dims: Dims, geglu: bool, panel: usize, c: usize) -> Option<usize> {
    if geglu {
        let channel = panel * (PANEL / 2) + c % (PANEL / 2);
        (channel < dims.n / 2).then_some(channel + if c < PANEL / 2 { 0 } else { dims.n / 2 })
    } else {
        Some(panel * PANEL + c).filter(|n| *n < dims.n)
    }
}

fn panel_count(dims: Dims, geglu: bool) -> usize {
    if geglu { (dims.n / 2).div_ceil(PANEL / 2) } else { dims.n.div_ceil(PANEL) }
}

struct Target<T>(*mut Line<T>);

// SAFETY: tasks write disjoint panels through it.
unsafe impl<T: Send> Sync for Target<T> {}

impl<T> Target<T> {
    /// A method, so that closures capture the wrapper and not the pointer in it.
    fn get(&self) -> *mut Line<T> {
        self.0
    }
}

fn panels<T: Element>(dims: Dims, geglu: bool, values: Stored<'_>, workers: Option<&Workers>) -> Vec<Line<T>> {
    let mut out = Vec::new();
    append(&mut out, dims, geglu, values, workers);
    out
}

/// Appends the panels of a weight, or of some of its rows; without workers on this thread.
fn append<T: Element>(out: &mut Vec<Line<T>>, dims: Dims, geglu: bool, values: Stored<'_>, workers: Option<&Workers>) {
    let (count, lines) = (panel_count(dims, geglu), dims.k * dims.taps);
    let before = out.len();
    out.reserve_exact(count * lines);
    let target = Target(out.as_mut_ptr());
    let one = |panel: usize| {
        // SAFETY: panels do not overlap and lie within the capacity, behind what is there; writing does not read.
        let put =
            |line: usize, v: [T; PANEL]| unsafe { target.get().add(before + panel * lines + line).write(Line(v)) };
        match values.dtype.bytes() {
            2 => fill::<2, T>(dims, geglu, values, panel, put),
            _ => fill::<4, T>(dims, geglu, values, panel, put),
        }
    };
    match workers {
        Some(workers) => workers.for_each(count, |panel, _| one(panel)),
        None => (0..count).for_each(one),
    }
    // SAFETY: every line of every panel was written.
    unsafe { out.set_len(before + count * lines) };
}

/// Bytes of a checkpoint that [`pack_rows`] asks for at a time.
pub const BLOCK: usize = 8 << 20;

/// Appends the stored bytes of some rows of a weight.
pub type ReadRows<'a> = dyn FnMut(Range<usize>, &mut Vec<u8>) -> Result<()> + 'a;

/// Lays a matrix or filter out from a few of its rows at a time, so that it is never whole in memory beside its panels.
///
/// `raw` is a buffer that may be used again. Without workers
/// everything happens on this thread. None when f16 was asked for and would make a finite value infinite.
///
/// # Errors
/// Those of `read`; rows of another size; no memory for the panels.
pub fn pack_rows(
    dims: Dims,
    geglu: bool,
    (dtype, keep_f32): (Dtype, bool),
    raw: &mut Vec<u8>,
    workers: Option<&Workers>,
    read: &mut ReadRows<'_>,
) -> Result<Option<Packed>> {
    if geglu && !dims.n.is_multiple_of(2) {
        return Err(Error::other(format!("a gated weight needs an even number of rows, not {}", dims.n)));
    }
    let (mut half, mut single) = (Vec::new(), Vec::new());
    let (count, lines) = (panel_count(dims, geglu), dims.k * dims.taps);
    let room = if keep_f32 { single.try_reserve_exact(count * lines) } else { half.try_reserve_exact(count * lines) };
    room.map_err(|_| Error::new(Kind::OutOfMemory, format!("no memory for {} weights", dims.len())))?;
    let panel_bytes = PANEL * lines * dtype.bytes();
    let step = (BLOCK / panel_bytes.max(1)).max(workers.map_or(1, Workers::threads));
    for first in (0..count).step_by(step) {
        let (width, all) = if geglu { (PANEL / 2, dims.n / 2) } else { (PANEL, dims.n) };
        let rows = first * width..((first + step) * width).min(all);
        raw.clear();
        read(rows.clone(), raw)?;
        if geglu {
            read(rows.start + all..rows.end + all, raw)?;
        }
        let part = Dims { n: rows.len() * if geglu { 2 } else { 1 }, ..dims };
        let values = Stored { dtype, bytes: raw };
        if values.bytes.len() != part.len() * dtype.bytes() {
            let got = values.bytes.len();
            return Err(Error::other(format!("{got} bytes read for rows {rows:?} of a weight of {dims:?}")));
        }
        if keep_f32 {
            append(&mut single, part, geglu, values, workers);
        } else if beyond_f16(dtype, values.bytes) {
            return Ok(None);
        } else {
            append(&mut half, part, geglu, values, workers);
        }
    }
    let store = if keep_f32 { Store::F32(single) } else { Store::F16(half) };
    Ok(Some(Packed { dims, geglu, store }))
}

/// Transposes the rows of one panel: elements of SIZE bytes, `[32][k][taps]` to `[taps][k][32]`.
fn fill<const SIZE: usize, T: Element>(
    dims: Dims,
    geglu: bool,
    values: Stored<'_>,
    panel: usize,
    put: impl Fn(usize, [T; PANEL]),
) {
    let len = dims.k * dims.taps;
    let zeros: &[[u8; SIZE]] = &[];
    let rows: [&[[u8; SIZE]]; PANEL] = std::array::from_fn(|c| match source_row(dims, geglu, panel, c) {
        Some(n) => values.bytes[n * len * SIZE..(n + 1) * len * SIZE].as_chunks().0,
        None => zeros,
    });
    let whole = rows.iter().all(|r| r.len() == len);
    for i in 0..len {
        let mut raw = [[0; 4]; PANEL];
        for (to, row) in raw.iter_mut().zip(&rows) {
            if whole || i < row.len() {
                to[..SIZE].copy_from_slice(&row[i]);
            }
        }
        put(i % dims.taps * dims.k + i / dims.taps, T::line(values.dtype, &raw));
    }
}

/// Lines as elements.
fn flat<T>(lines: &[Line<T>]) -> &[T] {
    // SAFETY: a Line is exactly its array (64 or 128 bytes), so lines are contiguous elements.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * PANEL) }
}

impl Packed {
    /// What was packed.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// Whether value and gate columns are interleaved.
    pub fn geglu(&self) -> bool {
        self.geglu
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match &self.store {
            Store::Vector(v) => size_of_val(&v[..]),
            Store::F16(v) => size_of_val(&v[..]),
            Store::F32(v) => size_of_val(&v[..]),
        }
    }

    /// A vector's elements; empty for panels.
    pub fn vector(&self) -> &[f32] {
        match &self.store {
            Store::Vector(v) => &v[..self.dims.len()],
            _ => &[],
        }
    }

    /// Panels; none for a vector.
    pub fn panel_count(&self) -> usize {
        match &self.store {
            Store::Vector(_) => 0,
            _ => panel_count(self.dims, self.geglu),
        }
    }

    /// Lines `from .. from + count` of a panel; line `tap * k + i` is input i of a tap.
    pub fn panel(&self, panel: usize, from: usize, count: usize) -> Panel<'_> {
        let start = panel * self.dims.k * self.dims.taps + from;
        match &self.store {
            Store::Vector(_) => Panel::F32(&[]),
            Store::F16(v) => Panel::F16(flat(&v[start..start + count])),
            Store::F32(v) => Panel::F32(flat(&v[start..start + count])),
        }
    }

    /// Weight `[n, k, tap]` in torch's numbering: what the naive kernels read.
    pub fn at(&self, n: usize, k: usize, tap: usize) -> f32 {
        let half = self.dims.n / 2;
        let (panel, column) = match self.geglu {
            true => (n % half / (PANEL / 2), n % half % (PANEL / 2) + if n < half { 0 } else { PANEL / 2 }),
            false => (n / PANEL, n % PANEL),
        };
        match self.panel(panel, tap * self.dims.k + k, 1) {
            Panel::F16(line) => f16::from_bits(line[column]).to_f32(),
            Panel::F32(line) => line[column],
        }
    }
}

#[cfg(test)]
mod tests;
