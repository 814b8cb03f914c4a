//! Plans for GPUs, made without one: how many dispatches a step takes, and that what is
//! cut covers all and nothing twice.

use crate::common::tiny_model;
use lienzo::checkpoint::Model;
use lienzo::error::{Error, Kind};
use lienzo::graph::choose::choose;
use lienzo::graph::plan::{Plan, Step};
use lienzo::graph::target::Caps;
use lienzo::kernels::attention::Attention;
use lienzo::kernels::conv2d::Conv2d;
use lienzo::kernels::gpu::{Coop, Dispatch, Launch, LaunchIo, Limits, Storage, View, What, launch, variants};
use lienzo::kernels::group_norm::GroupNorm;
use lienzo::kernels::matmul::Matmul;
use lienzo::kernels::{Activation, Case, Dims, Op, cases};
use lienzo::models::part::{Part, StepShape};
use lienzo::tensor::Shape;
use std::collections::BTreeMap;

/// A data-centre card with tensor cores.
fn h100() -> Limits {
    Limits {
        max_binding: (1 << 31) - 256,
        workgroup_bytes: 48 << 10,
        invocations: 1024,
        subgroup: Some(32),
        coop: Some(Coop { size: 16, emulated: false }),
        max_flops: 2_000_000_000_000,
        ..Limits::webgpu(Storage::F16)
    }
}

fn adapters() -> [(&'static str, Limits); 4] {
    [
        ("WebGPU default", Limits::webgpu(Storage::F16)),
        ("WebGPU default, f32", Limits::webgpu(Storage::F32)),
        ("H100", h100()),
        ("H100 without tensor cores", Limits { coop: None, ..h100() }),
    ]
}

#[test]
fn a_guided_step_takes_few_dispatches() {
    let model = Model::random_sd15();
    let shape = StepShape { samples: 1, contexts: 2, times: 1, h: 64, w: 64, tokens: 77 };
    for (name, limits) in adapters() {
        let graph = Part::Step(shape).graph(&model.networks).expect("a graph");
        let coop = limits.coop.is_some();
        let plan = Plan::new(graph, &Caps::gpu(limits)).expect("a plan");
        let mut by_variant = BTreeMap::<String, usize>::new();
        for step in &plan.steps {
            *by_variant.entry(format!("{} {}", step.op.name(), step.variant_name)).or_default() +=
                step.launch.dispatches.len();
        }
        let norms = |s: &&Step| {
            let Op::GroupNorm(n) = s.op else { return false };
            !n.given || s.launch.dispatches.len() != 1
        };
        let passes: Vec<&str> = plan.steps.iter().filter(norms).map(|s| s.name.as_str()).collect();
        assert!(passes.is_empty(), "{name}: norms that read their operands for statistics: {passes:?}");
        println!("{name}: {} dispatches, {by_variant:?}", plan.dispatches());
        // Matrix units need fewer split sums to be busy.
        let most = if coop { 353 } else { 380 };
        assert!(plan.dispatches() <= most, "{name}: {} dispatches: {by_variant:?}", plan.dispatches());
    }
}

/// The products among the cases, with every variant that `limits` allow.
fn each_product(limits: &Limits, mut f: impl FnMut(&str, &Case, &Launch)) {
    for case in cases().iter().filter(|c| matches!(c.op, Op::Matmul(_) | Op::Conv2d(_))) {
        let x: Vec<View> = case.x.iter().map(|s| View::whole(*s)).collect();
        let y = View::whole(case.op.output(&case.x, &case.w).expect("a shape")[0]);
        let io = LaunchIo { x: &x, w: &case.w, y, limits };
        for (i, v) in variants(&case.op, &case.x, &case.w, limits).iter().enumerate().filter(|(_, v)| v.supported) {
            let name = format!("{}/{} {}", case.op.name(), case.name, v.name);
            f(&name, case, &launch(&case.op, i, &io).expect("a launch"));
        }
    }
}

/// A parameter by its name.
fn param(d: &Dispatch, name: &str) -> Option<u32> {
    d.params.fields.iter().position(|(n, _)| *n == name).map(|i| d.params.words[i])
}

#[test]
fn bands_cover_every_row_once() {
    for max_binding in [8 << 10, 16 << 10, 100_000, 1 << 20] {
        let limits = Limits { max_binding, coop: h100().coop, subgroup: Some(32), ..Limits::webgpu(Storage::F16) };
        let mut cut = 0;
        each_product(&limits, |name, case, launch| {
            let last_first = launch.dispatches.iter().filter(|d| d.shader.file != "matmul_reduce");
            let mut row = 0;
            for d in last_first {
                let (begin, end) = (param(d, "row_begin").unwrap(), param(d, "row_end").unwrap());
                assert!(begin == row && end > begin, "{name}: rows {begin}..{end} follow {row}");
                row = end;
                let too_large = d.binds.iter().filter_map(|b| b.bytes).any(|b| b > max_binding);
                assert!(!too_large, "{name}: more than {max_binding} bytes are bound: {:?}", d.binds);
            }
            assert_eq!(row as usize, case.op.output(&case.x, &case.w).unwrap()[0].rows(), "{name}");
            assert!(launch.scratch.iter().all(|b| *b <= max_binding), "{name}: scratch of {:?}", launch.scratch);
            cut += usize::from(launch.dispatches.len() > 2);
        });
        assert!(cut > 0, "nothing is cut at {max_binding} bytes");
    }
}

/// Rounding may not depend on the batch: neither may the variant, the tiles, nor the number of splits.
#[test]
fn a_batch_is_summed_as_its_single_images() {
    let shaders = |case: &Case, samples: usize, limits: &Limits| {
        let x: Vec<Shape> = case.x.iter().map(|s| if s.b == 1 { *s } else { s.with_b(samples) }).collect();
        let views: Vec<View> = x.iter().map(|s| View::whole(*s)).collect();
        let y = View::whole(case.op.output(&x, &case.w).expect("a shape")[0]);
        let all = variants(&case.op, &x, &case.w, limits);
        let chosen = all.iter().rposition(|v| v.supported).expect("a variant");
        let io = LaunchIo { x: &views, w: &case.w, y, limits };
        let launch = launch(&case.op, chosen, &io).expect("a launch");
        let each = launch.dispatches.iter().map(|d| (d.shader.clone(), param(d, "splits"), param(d, "split_slabs")));
        each.collect::<Vec<_>>()
    };
    let batched = |c: &Case| c.x.iter().any(|s| s.b > 1) && c.x.iter().all(|s| s.b <= 2);
    for (name, limits) in adapters() {
        let products = cases().into_iter().filter(|c| matches!(c.op, Op::Matmul(_) | Op::Conv2d(_)));
        let products = products.filter(|c| !c.op.after_norm_read());
        for case in products.filter(batched) {
            let one = shaders(&case, 1, &limits);
            for samples in [2, 5] {
                assert_eq!(one, shaders(&case, samples, &limits), "{name}: {}/{}", case.op.name(), case.name);
            }
        }
    }
}

/// The error of a device whose bindings are too small: `parts` say what is, and what helps.
fn assert_too_big(error: &Error, max_binding: u64, parts: &[&str]) {
    let Kind::TooBig { need, have } = *error.kind() else { panic!("{:?}: {error}", error.kind()) };
    let message = error.to_string();
    assert!(have == max_binding && need > have, "{need} {have}: {message}");
    let (need, have) = (format!("a binding of {need} bytes"), format!("the device's limit is {have}"));
    for part in [need.as_str(), &have, "use the CPU"].iter().chain(parts) {
        assert!(message.contains(part), "'{part}' is not in '{message}'");
    }
}

/// A weight, a line of a picture, the keys of a sample: none of them is cut, so a device must hold it in one binding.
#[test]
fn what_no_binding_holds_is_named_with_the_limit_and_the_remedy() {
    let max_binding = 1 << 20;
    let caps = Caps::gpu(Limits { max_binding, ..Limits::webgpu(Storage::F16) });
    let matmul = Op::from(Matmul { bias: true, ..Matmul::default() });
    let conv = Op::from(Conv2d::default());
    let attention = Op::from(Attention { heads: 1, causal: false, mask: false });
    let (row, smaller) = (Shape::tokens(1, 4, 2048), "use a smaller size");
    let line = Shape::new(1, 4, 40_000, 32);
    let [query, keys] = [8, 4096].map(|n| Shape::tokens(2, n, 128));
    let weights = [Dims::matrix(512, 2048), Dims::vector(512)];
    let table = [
        (matmul, vec![row], weights.to_vec(), ["matmul: its weight (512 by 2048, 1 taps)", "; use the CPU"]),
        (conv, vec![line], vec![Dims::filter3(8, 32)], ["conv2d: the lines around one of [1, 4, 40000, 32]", smaller]),
        (
            attention,
            vec![query, keys, keys],
            vec![],
            ["attention: the keys and values of a sample ([2, 1, 4096, 128])", smaller],
        ),
    ];
    for (op, x, w, parts) in table {
        let error = choose(&op, &x, &w, &caps).expect_err("it is too large");
        assert_too_big(&error, max_binding, &parts);
        // Exactly as much as it says is enough, and the answer is another where nothing is left but by refusal.
        let Kind::TooBig { need, .. } = *error.kind() else { unreachable!("asserted above") };
        let with = |max_binding| Caps::gpu(Limits { max_binding, ..Limits::webgpu(Storage::F16) });
        assert!(choose(&op, &x, &w, &with(need)).is_ok() && choose(&op, &x, &w, &with(need - 1)).is_err(), "{error}");
        let mut none = with(need - 1);
        none.refused.extend(variants(&op, &x, &w, &Limits::webgpu(Storage::F16)).iter().map(|v| (op.name(), v.name)));
        let error = choose(&op, &x, &w, &none).expect_err("nothing is left");
        assert_eq!(*error.kind(), Kind::Refused, "{error}");
    }
    // A whole picture is never one binding: norms and products of any size are cut.
    let large = Shape::new(1, 1024, 1024, 64);
    let norm = Op::from(GroupNorm { two_sources: false, groups: 32, eps: 1e-5, act: Activation::Silu, given: false });
    assert!(choose(&norm, &[large], &[Dims::vector(64); 2], &caps).is_ok());
    assert!(choose(&conv, &[large], &[Dims::filter3(64, 64)], &caps).is_ok());
}

/// Whatever the limit: a plan all of whose bindings are within it, or that error with the step's path; never a panic.
#[test]
fn plans_for_any_limit_fit_or_say_what_does_not() {
    let model = tiny_model();
    let shape = StepShape { samples: 2, contexts: 4, times: 1, h: 12, w: 20, tokens: 7 };
    let stages = [
        Part::Text { encoder: 0, chunks: 2, clip_skip: 1 },
        Part::Context { contexts: 2, tokens: 7 },
        Part::Time { timesteps: 3 },
        Part::Step(shape),
        Part::Decode { size: (2, 12, 20) },
        Part::Encode { size: (1, 24, 40) },
    ];
    for (stage, storage) in stages.iter().flat_map(|s| [(s, Storage::F16), (s, Storage::F32)]) {
        let (mut planned, mut refused) = (0, 0);
        for max_binding in (0..12).flat_map(|i| [256 << i, (256 << i) + 4 * (i + 1) * 77]) {
            let limits = Limits { max_binding, ..Limits::webgpu(storage) };
            let what = format!("{stage:?}, {storage:?}, {max_binding} bytes");
            match Plan::new(stage.graph(&model.networks).expect("a graph"), &Caps::gpu(limits)) {
                Ok(plan) => {
                    planned += 1;
                    for step in &plan.steps {
                        let most = plan_bindings(&plan, step).max().unwrap_or(0);
                        assert!(most <= max_binding, "{what}: {} ({}) binds {most}", step.name, step.variant_name);
                    }
                }
                Err(e) => {
                    refused += 1;
                    assert_too_big(&e, max_binding, &["."]);
                }
            }
        }
        assert!(planned > 0 && refused > 0, "{stage:?}: {planned} plans, {refused} refusals");
    }
}

/// Bytes of a step's bindings; those of a matrix at least.
fn plan_bindings<'a>(plan: &'a Plan, step: &'a Step) -> impl Iterator<Item = u64> + 'a {
    let whole = |what: What| match what {
        What::X(i) => plan.values[step.x[i].id].bytes(),
        What::Y => plan.values[step.y].bytes(),
        What::Statistics => step.statistics.map_or(0, |id| plan.values[id].bytes()),
        What::Scratch(i) | What::ScratchOut(i) => step.launch.scratch[i],
        What::W(i) => {
            let weight = &plan.weights[step.w[i]];
            let each = if weight.packing.is_vector() { 4 } else { 2 };
            each * weight.weight.dims.len() as u64
        }
    };
    let binds = step.launch.dispatches.iter().flat_map(|d| &d.binds);
    binds.map(move |b| b.bytes.unwrap_or_else(|| whole(b.what).saturating_sub(b.start)))
}
