//! What a weight is in terms of a checkpoint's tensors, and its rows: as the file holds them, or as f32.
//!
//! Graphs name their weights by a [`WeightExpr`]; a [`Reader`] is the one evaluator of them, from which every backend
//! packs. Elements stay in the file's type where that is possible, so that what a backend keeps as f16 is read as f16.

use super::{Origin, TensorInfo, WeightSource, decode_f32};
use crate::dtype::Dtype;
use crate::error::{Error, Kind, Result, escape};
use std::ops::Range;

/// Where a weight's elements come from in a checkpoint, under canonical names. How many rows it has, and how long they
/// are, is told beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WeightExpr {
    /// One tensor.
    One(String),
    /// Neighbouring rows of a tensor that has more.
    Slice {
        /// The tensor.
        name: String,
        /// Its first row that is read.
        first: usize,
        /// How many rows it has.
        of: usize,
    },
    /// A matrix whose rows are the tensor's columns.
    Transposed(String),
    /// Parts stacked along dimension 0, each with its number of rows: several products as one.
    Rows(Vec<(Self, usize)>),
    /// The sum of two: biases that always appear together.
    Sum(Box<[Self; 2]>),
}

impl WeightExpr {
    /// One tensor.
    pub fn one(name: impl Into<String>) -> Self {
        Self::One(name.into())
    }

    /// The sum of two.
    pub fn sum(a: Self, b: Self) -> Self {
        Self::Sum(Box::new([a, b]))
    }

    /// The names of all tensors it reads, in order.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::One(name) | Self::Slice { name, .. } | Self::Transposed(name) => vec![name],
            Self::Rows(parts) => parts.iter().flat_map(|(part, _)| part.names()).collect(),
            Self::Sum(two) => two.iter().flat_map(Self::names).collect(),
        }
    }

    /// The shape that each tensor must have if the whole has `rows` rows of dimensions `row` (none for a vector).
    pub fn shapes(&self, rows: usize, row: &[usize]) -> Vec<(&str, Vec<usize>)> {
        let shape = |rows: usize| [&[rows], row].concat();
        match self {
            Self::One(name) => vec![(name, shape(rows))],
            Self::Slice { name, of, .. } => vec![(name, shape(*of))],
            Self::Transposed(name) => vec![(name, [row, &[rows]].concat())],
            Self::Rows(parts) => parts.iter().flat_map(|(part, rows)| part.shapes(*rows, row)).collect(),
            Self::Sum(two) => two.iter().flat_map(|part| part.shapes(rows, row)).collect(),
        }
    }

    /// What it stands for: for each of its tensors, who holds it and what is changed of it.
    pub fn origin(&self, source: &dyn WeightSource) -> Vec<Origin> {
        let origin = |name| Origin { source: source.id(name), patches: source.patches(name).to_vec() };
        self.names().into_iter().map(origin).collect()
    }

    /// Whether an adapter changes one of its tensors.
    pub fn is_patched(&self, source: &dyn WeightSource) -> bool {
        self.names().into_iter().any(|name| !source.patches(name).is_empty())
    }
}

/// Reads rows of expressions; its buffers are used again from one to the next.
pub struct Reader<'a> {
    source: &'a dyn WeightSource,
    /// What errors call the model.
    model: &'a str,
    part: Vec<u8>,
    values: Vec<f32>,
}

impl<'a> Reader<'a> {
    /// A reader of a model's tensors.
    pub fn new(source: &'a dyn WeightSource, model: &'a str) -> Self {
        Self { source, model, part: Vec::new(), values: Vec::new() }
    }

    /// The type in which an expression's elements are at hand: that of its tensors, or f32 where they differ or are
    /// computed.
    ///
    /// # Errors
    /// Bad file: a tensor is missing.
    pub fn dtype(&self, expr: &WeightExpr) -> Result<Dtype> {
        match expr {
            WeightExpr::One(name) | WeightExpr::Slice { name, .. } | WeightExpr::Transposed(name) => {
                Ok(self.info(name)?.dtype)
            }
            WeightExpr::Rows(parts) => {
                let all = parts.iter().map(|(part, _)| self.dtype(part)).collect::<Result<Vec<_>>>()?;
                let first = all.first().copied().unwrap_or(Dtype::F32);
                Ok(if all.iter().all(|dtype| *dtype == first) { first } else { Dtype::F32 })
            }
            WeightExpr::Sum(two) => two.iter().try_fold(Dtype::F32, |f32, part| self.dtype(part).map(|_| f32)),
        }
    }

    /// Refuses a file whose tensors do not make `rows` rows of `row` elements.
    ///
    /// # Errors
    /// Bad file: a tensor is missing, or has another size than the architecture says.
    pub fn check(&self, expr: &WeightExpr, rows: usize, row: usize) -> Result<()> {
        for (name, shape) in expr.shapes(rows, &[row]) {
            let (have, want) = (self.info(name)?.len(), shape.iter().product::<usize>());
            if have != want {
                let message = format!("{}: {have} values where {want} are expected", escape(name));
                return Err(Error::new(Kind::BadFile, message));
            }
        }
        Ok(())
    }

    /// Appends rows of an expression whose rows have `row` elements each, as `dtype`:
    /// that of [`Reader::dtype`], or f32.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn append(
        &mut self,
        expr: &WeightExpr,
        rows: Range<usize>,
        row: usize,
        dtype: Dtype,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match expr {
            WeightExpr::One(name) => self.leaf(name, rows, dtype, out),
            WeightExpr::Slice { name, first, .. } => self.leaf(name, rows.start + first..rows.end + first, dtype, out),
            WeightExpr::Transposed(name) => self.columns(name, rows, row, dtype, out),
            WeightExpr::Rows(parts) => {
                let mut first = 0;
                for (part, count) in parts {
                    let own = first..first + count;
                    first = own.end;
                    let (from, to) = (rows.start.max(own.start), rows.end.min(own.end));
                    if from < to {
                        self.append(part, from - own.start..to - own.start, row, dtype, out)?;
                    }
                }
                Ok(())
            }
            WeightExpr::Sum(two) => {
                let [a, b] = &**two;
                let (a, b) = (self.rows(a, rows.clone(), row)?, self.rows(b, rows, row)?);
                out.extend(a.iter().zip(&b).flat_map(|(a, b)| (a + b).to_le_bytes()));
                Ok(())
            }
        }
    }

    /// Rows of an expression as f32.
    ///
    /// # Errors
    /// As [`Reader::append`].
    pub fn rows(&mut self, expr: &WeightExpr, rows: Range<usize>, row: usize) -> Result<Vec<f32>> {
        let dtype = self.dtype(expr)?;
        let (mut raw, mut values) = (Vec::new(), Vec::new());
        self.append(expr, rows, row, dtype, &mut raw)?;
        decode_f32(dtype, &raw, &mut values);
        Ok(values)
    }

    fn info(&self, name: &str) -> Result<&'a TensorInfo> {
        let missing = || Error::new(Kind::BadFile, format!("{}: tensor {} is missing", self.model, escape(name)));
        self.source.info(name).ok_or_else(missing)
    }

    fn leaf(&mut self, name: &str, rows: Range<usize>, dtype: Dtype, out: &mut Vec<u8>) -> Result<()> {
        let own = self.info(name)?.dtype;
        if own == dtype && out.is_empty() {
            return self.source.read_rows(name, rows.start, rows.len(), out);
        }
        self.source.read_rows(name, rows.start, rows.len(), &mut self.part)?;
        if own == dtype {
            out.extend_from_slice(&self.part);
        } else {
            decode_f32(own, &self.part, &mut self.values);
            out.extend(self.values.iter().flat_map(|v| v.to_le_bytes()));
        }
        Ok(())
    }

    /// Some columns of a tensor of `row` rows, each as a row.
    fn columns(&mut self, name: &str, rows: Range<usize>, row: usize, dtype: Dtype, out: &mut Vec<u8>) -> Result<()> {
        let mut whole = Vec::new();
        self.leaf(name, 0..row, dtype, &mut whole)?;
        let size = dtype.bytes();
        let width = whole.len() / size / row.max(1);
        if rows.end > width {
            return Err(Error::other(format!("{}: column {} of {width}", escape(name), rows.end)));
        }
        out.reserve(rows.len() * row * size);
        for column in rows {
            for k in 0..row {
                out.extend_from_slice(&whole[(k * width + column) * size..][..size]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{SourceId, encode};
    use std::collections::BTreeMap;

    /// Tensors by name: a type, a shape and values.
    struct Few {
        id: SourceId,
        tensors: BTreeMap<&'static str, (TensorInfo, Vec<f32>)>,
    }

    impl Few {
        fn new(tensors: &[(&'static str, Dtype, &[usize], &[f32])]) -> Self {
            let tensor = |(name, dtype, shape, values): &(&'static str, Dtype, &[usize], &[f32])| {
                (*name, (TensorInfo { dtype: *dtype, shape: shape.to_vec() }, values.to_vec()))
            };
            Self { id: SourceId::new(), tensors: tensors.iter().map(tensor).collect() }
        }
    }

    impl WeightSource for Few {
        fn id(&self, _: &str) -> SourceId {
            self.id
        }

        fn names(&self) -> Vec<&str> {
            self.tensors.keys().copied().collect()
        }

        fn info(&self, name: &str) -> Option<&TensorInfo> {
            self.tensors.get(name).map(|t| &t.0)
        }

        fn read(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
            self.read_rows(name, 0, self.tensors[name].0.shape[0], out)
        }

        fn read_rows(&self, name: &str, first: usize, count: usize, out: &mut Vec<u8>) -> Result<()> {
            let (info, values) = &self.tensors[name];
            let row = info.len() / info.shape[0];
            encode(info.dtype, &values[first * row..(first + count) * row], out);
            Ok(())
        }
    }

    fn few() -> Few {
        Few::new(&[
            ("a", Dtype::F16, &[2, 3], &[1., 2., 3., 4., 5., 6.]),
            ("b", Dtype::F16, &[3, 2], &[10., 20., 30., 40., 50., 60.]),
            ("c", Dtype::Bf16, &[1, 3], &[7., 8., 9.]),
            ("p", Dtype::F16, &[2], &[0.5, 1.5]),
            ("q", Dtype::F32, &[2], &[100_000., 1.]),
        ])
    }

    fn one(name: &str) -> WeightExpr {
        WeightExpr::one(name)
    }

    #[test]
    fn every_expression_gives_its_rows_whole_and_in_parts() {
        let source = few();
        let mut reader = Reader::new(&source, "few");
        let slice = WeightExpr::Slice { name: "a".into(), first: 1, of: 2 };
        let turned = WeightExpr::Transposed("b".into());
        let alike = WeightExpr::Rows(vec![(slice.clone(), 1), (turned.clone(), 2), (one("a"), 2)]);
        let mixed = WeightExpr::Rows(vec![(one("a"), 2), (one("c"), 1)]);
        let sum = WeightExpr::sum(one("p"), one("q"));
        let cases: [(WeightExpr, usize, usize, Dtype, &[f32]); 6] = [
            (one("a"), 2, 3, Dtype::F16, &[1., 2., 3., 4., 5., 6.]),
            (slice, 1, 3, Dtype::F16, &[4., 5., 6.]),
            (turned, 2, 3, Dtype::F16, &[10., 30., 50., 20., 40., 60.]),
            (alike, 5, 3, Dtype::F16, &[4., 5., 6., 10., 30., 50., 20., 40., 60., 1., 2., 3., 4., 5., 6.]),
            (mixed, 3, 3, Dtype::F32, &[1., 2., 3., 4., 5., 6., 7., 8., 9.]),
            (sum, 2, 1, Dtype::F32, &[100_000.5, 2.5]),
        ];
        for (expr, rows, row, dtype, want) in cases {
            reader.check(&expr, rows, row).unwrap();
            assert_eq!(reader.dtype(&expr).unwrap(), dtype, "{expr:?}");
            assert_eq!(reader.rows(&expr, 0..rows, row).unwrap(), want, "{expr:?}");
            for from in 0..rows {
                for to in from + 1..=rows {
                    let part = reader.rows(&expr, from..to, row).unwrap();
                    assert_eq!(part, want[from * row..to * row], "{expr:?}: {from}..{to}");
                    // As f32 behind what is there already.
                    let mut raw = vec![0; 4];
                    reader.append(&expr, from..to, row, Dtype::F32, &mut raw).unwrap();
                    let values: Vec<f32> = bytemuck::pod_collect_to_vec(&raw[4..]);
                    assert_eq!(values, part, "{expr:?}: {from}..{to}");
                }
            }
        }
    }

    #[test]
    fn tensors_of_another_size_and_missing_ones_are_named() {
        let source = few();
        let reader = Reader::new(&source, "few");
        let error = reader.check(&one("a"), 3, 3).unwrap_err();
        assert!(*error.kind() == Kind::BadFile && error.to_string().contains("a: 6 values where 9"), "{error}");
        let error = reader.check(&WeightExpr::Rows(vec![(one("a"), 1), (one("b"), 3)]), 4, 3).unwrap_err();
        assert!(error.to_string().contains("a: 6 values where 3"), "{error}");
        let error = reader.check(&WeightExpr::sum(one("p"), one("x")), 2, 1).unwrap_err();
        assert!(error.to_string().contains("few: tensor x is missing"), "{error}");
        let turned = WeightExpr::Transposed("b".into());
        assert_eq!(turned.shapes(2, &[3]), [("b", vec![3, 2])]);
    }

    #[test]
    fn equal_names_of_other_files_have_other_origins() {
        let (a, b) = (few(), few());
        let expr = WeightExpr::sum(one("p"), one("q"));
        assert_eq!(expr.origin(&a), expr.origin(&a));
        assert_ne!(expr.origin(&a), expr.origin(&b));
    }
}
