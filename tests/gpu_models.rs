//! Whole models on a GPU: every step beside the CPU's, the self-test and what is
//! remembered of it, pictures by the command.

use crate::common::{Temp, lienzo, stderr, tiny_model};
use crate::gpu::device;
use crate::memory::{DEEP, wide_model};
use lienzo::backend::cpu::Cpu;
use lienzo::backend::gpu::{Gpu, Options};
use lienzo::backend::{Backend as _, Memory, Run, Value};
use lienzo::diffusion::Stages as _;
use lienzo::dtype::{Precision, Storage};
use lienzo::engine::Engine;
use lienzo::graph::plan::Plan;
use lienzo::image::{PictureLimits, psnr, read_png};
use lienzo::models::part::{self, Part, StepShape};
use lienzo::simd::Isa;
use lienzo::tensor::{Shape, Tensor};
use lienzo::verify::lockstep::lockstep;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn stored(storage: Storage) -> Options {
    Options { precision: Precision { storage, ..Precision::default() }, ..Options::default() }
}

/// Every step of every plan of a small model with awkward widths, in both storage types.
#[test]
fn every_step_agrees_with_the_cpu() {
    let model = Arc::new(tiny_model());
    for storage in [Storage::F32, Storage::F16] {
        let Some(device) = device(stored(storage)) else { return };
        let cpu = Cpu::new(1, Isa::best(), Storage::F16).expect("a thread");
        let (mut steps, mut wrong) = (0, Vec::new());
        lockstep(&Gpu::new(device), &cpu, &model, &mut |c| {
            steps += 1;
            if !c.passed() {
                wrong.push(format!("{} ({}): {:.2e}", c.name, c.kernel, c.error));
            }
        })
        .expect("both devices run");
        assert!(steps > 150 && wrong.is_empty(), "{storage:?}, {steps} steps: {wrong:#?}");
    }
}

/// A variant that is refused is done without, and said.
#[test]
fn a_refused_variant_is_done_without() {
    let Some(device) = device(Options::default()) else { return };
    let model = Arc::new(tiny_model());
    let cpu = Cpu::new(1, Isa::best(), Storage::F16).expect("a thread");
    let gpu = Gpu::new(device).with_caps(|caps| {
        caps.refused.extend([("attention", "flash"), ("matmul", "tiled"), ("group_norm", "merged")]);
    });
    let (mut kernels, mut wrong) = (Vec::new(), 0);
    lockstep(&gpu, &cpu, &model, &mut |c| {
        kernels.push(c.kernel.clone());
        wrong += usize::from(!c.passed());
    })
    .expect("both devices run");
    let used = |name: &str| kernels.iter().any(|k| k == name);
    assert!(used("attention/naive") && used("group_norm/naive") && !used("attention/flash") && wrong == 0);
}

/// A decoder whose values exceed f16 half-way: computed again on the same device, or on the CPU where that has no room.
#[test]
fn a_decoder_that_overflows_f16_is_run_again_on_the_same_device() {
    let Some(device) = device(stored(Storage::F16)) else { return };
    // 1e5 in a bias, which is f32 everywhere; what it is added to is stored as f16.
    let model = wide_model("vae.decoder.conv_in.bias", "");
    let latents = || {
        let shape = Shape::new(1, 4, 6, 4);
        Tensor::new(shape, (0..shape.len()).map(|i| (i as f32 * 0.7).sin()).collect()).expect("as many values")
    };
    let cancel = AtomicBool::new(false);
    let cpu = || Arc::new(Cpu::new(1, Isa::best(), Storage::F16).expect("a thread"));
    let want = Engine::new(cpu()).session(&model, &cancel).decode(latents()).expect("the CPU decodes");
    let gpu = Arc::new(Gpu::new(device));
    let once = gpu.wider().expect("f32");
    assert!(Arc::ptr_eq(&once, &gpu.wider().expect("f32")) && once.wider().is_none());
    let plan = Plan::new(Part::Decode { size: (1, 4, 6) }.graph(&model.networks).expect("a graph"), &once.caps());
    let Memory { weights, activations } = once.memory(&plan.expect("a plan"), &model);
    let engine = Engine::new(gpu).or(cpu());
    for (budget, again) in [(None, "f32 storage"), (Some(weights + activations - 1), "cpu, 1 threads")] {
        let session = engine.session(&model, &cancel).within(budget);
        for _ in 0..2 {
            let got = session.decode(latents()).expect("it decodes");
            let most = got.data().iter().zip(want.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(most < 1e-3, "{budget:?}: differs by {most}");
            let said = engine.notes().join("\n");
            assert_eq!(said.matches(&format!("computed again with {again}")).count(), 1, "{said}");
            assert_eq!(engine.numerics().device, Some("gpu"));
        }
    }
}

/// A matrix that holds a value beyond f16 is f32 on the device, as it is on the CPU, and said.
#[test]
fn a_matrix_beyond_f16_is_kept_as_f32() {
    let Some(device) = device(stored(Storage::F32)) else { return };
    let model = wide_model(DEEP, "");
    let gpu = Gpu::new(device);
    let cpu = Cpu::new(1, Isa::best(), Storage::F16).expect("a thread");
    let (mut steps, mut wrong) = (0, Vec::new());
    lockstep(&gpu, &cpu, &model, &mut |c| {
        steps += 1;
        if !c.passed() {
            wrong.push(format!("{} ({}): {:.2e}", c.name, c.kernel, c.error));
        }
    })
    .expect("both devices run");
    assert!(steps > 150 && wrong.is_empty(), "{steps} steps: {wrong:#?}");
    let beyond = |notes: Vec<String>| notes.into_iter().filter(|n| n.contains("65504")).collect::<Vec<_>>();
    let (ours, theirs) = (beyond(gpu.notes()), beyond(cpu.notes()));
    assert!(ours.len() == 1 && ours[0].contains(DEEP) && ours == theirs, "{ours:?} {theirs:?}");
    // Another file's tensor of that name is f16.
    assert!(gpu.caps_for(&tiny_model()).beyond_f16.is_empty());
}

/// Keys and values go from plan to plan without the host between them.
#[test]
fn a_value_left_on_the_device_gives_the_same_bits() {
    let model = Arc::new(tiny_model());
    for storage in [Storage::F32, Storage::F16] {
        let Some(device) = device(stored(storage)) else { return };
        let gpu = Gpu::new(device);
        let load = |part: Part| {
            let graph = part.graph(&model.networks).expect("a graph");
            let mut program =
                gpu.load(Arc::new(Plan::new(graph, &gpu.caps()).expect("a plan")), &model).expect("loads");
            for (input, id) in program.plan().inputs.clone() {
                let shape = program.plan().values[id].shape;
                let data = (0..shape.len()).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
                program.set(input, &Tensor::new(shape, data).expect("as many values").into()).expect("an input");
            }
            program
        };
        let shape = StepShape { samples: 1, contexts: 2, times: 1, h: 8, w: 8, tokens: 7 };
        let mut context = load(Part::Context { contexts: 2, tokens: 7 });
        let mut step = load(Part::Step(shape));
        let count = model.networks.keys_values().len();
        context.run(Run::Fast { cancel: &AtomicBool::new(false) }).expect("a run");
        let mut all = |held: bool| -> Vec<Value> {
            let one = |n| {
                let output = part::context::keys_values(n);
                if held { context.hold(output) } else { context.get(output) }.expect("an output")
            };
            (0..count).map(one).collect()
        };
        let (host, held) = (all(false), all(true));
        let mut outputs = Vec::new();
        for values in [&host, &held, &host] {
            for (n, value) in values.iter().enumerate() {
                step.set(part::step::keys_values(n), value).expect("an input");
            }
            step.submit(Run::Fast { cancel: &AtomicBool::new(false) }).expect("submitted");
            step.wait().expect("done");
            outputs.push(step.get(part::step::OUTPUT).expect("an output").host().expect("on the host"));
        }
        assert!(outputs[0] == outputs[1] && outputs[1] == outputs[2] && count > 0, "{storage:?}");
        for (a, b) in host.iter().zip(&held) {
            assert!(matches!((a, b), (Value::Host(_), Value::Device(_))));
            assert_eq!(a.host().expect("host"), b.host().expect("host"));
        }
    }
}

/// PSNR in dB and the largest difference of two PNG files.
fn compare(dir: &Temp, a: &str, b: &str) -> (f64, u8) {
    let read = |name: &str| read_png(&dir.join(name), PictureLimits::default()).expect("a picture").0;
    let (a, b) = (read(a), read(b));
    let most = a.rgb.iter().zip(&b.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    (psnr(&a, &b).expect("pictures of one size"), most)
}

#[test]
fn pictures_are_those_of_the_cpu() {
    if device(Options::default()).is_none() {
        return;
    }
    let dir = Temp::new();
    let draw = |name: &str, flags: &[&str]| {
        let mut args = vec!["generate", "a red apple on a blue background", "-s", "1", "--steps", "3", "-o", name];
        args.extend(flags);
        let output = lienzo(&dir, &args);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    draw("cpu.png", &["--device", "cpu"]);
    let first = draw("f32.png", &["--device", "gpu", "--precision", "f32"]);
    draw("f16.png", &["--device", "gpu"]);
    let (psnr, most) = compare(&dir, "cpu.png", "f32.png");
    assert!(psnr >= 55.0 && most <= 2, "f32: {psnr:.1} dB, at most {most} levels");
    let (psnr, most) = compare(&dir, "cpu.png", "f16.png");
    assert!(psnr >= 35.0, "f16: {psnr:.1} dB, at most {most} levels");
    // What was checked once is remembered.
    assert!(first.contains("checked on"), "{first}");
    let again = draw("again.png", &["--device", "gpu", "--precision", "f32"]);
    assert!(!again.contains("checked on"), "{again}");
    assert_eq!(compare(&dir, "f32.png", "again.png").1, 0, "the same device, other bits");
}
