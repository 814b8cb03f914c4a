//! A pickle to the tensors of the state dict in it, as data: names of classes and functions are only looked at.
//!
//! A pickle is a program for a stack machine. Here every opcode makes plain values; a call of anything but the four
//! functions that torch writes around tensors makes an inert value. Values are small and refer to each other by index,
//! so depth costs nothing, cycles leak nothing, and what a program can allocate is bounded by its number of opcodes.

mod opcodes;
mod torch;

use super::Cursor;
use crate::dtype::Dtype;
use std::collections::HashMap;

/// SD 1.x with its EMA copy and optimizer states has a few hundred thousand.
const MAX_OPCODES: usize = 2_000_000;
const MAX_STACK: usize = 1_000_000;
const MAX_MEMO: usize = 1_000_000;
const MAX_MARKS: usize = 10_000;
/// Items copied into containers; bounds what calls on memoized lists can multiply.
const MAX_ITEMS: usize = 4_000_000;

/// A tensor as the pickle describes it; nothing of it has been compared with the storage yet.
#[derive(Clone, Debug, PartialEq)]
pub struct PickledTensor {
    /// None: a type that is not read.
    pub dtype: Option<Dtype>,
    /// The type, for people.
    pub kind: &'static str,
    /// Whether `elements` are bytes: the type is the tensor's, not the storage's.
    pub untyped: bool,
    /// The storage's name in `data/`.
    pub storage: String,
    /// Elements of the storage, as the pickle says.
    pub elements: u64,
    /// First element of the view.
    pub offset: u64,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Elements from one index to the next, one a dimension.
    pub strides: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Value {
    /// Whatever plays no part in a state dict: None, numbers with a fraction, objects.
    Inert,
    Int(i64),
    Text(Text),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
}

/// A string, where it lies in the pickle.
#[derive(Clone, Copy)]
struct Text {
    start: usize,
    len: usize,
}

#[derive(Clone, Copy)]
enum Global {
    /// `torch._utils._rebuild_tensor_v2` and its predecessor.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter` and `torch.nn.parameter.Parameter`, whose first argument is the tensor.
    Parameter,
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v3`, whose storage has no type of its own.
    RebuildUntyped,
    /// `torch.HalfStorage` and the like.
    Storage(Kind),
    /// `torch.float8_e4m3fn` and the like.
    Type(Kind),
    Other,
}

/// A type of torch's: one that is read, or the name of another.
#[derive(Clone, Copy)]
enum Kind {
    Read(Dtype),
    Other(&'static str),
}

impl Kind {
    fn dtype(self) -> Option<Dtype> {
        if let Self::Read(dtype) = self { Some(dtype) } else { None }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Read(dtype) => dtype.name(),
            Self::Other(name) => name,
        }
    }
}

struct Storage {
    kind: Kind,
    key: Text,
    elements: u64,
}

struct View {
    storage: usize,
    /// The tensor's own type, where the storage has none.
    kind: Option<Kind>,
    offset: u64,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

struct Machine<'a> {
    code: Cursor<'a>,
    stack: Vec<Value>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    tuples: Vec<Vec<Value>>,
    lists: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    storages: Vec<Storage>,
    views: Vec<View>,
    items: usize,
}

type Step<T> = Result<T, String>;

/// The tensors under `state_dict`, or at the top level when there is none, with their names.
///
/// # Errors
/// A sentence that continues "its pickle ...".
pub fn state_dict(data: &[u8]) -> Step<Vec<(String, PickledTensor)>> {
    tensors_under(data, &["state_dict"])
}

/// The tensors under the first of these names that is a dictionary, or at the top level when none is.
///
/// # Errors
/// As [`state_dict`].
pub fn tensors_under(data: &[u8], names: &[&str]) -> Step<Vec<(String, PickledTensor)>> {
    let mut machine = Machine::new(data);
    let top = machine.run()?;
    machine.under(top, names)
}

/// What the pickles of a file of before PyTorch 1.6 say.
pub struct Legacy {
    /// As [`tensors_under`] gives them.
    pub tensors: Vec<(String, PickledTensor)>,
    /// The storages' names, in the order in which they follow.
    pub keys: Vec<String>,
    /// Where the first storage begins.
    pub end: usize,
}

/// A file of before PyTorch 1.6, which is pickles one behind the other (a version, the machine's sizes, the object, the
/// storages' keys) and then the storages. `data` begins behind the magic number.
///
/// # Errors
/// As [`state_dict`].
pub fn legacy(data: &[u8], names: &[&str]) -> Step<Legacy> {
    let mut machine = Machine::new(data);
    machine.next_pickle()?;
    machine.next_pickle()?;
    let top = machine.next_pickle()?;
    let tensors = machine.under(top, names)?;
    let Value::List(keys) = machine.next_pickle()? else { return Err("has no list of storages".into()) };
    let text = |key: &Value| match key {
        Value::Text(t) => machine.string(*t),
        _ => Err("has a storage without a name".into()),
    };
    let keys = machine.lists[keys].iter().map(text).collect::<Step<_>>()?;
    Ok(Legacy { tensors, keys, end: machine.code.at })
}

/// The tensors of every dictionary, however deep: an embedding's file hides its one matrix in objects of its trainer.
///
/// # Errors
/// As [`state_dict`].
pub fn all_tensors(data: &[u8]) -> Step<Vec<(String, PickledTensor)>> {
    let mut machine = Machine::new(data);
    machine.run()?;
    let mut out = Vec::new();
    for (key, value) in machine.dicts.iter().flatten() {
        let (Value::Text(key), Value::Tensor(view)) = (key, value) else { continue };
        out.push(machine.described(*key, *view)?);
    }
    if out.is_empty() { Err("holds no dictionary of tensors".into()) } else { Ok(out) }
}

fn cut() -> String {
    "ends too early".into()
}

impl<'a> Machine<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self {
            code: Cursor { data, at: 0 },
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            tuples: Vec::new(),
            lists: Vec::new(),
            dicts: Vec::new(),
            storages: Vec::new(),
            views: Vec::new(),
            items: 0,
        }
    }

    fn described(&self, name: Text, view: usize) -> Step<(String, PickledTensor)> {
        let View { storage, kind: own, offset, shape, strides } = &self.views[view];
        let Storage { kind, key, elements } = self.storages[*storage];
        let (kind, untyped) = (own.unwrap_or(kind), own.is_some());
        let (shape, strides, storage) = (shape.clone(), strides.clone(), self.string(key)?);
        let (dtype, kind, offset) = (kind.dtype(), kind.name(), *offset);
        Ok((self.string(name)?, PickledTensor { dtype, kind, untyped, storage, elements, offset, shape, strides }))
    }

    /// The tensors of the first dictionary of these names in `top`, or of `top` itself.
    fn under(&self, top: Value, names: &[&str]) -> Step<Vec<(String, PickledTensor)>> {
        let Value::Dict(top) = top else { return Err("holds no dictionary of tensors".into()) };
        let named = |name: &&str| {
            self.dicts[top].iter().find_map(|(key, value)| match (key, value) {
                (Value::Text(t), Value::Dict(d)) if self.text(*t) == name.as_bytes() => Some(*d),
                _ => None,
            })
        };
        let inner = names.iter().find_map(named);
        let mut out = Vec::new();
        for (key, value) in &self.dicts[inner.unwrap_or(top)] {
            let (Value::Text(key), Value::Tensor(view)) = (key, value) else { continue };
            out.push(self.described(*key, *view)?);
        }
        if out.is_empty() { Err("holds no dictionary of tensors".into()) } else { Ok(out) }
    }

    /// Runs the pickle that begins here, which knows nothing of the one before it.
    fn next_pickle(&mut self) -> Step<Value> {
        self.stack.clear();
        self.marks.clear();
        self.memo.clear();
        self.run()
    }

    fn run(&mut self) -> Step<Value> {
        for _ in 0..MAX_OPCODES {
            let at = self.code.at;
            let op = self.code.uint(1).ok_or_else(cut)? as u8;
            if op == b'.' {
                return self.pop();
            }
            let known = self.literal(op)? || self.container(op)? || self.memory(op)? || self.object(op)?;
            if !known {
                return Err(format!("has opcode {op:#04x} at byte {at}, which PyTorch does not write"));
            }
            if self.stack.len() > MAX_STACK || self.memo.len() > MAX_MEMO || self.marks.len() > MAX_MARKS {
                return Err("is larger than any checkpoint's: its stack, memo or nesting has no end".into());
            }
            if self.items > MAX_ITEMS {
                return Err("is larger than any checkpoint's: its containers have no end".into());
            }
        }
        Err(format!("has more than {MAX_OPCODES} opcodes, more than any checkpoint's"))
    }

    fn text(&self, t: Text) -> &'a [u8] {
        &self.code.data[t.start..t.start + t.len]
    }

    fn string(&self, t: Text) -> Step<String> {
        let text = std::str::from_utf8(self.text(t)).map_err(|_| "has a name that is not UTF-8")?;
        // The longest name of the family has 100 characters.
        if text.len() > 1000 { Err(format!("has a name of {} bytes", text.len())) } else { Ok(text.to_owned()) }
    }

    fn pop(&mut self) -> Step<Value> {
        // Nothing may be taken from below the innermost mark.
        if self.marks.last().is_some_and(|&mark| self.stack.len() <= mark) {
            return Err("takes more from its stack than is there".into());
        }
        self.stack.pop().ok_or_else(|| "takes more from its stack than is there".into())
    }

    fn pop_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self.marks.pop().ok_or("closes a mark that is not open")?;
        let items = self.stack.split_off(mark.min(self.stack.len()));
        self.items += items.len();
        Ok(items)
    }

    fn push(&mut self, value: Value) -> bool {
        self.stack.push(value);
        true
    }

    fn push_tuple(&mut self, items: Vec<Value>) -> bool {
        self.tuples.push(items);
        self.push(Value::Tuple(self.tuples.len() - 1))
    }

    /// A string or byte string whose length takes `n` bytes.
    fn counted(&mut self, n: usize) -> Step<Text> {
        let len = self.code.uint(n).and_then(|len| usize::try_from(len).ok()).ok_or_else(cut)?;
        let start = self.code.at;
        self.code.take(len).ok_or_else(cut)?;
        Ok(Text { start, len })
    }

    fn line(&mut self) -> Step<&'a [u8]> {
        let rest = &self.code.data[self.code.at..];
        let len = rest.iter().position(|&b| b == b'\n').ok_or_else(cut)?;
        self.code.at += len + 1;
        Ok(&rest[..len])
    }
}
