//! A case in memory: from values to guarded buffers that show what a kernel reads or writes and should not.

use crate::backend::cpu::workers::Workers;
use crate::kernels::cpu::panels::Packed;
use crate::kernels::cpu::{self, In, Io, Out};
#[cfg(feature = "gpu")]
use crate::kernels::gpu::View;
use crate::kernels::{Dims, Op};
use crate::simd::Isa;
use crate::tensor::Shape;

/// What padding and guards of outputs hold; no kernel computes it by chance. It is an f16 number: devices store those too.
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
}

impl Buffer {
    fn new(shape: Shape, layout: Layout, fill: f32, guard: usize) -> Self {
        let own = shape.c.next_multiple_of(4);
        let (pitch, offset) = match layout {
            Layout::Own => (own, 0),
            Layout::View => (own + 12, 4),
        };
        let data = vec![fill; 2 * guard + shape.rows() * pitch];
        Self { data, start: guard + offset, shape, pitch, guard, offset, padded: false }
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

    /// Elements from the first to the last, as a kernel gets them.
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + (self.shape.rows() - 1) * self.pitch + self.shape.c
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
    scratch: Vec<f32>,
}

impl Loaded {
    /// Lays operands out.
    pub(super) fn new<'a>(
        op: Op,
        dims: Vec<Dims>,
        x: impl Iterator<Item = (Shape, &'a [f32])>,
        w: Vec<Packed>,
        y: Shape,
        layout: Layout,
    ) -> Self {
        let x = x.map(|(s, v)| Buffer::operand(s, v, layout, GUARD)).collect();
        Self { op, dims, x, w, y: Buffer::output(y, layout, GUARD), scratch: Vec::new() }
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

    /// Forgets the output and scratch, then runs one variant once. What `bench` times is [`Loaded::again`].
    pub fn run(&mut self, variant: usize, isa: Isa, workers: &Workers) {
        let shapes: Vec<Shape> = self.x.iter().map(|b| b.shape).collect();
        let scratch = cpu::variants(&self.op, &shapes, &self.dims)[variant].scratch;
        workers.reserve(scratch.per_worker);
        self.scratch = vec![f32::NAN; scratch.shared];
        self.y.forget();
        self.again(variant, isa, workers);
    }

    /// Runs a variant once more in the buffers of the last [`Loaded::run`] of the same variant.
    pub fn again(&mut self, variant: usize, isa: Isa, workers: &Workers) {
        let x: Vec<In<'_>> =
            self.x.iter().map(|b| In { data: &b.data[b.range()], shape: b.shape, pitch: b.pitch }).collect();
        let w: Vec<&Packed> = self.w.iter().collect();
        let (range, shape, pitch) = (self.y.range(), self.y.shape, self.y.pitch);
        let y = Out { data: &mut self.y.data[range], shape, pitch };
        cpu::run(&self.op, variant, isa, &mut Io { x: &x, w: &w, y, scratch: &mut self.scratch }, workers);
    }

    /// The output, dense.
    pub fn output(&self) -> Vec<f32> {
        (0..self.y.shape.len()).map(|i| self.y.get(i)).collect()
    }
}
