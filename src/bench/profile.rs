//! The steps of one timed run go in; where the time goes, by kind of op and by step, comes out.

use crate::graph::plan::Plan;
use crate::kernels::Cost;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// How many of the slowest steps are kept.
const SLOWEST: usize = 12;

/// Where a run's time goes.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Kinds of work, the longest first.
    pub classes: Vec<Entry>,
    /// Single steps, the longest first.
    pub slowest: Vec<Entry>,
}

/// A step, or several.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// `conv2d/panels`, or the step's path in the checkpoint with that.
    pub name: String,
    /// How many steps.
    pub steps: usize,
    /// Seconds.
    pub seconds: f64,
    /// Work and least traffic.
    pub cost: Cost,
}

impl Entry {
    fn add(&mut self, seconds: f64, cost: Cost) {
        self.steps += 1;
        self.seconds += seconds;
        self.cost.flops += cost.flops;
        self.cost.bytes += cost.bytes;
    }
}

impl Profile {
    /// `times` has one duration for each step of the plan.
    pub fn new(plan: &Plan, times: &[Duration]) -> Self {
        let mut classes: BTreeMap<String, Entry> = BTreeMap::new();
        let mut slowest = Vec::new();
        for (step, time) in plan.steps.iter().zip(times) {
            let class = format!("{}/{}", step.op.name(), step.variant_name);
            let name = format!("{} ({class})", step.name);
            let seconds = time.as_secs_f64();
            let empty = Entry { name: class.clone(), ..Entry::default() };
            classes.entry(class).or_insert(empty).add(seconds, step.cost);
            slowest.push(Entry { name, steps: 1, seconds, cost: step.cost });
        }
        let mut classes: Vec<Entry> = classes.into_values().collect();
        for list in [&mut classes, &mut slowest] {
            list.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        }
        slowest.truncate(SLOWEST);
        Self { classes, slowest }
    }

    /// Both tables as text; `fma_peak` in FLOP/s.
    pub fn table(&self, fma_peak: f64) -> String {
        let total: f64 = self.classes.iter().map(|e| e.seconds).sum();
        let mut out = String::new();
        for (title, list) in [("by op and variant", &self.classes), ("slowest steps", &self.slowest)] {
            let width = list.iter().map(|e| e.name.len()).chain([title.len()]).max().unwrap_or(0);
            let _ = writeln!(
                out,
                "\n{title:<width$} {:>5} {:>9} {:>6} {:>9} {:>7} {:>8}",
                "steps", "ms", "time", "GFLOP/s", "of peak", "GB/s"
            );
            for e in list {
                let rate = e.cost.flops as f64 / e.seconds;
                let _ = writeln!(
                    out,
                    "{:<width$} {:>5} {:>9.2} {:>5.1}% {:>9.1} {:>6.1}% {:>8.1}",
                    e.name,
                    e.steps,
                    e.seconds * 1e3,
                    100.0 * e.seconds / total,
                    rate * 1e-9,
                    100.0 * rate / fma_peak,
                    e.cost.bytes as f64 / e.seconds * 1e-9
                );
            }
        }
        out
    }
}
