//! Weights of a checkpoint to packed ones, a few rows at a time; what was rounded, or could not be, is noted.

use crate::backend::rounded::Rounded;
use crate::checkpoint::Model;
use crate::dtype::Dtype;
use crate::dtype::Storage;
use crate::error::{Error, Result};
use crate::graph::plan::PlanWeight;
use crate::kernels::cpu::panels::{self, Packed, StoredTensor};
use crate::weights::expr::Reader;
use crate::workers::Workers;
use std::ops::Range;

/// Bytes of an element of a matrix, as far as the header tells.
pub fn panel_bytes(weight: &PlanWeight, model: &Model, weight_type: Storage) -> u64 {
    let exact = |name: &&str| model.source.info(name).is_some_and(|i| i.dtype == Dtype::F16);
    if weight_type == Storage::F32 && !weight.weight.expr.names().iter().all(exact) { 4 } else { 2 }
}

/// Reads and packs; its buffers are used again from one weight to the next.
pub struct Packer<'a> {
    model: &'a Model,
    reader: Reader<'a>,
    weight_type: Storage,
    rounded: &'a Rounded,
    raw: Vec<u8>,
}

impl<'a> Packer<'a> {
    /// A packer of a model's weights.
    pub fn new(model: &'a Model, weight_type: Storage, rounded: &'a Rounded) -> Self {
        let reader = Reader::new(&*model.source, &model.name);
        Self { model, reader, weight_type, rounded, raw: Vec::new() }
    }

    /// Packs one weight; without workers on this thread alone.
    ///
    /// # Errors
    /// The file cannot be read, or its tensors have another size than the architecture says.
    pub fn pack(&mut self, want: &PlanWeight, workers: Option<&Workers>) -> Result<Packed> {
        let (expr, dims) = (&want.weight.expr, want.weight.dims);
        let row = dims.k * dims.taps;
        self.reader.check(expr, dims.n, row)?;
        if want.packing.is_vector() {
            let values = self.reader.rows(expr, 0..dims.n, row)?;
            return panels::pack_here(dims, want.packing, StoredTensor::f32(&values), Storage::F32);
        }
        let dtype = self.reader.dtype(expr)?;
        let wide = self.weight_type == Storage::F32 || self.rounded.is_beyond(expr, &*self.model.source);
        let elements = if dtype != Dtype::F16 && wide { Storage::F32 } else { Storage::F16 };
        if let Some(packed) = self.matrix(want, (dtype, elements), workers)? {
            if elements == Storage::F16 {
                self.rounded.round(dtype, expr.is_patched(&*self.model.source));
            }
            return Ok(packed);
        }
        self.rounded.keep(expr, &*self.model.source);
        let packed = self.matrix(want, (dtype, Storage::F32), workers)?;
        packed.ok_or_else(|| Error::other(format!("{}: not even f32 holds its values", expr.names().join(", "))))
    }

    fn matrix(
        &mut self,
        want: &PlanWeight,
        (dtype, elements): (Dtype, Storage),
        workers: Option<&Workers>,
    ) -> Result<Option<Packed>> {
        let (reader, dims) = (&mut self.reader, want.weight.dims);
        let row = dims.k * dims.taps;
        let mut read = |rows: Range<usize>, out: &mut Vec<u8>| reader.append(&want.weight.expr, rows, row, dtype, out);
        panels::pack_rows(dims, want.packing.is_gated(), (dtype, elements), &mut self.raw, workers, &mut read)
    }
}
