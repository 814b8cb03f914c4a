//! Before a plan's kernels are trusted on a device, each is run there on a small case and
//! compared with its f64 definition.
//!
//! Kernels are told apart by their shaders' final text, so two steps that run the same code are checked once. Verdicts
//! are remembered by adapter, driver and text. A variant that fails is refused, and the next plan does without it.

use super::check::Bench;
use super::disk;
use crate::check::{Layout, Prepared};
use crate::error::Result;
use crate::graph::plan::{Plan, Step};
use crate::kernels::gpu::{self, Launch, LaunchIo, Storage, View, wgsl};
use crate::kernels::{Case, Data, Role};
use crate::tensor::Shape;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};

/// A variant that must not be used, and why.
pub(super) struct Refusal {
    pub(super) op: &'static str,
    pub(super) variant: &'static str,
    pub(super) why: String,
}

/// What is known of this device's kernels: by the text's digest, whether it passed.
#[derive(Default)]
pub(super) struct Verdicts {
    known: BTreeMap<String, bool>,
    /// Kernels checked by this process.
    pub(super) checked: usize,
}

impl Verdicts {
    /// From the last run.
    pub(super) fn load(bench: &Bench) -> Self {
        let bytes = disk::load(&bench.device().owner(), "verdicts").unwrap_or_default();
        let text = String::from_utf8(bytes).unwrap_or_default();
        let line = |l: &str| l.split_once(' ').map(|(digest, verdict)| (digest.to_owned(), verdict == "passed"));
        Self { known: text.lines().filter_map(line).collect(), checked: 0 }
    }

    fn save(&self, bench: &Bench) {
        let line = |(digest, ok): (&String, &bool)| format!("{digest} {}\n", if *ok { "passed" } else { "failed" });
        let text: String = self.known.iter().map(line).collect();
        disk::save(&bench.device().owner(), "verdicts", text.as_bytes());
    }

    /// Checks what of a plan has never been checked on this device; gives the first variant that is not to be trusted.
    pub(super) fn judge(&mut self, bench: &Bench, plan: &Plan) -> Result<Option<Refusal>> {
        let mut kernels: HashMap<String, &Step> = HashMap::new();
        for step in &plan.steps {
            let digest = digest(&step.launch, plan.storage)?;
            // Of the steps that run the same code, the one with the least work.
            kernels
                .entry(digest)
                .and_modify(|s| {
                    if step.cost.flops < s.cost.flops {
                        *s = step
                    }
                })
                .or_insert(step);
        }
        let mut kernels: Vec<_> = kernels.into_iter().collect();
        kernels.sort_by_key(|(digest, step)| (step.cost.flops, digest.clone()));
        let mut refusal = None;
        let before = self.checked;
        for (digest, step) in kernels {
            let passed = match self.known.get(&digest) {
                Some(known) => *known,
                None => {
                    self.checked += 1;
                    let outcome = self.check(bench, plan, step)?;
                    self.known.insert(digest, outcome.is_none());
                    refusal = refusal.or(outcome);
                    continue;
                }
            };
            if !passed && refusal.is_none() {
                refusal = Some(refuse(step, "failed its self-test on this device earlier".into()));
            }
        }
        if self.checked > before {
            self.save(bench);
        }
        Ok(refusal)
    }

    fn check(&self, bench: &Bench, plan: &Plan, step: &Step) -> Result<Option<Refusal>> {
        let mut limits = gpu::Limits { storage: plan.storage, ..bench.device().limits().clone() };
        if step.w.iter().any(|w| plan.weights[*w].exact) {
            limits.weights = Storage::F32;
        }
        let weights = limits.weights;
        let case = small_case(plan, step, &limits)?;
        let prepared = Prepared::stored(&case, weights, plan.storage)?;
        let outcome = prepared.check_gpu(bench, &limits, step.variant, Layout::Own)?;
        Ok((!outcome.passed()).then(|| refuse(step, outcome.to_string())))
    }
}

fn refuse(step: &Step, why: String) -> Refusal {
    Refusal { op: step.op.name(), variant: step.variant_name, why }
}

/// Of all the shaders of a launch, as they are compiled.
fn digest(launch: &Launch, storage: Storage) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update([storage.bytes() as u8]);
    for d in &launch.dispatches {
        hash.update(wgsl::text(&d.shader)?);
    }
    Ok(hash.finalize()[..16].iter().map(|b| format!("{b:02x}")).collect())
}

/// The step on fewer rows, as few as still run the same shaders: what is checked must be what runs.
fn small_case(plan: &Plan, step: &Step, limits: &gpu::Limits) -> Result<Case> {
    let dims: Vec<_> = step.w.iter().map(|w| plan.weights[*w].weight.dims).collect();
    let case = |op, x: Vec<Shape>| Case {
        name: format!("selftest {}", step.name),
        op,
        x,
        w: dims.clone(),
        data: Data::Normal,
        role: Role::Bench,
    };
    let full: Vec<Shape> = step.x.iter().map(|v| v.shape).collect();
    for (h, w) in [(1, 5), (3, 5), (4, 8), (8, 8), (1, 77), (16, 16), (32, 32), (64, 64)] {
        let Some((op, x)) = crate::kernels::shrink(&step.op, &full, (h, w)) else { continue };
        let Ok(y) = op.output(&x, &dims) else { continue };
        let views: Vec<View> = x.iter().copied().map(View::whole).collect();
        let supported = gpu::variants(&op, &x, &dims, limits)[step.variant].supported;
        let io = LaunchIo { x: &views, w: &dims, y: View::whole(y[0]), limits };
        if supported && gpu::launch(&op, step.variant, &io).is_ok_and(|l| same_shaders(&l, &step.launch)) {
            return Ok(case(op, x));
        }
    }
    Ok(case(step.op, full))
}

fn same_shaders(a: &Launch, b: &Launch) -> bool {
    let mut left: Vec<_> = a.dispatches.iter().map(|d| &d.shader).collect();
    let mut right: Vec<_> = b.dispatches.iter().map(|d| &d.shader).collect();
    left.dedup();
    right.dedup();
    left == right
}
