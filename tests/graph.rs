//! Rewrites keep the meaning of a graph, and a plan never lets two live values share memory.

use crate::common::tiny_model;
use lienzo::backend::cpu::Cpu;
use lienzo::backend::{Backend as _, Run};
use lienzo::checkpoint::Model;
use lienzo::dtype::Storage;
use lienzo::graph::Output;
use lienzo::graph::fuse::Rewrite;
use lienzo::graph::plan::{Place, Plan};
use lienzo::graph::target::Caps;
use lienzo::kernels::Op;
use lienzo::kernels::cpu::InPlace;
use lienzo::models::part::{Part, StepShape};
use lienzo::simd::Isa;
use lienzo::tensor::Tensor;
use std::sync::Arc;

const STEP: StepShape = StepShape { samples: 1, contexts: 2, times: 1, h: 10, w: 6, tokens: 7 };

fn stages() -> Vec<Part> {
    vec![
        Part::Text { encoder: 0, chunks: 2, clip_skip: 2 },
        Part::Context { contexts: 2, tokens: 7 },
        Part::Time { timesteps: 3 },
        Part::Step(STEP),
        Part::Decode { size: (1, 6, 4) },
        Part::Encode { size: (1, 12, 8) },
    ]
}

/// A value that differs from element to element and is the same in every run.
fn ramp(shape: lienzo::tensor::Shape) -> Tensor {
    let data = (0..shape.len()).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    Tensor::new(shape, data).expect("as many values as the shape has")
}

/// Steps and bytes moved, and the outputs.
fn outputs(model: &Arc<Model>, stage: Part, off: &[Rewrite]) -> ((usize, u64), Vec<Tensor>) {
    let caps = Caps { rewrites_off: off.to_vec(), ..Caps::cpu(Isa::best()) };
    let cpu = Cpu::new(2, Isa::best(), Storage::F32).expect("two threads").with_caps(caps);
    let plan = Plan::new(stage.graph(&model.networks).expect("a graph"), &cpu.caps()).expect("a plan");
    let names: Vec<Output> = plan.outputs.iter().map(|(n, _)| *n).collect();
    let inputs: Vec<_> = plan.inputs.iter().map(|(n, id)| (*n, plan.values[*id].shape)).collect();
    let passes = (plan.steps.len(), plan.cost().bytes);
    let mut program = cpu.load(Arc::new(plan), model).expect("a program");
    for (name, shape) in inputs {
        program.set(name, &ramp(shape).into()).expect("a known input");
    }
    program.run(Run::Stepped(&mut |_, _| Ok(()))).expect("a run");
    let get = |n: &Output| Arc::unwrap_or_clone(program.get(*n).expect("an output").host().expect("host data"));
    (passes, names.iter().map(get).collect())
}

#[test]
fn each_rewrite_keeps_the_meaning_and_saves_steps() {
    let model = Arc::new(tiny_model());
    let all = Rewrite::ALL;
    for stage in stages() {
        let (fused_steps, fused) = outputs(&model, stage, &[]);
        let (plain_steps, plain) = outputs(&model, stage, &all);
        assert!(fused_steps.0 <= plain_steps.0 && fused_steps.1 <= plain_steps.1);
        close(&fused, &plain, &format!("{stage:?} without any rewrite"));
        for rewrite in all {
            let (steps, y) = outputs(&model, stage, &[rewrite]);
            assert!(steps.0 >= fused_steps.0, "{stage:?}: {rewrite:?} adds steps");
            close(&fused, &y, &format!("{stage:?} without {rewrite:?}"));
        }
    }
    // A rewrite that never fires would pass the above.
    let sum = |a: (usize, u64), b: (usize, u64)| (a.0 + b.0, a.1 + b.1);
    let passes = |off: &[Rewrite]| stages().into_iter().map(|s| outputs(&model, s, off).0).fold((0, 0), sum);
    let fused = passes(&[]);
    // `norm_given` is for devices that keep passes for norms; it saves them dispatches, see `gpu_plan`.
    for rewrite in all.into_iter().filter(|rewrite| *rewrite != Rewrite::NormGiven) {
        let without = passes(&[rewrite]);
        assert!(without.0 > fused.0 || without.1 > fused.1, "{rewrite:?} saves nothing anywhere");
    }
}

/// As on a GPU, where the norms keep passes of their own.
#[test]
fn norms_take_statistics_from_their_producers() {
    let model = Arc::new(tiny_model());
    let (mut given, mut norms) = (0, 0);
    for stage in stages() {
        let caps = Caps { rewrites_off: vec![Rewrite::NormRead], ..Caps::cpu(Isa::Scalar) };
        let plan = Plan::new(stage.graph(&model.networks).expect("a graph"), &caps).expect("a plan");
        check_memory(&plan);
        let each = plan.steps.iter().filter_map(|s| if let Op::GroupNorm(n) = s.op { Some(n.given) } else { None });
        each.for_each(|g| (given, norms) = (given + usize::from(g), norms + 1));
        let (_, with) = outputs(&model, stage, &[Rewrite::NormRead]);
        let (_, without) = outputs(&model, stage, &[Rewrite::NormRead, Rewrite::NormGiven]);
        close(&with, &without, &format!("{stage:?} with given statistics"));
    }
    // Every norm follows a product.
    assert!(norms > 40 && given == norms, "{given} of {norms}");
}

fn close(a: &[Tensor], b: &[Tensor], what: &str) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        let rms = (a.data().iter().map(|v| v * v).sum::<f32>() / a.data().len() as f32).sqrt();
        let worst = a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-4 * rms, "{what}: {worst} off, rms {rms}");
    }
}

#[test]
fn values_that_live_together_do_not_share_memory() {
    for model in [tiny_model(), Model::random_sd15()] {
        for stage in stages() {
            check_memory(
                &Plan::new(stage.graph(&model.networks).expect("a graph"), &Caps::cpu(Isa::Scalar)).expect("a plan"),
            );
        }
    }
}

/// Independent of the planner: for each step, everything that has been written and is still to be read.
fn check_memory(plan: &Plan) {
    let last_read = |id: usize| {
        let by_step = plan.steps.iter().rposition(|s| s.x.iter().any(|v| v.id == id)).unwrap_or(0);
        if plan.outputs.iter().any(|(_, o)| *o == id) { plan.steps.len() } else { by_step }
    };
    let range = |id: usize| match plan.values[id].place {
        Place::Slot { offset } => offset..offset + plan.values[id].elems(),
        Place::Input(_) | Place::Buffer(_) => panic!("{}: a step writes an input", plan.name),
    };
    let all = plan.steps.iter().enumerate().flat_map(|(i, s)| s.written().map(move |id| (id, i)));
    let written: Vec<(usize, usize, usize)> = all.map(|(id, i)| (id, i, last_read(id).max(i))).collect();
    for (i, step) in plan.steps.iter().enumerate() {
        let mut live: Vec<_> = written.iter().filter(|(_, a, b)| *a <= i && i <= *b).map(|(id, ..)| *id).collect();
        // One exception: an output may take the place of a whole operand that ends here.
        if let Some(operand) = step.in_place.map(|how| step.x[how.operand()]) {
            let (from, to) = (range(operand.id), range(step.y));
            assert!(from.start == to.start && to.end <= from.end);
            assert!(from == to || !matches!(step.in_place, Some(InPlace::Element(_))));
            assert_eq!((operand.offset, operand.shape), (0, plan.values[operand.id].shape));
            assert_eq!(last_read(operand.id), i);
            assert_eq!(step.x.iter().filter(|x| x.id == operand.id).count(), 1);
            live.retain(|id| *id != operand.id);
        }
        let mut live: Vec<_> = live.into_iter().map(range).collect();
        if step.scratch.shared > 0 {
            live.push(step.scratch_offset..step.scratch_offset + step.scratch.shared);
        }
        live.sort_by_key(|r| r.start);
        for pair in live.windows(2) {
            assert!(pair[0].end <= pair[1].start, "plan {}, step {}: {pair:?} overlap", plan.name, step.name);
        }
        assert!(live.iter().all(|r| r.end <= plan.arena));
    }
    assert!(plan.arena <= plan.arena_unshared);
}

#[test]
fn outputs_take_the_place_of_operands() {
    let model = Model::random_sd15();
    let plan = |stage: Part| {
        Plan::new(stage.graph(&model.networks).expect("a graph"), &Caps::cpu(Isa::Scalar)).expect("a plan")
    };
    let shape = StepShape { samples: 1, contexts: 2, times: 1, h: 64, w: 64, tokens: 77 };
    for (stage, megabytes) in [(Part::Step(shape), 105), (Part::Decode { size: (1, 64, 64) }, 413)] {
        let plan = plan(stage);
        let mut residuals = 0;
        for step in &plan.steps {
            let residual = match step.op {
                Op::Matmul(op) => op.residual,
                Op::Conv2d(op) => op.residual,
                _ => false,
            };
            // Rows go over wider ones where that saves memory, which is in one place.
            let over = step.name == "vae.decoder.up_blocks.3.resnets.0.conv_shortcut";
            assert_eq!(matches!(step.in_place, Some(InPlace::Rows(0))), over, "{}", step.name);
            residuals += usize::from(residual);
        }
        let replaced = plan.steps.iter().filter(|s| matches!(s.in_place, Some(InPlace::Element(_)))).count();
        // All but those that are read again: skip connections, and what guidance shares.
        assert!(replaced * 10 >= residuals * 7 && residuals > 10, "{stage:?}: {replaced} of {residuals}");
        assert!(plan.arena * 4 <= megabytes * 1_000_000, "{stage:?}: {} elements", plan.arena);
    }
}

#[test]
fn sharing_memory_pays() {
    let model = Model::random_sd15();
    let shape = StepShape { samples: 1, contexts: 2, times: 1, h: 64, w: 64, tokens: 77 };
    let plan =
        Plan::new(Part::Step(shape).graph(&model.networks).expect("a graph"), &Caps::cpu(Isa::Scalar)).expect("a plan");
    assert!(plan.arena * 10 < plan.arena_unshared, "{} of {} elements", plan.arena, plan.arena_unshared);
    // The multiply-adds of the published architecture: 401.6 G a sample.
    let gmac = plan.cost().flops as f64 / 2e9;
    assert!((700.0..810.0).contains(&gmac), "{gmac} G multiply-adds for a guided step");
}
