//! The case tables on a GPU: each variant checked, then timed by the device's own clock where it has one.

use super::ceiling::Ceilings;
use super::kernels::{BenchEvent, BenchOptions, Row};
use crate::backend::gpu::Gpu;
use crate::backend::gpu::check::Bench;
use crate::backend::gpu::roofline::Roofline;
use crate::backend::gpu::tensor_cores::Verdict;
use crate::check::{Layout, Prepared, full_name};
use crate::error::Result;
use crate::graph::choose::choose;
use crate::graph::plan::Plan;
use crate::kernels::Case;
use crate::kernels::gpu::{GpuVariantInfo, Limits, variants};
use std::collections::BTreeMap;
use std::fmt::Write as _;
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

/// Checks and times on a device; gives whether every check passed.
pub fn run(
    options: &BenchOptions<'_>,
    roofline: Roofline,
    bench: &Bench,
    tell: &mut dyn FnMut(BenchEvent<'_>),
) -> Result<bool> {
    let mut cases = options.wanted.cases();
    let hurried = options.hurried();
    if hurried {
        cases.sort_by_key(|c| c.op.cost(&c.x, &c.w).flops);
    }
    let (begun, mut passed) = (Instant::now(), true);
    for (i, case) in cases.iter().enumerate() {
        let name = full_name(case);
        if hurried && begun.elapsed() > TOTAL {
            tell(BenchEvent::Skipped(&name, estimate(case, "", roofline)));
            continue;
        }
        tell(BenchEvent::Case(i, cases.len(), &name));
        passed &= one(options, roofline, bench, case, tell)?;
    }
    Ok(passed)
}

fn estimate(case: &Case, variant: &str, roofline: Roofline) -> Duration {
    let share = if variant == "naive" { NAIVE_SHARE } else { 10.0 * NAIVE_SHARE };
    Duration::from_secs_f64(case.op.cost(&case.x, &case.w).flops as f64 / (share * roofline.fma))
}

fn one(
    options: &BenchOptions<'_>,
    roofline: Roofline,
    bench: &Bench,
    case: &Case,
    tell: &mut dyn FnMut(BenchEvent<'_>),
) -> Result<bool> {
    let limits = bench.device().limits();
    let weights = limits.weights;
    let infos = variants(&case.op, &case.x, &case.w, limits);
    let (chosen, _) = choose(&case.op, &case.x, &case.w, options.caps)?;
    let (mut prepared, mut passed) = (None, true);
    let count = infos.iter().filter(|info| info.supported).count();
    let measured = |info: &GpuVariantInfo| info.supported && options.wanted.variant(info.name, count);
    for (i, info) in infos.iter().enumerate().rev().filter(|(_, info)| measured(info)) {
        let expected = estimate(case, info.name, roofline);
        if !options.all && expected > PATIENCE {
            tell(BenchEvent::Skipped(&format!("{}/{}", full_name(case), info.name), expected));
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
            let (sampling, start) = (options.sampling(SAMPLES), Instant::now());
            while !sampling.enough(runs.len(), start.elapsed()) {
                runs.push(ready.time()?.as_secs_f64());
            }
        }
        passed &= outcome.passed();
        tell(BenchEvent::Row(&Row {
            case: full_name(case),
            op: case.op.name(),
            variant: info.name,
            chosen: i == chosen,
            runs,
            fma_peak: roofline.fma,
            cost: case.op.cost(&case.x, &case.w),
            error: outcome.error,
            bound: outcome.bound,
            failure: (!outcome.passed()).then(|| outcome.to_string()),
        }));
    }
    Ok(passed)
}

/// What a plan is on a device, as text: what of the device is used, how many calls and submissions one run takes, then
/// its steps by op and variant.
pub fn explain(gpu: &Gpu, plan: &Plan) -> String {
    let device = gpu.device();
    let mut out = format!("device: {}, {:?} storage\n", device.describe(), device.limits().storage);
    for fault in device.adapter().faults() {
        let _ = writeln!(out, "known fault: {} off: {} ({})", fault.off, fault.why, fault.source);
    }
    let verdict = device.limits().coop.map(|c| (c, Verdict::known(device.adapter(), device.options())));
    let _ = match verdict {
        None => writeln!(out, "tensor cores: none that can be used"),
        Some((c, Some(v))) => writeln!(out, "tensor cores: {0}x{0}x{0}, {v}", c.size),
        Some((c, None)) => writeln!(out, "tensor cores: {0}x{0}x{0}, not measured: they multiply f16 only", c.size),
    };
    let pieces = pieces(plan, device.limits());
    let calls: usize = plan.dispatches();
    let submits = submits(&pieces, device.budget());
    let _ = writeln!(
        out,
        "plan {}: {calls} dispatches, {} after long ones are cut, {submits} submits of at most {:.0} GFLOP to begin with",
        plan.name,
        pieces.len(),
        device.budget() as f64 * 1e-9
    );
    let mut kinds: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for step in &plan.steps {
        let (steps, calls) = kinds.entry((step.op.name(), step.variant_name)).or_default();
        *steps += 1;
        *calls += step.launch.dispatches.len();
    }
    for ((op, variant), (steps, calls)) in kinds {
        let _ = writeln!(out, "  {op}/{variant}: {steps} steps, {calls} dispatches");
    }
    out
}

/// FLOPs of every call of a plan, long dispatches cut as a device with these limits cuts them.
pub fn pieces(plan: &Plan, limits: &Limits) -> Vec<u64> {
    let mut all = Vec::new();
    for (d, flops) in plan.steps.iter().flat_map(|s| s.launch.shares(s.cost.flops)) {
        let x = d.grid[0];
        let length = limits.piece(x, flops).max(1);
        let piece = |first: u32| flops / u64::from(x) * u64::from(length.min(x - first));
        all.extend((0..x).step_by(length as usize).map(piece));
    }
    all
}

/// Submissions of calls with these FLOPs, each of at most `budget` or of one call.
pub fn submits(pieces: &[u64], budget: u64) -> usize {
    let (mut count, mut room) = (0, 0);
    for flops in pieces {
        if count == 0 || *flops > room {
            (count, room) = (count + 1, budget);
        }
        room = room.saturating_sub(*flops);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Model;
    use crate::dtype::Storage;
    use crate::graph::target::Caps;
    use crate::models::part::Part;
    use crate::models::part::StepShape;

    #[test]
    fn submissions_are_filled_up_to_the_budget() {
        assert_eq!(submits(&[], 10), 0);
        assert_eq!(submits(&[3, 3, 4, 1], 10), 2);
        // One call that is too long goes alone.
        assert_eq!(submits(&[25, 1, 1], 10), 2);
        assert_eq!(submits(&[1, 25, 1], 10), 3);
    }

    /// What a guided step of SD 1.5 takes of a queue, from the plan alone.
    #[test]
    fn a_step_of_sd15_is_few_calls() {
        let shape = StepShape { samples: 1, contexts: 2, times: 1, h: 64, w: 64, tokens: 77 };
        let limits = Limits::webgpu(Storage::F16);
        let graph = Part::Step(shape).graph(&Model::random_sd15().networks).unwrap();
        let plan = Plan::new(graph, &Caps::gpu(limits.clone())).unwrap();
        let all = pieces(&plan, &limits);
        let total: u64 = all.iter().sum();
        println!("{} dispatches, {} pieces, {} submits", plan.dispatches(), all.len(), submits(&all, 20_000_000_000));
        // Division by workgroups loses a little.
        assert!(total <= plan.cost().flops && total as f64 > 0.99 * plan.cost().flops as f64);
        assert!(all.len() >= plan.dispatches() && all.len() < 2 * plan.dispatches());
        assert!(all.iter().all(|f| *f <= limits.max_flops));
        // 1.6 TFLOP at 20 GFLOP each, one more for each that could not be filled.
        assert!((80..=160).contains(&submits(&all, 20_000_000_000)));
        assert_eq!(submits(&all, u64::MAX), 1);
    }
}
