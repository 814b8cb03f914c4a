//! A case in memory: from values to guarded buffers that show what a kernel reads or writes and should not.

use crate::error::{Error, Result};
use crate::kernels::cpu::panels::Packed;
use crate::kernels::cpu::{self, In, InPlace, Io, Out, VariantInfo};
#[cfg(feature = "gpu")]
use crate::kernels::gpu::View;
use crate::kernels::{Dims, Op};
use crate::simd::Isa;
use crate::tensor::Shape;
use crate::workers::Workers;

/// What padding and guards of outputs hold; no kernel computes it by chance. It is an
/// f16 number: devices store those too.
const SENTINEL: f32 = -1543.0 / 512.0;
/// Elements around each buffer that must stay as they were.
const GUARD: usize = 64;

/// How operands lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A tensor of its own: pitch is c rounded up to 4, padding is zero.
    Own,
    /// Columns of a wider tensor, whose other columns are NaN: using one of them shows.
    View,
}

/// A tensor in the middle of a guarded allocation.
#[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "guards and offsets are told to GPUs"))]
pub(super) struct Buffer {
    data: Vec<f32>,
    /// Of the first channel of the first row.
    start: usize,
    shape: Shape,
    pitch: usize,
    /// Elements before the first row and after the last.
    guard: usize,
    /// First channel of a view.
    offset: usize,
    /// Whether padding must be zero, instead of what it was.
    padded: bool,
    /// Elements after its rows that the operand had whose place it takes.
    rest: usize,
}

impl Buffer {
    fn new(shape: Shape, layout: Layout, fill: f32, guard: usize) -> Self {
        let own = shape.c.next_multiple_of(4);
        let (pitch, offset) = match layout {
            Layout::Own => (own, 0),
            Layout::View => (own + 12, 4),
        };
        let data = vec![fill; 2 * guard + shape.rows() * pitch];
        Self { data, start: guard + offset, shape, pitch, guard, offset, padded: false, rest: 0 }
    }

    pub(super) fn operand(shape: Shape, values: &[f32], layout: Layout, guard: usize) -> Self {
        let mut b = Self::new(shape, layout, f32::NAN, guard);
        for (row, from) in values.chunks_exact(shape.c).enumerate() {
            let to = &mut b.data[b.start + row * b.pitch..][..b.pitch];
            if layout == Layout::Own {
                to.fill(0.0);
            }
            to[..shape.c].copy_from_slice(from);
        }
        b
    }

    pub(super) fn output(shape: Shape, layout: Layout, guard: usize) -> Self {
        let mut b = Self::new(shape, layout, SENTINEL, guard);
        b.forget();
        b
    }

    /// An output with narrower rows that takes the place of an operand, unless that is a view.
    fn over(operand: &Self, shape: Shape) -> Option<Self> {
        let room = Self::new(operand.shape, Layout::Own, SENTINEL, operand.guard);
        let rest = operand.shape.rows() * room.pitch - shape.len();
        (operand.pitch == room.pitch).then_some(Self { shape, pitch: shape.c, rest, ..room })
    }

    /// An output as a GPU has it: its kernels write zeros into the padding.
    #[cfg(feature = "gpu")]
    pub(super) fn padded_output(shape: Shape, guard: usize) -> Self {
        Self { padded: true, ..Self::output(shape, Layout::Own, guard) }
    }

    /// How a launch sees it.
    #[cfg(feature = "gpu")]
    pub(super) fn view(&self) -> View {
        View { shape: self.shape, pitch: self.pitch, offset: self.offset }
    }

    /// All rows without the guards.
    #[cfg(feature = "gpu")]
    pub(super) fn rows(&self) -> Vec<f32> {
        self.data[self.guard..self.data.len() - self.guard].to_vec()
    }

    /// Everything, guards included.
    #[cfg(feature = "gpu")]
    pub(super) fn all(&self) -> &[f32] {
        &self.data
    }

    /// Other content, from a device.
    #[cfg(feature = "gpu")]
    pub(super) fn replace(&mut self, data: Vec<f32>) {
        self.data = data;
    }

    /// Every element NaN.
    fn forget(&mut self) {
        for row in 0..self.shape.rows() {
            self.data[self.start + row * self.pitch..][..self.shape.c].fill(f32::NAN);
        }
    }

    /// The rows of another buffer, where they would be if this were that.
    fn take(&mut self, from: &Self) {
        for row in 0..from.shape.rows() {
            let values = &from.data[from.start + row * from.pitch..][..from.shape.c];
            self.data[self.start + row * from.pitch..][..from.shape.c].copy_from_slice(values);
        }
    }

    /// Elements from the first to the last, as a kernel gets them.
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + (self.shape.rows() - 1) * self.pitch + self.shape.c + self.rest
    }

    /// Element i of the dense tensor.
    pub(super) fn get(&self, i: usize) -> f32 {
        self.data[self.start + i / self.shape.c * self.pitch + i % self.shape.c]
    }

    /// What is wrong with an output beside its error.
    pub(super) fn problem(&self) -> Option<String> {
        let end = self.start + self.shape.rows() * self.pitch;
        for (i, v) in self.data.iter().enumerate() {
            let inside = (self.start..end).contains(&i);
            let (row, c) = (i.wrapping_sub(self.start) / self.pitch, i.wrapping_sub(self.start) % self.pitch);
            if inside && c < self.shape.c {
                if v.is_nan() {
                    return Some(format!("row {row}, channel {c} is NaN or was not written"));
                }
            } else if inside && self.padded {
                if *v != 0.0 {
                    return Some(format!("padding of row {row} is {v} instead of 0"));
                }
            } else if (end..end + self.rest).contains(&i) {
                // What is left of the operand.
            } else if v.to_bits() != SENTINEL.to_bits() {
                let place = if inside { format!("padding of row {row}") } else { "a guard".into() };
                return Some(format!("{place} was overwritten with {v}"));
            }
        }
        None
    }
}

/// A case in the CPU's memory, ready to run.
pub struct Loaded {
    op: Op,
    dims: Vec<Dims>,
    x: Vec<Buffer>,
    w: Vec<Packed>,
    y: Buffer,
    statistics: Option<Buffer>,
    /// The operand whose place the output takes.
    in_place: Option<InPlace>,
    scratch: Vec<f32>,
}

impl Loaded {
    /// Lays operands out.
    pub(super) fn new<'a>(
        op: Op,
        dims: Vec<Dims>,
        x: impl Iterator<Item = (Shape, &'a [f32])>,
        w: Vec<Packed>,
        y: &[Shape],
        layout: Layout,
    ) -> Self {
        let x = x.map(|(s, v)| Buffer::operand(s, v, layout, GUARD)).collect();
        let mut outputs = y.iter().map(|s| Buffer::output(*s, layout, GUARD));
        let none = || Buffer::output(Shape::new(1, 1, 1, 1), layout, GUARD);
        let (y, statistics) = (outputs.next().unwrap_or_else(none), outputs.next());
        Self { op, dims, x, w, y, statistics, in_place: None, scratch: Vec::new() }
    }

    /// The output with its surroundings.
    pub(super) fn buffer(&self) -> &Buffer {
        &self.y
    }

    /// All of the output's memory, to spoil it.
    #[cfg(test)]
    pub(super) fn buffer_mut(&mut self) -> &mut [f32] {
        &mut self.y.data
    }

    fn variant(&self, variant: usize) -> Result<VariantInfo> {
        let shapes: Vec<Shape> = self.x.iter().map(|b| b.shape).collect();
        let missing = || Error::other(format!("{} has no variant {variant}", self.op.name()));
        cpu::variants(&self.op, &shapes, &self.dims).get(variant).copied().ok_or_else(missing)
    }

    /// Forgets the output and scratch, then runs one variant once. What `bench` times is [`Loaded::again`].
    ///
    /// # Errors
    /// There is no such variant, or it does not support the case.
    pub fn run(&mut self, variant: usize, isa: Isa, workers: &Workers) -> Result<()> {
        let scratch = self.variant(variant)?.scratch;
        workers.reserve(scratch.per_worker);
        self.scratch = vec![f32::NAN; scratch.shared];
        self.y.forget();
        if let Some(how) = self.in_place {
            self.y.take(&self.x[how.operand()]);
        }
        self.statistics.iter_mut().for_each(Buffer::forget);
        self.again(variant, isa, workers)
    }

    /// The same with the output in the place of the operand that the variant lets it take, if it lets it take one.
    ///
    /// # Errors
    /// There is no such variant.
    pub fn in_place(mut self, variant: usize) -> Result<Option<Self>> {
        let Some(how) = self.variant(variant)?.in_place else { return Ok(None) };
        if let InPlace::Rows(n) = how {
            let Some(y) = Buffer::over(&self.x[n], self.y.shape) else { return Ok(None) };
            self.y = y;
        }
        self.in_place = Some(how);
        Ok(Some(self))
    }

    /// The same as a plan would run it: an output laid out as its residual takes the residual's place. Each run then
    /// adds to what the last one left.
    ///
    /// # Errors
    /// There is no such variant.
    pub fn as_planned(mut self, variant: usize) -> Result<Self> {
        self.in_place = self.variant(variant)?.in_place.filter(|how| matches!(how, InPlace::Element(_)));
        Ok(self)
    }

    /// Runs a variant once more in the buffers of the last [`Loaded::run`] of the same variant.
    ///
    /// # Errors
    /// It has not run yet, or it was another variant.
    pub fn again(&mut self, variant: usize, isa: Isa, workers: &Workers) -> Result<()> {
        let replaced = self.in_place.map(InPlace::operand);
        let data = |n: usize, b: &Buffer| if replaced == Some(n) { 0..0 } else { b.range() };
        let operands = self.x.iter().enumerate();
        let x: Vec<In<'_>> =
            operands.map(|(n, b)| In { data: &b.data[data(n, b)], shape: b.shape, pitch: b.pitch }).collect();
        let w: Vec<&Packed> = self.w.iter().collect();
        let (range, shape, pitch) = (self.y.range(), self.y.shape, self.y.pitch);
        let y = Out { data: &mut self.y.data[range], shape, pitch };
        let statistics = self.statistics.as_mut().map(|b| {
            let (range, shape, pitch) = (b.range(), b.shape, b.pitch);
            Out { data: &mut b.data[range], shape, pitch }
        });
        let mut io = Io { x: &x, w: &w, y, statistics, in_place: self.in_place, scratch: &mut self.scratch };
        cpu::run(&self.op, variant, isa, &mut io, workers)
    }

    /// The outputs, dense, sample by sample: of each the first, then the second if there is one.
    pub fn output(&self) -> Vec<f32> {
        let sample = |i: usize, b: &Buffer| {
            let len = b.shape.len() / b.shape.b;
            (i * len..(i + 1) * len).map(|at| b.get(at)).collect::<Vec<f32>>()
        };
        let both = || [Some(&self.y), self.statistics.as_ref()].into_iter().flatten();
        (0..self.y.shape.b).flat_map(|i| both().flat_map(move |b| sample(i, b))).collect()
    }

    /// What is wrong with the outputs beside the first one's error: statistics must be those of what was written.
    pub(super) fn problem(&self) -> Option<String> {
        let Some(statistics) = &self.statistics else { return self.y.problem() };
        let own = || statistics.problem().map(|p| format!("statistics: {p}"));
        self.y.problem().or_else(own).or_else(|| wrong_statistics(&self.op, &self.y, statistics))
    }
}

/// The first of a product's statistics that is not that of what it has written.
pub(super) fn wrong_statistics(op: &Op, y: &Buffer, statistics: &Buffer) -> Option<String> {
    let (Op::Matmul(crate::kernels::matmul::Matmul { statistics: Some(tiles), .. })
    | Op::Conv2d(crate::kernels::conv2d::Conv2d { statistics: Some(tiles), .. })) = op
    else {
        return Some("statistics that the op does not give".into());
    };
    let (s, count) = (y.shape, tiles.count(y.shape));
    for tile in 0..s.b * count {
        let first = tile / count * s.pixels() + tile % count * tiles.pixels(s);
        let pixels = first..first + tiles.pixels_of(s, tile % count);
        for c in 0..s.c {
            let values = || pixels.clone().map(|p| f64::from(y.get(p * s.c + c)));
            let n = pixels.len() as f64;
            let mean = values().sum::<f64>() / n;
            let m2 = values().map(|v| (v - mean).powi(2)).sum::<f64>();
            // Every value is off by some roundings of the largest, and each of those by its distance counts in M2.
            let unit = 8.0 * f64::from(f32::EPSILON) * values().fold(0.0, |a, v| v.abs().max(a));
            let got = [0, 1].map(|i| f64::from(statistics.get((tile * 2 + i) * s.c + c)));
            let most = [unit, 2.0 * unit * (n * m2).sqrt() + n * unit * unit + 1e-6 * m2];
            if (got[0] - mean).abs() > most[0] || (got[1] - m2).abs() > most[1] {
                return Some(format!("statistics of tile {tile}, channel {c}: {got:?} instead of [{mean}, {m2}]"));
            }
        }
    }
    None
}
