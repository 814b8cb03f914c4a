//! Before a plan's kernels are trusted on this processor, each is run on small cases and compared with its f64
//! definition: a plan goes in, the first variant that is wrong comes out.
//!
//! A verdict holds for the process: a compiler, a flag or a processor may be at fault, none of which changes meanwhile.
//! Only cases of little work are run: it must not be felt.

use crate::check::{Layout, Outcome, Prepared};
use crate::dtype::Storage;
use crate::error::Result;
use crate::graph::plan::Plan;
use crate::kernels::{Case, Role, cases, cpu};
use crate::simd::Isa;
use crate::workers::Workers;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{LazyLock, Mutex, PoisonError};

/// FLOPs of a case that is run here, at most.
const LITTLE: u64 = 100_000;
/// Cases of a variant, the largest of those.
const CASES: usize = 3;

/// A variant that must not be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) op: &'static str,
    pub(super) variant: &'static str,
    pub(super) why: String,
}

type Key = (&'static str, &'static str, Isa, Storage);

/// Why a variant is wrong, by variant, instruction set and type of weights; nothing where it is right.
static KNOWN: LazyLock<Mutex<HashMap<Key, Option<String>>>> = LazyLock::new(Mutex::default);

/// Checks what of a plan was never checked by this process; gives the first variant that is wrong.
pub(super) fn judge(plan: &Plan, isa: Isa, weights: Storage, workers: &Workers) -> Result<Option<Wrong>> {
    let check = |case: &Case, variant: usize| Prepared::new(case, weights)?.check(variant, isa, Layout::Own, workers);
    // The map is consistent between any two statements.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    first_wrong(plan, (isa, weights), &mut known, &check)
}

fn first_wrong(
    plan: &Plan,
    (isa, weights): (Isa, Storage),
    known: &mut HashMap<Key, Option<String>>,
    check: &dyn Fn(&Case, usize) -> Result<Outcome>,
) -> Result<Option<Wrong>> {
    let mut all = Vec::new();
    for step in &plan.steps {
        let (op, variant) = (step.op.name(), step.variant_name);
        let key = (op, variant, isa, weights);
        let why = match known.entry(key) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => {
                if all.is_empty() {
                    all = cases();
                }
                let mut why = None;
                for case in little(&all, op, step.variant) {
                    let outcome = check(case, step.variant)?;
                    why = why.or_else(|| (!outcome.passed()).then(|| outcome.to_string()));
                }
                new.insert(why).clone()
            }
        };
        if let Some(why) = why {
            return Ok(Some(Wrong { op, variant, why }));
        }
    }
    Ok(None)
}

/// The largest cases of little work that a variant runs, or the one of least work.
fn little<'a>(all: &'a [Case], op: &str, variant: usize) -> Vec<&'a Case> {
    let flops = |c: &&Case| c.op.cost(&c.x, &c.w).flops;
    let runs = |c: &&Case| {
        let supported = || cpu::variants(&c.op, &c.x, &c.w).get(variant).is_some_and(|v| v.supported);
        c.role == Role::Test && c.op.name() == op && supported()
    };
    let mut found: Vec<&Case> = all.iter().filter(runs).collect();
    found.sort_by_key(flops);
    let little = found.partition_point(|c| flops(c) <= LITTLE).max(1).min(found.len());
    found.truncate(little);
    found.split_off(little.saturating_sub(CASES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::target::Caps;
    use crate::graph::{Builder, Graph, Input, Output};
    use crate::kernels::Dims;
    use crate::kernels::matmul::Matmul;
    use crate::tensor::Shape;

    fn product() -> Graph {
        let mut b = Builder::new("step", "root");
        let x = b.input(Input::new("x"), Shape::tokens(1, 4, 8));
        let w = b.weight("weight", Dims::matrix(8, 8));
        let y = b.push("product", Matmul::default(), &[x], vec![w]).unwrap();
        b.output(Output::new("y"), y);
        b.finish()
    }

    #[test]
    fn every_variant_has_a_case_of_little_work() {
        let all = cases();
        for (op, name) in cpu::names() {
            let of = || all.iter().filter(|c| c.op.name() == op);
            let n = of().find_map(|c| cpu::variants(&c.op, &c.x, &c.w).iter().position(|v| v.name == name));
            assert!(!little(&all, op, n.unwrap()).is_empty(), "{op}/{name}");
        }
    }

    #[test]
    fn a_variant_that_is_wrong_is_named_and_the_next_plan_does_without() {
        let workers = Workers::new(1).unwrap();
        let mut known = HashMap::new();
        let mut asked = 0;
        let mut caps = Caps::cpu(Isa::Scalar);
        let wrong = |name: &str, plan: &Plan, known: &mut HashMap<Key, Option<String>>, asked: &mut usize| {
            let count = std::cell::Cell::new(*asked);
            let check = |case: &Case, variant: usize| {
                count.set(count.get() + 1);
                let prepared = Prepared::new(case, Storage::F16)?;
                let mut outcome = prepared.check(variant, Isa::Scalar, Layout::Own, &workers)?;
                if plan.steps[0].variant_name == name {
                    outcome.problem = Some("spoilt for the test".to_owned());
                }
                Ok(outcome)
            };
            let found = first_wrong(plan, (Isa::Scalar, Storage::F16), known, &check).unwrap();
            *asked = count.get();
            found
        };
        let plan = Plan::new(product(), &caps).unwrap();
        assert_eq!(plan.steps[0].variant_name, "panels");
        let found = wrong("panels", &plan, &mut known, &mut asked).expect("it is wrong");
        assert!((found.op, found.variant) == ("matmul", "panels") && found.why.contains("spoilt for the test"));
        assert_eq!(asked, CASES);
        // Known without being run again.
        assert_eq!(wrong("panels", &plan, &mut known, &mut asked), Some(found.clone()));
        assert_eq!(asked, CASES);
        caps.refused.push((found.op, found.variant));
        let plan = Plan::new(product(), &caps).unwrap();
        assert_eq!(plan.steps[0].variant_name, "naive");
        assert_eq!(wrong("panels", &plan, &mut known, &mut asked), None);
    }

    #[test]
    fn what_this_processor_runs_is_right() {
        let workers = Workers::new(2).unwrap();
        let plan = Plan::new(product(), &Caps::cpu(Isa::best())).unwrap();
        assert_eq!(judge(&plan, Isa::best(), Storage::F16, &workers).unwrap(), None);
    }
}
