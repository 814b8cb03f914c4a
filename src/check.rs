//! Whether a kernel is right: from a case, a variant and an instruction set to an error and its bound.
//!
//! The reference is the op's own f64 definition. Everything is seeded from the case's name. Outputs begin as NaN, so that
//! what a kernel forgets shows; what surrounds them must stay as it was. This is product code: `bench` checks before it
//! times, a device's self-test uses the same cases, and the tests run them all.

mod data;
mod erfc;

pub use data::Random;
pub use erfc::erfc;

use crate::backend::cpu::workers::Workers;
use crate::error::Result;
use crate::kernels::cpu::panels::{Packed, Stored, pack};
use crate::kernels::cpu::{self, In, Io, Out};
use crate::kernels::{Case, Dims, Op, Operand64, Packing, Role, unflatten};
use crate::simd::Isa;
use crate::tensor::Shape;
use std::fmt;

/// Reference work, in multiply-adds, up to which all outputs are compared.
const ALL_OUTPUTS: u64 = 100_000_000;
/// Compared outputs beyond that, in runs of [`RUN`] neighbours.
const SAMPLES: usize = 4096;
const RUN: usize = 32;
/// Elements around each buffer that must stay as they were.
const GUARD: usize = 64;
/// What padding and guards of outputs hold; no kernel computes it by chance.
const SENTINEL: f32 = -1.234_567_9e-33;
/// The rms of a reference that is all zeros counts as this much.
const LEAST_RMS: f64 = 1e-6;

/// How matrices and filters are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightType {
    /// Rounded to f16; the reference uses the rounded values.
    F16,
    /// As they are.
    F32,
}

/// How operands lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A tensor of its own: pitch is c rounded up to 4, padding is zero.
    Own,
    /// Columns of a wider tensor, whose other columns are NaN: using one of them shows.
    View,
}

/// The largest error and where it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// `[b, y, x, c]`.
    pub at: [usize; 4],
    /// What the kernel computed.
    pub got: f32,
    /// What the reference says.
    pub want: f64,
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `conv2d/NAME, panels, avx512, f16 weights`.
    pub what: String,
    /// max|y - reference| / rms(reference) over the compared outputs.
    pub error: f64,
    /// What the op tolerates at these shapes.
    pub bound: f64,
    /// Outputs that were compared.
    pub compared: usize,
    /// The largest error.
    pub worst: Option<Worst>,
    /// Anything else that is wrong: a NaN, an overwritten guard.
    pub problem: Option<String>,
    /// A command that runs this case alone.
    pub rerun: String,
}

impl Outcome {
    /// Whether all is well.
    pub fn passed(&self) -> bool {
        self.problem.is_none() && self.error <= self.bound
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        write!(f, "{}: {verdict}, error {:.2e} of at most {:.2e}", self.what, self.error, self.bound)?;
        if self.passed() {
            return Ok(());
        }
        if let Some(Worst { at: [b, y, x, c], got, want }) = self.worst {
            write!(f, "; worst at [{b}, {y}, {x}, {c}]: {got} instead of {want}")?;
        }
        if let Some(problem) = &self.problem {
            write!(f, "; {problem}")?;
        }
        write!(f, "; run it alone: {}", self.rerun)
    }
}

/// A case's name with its op: `conv2d/b2_64x64_320_320`.
pub fn full_name(case: &Case) -> String {
    format!("{}/{}", case.op.name(), case.name)
}

/// The environment variable that restricts the tests to cases whose full name contains it.
pub const CASE_VARIABLE: &str = "LIENZO_CASE";

fn rerun(case: &Case) -> String {
    match case.role {
        Role::Test => format!("{CASE_VARIABLE}={} cargo test --release --test lienzo kernels", full_name(case)),
        Role::Bench => format!("lienzo bench {}", full_name(case)),
    }
}

/// A case with its values and its reference, to be run by any variant.
pub struct Prepared {
    case: Case,
    weight_type: WeightType,
    shape: Shape,
    x: Vec<Vec<f32>>,
    w: Vec<Vec<f32>>,
    at: Vec<usize>,
    want: Vec<f64>,
    bound: f64,
}

impl Prepared {
    /// Makes the values and computes the reference. Errors when the case's shapes do not fit its op.
    pub fn new(case: &Case, weight_type: WeightType) -> Result<Self> {
        let shape = case.op.output(&case.x, &case.w)?[0];
        let name = full_name(case);
        let operand = |(i, s): (usize, &Shape)| Random::new(&format!("{name} x{i}")).operand(s.len(), case.data);
        let x: Vec<Vec<f32>> = case.x.iter().enumerate().map(operand).collect();
        let packings = case.op.packings();
        let weight = |(i, d): (usize, &Dims)| {
            let scale = 1.0 / ((d.k * d.taps) as f32).sqrt();
            let mut v = Random::new(&format!("{name} w{i}")).normal(d.len(), scale);
            if weight_type == WeightType::F16 && packings[i] == Packing::Panels {
                v.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
            }
            v
        };
        let w: Vec<Vec<f32>> = case.w.iter().enumerate().map(weight).collect();
        let at = sample(&name, shape, case.op.cost(&case.x, &case.w).flops / 2);
        let want = reference(case, &x, &w, &at);
        let bound = case.op.tolerance(&case.x, &case.w);
        Ok(Self { case: case.clone(), weight_type, shape, x, w, at, want, bound })
    }

    /// Lays operands and weights out for the CPU.
    pub fn load(&self, layout: Layout, workers: &Workers) -> Result<Loaded> {
        let x = self.case.x.iter().zip(&self.x).map(|(s, v)| Buffer::operand(*s, v, layout)).collect();
        let geglu = matches!(self.case.op, Op::Matmul(m) if m.geglu);
        let keep = self.weight_type == WeightType::F32;
        let packings = self.case.op.packings();
        let each = self.case.w.iter().zip(&self.w).zip(packings);
        let w: Result<Vec<Packed>> =
            each.map(|((d, v), p)| pack(*d, p, geglu && p == Packing::Panels, Stored::f32(v), keep, workers)).collect();
        let y = Buffer::output(self.shape, layout);
        Ok(Loaded { op: self.case.op, dims: self.case.w.clone(), x, w: w?, y, scratch: Vec::new() })
    }

    /// Compares what a run left in `loaded`.
    pub fn outcome(&self, loaded: &Loaded, variant: &str, isa: Isa) -> Outcome {
        let weights = match (self.case.w.is_empty(), self.weight_type) {
            (true, _) => "",
            (_, WeightType::F16) => ", f16 weights",
            (_, WeightType::F32) => ", f32 weights",
        };
        let y = &loaded.y;
        let rms = (self.want.iter().map(|v| v * v).sum::<f64>() / self.want.len().max(1) as f64).sqrt();
        let (mut most, mut worst) = (0.0, None);
        for (&i, &want) in self.at.iter().zip(&self.want) {
            let got = y.get(i);
            let off = (f64::from(got) - want).abs();
            // A NaN wins, and stays: nothing compares greater.
            if off.is_nan() || off > most || worst.is_none() {
                (most, worst) = (off, Some(Worst { at: unflatten(self.shape, i), got, want }));
            }
        }
        Outcome {
            what: format!("{}, {variant}, {isa}{weights}", full_name(&self.case)),
            error: most / rms.max(LEAST_RMS),
            bound: self.bound,
            compared: self.at.len(),
            worst,
            problem: y.problem(),
            rerun: rerun(&self.case),
        }
    }

    /// Sample `i` alone, without a reference: its output must have the bits that it has within the batch.
    pub fn sample(&self, i: usize) -> Self {
        let mut case = self.case.clone();
        let one = |(s, v): (&Shape, &Vec<f32>)| v[i % s.b * v.len() / s.b..][..v.len() / s.b].to_vec();
        let x = case.x.iter().zip(&self.x).map(one).collect();
        case.x.iter_mut().for_each(|s| s.b = 1);
        Self {
            case,
            weight_type: self.weight_type,
            shape: self.shape.with_b(1),
            x,
            w: self.w.clone(),
            at: Vec::new(),
            want: Vec::new(),
            bound: self.bound,
        }
    }

    /// Runs one variant from fresh buffers and compares.
    pub fn check(&self, variant: usize, isa: Isa, layout: Layout, workers: &Workers) -> Result<Outcome> {
        let mut loaded = self.load(layout, workers)?;
        loaded.run(variant, isa, workers);
        let name = cpu::variants(&self.case.op, &self.case.x, &self.case.w)[variant].name;
        Ok(self.outcome(&loaded, name, isa))
    }
}

/// Prepares and checks in one go.
pub fn run_case(
    case: &Case,
    variant: usize,
    isa: Isa,
    weights: WeightType,
    layout: Layout,
    workers: &Workers,
) -> Result<Outcome> {
    Prepared::new(case, weights)?.check(variant, isa, layout, workers)
}

/// Reference values of a case's outputs `at`.
fn reference(case: &Case, x: &[Vec<f32>], w: &[Vec<f32>], at: &[usize]) -> Vec<f64> {
    let wide = |v: &Vec<f32>| v.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let (x64, w64): (Vec<_>, Vec<_>) = (x.iter().map(wide).collect(), w.iter().map(wide).collect());
    let x: Vec<Operand64<'_>> =
        case.x.iter().zip(&x64).map(|(s, data)| Operand64 { shape: *s, dims: Dims::vector(s.c), data }).collect();
    let w: Vec<Operand64<'_>> = case
        .w
        .iter()
        .zip(&w64)
        .map(|(d, data)| Operand64 { shape: Shape::new(d.n, d.taps, 1, d.k), dims: *d, data })
        .collect();
    case.op.reference(&x, &w, at)
}

/// Which outputs are compared: all, or runs at corners, at the edges of tiles, and at seeded places.
fn sample(name: &str, shape: Shape, work: u64) -> Vec<usize> {
    let len = shape.len();
    if work <= ALL_OUTPUTS || len <= SAMPLES {
        return (0..len).collect();
    }
    let rows = shape.rows();
    let columns = [0, 16_usize.min(shape.c - 1), shape.c.saturating_sub(RUN)];
    let edges = [0, 1, 13, 14, 63, 64, 127, 128, 255, 256, rows / 2, rows - 1].into_iter().filter(|r| *r < rows);
    let mut starts: Vec<usize> = edges.flat_map(|r| columns.map(|c| r * shape.c + c)).collect();
    let mut random = Random::new(name);
    starts.extend((starts.len()..SAMPLES / RUN).map(|_| random.below(len)));
    let mut at: Vec<usize> = starts.into_iter().flat_map(|s| s..(s + RUN).min(len)).collect();
    at.sort_unstable();
    at.dedup();
    at
}

/// A tensor in the middle of a guarded allocation.
struct Buffer {
    data: Vec<f32>,
    start: usize,
    shape: Shape,
    pitch: usize,
}

impl Buffer {
    fn new(shape: Shape, layout: Layout, fill: f32) -> Self {
        let own = shape.c.next_multiple_of(4);
        let (pitch, start) = match layout {
            Layout::Own => (own, GUARD),
            Layout::View => (own + 12, GUARD + 4),
        };
        Self { data: vec![fill; 2 * GUARD + shape.rows() * pitch], start, shape, pitch }
    }

    fn operand(shape: Shape, values: &[f32], layout: Layout) -> Self {
        let mut b = Self::new(shape, layout, f32::NAN);
        for (row, from) in values.chunks_exact(shape.c).enumerate() {
            let to = &mut b.data[b.start + row * b.pitch..][..b.pitch];
            if layout == Layout::Own {
                to.fill(0.0);
            }
            to[..shape.c].copy_from_slice(from);
        }
        b
    }

    fn output(shape: Shape, layout: Layout) -> Self {
        let mut b = Self::new(shape, layout, SENTINEL);
        b.forget();
        b
    }

    /// Every element NaN.
    fn forget(&mut self) {
        for row in 0..self.shape.rows() {
            self.data[self.start + row * self.pitch..][..self.shape.c].fill(f32::NAN);
        }
    }

    /// Elements from the first to the last, as a kernel gets them.
    fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + (self.shape.rows() - 1) * self.pitch + self.shape.c
    }

    fn get(&self, i: usize) -> f32 {
        self.data[self.start + i / self.shape.c * self.pitch + i % self.shape.c]
    }

    /// What is wrong with an output beside its error.
    fn problem(&self) -> Option<String> {
        let end = self.start + self.shape.rows() * self.pitch;
        for (i, v) in self.data.iter().enumerate() {
            let inside = (self.start..end).contains(&i);
            let (row, c) = (i.wrapping_sub(self.start) / self.pitch, i.wrapping_sub(self.start) % self.pitch);
            if inside && c < self.shape.c {
                if v.is_nan() {
                    return Some(format!("row {row}, channel {c} is NaN or was not written"));
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
