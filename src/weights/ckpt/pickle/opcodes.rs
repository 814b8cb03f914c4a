//! One opcode of a pickle goes in, the machine's stack changes. Each of the four functions says whether the opcode is
//! one of its own.

use super::{Global, Machine, Step, Value, cut, torch};

impl<'a> Machine<'a> {
    /// Numbers, strings, and what says nothing here.
    pub(super) fn literal(&mut self, op: u8) -> Step<bool> {
        let value = match op {
            0x80 => return self.code.take(1).map(|_| true).ok_or_else(cut),
            // A frame only says how much to read ahead.
            0x95 => return self.code.take(8).map(|_| true).ok_or_else(cut),
            b'N' | 0x88 | 0x89 => Value::Inert,
            b'K' => Value::Int(self.code.uint(1).ok_or_else(cut)? as i64),
            b'M' => Value::Int(self.code.uint(2).ok_or_else(cut)? as i64),
            b'J' => Value::Int(i64::from(self.code.uint(4).ok_or_else(cut)? as u32 as i32)),
            b'G' => self.code.take(8).map(|_| Value::Inert).ok_or_else(cut)?,
            0x8a => self.long()?,
            0x8b => self.counted(4).map(|_| Value::Inert)?,
            b'X' | b'T' | b'B' => Value::Text(self.counted(4)?),
            b'U' | b'C' | 0x8c => Value::Text(self.counted(1)?),
            0x8d | 0x8e | 0x96 => Value::Text(self.counted(8)?),
            _ => return Ok(false),
        };
        Ok(self.push(value))
    }

    /// A little-endian two's complement integer of up to 8 bytes; a longer one is no size of anything.
    fn long(&mut self) -> Step<Value> {
        let text = self.counted(1)?;
        let bytes = self.text(text);
        if bytes.len() > 8 {
            return Ok(Value::Inert);
        }
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        Ok(Value::Int(i64::from_le_bytes(std::array::from_fn(|i| *bytes.get(i).unwrap_or(&fill)))))
    }

    /// Tuples, lists, dictionaries and sets.
    pub(super) fn container(&mut self, op: u8) -> Step<bool> {
        match op {
            b'(' => self.marks.push(self.stack.len()),
            b')' => return Ok(self.push_tuple(Vec::new())),
            0x85..=0x87 => {
                let mut items = (0x84..op).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
                items.reverse();
                self.items += items.len();
                return Ok(self.push_tuple(items));
            }
            b't' => {
                let items = self.pop_mark()?;
                return Ok(self.push_tuple(items));
            }
            b']' => return Ok(self.push_list(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                return Ok(self.push_list(items));
            }
            b'}' => return Ok(self.push_dict(Vec::new())),
            b'd' => {
                let pairs = pairs(self.pop_mark()?)?;
                return Ok(self.push_dict(pairs));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![(key, value)])?;
            }
            b'u' => {
                let pairs = pairs(self.pop_mark()?)?;
                self.set_items(pairs)?;
            }
            // Sets hold no tensors.
            0x8f => return Ok(self.push(Value::Inert)),
            0x91 => {
                self.pop_mark()?;
                return Ok(self.push(Value::Inert));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn push_list(&mut self, items: Vec<Value>) -> bool {
        self.lists.push(items);
        self.push(Value::List(self.lists.len() - 1))
    }

    fn push_dict(&mut self, pairs: Vec<(Value, Value)>) -> bool {
        self.dicts.push(pairs);
        self.push(Value::Dict(self.dicts.len() - 1))
    }

    fn append(&mut self, items: Vec<Value>) -> Step<()> {
        let target = self.pop()?;
        self.push(target);
        self.items += items.len();
        match target {
            Value::List(list) => self.lists[list].extend(items),
            Value::Inert => {}
            _ => return Err("appends to what is not a list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, pairs: Vec<(Value, Value)>) -> Step<()> {
        let target = self.pop()?;
        self.push(target);
        self.items += pairs.len();
        match target {
            Value::Dict(dict) => self.dicts[dict].extend(pairs),
            Value::Inert => {}
            _ => return Err("sets items of what is not a dictionary".into()),
        }
        Ok(())
    }

    /// The memo and the top of the stack.
    pub(super) fn memory(&mut self, op: u8) -> Step<bool> {
        let index = match op {
            b'q' | b'h' => self.code.uint(1).ok_or_else(cut)?,
            b'r' | b'j' => self.code.uint(4).ok_or_else(cut)?,
            0x94 => self.memo.len() as u64,
            b'0' => return self.pop().map(|_| true),
            b'1' => return self.pop_mark().map(|_| true),
            b'2' => {
                let top = self.pop()?;
                self.push(top);
                return Ok(self.push(top));
            }
            _ => return Ok(false),
        };
        if matches!(op, b'h' | b'j') {
            let value =
                *self.memo.get(&index).ok_or_else(|| format!("recalls memo {index}, which was never stored"))?;
            return Ok(self.push(value));
        }
        let top = self.pop()?;
        self.push(top);
        self.memo.insert(index, top);
        Ok(true)
    }

    /// Classes, calls of them, and the storages that lie beside the pickle.
    pub(super) fn object(&mut self, op: u8) -> Step<bool> {
        match op {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Ok(self.push(Value::Global(torch::global(module, name))))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let known = match (module, name) {
                    (Value::Text(m), Value::Text(n)) => torch::global(self.text(m), self.text(n)),
                    _ => Global::Other,
                };
                Ok(self.push(Value::Global(known)))
            }
            b'R' => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                let made = self.call(callee, arguments)?;
                Ok(self.push(made))
            }
            // NEWOBJ and NEWOBJ_EX make instances; an OrderedDict is one that matters.
            0x81 | 0x92 => {
                if op == 0x92 {
                    self.pop()?;
                }
                let (_arguments, class) = (self.pop()?, self.pop()?);
                match class {
                    Value::Global(Global::OrderedDict) => Ok(self.push_dict(Vec::new())),
                    _ => Ok(self.push(Value::Inert)),
                }
            }
            // BUILD sets attributes, which no tensor here depends on.
            b'b' => {
                self.pop()?;
                let target = self.pop()?;
                Ok(self.push(target))
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                Ok(self.push(storage))
            }
            _ => Ok(false),
        }
    }
}

fn pairs(items: Vec<Value>) -> Step<Vec<(Value, Value)>> {
    if !items.len().is_multiple_of(2) {
        return Err("has a dictionary key without a value".into());
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}
