//! The case tables go in; each variant checked, then timed, comes out, row by row, within a total time.

use super::ceiling::{Ceilings, FmaPace};
use super::stats::{Budget, Sampling, mad, median};
use super::wanted::Wanted;
use crate::check::{Layout, Prepared, full_name};
use crate::dtype::Storage;
use crate::error::Result;
use crate::graph::choose::choose;
use crate::graph::target::Caps;
use crate::kernels::cpu::{VariantInfo, variants};
use crate::kernels::{Case, Cost};
use crate::workers::Workers;
use std::time::{Duration, Instant};

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct BenchOptions<'a> {
    /// Which cases and variants.
    pub wanted: &'a Wanted,
    /// Measures what would be skipped for time.
    pub all: bool,
    /// How matrices are stored.
    pub weights: Storage,
    /// What a model's plans are made for.
    pub caps: &'a Caps,
    /// So many samples of each variant, whatever time they take.
    pub samples: Option<usize>,
    /// Samples are taken for so long at least.
    pub min_time: Option<Duration>,
}

impl BenchOptions<'_> {
    /// Without a filter, time is short.
    pub(super) fn hurried(&self) -> bool {
        self.wanted.everything() && !self.all
    }

    /// How long samples are taken where so much time is planned for them.
    pub(super) fn sampling(&self, budget: Duration) -> Sampling {
        let planned = Sampling::within(budget);
        let least = self.min_time.unwrap_or(planned.least);
        match self.samples {
            Some(samples) => Sampling { samples, least: self.min_time.unwrap_or_default(), budget: Duration::MAX },
            None => Sampling { least, budget: budget.max(least), ..planned },
        }
    }
}

/// One variant of one case.
#[derive(Clone, Debug)]
pub struct Row {
    /// `conv2d/b2_64x64_320_320`.
    pub case: String,
    /// The op's name.
    pub op: &'static str,
    /// The algorithm.
    pub variant: &'static str,
    /// Whether [`choose`] picks it.
    pub chosen: bool,
    /// Seconds of each run; none when the check failed.
    pub runs: Vec<f64>,
    /// The FMA peak in FLOP/s while they were taken: the median of a measurement beside each run on a CPU.
    pub fma_peak: f64,
    /// Work and least traffic.
    pub cost: Cost,
    /// `max|y - reference| / rms(reference)`.
    pub error: f64,
    /// What the op tolerates.
    pub bound: f64,
    /// The whole story of a failed check.
    pub failure: Option<String>,
}

impl Row {
    /// The case with the variant: unique in a run.
    pub fn name(&self) -> String {
        format!("{}/{}", self.case, self.variant)
    }

    /// The median time in seconds.
    pub fn median(&self) -> f64 {
        median(&self.runs)
    }

    /// The median distance from it.
    pub fn mad(&self) -> f64 {
        mad(&self.runs)
    }
}

/// What happens while measuring.
pub enum BenchEvent<'a> {
    /// A case is about to be prepared: its number, from 0, of how many, and its name.
    Case(usize, usize, &'a str),
    /// A variant was checked and, if it passed, timed.
    Row(&'a Row),
    /// A case or a variant would take about this long and was left out.
    Skipped(&'a str, Duration),
}

/// How long all cases together may take, without a filter: what stays of two minutes after the ceilings.
const TOTAL: Duration = Duration::from_secs(100);
/// A variant's samples, with a filter or with everything.
const PATIENT: Duration = Duration::from_secs(3);
/// The same without.
const HURRIED: Duration = Duration::from_millis(400);
/// What a single variant may take with a filter, unless all are wanted.
const PATIENCE: Duration = Duration::from_secs(6);
/// The pace of naive variants until one was measured, in FLOP/s of a thread: on the safe side.
const NAIVE_PACE: f64 = 0.5e9;
/// The pace of the others, as a share of the FMA peak.
const FAST_SHARE: f64 = 0.4;

/// Checks and times; gives whether every check passed.
pub fn run(
    options: &BenchOptions<'_>,
    ceilings: &Ceilings,
    workers: &Workers,
    tell: &mut dyn FnMut(BenchEvent<'_>),
) -> Result<bool> {
    let mut cases = options.wanted.cases();
    let hurried = options.hurried();
    if hurried {
        // The cheap ones first: if time runs out on a busy machine, it is the largest shapes that are left out.
        cases.sort_by_key(|c| preparing(c, c.op.cost(&c.x, &c.w)) + work(c, ceilings));
    }
    let total = if hurried { TOTAL } else { Duration::MAX };
    let mut bench = Bench {
        options,
        fast: FAST_SHARE * ceilings.fma_peak,
        pace: FmaPace::new(options.caps.isa(), workers),
        naive: NAIVE_PACE * workers.threads() as f64,
        workers,
        budget: Budget::new(total, cases.len()),
        passed: true,
        tell,
    };
    for (i, case) in cases.iter().enumerate() {
        (bench.tell)(BenchEvent::Case(i, cases.len(), &full_name(case)));
        let begun = Instant::now();
        bench.case(case)?;
        bench.budget.spend(begun.elapsed());
    }
    Ok(bench.passed)
}

struct Bench<'a> {
    options: &'a BenchOptions<'a>,
    /// FLOP/s that are expected of fast variants.
    fast: f64,
    /// The same of naive ones: what the slowest has shown.
    naive: f64,
    /// The machine's, measured anew beside every run.
    pace: FmaPace<'a>,
    workers: &'a Workers,
    budget: Budget,
    passed: bool,
    tell: &'a mut dyn FnMut(BenchEvent<'_>),
}

impl Bench<'_> {
    fn hurried(&self) -> bool {
        self.options.hurried()
    }

    fn case(&mut self, case: &Case) -> Result<()> {
        let cost = case.op.cost(&case.x, &case.w);
        let preparing = preparing(case, cost);
        let least = preparing + self.estimate("", cost) * 3;
        if self.hurried() && !self.budget.affords(least) {
            (self.tell)(BenchEvent::Skipped(&full_name(case), least));
            return Ok(());
        }
        let begun = Instant::now();
        let prepared = Prepared::new(case, self.options.weights)?;
        let (chosen, _) = choose(&case.op, &case.x, &case.w, self.options.caps)?;
        let infos = variants(&case.op, &case.x, &case.w);
        // The best first: if time runs out, it is the naive one that is left out.
        let count = infos.iter().filter(|info| info.supported).count();
        let measured = |info: &VariantInfo| info.supported && self.options.wanted.variant(info.name, count);
        let measured: Vec<_> = infos.iter().enumerate().rev().filter(|(_, info)| measured(info)).collect();
        for (i, info) in measured {
            // A check, a warm-up and one sample.
            let estimate = self.estimate(info.name, cost) * 3;
            let affordable = match (self.options.all, self.hurried()) {
                (true, _) => true,
                (_, true) => self.budget.affords(begun.elapsed() + estimate),
                (_, false) => estimate <= PATIENCE,
            };
            if affordable {
                self.variant(case, &prepared, (i, info), i == chosen, cost)?;
            } else {
                (self.tell)(BenchEvent::Skipped(&format!("{}/{}", full_name(case), info.name), estimate));
            }
        }
        Ok(())
    }

    /// How long one run of a variant may take.
    fn estimate(&self, variant: &str, cost: Cost) -> Duration {
        let pace = if variant == "naive" { self.naive } else { self.fast };
        Duration::from_secs_f64(cost.flops as f64 / pace)
    }

    fn variant(
        &mut self,
        case: &Case,
        prepared: &Prepared,
        (i, info): (usize, &VariantInfo),
        chosen: bool,
        cost: Cost,
    ) -> Result<()> {
        let isa = self.options.caps.isa();
        let mut loaded = prepared.load(Layout::Own, self.workers)?;
        let start = Instant::now();
        loaded.run(i, isa, self.workers)?;
        let first = start.elapsed();
        let outcome = prepared.outcome(&loaded, info.name, isa);
        let passed = outcome.passed();
        let (mut runs, mut paces) = (Vec::new(), Vec::new());
        if passed {
            let budget = match (self.hurried(), chosen) {
                (true, true) => HURRIED,
                (true, false) => HURRIED / 4,
                (false, _) => PATIENT,
            };
            // The check has warmed up what a long run can warm up.
            let mut loaded = loaded.as_planned(i)?;
            if first < budget / 4 {
                loaded.again(i, isa, self.workers)?;
            }
            let before_each = || paces.push(self.pace.sample());
            let mut ran = Ok(());
            runs = self.options.sampling(budget).take(|| ran = loaded.again(i, isa, self.workers), before_each);
            ran?;
        }
        if info.name == "naive" && cost.flops > 100_000_000 {
            self.naive = self.naive.min(cost.flops as f64 / first.as_secs_f64().max(1e-9));
        }
        self.passed &= passed;
        let failure = (!passed).then(|| outcome.to_string());
        let (error, bound) = (outcome.error, outcome.bound);
        let row = Row {
            case: full_name(case),
            op: case.op.name(),
            variant: info.name,
            chosen,
            runs,
            fma_peak: median(&paces),
            cost,
            error,
            bound,
            failure,
        };
        (self.tell)(BenchEvent::Row(&row));
        Ok(())
    }
}

/// About how long the fast variant takes for a check, a warm-up and a sample.
fn work(case: &Case, ceilings: &Ceilings) -> Duration {
    Duration::from_secs_f64(3.0 * case.op.cost(&case.x, &case.w).flops as f64 / (FAST_SHARE * ceilings.fma_peak))
}

/// About how long a case's values and its f64 reference take: normals at 20 ns, their copies, and the compared outputs.
fn preparing(case: &Case, cost: Cost) -> Duration {
    let values: usize = case.x.iter().map(|s| s.len()).sum::<usize>() + case.w.iter().map(|d| d.len()).sum::<usize>();
    let outputs = case.op.output(&case.x, &case.w).map_or(1, |y| y[0].len().max(1));
    // Beyond 2e8 FLOPs the checker compares some 4096 outputs.
    let share = if cost.flops > 200_000_000 { (4096.0 / outputs as f64).min(1.0) } else { 1.0 };
    Duration::from_secs_f64(25e-9 * (values + outputs) as f64 + 2e-9 * share * cost.flops as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    #[test]
    fn a_case_is_checked_timed_and_marked() {
        let workers = Workers::new(1).unwrap();
        let ceilings = Ceilings { fma_peak: 1e11, read: 1e10, copy: 1e10 };
        let filter =
            Wanted::default().cases().iter().min_by_key(|c| c.op.cost(&c.x, &c.w).flops).map(full_name).unwrap();
        let caps = Caps::cpu(Isa::best());
        let wanted = Wanted::new(&[filter]).unwrap();
        let options = BenchOptions {
            wanted: &wanted,
            all: false,
            weights: Storage::F16,
            caps: &caps,
            samples: Some(3),
            min_time: None,
        };
        let mut rows = Vec::new();
        let passed = run(&options, &ceilings, &workers, &mut |event| {
            if let BenchEvent::Row(row) = event {
                rows.push(row.clone());
            }
        });
        assert!(passed.unwrap());
        assert_eq!(rows.iter().filter(|r| r.chosen).count(), 1);
        assert!(rows.iter().all(|r| r.error <= r.bound
            && r.median() > 0.0
            && r.runs.len() == 3
            && r.fma_peak > 0.0
            && r.failure.is_none()));
    }
}
