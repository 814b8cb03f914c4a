//! The CPU's kernels: SIMD code generic over the instruction set, parallel through [`Workers`].

pub mod activate;
pub mod add;
pub mod attention;
mod border;
pub mod concat;
pub mod conv2d;
pub mod geglu;
mod gemm;
pub mod group_affine;
pub mod group_norm;
pub mod layer_norm;
pub mod matmul;
pub mod panels;
pub mod pixel_shuffle;
pub mod prelu;
mod tile;
pub mod timestep_embedding;
pub mod upsample;
mod winograd;

use super::{Dims, Op};
use crate::error::Result;
use crate::simd::Isa;
use crate::tensor::Shape;
use crate::workers::{RowsMut, Workers};
use panels::Packed;

/// An operand: row r (of `shape.rows()`) begins at `r * pitch`; its channels follow, then padding.
///
/// `data` begins at the operand's first channel, so a column view is only a different start and `shape.c`.
#[derive(Clone, Copy)]
pub struct In<'a> {
    /// Elements.
    pub data: &'a [f32],
    /// Logical shape.
    pub shape: Shape,
    /// Elements from one row to the next.
    pub pitch: usize,
}

/// An output, laid out like an operand. Kernels leave its padding as it is (zero).
pub struct Out<'a> {
    /// Elements.
    pub data: &'a mut [f32],
    /// Logical shape.
    pub shape: Shape,
    /// Elements from one row to the next.
    pub pitch: usize,
}

impl Out<'_> {
    /// Its rows, to be shared out among tasks.
    pub fn rows(&mut self) -> RowsMut<'_, f32> {
        RowsMut::new(self.data, self.shape.rows(), self.shape.c, self.pitch)
    }
}

/// Everything one kernel call reads and writes.
pub struct Io<'a> {
    /// Operands, in the op's order.
    pub x: &'a [In<'a>],
    /// Packed weights, in the op's order.
    pub w: &'a [&'a Packed],
    /// The output.
    pub y: Out<'a>,
    /// The second output, for ops that have one.
    pub statistics: Option<Out<'a>>,
    /// The operand whose place the output takes, if there is one: its `data` is empty,
    /// because its values are what `y` holds.
    pub in_place: Option<InPlace>,
    /// Shared scratch of the declared size; its content is undefined.
    pub scratch: &'a mut [f32],
}

/// How an output takes the place of an operand, which is gone afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// Operand n is laid out as the output is. Each of its values is read before the output's at the same place is
    /// written, by the same task, and never again.
    Element(usize),
    /// Operand n has the output's rows, as wide as them or wider, and `y` holds all of it: row r of the output goes to
    /// where row r of the operand or an earlier one was. Rows of the output have no padding.
    Rows(usize),
}

impl InPlace {
    /// Which operand.
    pub fn operand(self) -> usize {
        match self {
            Self::Element(n) | Self::Rows(n) => n,
        }
    }

    /// Whether shapes allow it.
    fn fits(self, x: &[Shape], y: Shape) -> bool {
        match self {
            Self::Element(n) => x.get(n) == Some(&y),
            Self::Rows(n) => x.get(n).is_some_and(|x| x.c >= y.c && x.with_c(y.c) == y) && y.c.is_multiple_of(4),
        }
    }
}

/// Scratch that a kernel needs while it runs, in f32 elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scratch {
    /// One buffer for the call.
    pub shared: usize,
    /// One buffer for each worker.
    pub per_worker: usize,
}

/// One algorithm for one op. The instruction set is a second axis.
pub struct Variant<K> {
    /// A technique: `naive`, `panels`, `flash`.
    pub name: &'static str,
    /// Whether it can run these shapes.
    pub supports: fn(&K, &[Shape], &[Dims]) -> bool,
    /// What it needs while running.
    pub scratch: fn(&K, &[Shape], &[Dims]) -> Scratch,
    /// Whose place its output may take where shapes allow it.
    pub in_place: fn(&K, &[Shape], &[Dims]) -> Option<InPlace>,
    /// Runs it.
    pub run: fn(&K, Isa, &mut Io<'_>, &Workers),
}

impl<K> Variant<K> {
    /// A variant that runs any shapes, needs no scratch and whose output has a place of its own.
    const fn plain(name: &'static str, run: fn(&K, Isa, &mut Io<'_>, &Workers)) -> Self {
        Self { name, supports: |_, _, _| true, scratch: |_, _, _| Scratch::default(), in_place: |_, _, _| None, run }
    }

    /// As the chooser sees it, for an output `y` where the shapes fit.
    fn info(&self, op: &K, x: &[Shape], w: &[Dims], y: Option<Shape>) -> VariantInfo {
        let supported = (self.supports)(op, x, w);
        let scratch = if supported { (self.scratch)(op, x, w) } else { Scratch::default() };
        let in_place = (self.in_place)(op, x, w).filter(|p| supported && y.is_some_and(|y| p.fits(x, y)));
        VariantInfo { name: self.name, supported, scratch, in_place }
    }
}

/// A variant as the chooser sees it.
#[derive(Clone, Copy, Debug)]
pub struct VariantInfo {
    /// Its name.
    pub name: &'static str,
    /// Whether it can run the shapes that were asked about.
    pub supported: bool,
    /// What it needs while running.
    pub scratch: Scratch,
    /// Whose place its output may take.
    pub in_place: Option<InPlace>,
}

names_of_variants!();

/// The variants of an op, slowest first.
pub fn variants(op: &Op, x: &[Shape], w: &[Dims]) -> Vec<VariantInfo> {
    let y = op.output(x, w).ok().and_then(|y| y.first().copied());
    by_op!(op, k, list => list.iter().map(|v| v.info(k, x, w, y)).collect())
}

/// One of them.
fn variant(op: &Op, variant: usize, x: &[Shape], w: &[Dims], y: Shape) -> Option<VariantInfo> {
    by_op!(op, k, list => list.get(variant).map(|v| v.info(k, x, w, Some(y))))
}

/// Runs one variant of an op, after seeing that everything it will read and write is there: kernels do not look again.
///
/// # Errors
/// There is no such variant, or it does not support these shapes; an operand, a weight, an output or scratch is
/// missing, has another shape than the op says, or is shorter than its shape.
pub fn run(op: &Op, variant: usize, isa: Isa, io: &mut Io<'_>, workers: &Workers) -> Result<()> {
    border::check(op, variant, io, workers).map_err(|e| e.at(op.name()))?;
    by_op!(op, k, list => (list[variant].run)(k, isa, io, workers));
    Ok(())
}
