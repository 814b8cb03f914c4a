//! Plans for GPUs, made without one: how many dispatches a step takes, and that what is cut covers all and nothing twice.

use lienzo::diffusion::unet::UnetShape;
use lienzo::engine::Stage;
use lienzo::graph::plan::{Plan, Step};
use lienzo::kernels::gpu::{Coop, Dispatch, Io, Launch, Limits, Storage, View, launch, variants};
use lienzo::kernels::{Caps, Case, Op, cases};
use lienzo::tensor::Shape;
use lienzo::weights::Model;
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
    let shape = UnetShape { samples: 1, contexts: 2, times: 1, h: 64, w: 64, tokens: 77 };
    for (name, limits) in adapters() {
        let graph = Stage::Step(shape).graph(&model).expect("a graph");
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
        let io = Io { x: &x, w: &case.w, y, limits };
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
        let io = Io { x: &views, w: &case.w, y, limits };
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
