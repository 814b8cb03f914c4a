//! Weights as the kernels read them: from torch's row-major tensors to panels of 32 output channels.
//!
//! A panel holds `[tap][k][32]`: for each input of a dot product, the weights of 32 neighbouring outputs, so that a
//! kernel reads it from front to back. Outputs beyond n are zeros. Of a gated weight a panel is 16 value columns,
//! then the 16 gate columns that belong to them.

use crate::dtype::{Dtype, Storage, beyond_f16};
use crate::error::{Error, Kind, Result};
use crate::kernels::{Dims, Packing};
use crate::workers::{RowsMut, Workers};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::ops::Range;

/// Columns of a panel.
pub const PANEL: usize = 32;

/// A weight in the layout that its op asked for.
pub struct Packed {
    dims: Dims,
    packing: Packing,
    store: Store,
}

enum Store {
    /// Padded with zeros to whole panels.
    Vector(Vec<f32>),
    F16(Box<[Line16]>),
    F32(Box<[Line32]>),
}

/// One line of a panel in f16: a cache line.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line16([u16; PANEL]);

/// One line of a panel in f32.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line32([f32; PANEL]);

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
pub struct StoredTensor<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// `dims.len()` elements.
    pub bytes: &'a [u8],
}

impl<'a> StoredTensor<'a> {
    /// Values in memory.
    pub fn f32(values: &'a [f32]) -> Self {
        Self { dtype: Dtype::F32, bytes: bytemuck::cast_slice(values) }
    }
}

/// What a panel can be made of.
trait PanelLine: bytemuck::Pod + Send {
    /// Converts one line of stored elements.
    fn new(dtype: Dtype, bytes: &[[u8; 4]; PANEL]) -> Self;
}

impl PanelLine for Line16 {
    #[inline]
    fn new(dtype: Dtype, bytes: &[[u8; 4]; PANEL]) -> Self {
        match dtype {
            Dtype::F16 => Self(bytes.map(|b| u16::from_le_bytes([b[0], b[1]]))),
            _ => {
                let mut out = [f16::ZERO; PANEL];
                out.convert_from_f32_slice(&Line32::new(dtype, bytes).0);
                Self(out.map(f16::to_bits))
            }
        }
    }
}

impl PanelLine for Line32 {
    #[inline]
    fn new(dtype: Dtype, bytes: &[[u8; 4]; PANEL]) -> Self {
        match dtype {
            Dtype::F32 => Self(bytes.map(f32::from_le_bytes)),
            Dtype::Bf16 => Self(bytes.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
            Dtype::F16 => {
                let mut out = [0.0; PANEL];
                bytes.map(|b| f16::from_le_bytes([b[0], b[1]])).convert_to_f32_slice(&mut out);
                Self(out)
            }
            // Wider than a line's elements are refused before.
            other => Self(bytes.map(|b| other.value(&b))),
        }
    }
}

/// Lays a weight out; panels hold elements of this type.
///
/// Errors when `values` does not hold `dims.len()` elements. Values that f16 cannot hold become infinite: the caller
/// decides what is stored as f16.
pub fn pack(
    dims: Dims,
    packing: Packing,
    values: StoredTensor<'_>,
    elements: Storage,
    workers: &Workers,
) -> Result<Packed> {
    pack_whole(dims, packing, values, elements, Some(workers))
}

/// As [`pack`], on this thread.
pub fn pack_here(dims: Dims, packing: Packing, values: StoredTensor<'_>, elements: Storage) -> Result<Packed> {
    pack_whole(dims, packing, values, elements, None)
}

fn pack_whole(
    dims: Dims,
    packing: Packing,
    values: StoredTensor<'_>,
    elements: Storage,
    workers: Option<&Workers>,
) -> Result<Packed> {
    if values.bytes.len() != dims.len() * values.dtype.bytes() {
        let got = values.bytes.len();
        return Err(Error::other(format!("{got} bytes given for a weight of {dims:?} stored as {:?}", values.dtype)));
    }
    let store = match packing {
        Packing::Vector { .. } => Store::Vector(vector(values, dims.len())),
        Packing::Panels { gated } => {
            let panels = Panels::new(dims, gated)?;
            match elements {
                Storage::F32 => {
                    let mut lines = panels.room()?;
                    panels.fill(&mut lines, 0, values, workers);
                    Store::F32(lines)
                }
                Storage::F16 => {
                    let mut lines = panels.room()?;
                    panels.fill(&mut lines, 0, values, workers);
                    Store::F16(lines)
                }
            }
        }
    };
    Ok(Packed { dims, packing, store })
}

fn vector(values: StoredTensor<'_>, len: usize) -> Vec<f32> {
    let size = values.dtype.bytes();
    let mut out = Vec::with_capacity(len.next_multiple_of(PANEL));
    for chunk in values.bytes.chunks(size * PANEL) {
        let mut raw = [[0; 4]; PANEL];
        for (to, from) in raw.iter_mut().zip(chunk.chunks_exact(size)) {
            to[..size].copy_from_slice(from);
        }
        out.extend(Line32::new(values.dtype, &raw).0);
    }
    out
}

/// A weight, or some of its rows, as panels.
#[derive(Clone, Copy)]
struct Panels {
    dims: Dims,
    gated: bool,
    /// How many.
    count: usize,
    /// Lines of each.
    lines: usize,
}

impl Panels {
    fn new(dims: Dims, gated: bool) -> Result<Self> {
        if gated && !dims.n.is_multiple_of(2) {
            return Err(Error::other(format!("a gated weight needs an even number of rows, not {}", dims.n)));
        }
        Ok(Self { dims, gated, count: panel_count(dims, gated), lines: dims.k * dims.taps })
    }

    /// The row of the weight that column `c` of a panel holds; none for padding.
    fn source_row(&self, panel: usize, c: usize) -> Option<usize> {
        let n = self.dims.n;
        if self.gated {
            let channel = panel * (PANEL / 2) + c % (PANEL / 2);
            (channel < n / 2).then_some(channel + if c < PANEL / 2 { 0 } else { n / 2 })
        } else {
            Some(panel * PANEL + c).filter(|row| *row < n)
        }
    }

    /// Lines for all of them.
    fn room<L: PanelLine>(&self) -> Result<Box<[L]>> {
        // Zeroed by the allocator: large sizes cost no page until they are used.
        bytemuck::allocation::try_zeroed_slice_box(self.count * self.lines)
            .map_err(|()| Error::new(Kind::OutOfMemory, format!("no memory for {} weights", self.dims.len())))
    }

    /// Writes them from panel `first` of `lines` on; without workers on this thread.
    fn fill<L: PanelLine>(&self, lines: &mut [L], first: usize, values: StoredTensor<'_>, workers: Option<&Workers>) {
        let to = &mut lines[first * self.lines..][..self.count * self.lines];
        if to.is_empty() {
            return;
        }
        let one = |panel: usize, lines: &mut [L]| match values.dtype.bytes() {
            2 => self.transpose::<2, L>(values, panel, lines),
            _ => self.transpose::<4, L>(values, panel, lines),
        };
        match workers {
            Some(workers) => workers.for_each_row(RowsMut::new(to, self.count, self.lines, self.lines), 1, one),
            None => to.chunks_exact_mut(self.lines).enumerate().for_each(|(panel, lines)| one(panel, lines)),
        }
    }

    /// Transposes the rows of one panel: elements of SIZE bytes, `[32][k][taps]` to `[taps][k][32]`.
    fn transpose<const SIZE: usize, L: PanelLine>(&self, values: StoredTensor<'_>, panel: usize, lines: &mut [L]) {
        let Dims { k, taps, .. } = self.dims;
        let len = self.lines;
        let zeros: &[[u8; SIZE]] = &[];
        let rows: [&[[u8; SIZE]]; PANEL] = std::array::from_fn(|c| match self.source_row(panel, c) {
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
            lines[i % taps * k + i / taps] = L::new(values.dtype, &raw);
        }
    }
}

fn panel_count(dims: Dims, gated: bool) -> usize {
    if gated { (dims.n / 2).div_ceil(PANEL / 2) } else { dims.n.div_ceil(PANEL) }
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
    gated: bool,
    (dtype, elements): (Dtype, Storage),
    raw: &mut Vec<u8>,
    workers: Option<&Workers>,
    read: &mut ReadRows<'_>,
) -> Result<Option<Packed>> {
    let panels = Panels::new(dims, gated)?;
    let mut store = match elements {
        Storage::F32 => Store::F32(panels.room()?),
        Storage::F16 => Store::F16(panels.room()?),
    };
    let panel_bytes = PANEL * panels.lines * dtype.bytes();
    let step = (BLOCK / panel_bytes.max(1)).max(workers.map_or(1, Workers::threads));
    for first in (0..panels.count).step_by(step) {
        let (width, all) = if gated { (PANEL / 2, dims.n / 2) } else { (PANEL, dims.n) };
        let rows = first * width..((first + step) * width).min(all);
        raw.clear();
        read(rows.clone(), raw)?;
        if gated {
            read(rows.start + all..rows.end + all, raw)?;
        }
        let part = Dims { n: rows.len() * if gated { 2 } else { 1 }, ..dims };
        let values = StoredTensor { dtype, bytes: raw };
        if values.bytes.len() != part.len() * dtype.bytes() {
            let got = values.bytes.len();
            return Err(Error::other(format!("{got} bytes read for rows {rows:?} of a weight of {dims:?}")));
        }
        let part = Panels::new(part, gated)?;
        match &mut store {
            Store::F32(lines) => part.fill(lines, first, values, workers),
            Store::F16(_) if beyond_f16(dtype, values.bytes) => return Ok(None),
            Store::F16(lines) => part.fill(lines, first, values, workers),
            Store::Vector(_) => {}
        }
    }
    Ok(Some(Packed { dims, packing: Packing::Panels { gated }, store }))
}

impl Packed {
    /// What was packed.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// How it is laid out.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Whether value and gate columns are interleaved.
    pub fn gated(&self) -> bool {
        self.packing == Packing::Panels { gated: true }
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
            _ => panel_count(self.dims, self.gated()),
        }
    }

    /// Lines `from .. from + count` of a panel; line `tap * k + i` is input i of a tap.
    pub fn panel(&self, panel: usize, from: usize, count: usize) -> Panel<'_> {
        let start = panel * self.dims.k * self.dims.taps + from;
        match &self.store {
            Store::Vector(_) => Panel::F32(&[]),
            Store::F16(v) => Panel::F16(bytemuck::cast_slice(&v[start..start + count])),
            Store::F32(v) => Panel::F32(bytemuck::cast_slice(&v[start..start + count])),
        }
    }

    /// Weight `[n, k, tap]` in torch's numbering: what the naive kernels read.
    pub fn at(&self, n: usize, k: usize, tap: usize) -> f32 {
        let half = self.dims.n / 2;
        let (panel, column) = match self.gated() {
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
