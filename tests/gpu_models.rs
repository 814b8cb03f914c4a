//! Whole models on a GPU: every step beside the CPU's, the self-test and what is remembered of it, pictures by the command.

use crate::common::{Temp, lienzo, stderr, tiny_model};
use crate::gpu::device;
use lienzo::backend::cpu::{Cpu, WeightType};
use lienzo::backend::gpu::{Gpu, Options};
use lienzo::image::{Limits, psnr, read_png};
use lienzo::kernels::gpu::Storage;
use lienzo::simd::Isa;
use lienzo::verify::lockstep::lockstep;
use std::sync::Arc;

/// Every step of every plan of a small model with awkward widths, in both storage types.
#[test]
fn every_step_agrees_with_the_cpu() {
    let model = Arc::new(tiny_model());
    for storage in [Storage::F32, Storage::F16] {
        let Some(device) = device(Options { storage, ..Options::default() }) else { return };
        let cpu = Cpu::new(1, Isa::best(), WeightType::Auto).expect("a thread");
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
    let cpu = Cpu::new(1, Isa::best(), WeightType::Auto).expect("a thread");
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

/// PSNR in dB and the largest difference of two PNG files.
fn compare(dir: &Temp, a: &str, b: &str) -> (f64, u8) {
    let read = |name: &str| read_png(&dir.join(name), Limits::default()).expect("a picture").0;
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
