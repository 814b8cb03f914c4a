//! The names and calls that torch writes around tensors to the values they stand for; all others are inert.

use super::{Global, Kind, MAX_ITEMS, Machine, Step, Storage, Value, View};
use crate::dtype::Dtype;
use crate::error::escape;

/// What a `module.name` means here.
pub(super) fn global(module: &[u8], name: &[u8]) -> Global {
    match (module, name) {
        (b"torch._utils", b"_rebuild_tensor_v2" | b"_rebuild_tensor") => Global::RebuildTensor,
        (b"torch._utils", b"_rebuild_parameter") | (b"torch.nn.parameter", b"Parameter") => Global::Parameter,
        (b"collections", b"OrderedDict") => Global::OrderedDict,
        (b"torch._utils", b"_rebuild_tensor_v3") => Global::RebuildUntyped,
        (b"torch" | b"torch.storage", name) if name.ends_with(b"Storage") => Global::Storage(storage_kind(name)),
        (b"torch", name) => kind(name).map_or(Global::Other, Global::Type),
        _ => Global::Other,
    }
}

fn storage_kind(name: &[u8]) -> Kind {
    match name {
        b"FloatStorage" => Kind::Read(Dtype::F32),
        b"HalfStorage" => Kind::Read(Dtype::F16),
        b"BFloat16Storage" => Kind::Read(Dtype::Bf16),
        b"DoubleStorage" => Kind::Read(Dtype::F64),
        b"UntypedStorage" => Kind::Other("bytes without a type"),
        b"ComplexFloatStorage" | b"ComplexDoubleStorage" => Kind::Other("complex numbers"),
        b"QInt8Storage" | b"QUInt8Storage" | b"QInt32Storage" => Kind::Other("quantised integers"),
        _ => Kind::Other("integers"),
    }
}

/// A `torch.dtype` by its name.
fn kind(name: &[u8]) -> Option<Kind> {
    Some(match name {
        b"float32" | b"float" => Kind::Read(Dtype::F32),
        b"float16" | b"half" => Kind::Read(Dtype::F16),
        b"bfloat16" => Kind::Read(Dtype::Bf16),
        b"float64" | b"double" => Kind::Read(Dtype::F64),
        b"float8_e4m3fn" => Kind::Read(Dtype::F8E4m3),
        b"float8_e5m2" => Kind::Read(Dtype::F8E5m2),
        b"float8_e4m3fnuz" => Kind::Other("float8_e4m3fnuz"),
        b"float8_e5m2fnuz" => Kind::Other("float8_e5m2fnuz"),
        b"float8_e8m0fnu" => Kind::Other("float8_e8m0fnu"),
        b"float4_e2m1fn_x2" => Kind::Other("float4_e2m1fn_x2"),
        name if name.starts_with(b"int") || name.starts_with(b"uint") || name == b"bool" => Kind::Other("integers"),
        _ => return None,
    })
}

impl Machine<'_> {
    /// What a call of `callee` makes: something for the functions that torch writes around tensors, else nothing.
    pub(super) fn call(&mut self, callee: Value, arguments: Value) -> Step<Value> {
        let (Value::Global(callee), Value::Tuple(tuple)) = (callee, arguments) else { return Ok(Value::Inert) };
        match callee {
            Global::RebuildTensor => self.rebuild(tuple, None),
            Global::RebuildUntyped => {
                let Some(&Value::Global(Global::Type(kind))) = self.tuples[tuple].get(6) else {
                    return Ok(Value::Inert);
                };
                self.rebuild(tuple, Some(kind))
            }
            Global::Parameter => Ok(self.tuples[tuple].first().copied().unwrap_or(Value::Inert)),
            Global::OrderedDict => self.ordered_dict(tuple),
            Global::Storage(_) | Global::Type(_) | Global::Other => Ok(Value::Inert),
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

    /// `(storage, offset, shape, strides, ...)`; where the storage has no type `kind` is the seventh.
    fn rebuild(&mut self, tuple: usize, kind: Option<Kind>) -> Step<Value> {
        let malformed = || "describes a tensor in a way that PyTorch does not".to_owned();
        let [storage, offset, shape, strides, ..] = self.tuples[tuple][..] else { return Err(malformed()) };
        let Value::Storage(storage) = storage else { return Ok(Value::Inert) };
        let Value::Int(offset) = offset else { return Err(malformed()) };
        let offset = u64::try_from(offset).map_err(|_| malformed())?;
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        self.views.push(View { storage, kind, offset, shape, strides });
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
        let unknown = Kind::Other("an unknown type");
        let kind = if let Value::Global(Global::Storage(kind)) = class { kind } else { unknown };
        self.storages.push(Storage { kind, key, elements });
        Ok(Value::Storage(self.storages.len() - 1))
    }
}
