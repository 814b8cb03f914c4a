//! Whether tensor cores pay on a device: a yes or a no with both times, measured once
//! on shapes of SD 1.x and remembered.
//!
//! It is one answer for a device, not one for each shape: which variant runs decides how sums are rounded, so it may
//! not depend on a single measurement's luck. The answer is printed, and pictures made with them say so.

use super::adapter::Adapter;
use super::check::Bench;
use super::device::Options;
use super::disk::{self, Owner};
use crate::check::{Layout, Prepared};
use crate::error::Result;
use crate::kernels::gpu::{Coop, Limits, Storage, variants};
use crate::kernels::{Case, Dims, Role, cases};
use crate::tensor::Shape;
use std::fmt;

/// The variants that use them.
pub const VARIANT: &str = "coop";
/// A lead below this is not told from noise.
const MARGIN: f64 = 0.95;
/// Runs of each kernel, after one that warms up; the shortest counts.
const RUNS: usize = 7;
/// The file in the cache folder.
const FILE: &str = "tensor-cores";

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Seconds that a guided step's products and attention would take without them.
    pub plain: f64,
    /// The same with them; infinite where one of their kernels computed wrongly.
    pub coop: f64,
}

/// A case and how many FLOPs of a guided step it stands for.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The case.
    pub case: Case,
    /// FLOPs of a step of SD 1.x at 512x512 with guidance whose kernels are like it.
    pub flops: f64,
}

/// What stands for a guided step: its 3x3 convolutions (800 GFLOP) on two levels, its matrices (550 GFLOP) and its
/// self-attention (245 GFLOP).
pub fn samples() -> Vec<Sample> {
    let conv = |side, c, flops: f64| ("conv2d", Shape::new(2, side, side, c), Some(Dims::filter3(c, c)), flops);
    let wanted = [
        conv(64, 320, 400e9),
        conv(16, 1280, 400e9),
        ("matmul", Shape::new(2, 32, 32, 640), Some(Dims::matrix(640, 640)), 550e9),
        ("attention", Shape::new(2, 1, 4096, 320), None, 245e9),
    ];
    let all: Vec<Case> = cases().into_iter().filter(|c| c.role == Role::Bench && !c.op.after_norm_read()).collect();
    let found = wanted.into_iter().filter_map(|(op, x, w, flops)| {
        let fits = |c: &&Case| {
            c.op.name() == op && c.x[0].rows() == x.rows() && c.x[0].c == x.c && w.is_none_or(|w| c.w[0] == w)
        };
        all.iter().find(fits).map(|case| Sample { case: case.clone(), flops })
    });
    found.collect()
}

impl Verdict {
    /// Whether they are used.
    pub fn faster(&self) -> bool {
        self.coop < MARGIN * self.plain
    }

    /// How many times as fast a guided step's products are as without tensor cores: 1 where those are not used.
    pub fn gain(&self) -> f64 {
        if self.faster() { self.plain / self.coop } else { 1.0 }
    }

    /// As measured earlier on this adapter and driver for a device with these options, without opening it; none where
    /// that was never done or there is nothing to measure.
    pub fn known(adapter: &Adapter, options: Options) -> Option<Self> {
        let weights = options.precision.weights;
        let coop = adapter.coop().filter(|_| !options.minimal && multiplies(options.precision.storage, weights))?;
        Self::load(&Owner::new(adapter, options.checked), coop)
    }

    fn load(owner: &Owner, coop: Coop) -> Option<Self> {
        Self::parse(std::str::from_utf8(&disk::load(owner, FILE)?).ok()?, coop)
    }

    /// As known; measured where that was never done, and remembered. Takes a second or a few.
    ///
    /// # Errors
    /// The device fails.
    pub fn of(bench: &Bench, coop: Coop) -> Result<Self> {
        if let Some(known) = Self::load(&bench.device().owner(), coop) {
            return Ok(known);
        }
        let limits = Limits { coop: Some(coop), ..bench.device().limits().clone() };
        let found = Self::measure(bench, &limits, &samples())?;
        disk::save(&bench.device().owner(), FILE, found.text(coop).as_bytes());
        Ok(found)
    }

    /// Checks and times the kernels of some samples with and without them; what they do not run counts for neither.
    ///
    /// # Errors
    /// The device fails.
    pub fn measure(bench: &Bench, limits: &Limits, samples: &[Sample]) -> Result<Self> {
        let mut found = Self { plain: 0.0, coop: 0.0 };
        for Sample { case, flops } in samples {
            let all = variants(&case.op, &case.x, &case.w, limits);
            let coop = all.iter().position(|v| v.supported && v.name == VARIANT);
            let plain = all.iter().rposition(|v| v.supported && v.name != VARIANT);
            let (Some(coop), Some(plain)) = (coop, plain) else { continue };
            let weights = limits.weights;
            let prepared = Prepared::stored(case, weights, limits.storage)?;
            let scale = flops / case.op.cost(&case.x, &case.w).flops.max(1) as f64;
            found.plain += scale * seconds(bench, limits, &prepared, plain)?;
            found.coop += match prepared.check_gpu(bench, limits, coop, Layout::Own)?.passed() {
                true => scale * seconds(bench, limits, &prepared, coop)?,
                // Nothing unverified is timed.
                false => f64::INFINITY,
            };
        }
        Ok(found)
    }

    /// One line: size, plain, with tensor cores.
    fn text(&self, coop: Coop) -> String {
        format!("{} {:e} {:e}", coop.size, self.plain, self.coop)
    }

    fn parse(text: &str, coop: Coop) -> Option<Self> {
        let mut words = text.split(' ');
        let size: u32 = words.next()?.parse().ok()?;
        let mut number = || words.next()?.parse::<f64>().ok().filter(|v| *v >= 0.0);
        let found = Self { plain: number()?, coop: number()? };
        (size == coop.size && found.plain.is_finite()).then_some(found)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (coop, plain) = (self.coop * 1e3, self.plain * 1e3);
        match (self.faster(), self.coop.is_finite()) {
            (true, _) => write!(
                f,
                "used: measured once, the products of a guided step take {coop:.2} ms with them, {plain:.2} ms without"
            ),
            (false, true) => {
                write!(
                    f,
                    "not used: measured once, the products of a guided step take {coop:.2} ms with them, {plain:.2} ms without"
                )
            }
            (false, false) => write!(f, "not used: a kernel for them computed wrongly when they were measured"),
        }
    }
}

fn seconds(bench: &Bench, limits: &Limits, prepared: &Prepared, variant: usize) -> Result<f64> {
    let ready = prepared.on_gpu(bench, limits, variant, Layout::Own)?;
    ready.time()?;
    let mut shortest = f64::INFINITY;
    for _ in 0..RUNS {
        shortest = shortest.min(ready.time()?.as_secs_f64());
    }
    Ok(shortest)
}

/// Whether tensor cores multiply what is stored so: f16 only.
fn multiplies(activations: Storage, weights: Storage) -> bool {
    (activations, weights) == (Storage::F16, Storage::F16)
}

/// The tensor cores that plans for a device may use, and what the user should know if they were measured just now.
pub(super) fn decide(bench: &Bench) -> (Option<Coop>, Option<String>) {
    let limits = bench.device().limits();
    let Some(coop) = limits.coop.filter(|_| multiplies(limits.storage, limits.weights)) else { return (None, None) };
    let known = Verdict::load(&bench.device().owner(), coop).is_some();
    match Verdict::of(bench, coop) {
        Ok(v) => (
            v.faster().then_some(coop),
            (!known).then(|| format!("tensor cores of {} are {v}", bench.device().describe())),
        ),
        Err(e) => (None, Some(format!("tensor cores are not used: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOP: Coop = Coop { size: 16, emulated: false };

    #[test]
    fn they_must_be_clearly_faster() {
        let verdict = |plain, coop| Verdict { plain, coop };
        assert!(verdict(2.0, 1.0).faster() && verdict(1.0, 0.94).faster());
        assert!(!verdict(1.0, 0.96).faster() && !verdict(1.0, 1.0).faster() && !verdict(1.0, 3.0).faster());
        // One that computes wrongly, and nothing that could be measured.
        assert!(!verdict(1.0, f64::INFINITY).faster() && !verdict(0.0, 0.0).faster());
        // What an estimate may count on.
        assert_eq!((verdict(2.0, 0.5).gain(), verdict(1.0, 0.96).gain(), verdict(1.0, 3.0).gain()), (4.0, 1.0, 1.0));
        assert_eq!((verdict(1.0, f64::INFINITY).gain(), verdict(0.0, 0.0).gain()), (1.0, 1.0));
        let line = verdict(0.022, 0.0081).to_string();
        assert!(
            line.starts_with("used: ") && line.contains("8.10 ms with") && line.contains("22.00 ms without"),
            "{line}"
        );
        assert!(verdict(1.0, f64::INFINITY).to_string().contains("computed wrongly"));
    }

    #[test]
    fn what_is_remembered_is_read_back_or_measured_again() {
        for v in [Verdict { plain: 0.0221, coop: 0.0083 }, Verdict { plain: 1.0, coop: f64::INFINITY }] {
            assert_eq!(Verdict::parse(&v.text(COOP), COOP), Some(v));
            // Another shape is another measurement.
            assert_eq!(Verdict::parse(&v.text(COOP), Coop { size: 8, ..COOP }), None);
        }
        for text in ["", "16", "16 1", "16 nan 1", "16 -1 2", "16 inf 1", "sixteen 1 1"] {
            assert_eq!(Verdict::parse(text, COOP), None, "{text}");
        }
    }

    #[test]
    fn every_kind_of_product_is_sampled() {
        let names: Vec<&str> = samples().iter().map(|s| s.case.op.name()).collect();
        assert_eq!(names, ["conv2d", "conv2d", "matmul", "attention"]);
        let limits = Limits {
            workgroup_bytes: 48 << 10,
            invocations: 1024,
            subgroup: Some(32),
            coop: Some(COOP),
            max_binding: (1 << 31) - 256,
            ..Limits::webgpu(Storage::F16)
        };
        for Sample { case, .. } in samples() {
            let all = variants(&case.op, &case.x, &case.w, &limits);
            assert!(all.iter().any(|v| v.supported && v.name == VARIANT), "{}", case.name);
        }
    }
}
