//! The case tables on a GPU: each variant checked, then timed by the device's own clock where it has one.

use super::ceiling::Ceilings;
use super::kernels::{Event, Options, Row, select};
use super::stats::Sampling;
use crate::backend::gpu::check::Bench;
use crate::backend::gpu::roofline::Roofline;
use crate::check::{Layout, Prepared, WeightType, full_name};
use crate::error::Result;
use crate::kernels::gpu::{Storage, variants};
use crate::kernels::{Caps, Case, choose};
use std::time::{Duration, Instant};

/// Without a filter, what all cases together may take.
const TOTAL: Duration = Duration::from_secs(100);
/// What one run of a variant may take at the device's measured pace, unless all are wanted.
const PATIENCE: Duration = Duration::from_secs(2);
/// A variant's samples.
const SAMPLES: Duration = Duration::from_millis(500);
/// The share of the peak that a naive variant may be expected to reach.
const NAIVE_SHARE: f64 = 0.01;

/// A device's ceilings in the form that reports compare with.
pub fn ceilings(roofline: Roofline) -> Ceilings {
    Ceilings { fma_peak: roofline.fma, read: roofline.copy, copy: roofline.copy }
}

/// Checks and times; gives whether every check passed.
pub fn run(options: &Options<'_>, roofline: Roofline, bench: &Bench, tell: &mut dyn FnMut(Event<'_>)) -> Result<bool> {
    let mut cases = select(options.filter)?;
    let hurried = options.filter.is_none() && !options.all;
    if hurried {
        cases.sort_by_key(|c| c.op.cost(&c.x, &c.w).flops);
    }
    let (begun, mut passed) = (Instant::now(), true);
    for (i, case) in cases.iter().enumerate() {
        let name = full_name(case);
        if hurried && begun.elapsed() > TOTAL {
            tell(Event::Skipped(&name, estimate(case, "", roofline)));
            continue;
        }
        tell(Event::Case(i, cases.len(), &name));
        passed &= one(options, roofline, bench, case, tell)?;
    }
    Ok(passed)
}

fn estimate(case: &Case, variant: &str, roofline: Roofline) -> Duration {
    let share = if variant == "naive" { NAIVE_SHARE } else { 10.0 * NAIVE_SHARE };
    Duration::from_secs_f64(case.op.cost(&case.x, &case.w).flops as f64 / (share * roofline.fma))
}

fn one(
    options: &Options<'_>,
    roofline: Roofline,
    bench: &Bench,
    case: &Case,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<bool> {
    let limits = bench.device().limits();
    let weights = if limits.weights == Storage::F32 { WeightType::F32 } else { WeightType::F16 };
    let infos = variants(&case.op, &case.x, &case.w, limits);
    let (chosen, _) = choose(&case.op, &case.x, &case.w, &Caps::gpu(limits.clone()))?;
    let (mut prepared, mut passed) = (None, true);
    for (i, info) in infos.iter().enumerate().rev().filter(|(_, info)| info.supported) {
        let expected = estimate(case, info.name, roofline);
        if !options.all && expected > PATIENCE {
            tell(Event::Skipped(&format!("{}/{}", full_name(case), info.name), expected));
            continue;
        }
        let prepared = match &prepared {
            Some(p) => p,
            None => prepared.insert(Prepared::stored(case, weights, limits.storage)?),
        };
        let outcome = prepared.check_gpu(bench, limits, i, Layout::Own)?;
        let mut runs = Vec::new();
        if outcome.passed() {
            let ready = prepared.on_gpu(bench, limits, i, Layout::Own)?;
            ready.time()?;
            let (sampling, start) = (Sampling::within(SAMPLES), Instant::now());
            while !sampling.enough(runs.len(), start.elapsed()) {
                runs.push(ready.time()?.as_secs_f64());
            }
        }
        passed &= outcome.passed();
        tell(Event::Row(&Row {
            case: full_name(case),
            op: case.op.name(),
            variant: info.name,
            chosen: i == chosen,
            runs,
            cost: case.op.cost(&case.x, &case.w),
            error: outcome.error,
            bound: outcome.bound,
            failure: (!outcome.passed()).then(|| outcome.to_string()),
        }));
    }
    Ok(passed)
}
