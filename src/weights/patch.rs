//! A source over another one whose tensors are changed by adapters: pristine rows go in, their sum with every delta, in
//! f32 and in the order of the adapters, comes out.
//!
//! Nothing is ever subtracted to undo a change and nothing is written back: a touched tensor is computed from the
//! pristine one each time its rows are read, and rounded once, by who packs it. Untouched tensors are the base's own,
//! under its id, so that whatever was packed of them is shared.

pub mod delta;
mod product;

use super::{PatchId, SourceId, TensorInfo, WeightSource, decode_f32};
use crate::dtype::Dtype;
use crate::error::{Error, Kind, Result, escape};
use delta::{Delta, ReadyDelta};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A delta and how much of it.
#[derive(Clone)]
pub struct Patch {
    /// What is added, for this tensor.
    pub delta: Arc<Delta>,
    /// How much of it; 1 is what it was trained for.
    pub strength: f32,
    /// Whose it is.
    pub id: PatchId,
}

/// A tensor that is not the base's own.
struct Touched {
    /// As it reads: f32.
    info: TensorInfo,
    patches: Vec<Patch>,
    ids: Vec<PatchId>,
    /// Norms of columns, for patches that need those of the whole tensor.
    norms: Vec<OnceLock<Vec<f32>>>,
}

/// A base and what adapters change of it.
pub struct Patched {
    base: Arc<dyn WeightSource>,
    touched: BTreeMap<String, Touched>,
    adapters: usize,
}

impl Patched {
    /// `patches` by tensor, in the order in which they apply. Tensors that the base lacks are left out: the deltas were
    /// made for tensors that it has.
    pub fn new(base: Arc<dyn WeightSource>, patches: BTreeMap<String, Vec<Patch>>, adapters: usize) -> Self {
        let touched = patches.into_iter().filter_map(|(name, patches)| {
            let info = TensorInfo { dtype: Dtype::F32, shape: base.info(&name)?.shape.clone() };
            let ids = patches.iter().map(|p| p.id).collect();
            let norms = patches.iter().map(|_| OnceLock::new()).collect();
            Some((name, Touched { info, patches, ids, norms }))
        });
        let touched = touched.collect();
        Self { base, touched, adapters }
    }

    /// Rows of a touched tensor.
    fn rows(&self, name: &str, touched: &Touched, rows: Range<usize>) -> Result<Vec<f32>> {
        let ready = touched.patches.iter().map(|p| p.delta.ready()).collect::<Result<Vec<_>>>()?;
        self.through(name, touched, &ready, rows)
    }

    /// Rows with the first of a tensor's patches applied.
    fn through(&self, name: &str, touched: &Touched, ready: &[ReadyDelta], rows: Range<usize>) -> Result<Vec<f32>> {
        let dtype = self.base.info(name).map_or(Dtype::F32, |info| info.dtype);
        let (mut raw, mut values) = (Vec::new(), Vec::new());
        self.base.read_rows(name, rows.start, rows.len(), &mut raw)?;
        decode_f32(dtype, &raw, &mut values);
        drop(raw);
        for (n, (patch, one)) in touched.patches.iter().zip(ready).enumerate() {
            let norms = match patch.delta.needs_columns() {
                true => self.norms(name, touched, n, &ready[..=n])?,
                false => &[],
            };
            patch.delta.apply(one, rows.clone(), patch.strength, norms, &mut values);
        }
        Ok(values)
    }

    /// Norms over all rows of what patch `n` makes of the tensor.
    fn norms<'a>(&self, name: &str, touched: &'a Touched, n: usize, ready: &[ReadyDelta]) -> Result<&'a [f32]> {
        if let Some(known) = touched.norms[n].get() {
            return Ok(known);
        }
        let Some((last, before)) = ready.split_last() else { return Ok(&[]) };
        let (delta, all) = (&touched.patches[n].delta, touched.info.shape.first().copied().unwrap_or(0));
        let mut squares = delta.squares();
        for first in (0..all).step_by(BLOCK_ROWS) {
            let rows = first..(first + BLOCK_ROWS).min(all);
            let values = self.through(name, touched, before, rows.clone())?;
            delta.add_squares(last, rows, &values, &mut squares);
        }
        Ok(touched.norms[n].get_or_init(|| squares.iter().map(|s| s.sqrt() as f32).collect()))
    }
}

/// Rows that are looked at together for norms.
const BLOCK_ROWS: usize = 256;

impl WeightSource for Patched {
    fn id(&self, name: &str) -> SourceId {
        self.base.id(name)
    }

    fn patches(&self, name: &str) -> &[PatchId] {
        self.touched.get(name).map_or_else(|| self.base.patches(name), |t| &t.ids)
    }

    fn names(&self) -> Vec<&str> {
        self.base.names()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.touched.get(name).map(|t| &t.info).or_else(|| self.base.info(name))
    }

    fn read(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        match self.touched.get(name) {
            Some(touched) => self.read_rows(name, 0, touched.info.shape.first().copied().unwrap_or(0), out),
            None => self.base.read(name, out),
        }
    }

    fn read_rows(&self, name: &str, first: usize, count: usize, out: &mut Vec<u8>) -> Result<()> {
        let Some(touched) = self.touched.get(name) else { return self.base.read_rows(name, first, count, out) };
        let rows = touched.info.shape.first().copied().unwrap_or(0);
        if first.checked_add(count).is_none_or(|end| end > rows) {
            return Err(Error::other(format!("{}: rows {first} to {first} + {count} of {rows}", escape(name))));
        }
        let values = self.rows(name, touched, first..first + count).map_err(|e| e.at(escape(name)))?;
        out.clear();
        out.try_reserve_exact(4 * values.len())
            .map_err(|_| Error::new(Kind::OutOfMemory, format!("no memory for {} weights", values.len())))?;
        match cfg!(target_endian = "little") {
            true => out.extend_from_slice(bytemuck::cast_slice(&values)),
            false => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        }
        Ok(())
    }

    fn stored(&self, name: &str) -> Option<super::StoredAs> {
        self.base.stored(name)
    }

    fn about(&self) -> String {
        let plural = if self.adapters == 1 { "" } else { "s" };
        format!("{}, {} adapter{plural}", self.base.about(), self.adapters)
    }
}

#[cfg(test)]
mod tests;
