//! What an adapter adds to one tensor: its factors, as a file holds them, go in; rows of the delta come out.
//!
//! Everything is checked against the tensor when a [`Delta`] is made, from shapes alone; the factors are read when the
//! tensor is. W is `[out, inner]` with `taps` elements each (9 of a 3x3 kernel, in torch's order); all factors are
//! looked at as matrices, whatever their trailing dimensions.

use super::product::product;
use crate::error::{Error, Kind, Result, escape};
use crate::weights::decode_f32;
use crate::weights::table::Located;
use std::ops::Range;

/// Ranks beyond this are nobody's.
pub const MAX_RANK: usize = 1 << 13;
/// Elements of what factors are multiplied out to, beside the delta itself.
const MAX_CORE: usize = 1 << 28;

/// The tensor that is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaTarget {
    /// Rows.
    pub out: usize,
    /// Inputs of a row; 1 for vectors.
    pub inner: usize,
    /// Elements of an input: those of a kernel.
    pub taps: usize,
    /// Whether a delta for fewer inputs is one for the first of them: the first convolution of inpainting models.
    pub widened: bool,
}

impl DeltaTarget {
    /// Of a tensor's shape.
    pub fn new(shape: &[usize], widened: bool) -> Self {
        let dim = |n: usize| shape.get(n).copied().unwrap_or(1);
        Self { out: dim(0), inner: dim(1), taps: shape.iter().skip(2).product(), widened }
    }

    fn columns(&self) -> usize {
        self.inner * self.taps
    }

    /// Elements of a row of a delta that has so many; fewer than the tensor's where it was widened.
    fn takes(&self, columns: usize) -> Result<usize, String> {
        let fewer = self.widened && columns < self.columns() && columns > 0 && columns.is_multiple_of(self.taps.max(1));
        match columns == self.columns() || fewer {
            true => Ok(columns),
            false => Err(format!("is {columns} wide where the weight is {}", self.columns())),
        }
    }

    fn has_rows(&self, rows: usize) -> Result<(), String> {
        if rows == self.out { Ok(()) } else { Err(format!("has {rows} rows where the weight has {}", self.out)) }
    }
}

/// A tensor of an adapter's file, as a matrix.
#[derive(Clone)]
pub struct Factor {
    /// Its name there.
    pub name: String,
    /// Where its elements are.
    pub tensor: Located,
}

impl Factor {
    fn rows(&self) -> usize {
        self.tensor.info.shape.first().copied().unwrap_or(1)
    }

    fn columns(&self) -> usize {
        self.tensor.info.shape.iter().skip(1).product()
    }

    fn len(&self) -> usize {
        self.tensor.info.len()
    }

    /// The elements.
    fn values(&self) -> Result<Vec<f32>> {
        let (mut raw, mut values) = (Vec::new(), Vec::new());
        self.tensor.read(&mut raw).map_err(|e| e.at(escape(&self.name)))?;
        decode_f32(self.tensor.info.dtype, &raw, &mut values);
        if values.iter().any(|v| !v.is_finite()) {
            let message = format!("{} holds values that are not finite; the adapter is damaged", escape(&self.name));
            return Err(Error::new(Kind::BadFile, message));
        }
        Ok(values)
    }
}

/// `left core right`: `[out, r] [r, q, taps] [q, inner]`, without a core `[out, r] [r, inner taps]`.
#[derive(Clone)]
pub struct LowRank {
    /// Rows of the delta.
    pub left: Factor,
    /// Whether `left` is stored as `[r, out]`.
    pub turned: bool,
    /// The kernels' own factor (Tucker, CP).
    pub core: Option<Factor>,
    /// Columns of the delta.
    pub right: Factor,
}

impl LowRank {
    fn rows(&self) -> usize {
        if self.turned { self.left.columns() } else { self.left.rows() }
    }

    /// The rank: that of the right side.
    fn rank(&self) -> usize {
        self.core.as_ref().map_or(self.right.rows(), Factor::rows)
    }

    /// Elements of a row.
    fn columns(&self) -> Result<usize, String> {
        let left = if self.turned { self.left.rows() } else { self.left.columns() };
        let rank = self.rank();
        if rank > MAX_RANK {
            return Err(format!("has rank {rank}; at most {MAX_RANK} are read"));
        }
        if left != rank {
            return Err(format!("has factors of rank {left} and {rank}"));
        }
        let Some(core) = &self.core else { return Ok(self.right.columns()) };
        let inner = core.tensor.info.shape.get(1).copied().unwrap_or(1);
        if inner != self.right.rows() || inner == 0 {
            return Err(format!("has factors of rank {inner} and {}", self.right.rows()));
        }
        let columns = (core.columns() / inner).saturating_mul(self.right.columns());
        if rank.checked_mul(columns).is_none_or(|n| n > MAX_CORE) {
            return Err(format!("has a core of {rank} by {columns}, more than is read"));
        }
        Ok(columns)
    }

    /// Elements of both matrices must have a tensor of this size behind them.
    fn check(&self, target: DeltaTarget) -> Result<usize, String> {
        target.has_rows(self.rows())?;
        target.takes(self.columns()?)
    }

    fn ready(&self) -> Result<Matrices> {
        let (rank, rows) = (self.rank(), self.rows());
        let mut left = self.left.values()?;
        if self.turned {
            left = transposed(&left, rank, rows);
        }
        let mut right = self.right.values()?;
        if let Some(core) = &self.core {
            let (q, width) = (self.right.rows(), self.right.columns());
            let taps = core.columns() / q.max(1);
            // right[m][i][t] = sum over n of core[m][n][t] right[n][i], as one product a tap.
            let core = core.values()?;
            let mut out = vec![0.0; rank * width * taps];
            let (mut of_tap, mut part) = (vec![0.0; rank * q], vec![0.0; rank * width]);
            for t in 0..taps {
                of_tap.iter_mut().enumerate().for_each(|(n, to)| *to = core[n * taps + t]);
                product(&of_tap, &right, q, width, &mut part);
                part.iter().enumerate().for_each(|(n, v)| out[n * taps + t] = *v);
            }
            right = out;
        }
        let columns = right.len() / rank.max(1);
        Ok(Matrices { left, right, rank, columns })
    }
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

/// One side of a Kronecker product.
#[derive(Clone)]
pub enum Side {
    /// As it is.
    Whole(Factor),
    /// In factors.
    Factored(Box<LowRank>),
}

impl Side {
    fn size(&self) -> Result<(usize, usize), String> {
        match self {
            Self::Whole(f) => Ok((f.rows(), f.columns())),
            Self::Factored(f) => Ok((f.rows(), f.columns()?)),
        }
    }

    fn ready(&self) -> Result<Vec<f32>> {
        match self {
            Self::Whole(f) => f.values(),
            Self::Factored(f) => {
                let m = f.ready()?;
                let mut out = vec![0.0; f.rows() * m.columns];
                product(&m.left, &m.right, m.rank, m.columns, &mut out);
                Ok(out)
            }
        }
    }
}

/// How a delta is made of its factors.
#[derive(Clone)]
pub enum DeltaForm {
    /// LoRA, LoCon.
    Product(Box<LowRank>),
    /// LoHa: elementwise.
    Hadamard(Box<[LowRank; 2]>),
    /// LoKr: `[a, c]` and `[b, d, taps]`, of which `a b` are the rows and `c d` the inputs.
    Kronecker(Box<[Side; 2]>),
    /// GLoRA: `left right + W first second`.
    Glora {
        /// What is added, whatever W is.
        add: Box<LowRank>,
        /// `[inner, r]`.
        first: Box<Factor>,
        /// `[r, inner]`.
        second: Box<Factor>,
    },
    /// (IA)3: W times a number for each row, or for each input.
    Scaled {
        /// The numbers.
        by: Factor,
        /// Whether there is one an input.
        inputs: bool,
    },
    /// The delta itself.
    Full(Factor),
}

/// The magnitudes of a weight-decomposed (DoRA) delta.
#[derive(Clone)]
struct Magnitude {
    factor: Factor,
    /// Whether there is one an input, and not one a row.
    inputs: bool,
}

/// What an adapter adds to one tensor.
#[derive(Clone)]
pub struct Delta {
    form: DeltaForm,
    scale: f64,
    magnitude: Option<Magnitude>,
    target: DeltaTarget,
    /// Elements of its rows.
    columns: usize,
}

/// A low-rank product whose factors have been read.
struct Matrices {
    left: Vec<f32>,
    right: Vec<f32>,
    rank: usize,
    columns: usize,
}

impl Matrices {
    fn rows(&self, rows: &Range<usize>, out: &mut [f32]) {
        product(&self.left[rows.start * self.rank..rows.end * self.rank], &self.right, self.rank, self.columns, out);
    }
}

/// A delta whose factors have been read.
pub struct ReadyDelta {
    form: ReadyForm,
    magnitude: Vec<f32>,
}

enum ReadyForm {
    Product(Matrices),
    Hadamard(Box<[Matrices; 2]>),
    Kronecker { left: Vec<f32>, right: Vec<f32>, size: (usize, usize) },
    Glora { add: Matrices, first: Vec<f32>, second: Vec<f32>, rank: usize },
    Values(Vec<f32>),
}

impl Delta {
    /// A delta for a tensor; `scale` is alpha / rank, `magnitude` makes it a DoRA.
    ///
    /// # Errors
    /// A sentence's end: what does not fit, such as `has 4 rows where the weight has 8`.
    pub fn new(form: DeltaForm, scale: f64, magnitude: Option<Factor>, target: DeltaTarget) -> Result<Self, String> {
        if !scale.is_finite() {
            return Err("has a scale that is not finite".into());
        }
        let columns = form.check(target)?;
        let magnitude = magnitude.map(|factor| {
            let shape = &factor.tensor.info.shape;
            // `[out, 1, ...]` or `[out]`; `[1, in, ...]`.
            let inputs = shape.len() > 1 && shape[0] != target.out;
            let want = if inputs { columns / target.taps.max(1) } else { target.out };
            if factor.len() != want || inputs && columns != target.columns() {
                return Err(format!("has magnitudes of shape {shape:?} for {} by {}", target.out, target.inner));
            }
            Ok(Magnitude { factor, inputs })
        });
        Ok(Self { form, scale, magnitude: magnitude.transpose()?, target, columns })
    }

    /// Whether it can only be computed with norms over all rows of the tensor.
    pub(super) fn needs_columns(&self) -> bool {
        self.magnitude.as_ref().is_some_and(|m| m.inputs)
    }

    /// Reads the factors.
    ///
    /// # Errors
    /// Bad file: they cannot be read, or are not finite.
    pub(super) fn ready(&self) -> Result<ReadyDelta> {
        let form = match &self.form {
            DeltaForm::Product(p) => ReadyForm::Product(p.ready()?),
            DeltaForm::Hadamard(two) => ReadyForm::Hadamard(Box::new([two[0].ready()?, two[1].ready()?])),
            DeltaForm::Kronecker(sides) => {
                let [left, right] = &**sides;
                let size = |side: &Side| side.size().map(|s| s.1).map_err(Error::other);
                let size = (size(left)?, size(right)?);
                ReadyForm::Kronecker { left: left.ready()?, right: right.ready()?, size }
            }
            DeltaForm::Glora { add, first, second } => {
                let rank = second.rows();
                ReadyForm::Glora { add: add.ready()?, first: first.values()?, second: second.values()?, rank }
            }
            DeltaForm::Scaled { by: values, .. } | DeltaForm::Full(values) => ReadyForm::Values(values.values()?),
        };
        let magnitude = self.magnitude.as_ref().map_or_else(|| Ok(Vec::new()), |m| m.factor.values())?;
        Ok(ReadyDelta { form, magnitude })
    }

    /// Adds it to rows of the tensor, or, as a DoRA, goes `strength` of the way to the weight that it makes of them.
    /// `norms` are those of the columns where it [needs](Delta::needs_columns) them.
    pub(super) fn apply(&self, ready: &ReadyDelta, rows: Range<usize>, strength: f32, norms: &[f32], w: &mut [f32]) {
        let width = self.target.columns();
        let delta = self.rows(ready, &rows, w);
        let Some(magnitude) = &self.magnitude else {
            let by = (f64::from(strength) * self.scale) as f32;
            for (w, d) in w.chunks_exact_mut(width).zip(delta.chunks_exact(self.columns)) {
                w.iter_mut().zip(d).for_each(|(w, d)| *w += by * d);
            }
            return;
        };
        let scale = self.scale as f32;
        // A weight of nothing but zeros has no direction.
        let factor = |magnitude: f32, norm: f32| if norm > 0.0 { magnitude / norm } else { 0.0 };
        for ((row, w), d) in rows.zip(w.chunks_exact_mut(width)).zip(delta.chunks_exact(self.columns)) {
            let mut v = w.to_vec();
            v.iter_mut().zip(d).for_each(|(v, d)| *v += scale * d);
            if magnitude.inputs {
                for (i, (w, v)) in w.iter_mut().zip(&v).enumerate() {
                    let input = i / self.target.taps;
                    *w += strength * (v * factor(ready.magnitude[input], norms[input]) - *w);
                }
            } else {
                let norm = v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
                let by = factor(ready.magnitude[row], norm);
                w.iter_mut().zip(&v).for_each(|(w, v)| *w += strength * (v * by - *w));
            }
        }
    }

    /// A zero for each input of the tensor.
    pub(super) fn squares(&self) -> Vec<f64> {
        vec![0.0; self.target.inner]
    }

    /// Adds the squares of what it makes of some rows, for each input.
    pub(super) fn add_squares(&self, ready: &ReadyDelta, rows: Range<usize>, w: &[f32], squares: &mut [f64]) {
        let (scale, delta) = (self.scale as f32, self.rows(ready, &rows, w));
        for (w, d) in w.chunks_exact(self.target.columns()).zip(delta.chunks_exact(self.columns)) {
            for (i, (w, d)) in w.iter().zip(d).enumerate() {
                squares[i / self.target.taps] += f64::from(w + scale * d).powi(2);
            }
        }
    }

    /// Rows of the delta, not scaled; `w` are the same rows of the tensor as it is now.
    fn rows(&self, ready: &ReadyDelta, rows: &Range<usize>, w: &[f32]) -> Vec<f32> {
        let (columns, taps) = (self.columns, self.target.taps);
        let mut out = vec![0.0; rows.len() * columns];
        match &ready.form {
            ReadyForm::Product(m) => m.rows(rows, &mut out),
            ReadyForm::Hadamard(two) => {
                let mut other = vec![0.0; out.len()];
                two[0].rows(rows, &mut out);
                two[1].rows(rows, &mut other);
                out.iter_mut().zip(&other).for_each(|(a, b)| *a *= b);
            }
            ReadyForm::Kronecker { left, right, size: (c, d) } => {
                let below = right.len() / (*d).max(1);
                for (row, out) in rows.clone().zip(out.chunks_exact_mut(columns)) {
                    let (left, right) = (&left[row / below * c..][..*c], &right[row % below * d..][..*d]);
                    for (out, by) in out.chunks_exact_mut(*d).zip(left) {
                        out.iter_mut().zip(right).for_each(|(out, v)| *out = by * v);
                    }
                }
            }
            ReadyForm::Glora { add, first, second, rank } => {
                add.rows(rows, &mut out);
                let mut inner = vec![0.0; rows.len() * rank];
                product(w, first, self.target.columns(), *rank, &mut inner);
                let mut more = vec![0.0; out.len()];
                product(&inner, second, *rank, columns, &mut more);
                out.iter_mut().zip(&more).for_each(|(a, b)| *a += b);
            }
            ReadyForm::Values(values) => match &self.form {
                DeltaForm::Scaled { inputs, .. } => {
                    for ((row, out), w) in rows.clone().zip(out.chunks_exact_mut(columns)).zip(w.chunks_exact(columns))
                    {
                        let by = |i: usize| if *inputs { values[i / taps] } else { values[row] };
                        out.iter_mut().zip(w).enumerate().for_each(|(i, (out, w))| *out = w * by(i));
                    }
                }
                _ => out.copy_from_slice(&values[rows.start * columns..rows.end * columns]),
            },
        }
        out
    }
}

impl DeltaForm {
    /// Elements of a row of the delta.
    fn check(&self, target: DeltaTarget) -> Result<usize, String> {
        match self {
            Self::Product(p) => p.check(target),
            Self::Hadamard(two) => {
                let (a, b) = (two[0].check(target)?, two[1].check(target)?);
                if a == b { Ok(a) } else { Err(format!("has halves that are {a} and {b} wide")) }
            }
            Self::Kronecker(sides) => {
                let ((a, c), (b, d)) = (sides[0].size()?, sides[1].size()?);
                target.has_rows(a.saturating_mul(b))?;
                let columns = c.saturating_mul(d);
                // Inputs are numbered through both factors: a part of them is no delta for a wider weight.
                DeltaTarget { widened: false, ..target }.takes(columns)
            }
            Self::Glora { add, first, second } => {
                let columns = DeltaTarget { widened: false, ..target }.takes(add.check(target)?)?;
                let sizes = [first.rows(), first.columns(), second.rows(), second.columns()];
                let rank = second.rows();
                if target.taps != 1 || rank > MAX_RANK || sizes != [columns, rank, rank, columns] {
                    let (a, b) = (&first.tensor.info.shape, &second.tensor.info.shape);
                    return Err(format!("has factors {a:?} and {b:?} for {} inputs of {}", target.inner, target.taps));
                }
                Ok(columns)
            }
            Self::Scaled { by, inputs } => {
                let want = if *inputs { target.inner } else { target.out };
                match by.len() == want {
                    true => Ok(target.columns()),
                    false => Err(format!("has {} numbers where the weight takes {want}", by.len())),
                }
            }
            Self::Full(values) => {
                target.has_rows(values.rows())?;
                target.takes(values.columns())
            }
        }
    }

    /// The rank that alpha is divided by: that of the right side; none where alpha means nothing.
    pub fn rank(&self) -> Option<usize> {
        let rank = |side: &Side| if let Side::Factored(f) = side { Some(f.right.rows()) } else { None };
        match self {
            // `lora_down` is `[r, ...]`, also beside a core.
            Self::Product(p) => Some(p.right.rows()),
            Self::Hadamard(two) => Some(two[0].right.rows()),
            Self::Kronecker(sides) => rank(&sides[1]).or(rank(&sides[0])),
            // `a2`, or in the old layout `a1`.
            Self::Glora { second, .. } => Some(second.rows()),
            Self::Scaled { .. } | Self::Full(_) => None,
        }
    }
}
