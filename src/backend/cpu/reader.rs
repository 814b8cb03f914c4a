//! Tensors of a checkpoint to packed weights, a few rows at a time; what was rounded, or could not be, is noted.

use super::WeightType;
use crate::checkpoint::Model;
use crate::dtype::Dtype;
use crate::error::{Error, Kind, Result, escape};
use crate::graph::WeightExpr;
use crate::graph::plan::PlanWeight;
use crate::kernels::Packing;
use crate::kernels::cpu::panels::{self, Packed, Stored};
use crate::weights::{TensorInfo, decode_f32};
use crate::workers::Workers;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

/// What happened to weights, by tensor name.
#[derive(Default)]
pub struct Notes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rounded: bool,
    /// Weights that hold values beyond f16.
    beyond: BTreeSet<String>,
    /// How much of this has been said.
    said: (bool, usize),
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What has not been said yet.
    pub fn take(&self) -> Vec<String> {
        let mut state = self.lock();
        let mut out = Vec::new();
        if state.rounded && !state.said.0 {
            out.push("weights are kept as f16; --type f32 keeps them exact".to_owned());
        }
        let beyond = state.beyond.len();
        if beyond > state.said.1 {
            let first = state.beyond.first().map(|n| escape(n)).unwrap_or_default();
            let others = if beyond > 1 { format!(" and {} other weights", beyond - 1) } else { String::new() };
            out.push(format!("{first}{others}: values beyond f16's largest, 65504, so kept as f32"));
        }
        state.said = (state.rounded, beyond);
        out
    }
}

/// Bytes of an element of a matrix, as far as the header tells.
pub fn panel_bytes(weight: &PlanWeight, model: &Model, weight_type: WeightType) -> u64 {
    let exact = |name: &&str| model.source.info(name).is_some_and(|i| i.dtype == Dtype::F16);
    if weight_type == WeightType::F32 && !weight.weight.expr.names().iter().all(exact) { 4 } else { 2 }
}

/// Reads and packs; its buffers are used again from one weight to the next.
pub struct Reader<'a> {
    model: &'a Model,
    weight_type: WeightType,
    notes: &'a Notes,
    raw: Vec<u8>,
    part: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// A reader of a model's weights.
    pub fn new(model: &'a Model, weight_type: WeightType, notes: &'a Notes) -> Self {
        Self { model, weight_type, notes, raw: Vec::new(), part: Vec::new() }
    }

    /// Packs one weight; without workers on this thread alone.
    ///
    /// # Errors
    /// The file cannot be read, or its tensors have another size than the architecture says.
    pub fn pack(&mut self, want: &PlanWeight, workers: Option<&Workers>) -> Result<Packed> {
        let names = want.weight.expr.names();
        let infos = names.iter().map(|n| self.info(n)).collect::<Result<Vec<_>>>()?;
        let (dims, summed) = (want.weight.dims, matches!(want.weight.expr, WeightExpr::RowSums(_)));
        let count = infos.iter().map(|i| i.len()).sum::<usize>() / if summed { 2 } else { 1 };
        if count != dims.len() {
            let names = names.join(", ");
            let message = format!("{names}: {count} values where {} are expected", dims.len());
            return Err(Error::new(Kind::BadFile, message));
        }
        if want.packing == Packing::Vector || summed {
            let values = self.values(&want.weight.expr)?;
            return panels::pack_here(dims, want.packing, want.geglu, Stored::f32(&values), true);
        }
        let mixed = infos.iter().any(|i| i.dtype != infos[0].dtype);
        let dtype = if mixed { Dtype::F32 } else { infos[0].dtype };
        let known = dtype != Dtype::F16 && self.notes.lock().beyond.contains(names[0]);
        let keep_f32 = dtype != Dtype::F16 && (self.weight_type == WeightType::F32 || known);
        let tensors: Vec<(&str, &TensorInfo)> = names.iter().copied().zip(infos).collect();
        if let Some(packed) = self.matrix(want, &tensors, (dtype, keep_f32), workers)? {
            if dtype != Dtype::F16 && !keep_f32 {
                self.notes.lock().rounded = true;
            }
            return Ok(packed);
        }
        self.notes.lock().beyond.insert(names[0].to_owned());
        let packed = self.matrix(want, &tensors, (dtype, true), workers)?;
        packed.ok_or_else(|| Error::other(format!("{}: not even f32 holds its values", names[0])))
    }

    fn info(&self, name: &str) -> Result<&'a TensorInfo> {
        let missing = || Error::new(Kind::BadFile, format!("{}: tensor {name} is missing", self.model.name));
        self.model.source.info(name).ok_or_else(missing)
    }

    /// Panels from tensors that are stacked along dimension 0.
    fn matrix(
        &mut self,
        want: &PlanWeight,
        tensors: &[(&str, &TensorInfo)],
        (dtype, keep_f32): (Dtype, bool),
        workers: Option<&Workers>,
    ) -> Result<Option<Packed>> {
        let (model, part) = (self.model, &mut self.part);
        let row = (want.weight.dims.k * want.weight.dims.taps).max(1);
        let mut read = |rows: Range<usize>, out: &mut Vec<u8>| {
            let mut first = 0;
            for (name, info) in tensors {
                let own = first..first + info.len() / row;
                first = own.end;
                let (from, to) = (rows.start.max(own.start), rows.end.min(own.end));
                if from >= to {
                    continue;
                }
                if out.is_empty() && info.dtype == dtype {
                    model.source.read_rows(name, from - own.start, to - from, out)?;
                    continue;
                }
                model.source.read_rows(name, from - own.start, to - from, part)?;
                if info.dtype == dtype {
                    out.extend_from_slice(part);
                } else {
                    let mut values = Vec::new();
                    decode_f32(info.dtype, part, &mut values);
                    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
                }
            }
            Ok(())
        };
        panels::pack_rows(want.weight.dims, want.geglu, (dtype, keep_f32), &mut self.raw, workers, &mut read)
    }

    /// Small tensors as f32: biases, norms and sums of them.
    fn values(&mut self, expr: &WeightExpr) -> Result<Vec<f32>> {
        let mut one = |name: &str| -> Result<Vec<f32>> {
            let dtype = self.info(name)?.dtype;
            self.model.source.read(name, &mut self.raw)?;
            let mut values = Vec::new();
            decode_f32(dtype, &self.raw, &mut values);
            Ok(values)
        };
        let mut out = Vec::new();
        match expr {
            WeightExpr::One(name) => return one(name),
            WeightExpr::Rows(names) => {
                for name in names {
                    out.extend(one(name)?);
                }
            }
            WeightExpr::RowSums(pairs) => {
                for (a, b) in pairs {
                    let (a, b) = (one(a)?, one(b)?);
                    out.extend(a.iter().zip(&b).map(|(a, b)| a + b));
                }
            }
        }
        Ok(out)
    }
}
