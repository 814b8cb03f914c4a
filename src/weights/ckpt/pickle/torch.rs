//! The names and calls that torch writes around tensors to the values they stand for; all others are inert.

use super::{Global, MAX_ITEMS, Machine, Step, Storage, Value, View};
use crate::dtype::Dtype;
use crate::error::escape;

/// What a `module.name` means here.
pub(super) fn global(module: &[u8], name: &[u8]) -> Global {
    match (module, name) {
        (b"torch._utils", b"_rebuild_tensor_v2" | b"_rebuild_tensor") => Global::RebuildTensor,
        (b"torch._utils", b"_rebuild_parameter") | (b"torch.nn.parameter", b"Parameter") => Global::Parameter,
        (b"collections", b"OrderedDict") => Global::OrderedDict,
        (b"torch", b"FloatStorage") => Global::Storage(Some(Dtype::F32)),
        (b"torch", b"HalfStorage") => Global::Storage(Some(Dtype::F16)),
        (b"torch", b"BFloat16Storage") => Global::Storage(Some(Dtype::Bf16)),
        (b"torch" | b"torch.storage", name) if name.ends_with(b"Storage") => Global::Storage(None),
        _ => Global::Other,
    }
}

impl Machine<'_> {
    /// What a call of `callee` makes: something for the functions that torch writes around tensors, else nothing.
    pub(super) fn call(&mut self, callee: Value, arguments: Value) -> Step<Value> {
        let (Value::Global(callee), Value::Tuple(tuple)) = (callee, arguments) else { return Ok(Value::Inert) };
        match callee {
            Global::RebuildTensor => self.rebuild(tuple),
            Global::Parameter => Ok(self.tuples[tuple].first().copied().unwrap_or(Value::Inert)),
            Global::OrderedDict => self.ordered_dict(tuple),
            Global::Storage(_) | Global::Other => Ok(Value::Inert),
        }
    }

    /// `OrderedDict()` or `OrderedDict([(key, value), ...])`.
    fn ordered_dict(&mut self, tuple: usize) -> Step<Value> {
        let mut pairs = Vec::new();
        if let Some(&Value::List(list)) = self.tuples[tuple].first() {
            self.items += self.lists[list].len();
            if self.items > MAX_ITEMS {
                return Err("is larger than any checkpoint's: its containers have no end".into());
            }
            for item in &self.lists[list] {
                let (Value::Tuple(pair) | Value::List(pair)) = *item else { continue };
                let pair = if matches!(item, Value::Tuple(_)) { &self.tuples[pair] } else { &self.lists[pair] };
                if let [key, value] = pair[..] {
                    pairs.push((key, value));
                }
            }
        }
        self.dicts.push(pairs);
        Ok(Value::Dict(self.dicts.len() - 1))
    }

    /// `(storage, offset, shape, strides, ...)`.
    fn rebuild(&mut self, tuple: usize) -> Step<Value> {
        let malformed = || "describes a tensor in a way that PyTorch does not".to_owned();
        let [storage, offset, shape, strides, ..] = self.tuples[tuple][..] else { return Err(malformed()) };
        let Value::Storage(storage) = storage else { return Ok(Value::Inert) };
        let Value::Int(offset) = offset else { return Err(malformed()) };
        let offset = u64::try_from(offset).map_err(|_| malformed())?;
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        self.views.push(View { storage, offset, shape, strides });
        Ok(Value::Tensor(self.views.len() - 1))
    }

    fn sizes(&self, value: Value) -> Step<Vec<usize>> {
        let malformed = "has a tensor whose shape or strides are no sizes";
        let Value::Tuple(tuple) = value else { return Err(malformed.into()) };
        let items = &self.tuples[tuple];
        if items.len() > 64 {
            return Err(format!("has a tensor of {} dimensions", items.len()));
        }
        let size = |item: &Value| match item {
            Value::Int(n) => usize::try_from(*n).map_err(|_| malformed.to_owned()),
            _ => Err(malformed.to_owned()),
        };
        items.iter().map(size).collect()
    }

    /// `('storage', class, key, location, elements)`.
    pub(super) fn storage(&mut self, id: Value) -> Step<Value> {
        let Value::Tuple(tuple) = id else { return Ok(Value::Inert) };
        let [Value::Text(kind), class, key, _, elements, ..] = self.tuples[tuple][..] else { return Ok(Value::Inert) };
        if self.text(kind) != b"storage" {
            return Err(format!(
                "refers to {}, which is no storage",
                escape(&String::from_utf8_lossy(self.text(kind)))
            ));
        }
        let (Value::Text(key), Value::Int(elements)) = (key, elements) else {
            return Err("describes a storage in a way that PyTorch does not".into());
        };
        let elements = u64::try_from(elements).map_err(|_| "has a storage of negative size")?;
        let dtype = if let Value::Global(Global::Storage(dtype)) = class { dtype } else { None };
        self.storages.push(Storage { dtype, key, elements });
        Ok(Value::Storage(self.storages.len() - 1))
    }
}
