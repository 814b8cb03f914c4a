//! Why a plan runs as it does: a plan and a backend go in; what was chosen, from what, and for which reason, comes out.

use crate::backend::Backend as _;
use crate::backend::cpu::Cpu;
use crate::backend::cpu::probe::{Probed, Reason};
use crate::error::Result;
use crate::graph::fuse::Rewrite;
use crate::graph::plan::{Plan, Step};
use crate::kernels::cpu::{conv2d, variants};
use crate::kernels::{Dims, Op};
use crate::simd::{ISA_VARIABLE, Isa};
use crate::system;
use crate::tensor::Shape;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The whole story as text: processor, sizes, rewrites, then each kind of step.
///
/// # Errors
/// As [`Cpu::tuned`].
pub fn explain(cpu: &Cpu, plan: &Plan) -> Result<String> {
    let mut out = machine(cpu);
    out += &sizes(&cpu.tuned()?);
    let off = cpu.caps().rewrites_off;
    let (off, on): (Vec<Rewrite>, Vec<Rewrite>) = Rewrite::ALL.iter().partition(|rewrite| off.contains(rewrite));
    let names = |all: &[Rewrite]| all.iter().map(|rewrite| rewrite.name()).collect::<Vec<_>>().join(", ");
    let off = if off.is_empty() { "none".to_owned() } else { names(&off) };
    let _ = writeln!(out, "rewrites: {}; off: {off}", names(&on));
    let _ = writeln!(out, "\nplan {}: of the variants that support a shape, slowest first, the last runs", plan.name);
    let mut groups: BTreeMap<(&str, &str), BTreeMap<String, usize>> = BTreeMap::new();
    for step in &plan.steps {
        let lines = groups.entry((step.op.name(), step.variant_name)).or_default();
        *lines.entry(line(plan, step)).or_default() += 1;
    }
    for ((op, variant), lines) in groups {
        let steps: usize = lines.values().sum();
        let _ = writeln!(out, "{op}/{variant}, {steps} steps");
        for (line, count) in lines {
            let _ = writeln!(out, "  {count:>3} x {line}");
        }
    }
    Ok(out)
}

fn machine(cpu: &Cpu) -> String {
    let names = |sets: Vec<Isa>| sets.iter().map(Isa::to_string).collect::<Vec<_>>().join(", ");
    let forced = std::env::var_os(ISA_VARIABLE).is_some();
    let why =
        if forced { format!("{ISA_VARIABLE} says so") } else { format!("the widest of {}", names(Isa::available())) };
    let missing = names(Isa::ALL.into_iter().filter(|isa| !isa.is_available()).collect());
    let missing = if missing.is_empty() { String::new() } else { format!("; missing here: {missing}") };
    let (threads, cores) = (cpu.workers().threads(), system::physical_cores());
    let which = if threads == cores {
        "the physical cores that this process may use".into()
    } else {
        format!("of {cores} cores")
    };
    let name = system::processor_name().unwrap_or_else(|| std::env::consts::ARCH.into());
    format!("processor: {name}\nthreads: {threads}, {which}\ninstruction set: {}, {why}{missing}\n", cpu.caps().isa())
}

fn sizes(choice: &Probed) -> String {
    let mut out = format!("sizes (no result depends on them): {}\n", choice.tuning);
    match &choice.reason {
        Reason::Cached(file) => {
            let _ = writeln!(out, "  remembered in {}; delete it to measure again", file.display());
        }
        Reason::Measured { lines, took, kept } => {
            for line in lines {
                let _ = writeln!(out, "  {line}");
            }
            let _ = match kept {
                Some(file) => {
                    writeln!(out, "  measured in {:.2} s, remembered in {}", took.as_secs_f64(), file.display())
                }
                None => writeln!(out, "  measured in {:.2} s; no cache folder can be written", took.as_secs_f64()),
            };
        }
    }
    out
}

/// A step's shapes, and what decided between its variants.
fn line(plan: &Plan, step: &Step) -> String {
    let x: Vec<Shape> = step.x.iter().map(|v| v.shape).collect();
    let w: Vec<Dims> = step.w.iter().map(|i| plan.weights[*i].weight.dims).collect();
    let sources = match step.op {
        Op::Conv2d(op) => op.sources(),
        Op::Matmul(op) => op.sources(),
        _ => x.len().min(1),
    };
    let shapes: Vec<String> = x[..sources].iter().map(Shape::to_string).collect();
    let mut line = format!("{} -> {}", shapes.join(" + "), plan.values[step.y].shape);
    let passed: Vec<&str> = variants(&step.op, &x, &w).iter().filter(|v| !v.supported).map(|v| v.name).collect();
    if !passed.is_empty() {
        let _ = write!(line, "; not {}", passed.join(", "));
    }
    if let Op::Conv2d(op) = &step.op
        && let Some((form, share)) = conv2d::fast_share(op, &x, &w)
    {
        let verdict = if share < 1.0 { "pays" } else { "does not pay" };
        let _ = write!(line, "; {form} has {share:.2} of the direct form's instructions: {verdict}");
    }
    if let Op::Conv2d(crate::kernels::conv2d::Conv2d { norm: Some(_), .. })
    | Op::Matmul(crate::kernels::matmul::Matmul { norm: Some(_), .. }) = step.op
    {
        line += "; GroupNorm on the way in";
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Model;
    use crate::dtype::Storage;
    use crate::models::part::Part;
    use crate::models::part::StepShape;

    #[test]
    fn every_step_is_explained() {
        let cpu = Cpu::new(1, Isa::best(), Storage::F16).unwrap();
        let shape = StepShape { samples: 1, contexts: 2, times: 1, h: 64, w: 64, tokens: 77 };
        let plan = Plan::new(Part::Step(shape).graph(&Model::random_sd15().networks).unwrap(), &cpu.caps()).unwrap();
        let choice = Probed { tuning: Default::default(), reason: Reason::Cached("a file".into()) };
        assert!(sizes(&choice).contains("a file") && machine(&cpu).contains("instruction set"));
        let lines: Vec<String> = plan.steps.iter().map(|s| line(&plan, s)).collect();
        assert!(
            lines.iter().any(|l| l.contains("winograd has 0.") && l.contains("pays") && l.contains("on the way in"))
        );
        assert!(lines.iter().any(|l| l.contains("not upsample9, winograd")));
    }
}
