//! Whether a kernel is right: from a case, a variant and an instruction set to an error and its bound.
//!
//! The reference is the op's own f64 definition. Everything is seeded from the case's name. Outputs begin as NaN, so
//! that what a kernel forgets shows; what surrounds them must stay as it was. This is product code: `bench` checks
//! before it times, a device's self-test uses the same cases, and the tests run them all.

mod buffers;
mod data;
#[cfg(feature = "gpu")]
mod gpu;

pub use buffers::{Layout, Loaded};
pub use data::Random;
#[cfg(feature = "gpu")]
pub use gpu::OnGpu;

use crate::error::Result;
use crate::kernels::cpu;
use crate::kernels::cpu::panels::{Packed, StoredTensor, pack};
use crate::kernels::gpu::Storage;
use crate::kernels::{Case, Dims, Operand64, Role, unflatten};
use crate::simd::Isa;
use crate::tensor::Shape;
use crate::workers::Workers;
use std::fmt;

/// Reference work, in multiply-adds, up to which all outputs are compared.
const ALL_OUTPUTS: u64 = 100_000_000;
/// Compared outputs beyond that, in runs of [`RUN`] neighbours.
const SAMPLES: usize = 4096;
const RUN: usize = 32;
/// The rms of a reference that is all zeros counts as this much.
const LEAST_RMS: f64 = 1e-6;

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
    weight_type: Storage,
    /// Of the outputs.
    shapes: Vec<Shape>,
    x: Vec<Vec<f32>>,
    w: Vec<Vec<f32>>,
    at: Vec<usize>,
    want: Vec<f64>,
    bound: f64,
}

impl Prepared {
    /// Makes the values and computes the reference. Errors when the case's shapes do not fit its op.
    pub fn new(case: &Case, weight_type: Storage) -> Result<Self> {
        Self::stored(case, weight_type, Storage::F32)
    }

    /// As [`Prepared::new`], for a device that stores operands like this: the reference uses the rounded values.
    pub fn stored(case: &Case, weight_type: Storage, storage: Storage) -> Result<Self> {
        let shapes = case.op.output(&case.x, &case.w)?;
        let shape = shapes[0];
        let name = full_name(case);
        let operand = |(i, s): (usize, &Shape)| {
            let mut v = Random::new(&format!("{name} x{i}")).operand(s.len(), case.op.fill(i, case.data));
            if storage == Storage::F16 && !case.op.takes_statistics(i) {
                v.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
            }
            v
        };
        let x: Vec<Vec<f32>> = case.x.iter().enumerate().map(operand).collect();
        let packings = case.op.packings();
        let weight = |(i, d): (usize, &Dims)| {
            let scale = 1.0 / ((d.k * d.taps) as f32).sqrt();
            let mut v = Random::new(&format!("{name} w{i}")).normal(d.len(), scale);
            if weight_type == Storage::F16 && !packings[i].is_vector() {
                v.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
            }
            v
        };
        let w: Vec<Vec<f32>> = case.w.iter().enumerate().map(weight).collect();
        let at = sample(&name, shape, case.op.cost(&case.x, &case.w).flops / 2);
        let want = reference(case, &x, &w, &at);
        let bound = case.op.tolerance(&case.x, &case.w);
        Ok(Self { case: case.clone(), weight_type, shapes, x, w, at, want, bound })
    }

    /// Lays operands and weights out for the CPU.
    pub fn load(&self, layout: Layout, workers: &Workers) -> Result<Loaded> {
        let packings = self.case.op.packings();
        let each = self.case.w.iter().zip(&self.w).zip(packings);
        let w: Result<Vec<Packed>> =
            each.map(|((d, v), p)| pack(*d, p, StoredTensor::f32(v), self.weight_type, workers)).collect();
        let x = self.case.x.iter().copied().zip(self.x.iter().map(Vec::as_slice));
        Ok(Loaded::new(self.case.op, self.case.w.clone(), x, w?, &self.shapes, layout))
    }

    /// Compares what a run left in `loaded`.
    pub fn outcome(&self, loaded: &Loaded, variant: &str, isa: Isa) -> Outcome {
        self.compare(loaded.buffer(), loaded.problem(), variant, &isa.to_string())
    }

    /// Compares an output of a variant that ran at `place`; `problem` is what else is wrong with it.
    fn compare(&self, y: &buffers::Buffer, problem: Option<String>, variant: &str, place: &str) -> Outcome {
        let weights = match (self.case.w.is_empty(), self.weight_type) {
            (true, _) => "",
            (_, Storage::F16) => ", f16 weights",
            (_, Storage::F32) => ", f32 weights",
        };
        let rms = (self.want.iter().map(|v| v * v).sum::<f64>() / self.want.len().max(1) as f64).sqrt();
        let (mut most, mut worst) = (0.0, None);
        for (&i, &want) in self.at.iter().zip(&self.want) {
            let got = y.get(i);
            let off = (f64::from(got) - want).abs();
            // A NaN wins, and stays: nothing compares greater.
            if off.is_nan() || off > most || worst.is_none() {
                (most, worst) = (off, Some(Worst { at: unflatten(self.shapes[0], i), got, want }));
            }
        }
        Outcome {
            what: format!("{}, {variant}, {place}{weights}", full_name(&self.case)),
            error: most / rms.max(LEAST_RMS),
            bound: bound(self.bound, variant),
            compared: self.at.len(),
            worst,
            problem,
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
            shapes: self.shapes.iter().map(|s| s.with_b(1)).collect(),
            x,
            w: self.w.clone(),
            at: Vec::new(),
            want: Vec::new(),
            bound: self.bound,
        }
    }

    /// Runs one variant from fresh buffers and compares; then, where its output may take an operand's place, once more
    /// like that, which must give the same bits.
    pub fn check(&self, variant: usize, isa: Isa, layout: Layout, workers: &Workers) -> Result<Outcome> {
        let mut loaded = self.load(layout, workers)?;
        loaded.run(variant, isa, workers)?;
        let name = cpu::variants(&self.case.op, &self.case.x, &self.case.w)[variant].name;
        let outcome = self.outcome(&loaded, name, isa);
        let apart = loaded.output();
        let Some(mut loaded) = loaded.in_place(variant)?.filter(|_| outcome.passed()) else { return Ok(outcome) };
        loaded.run(variant, isa, workers)?;
        let mut in_place = self.outcome(&loaded, name, isa);
        in_place.what += ", in place";
        if loaded.output().iter().zip(&apart).any(|(a, b)| a.to_bits() != b.to_bits()) {
            in_place.problem.get_or_insert("the bits differ from those of an output of its own".to_owned());
        }
        Ok(in_place)
    }
}

/// What a variant may be off where plain f32 sums may be off by `f32`.
///
/// Winograd's transforms magnify rounding 3 to 4 times: c = 6 instead of 4. Measured: 4.9 at 9 channels, 4.2 at 32, 1
/// from 320 on. bf16 keeps 8 bits of each input, whose errors add up as the products do: c 2^-8, with c of 16 for gated
/// products and outliers (measured: 12.1), and of 24 for attention, whose exponentials magnify
/// the errors of large scores (17.6).
fn bound(f32: f64, variant: &str) -> f64 {
    match variant {
        "winograd" => 1.5 * f32,
        "bf16" => f32.max(16.0 / 256.0),
        "flash_bf16" => f32.max(24.0 / 256.0),
        _ => f32,
    }
}

/// Prepares and checks in one go.
pub fn run_case(
    case: &Case,
    variant: usize,
    isa: Isa,
    weights: Storage,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases;

    /// A small case of an op, prepared and run by its first variant.
    fn ran(op: &str) -> (Prepared, Loaded, Workers) {
        let case = cases().into_iter().filter(|c| c.op.name() == op && c.role == Role::Test).nth(2).unwrap();
        let workers = Workers::new(1).unwrap();
        let prepared = Prepared::new(&case, Storage::F32).unwrap();
        let mut loaded = prepared.load(Layout::Own, &workers).unwrap();
        loaded.run(0, Isa::Scalar, &workers).unwrap();
        (prepared, loaded, workers)
    }

    #[test]
    fn faults_are_found() {
        let (prepared, mut loaded, workers) = ran("add");
        let verdict = |l: &Loaded| prepared.outcome(l, "naive", Isa::Scalar);
        assert!(verdict(&loaded).passed());
        let range = loaded.buffer().range();
        for (at, value, word) in [
            (range.start, f32::NAN, "NaN"),
            (range.start - 1, 0.0, "guard"),
            (range.end, f32::NAN, "padding"),
            (range.start, 1e6, "instead of"),
        ] {
            loaded.buffer_mut()[at] = value;
            let outcome = verdict(&loaded);
            assert!(!outcome.passed() && outcome.to_string().contains(word), "{word}: {outcome}");
            assert!(outcome.to_string().contains("LIENZO_CASE=add/"));
            loaded = prepared.load(Layout::Own, &workers).unwrap();
            loaded.run(0, Isa::Scalar, &workers).unwrap();
        }
        let forgotten = prepared.load(Layout::Own, &workers).unwrap();
        assert!(!verdict(&forgotten).passed());
    }

    #[test]
    fn misuse_is_an_error() {
        let case = cases().into_iter().find(|c| c.op.name() == "attention" && c.role == Role::Test).unwrap();
        let workers = Workers::new(1).unwrap();
        let load = || Prepared::new(&case, Storage::F32).unwrap().load(Layout::Own, &workers).unwrap();
        let error = load().again(1, Isa::Scalar, &workers).unwrap_err();
        assert!(error.to_string().contains("scratch"), "{error}");
        assert!(load().run(99, Isa::Scalar, &workers).is_err());
        assert!(load().in_place(99).is_err() && load().as_planned(99).is_err());
    }

    #[test]
    fn samples_are_seeded_and_reach_the_ends() {
        let shape = Shape::new(2, 64, 64, 320);
        let at = sample("name", shape, ALL_OUTPUTS + 1);
        assert_eq!(at, sample("name", shape, ALL_OUTPUTS + 1));
        assert!(at.len() > SAMPLES - 500 && at.len() <= SAMPLES, "{}", at.len());
        assert_eq!((at[0], at[at.len() - 1]), (0, shape.len() - 1));
        assert_eq!(sample("name", shape, 1).len(), shape.len());
    }
}
