//! The GPU's kernels on an adapter of this machine: every op, variant, storage type and
//! layout against the f64 reference.
//!
//! A software adapter (lavapipe, WARP, SwiftShader) is used; a real GPU only with `LIENZO_TEST_GPU=1`. Without any
//! adapter these tests say that they were skipped, and fail under `LIENZO_REQUIRE_GPU=1`.

use lienzo::backend::gpu::check::Bench;
use lienzo::backend::gpu::tensor_cores::{Sample, Verdict};
use lienzo::backend::gpu::{Device, Options, adapters};
use lienzo::check::{CASE_VARIABLE, Layout, Prepared, full_name};
use lienzo::dtype::{Precision, Products, Storage};
use lienzo::kernels::gpu::{Coop, Limits, variants};
use lienzo::kernels::{Case, Role, cases};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

fn on(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|v| v == "1")
}

/// Software devices are programs on all cores: tests of this file run one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A device to test on, or none after saying why.
pub fn device(options: Options) -> Option<Arc<Device>> {
    let found = adapters().into_iter().find(|a| a.software() != on("LIENZO_TEST_GPU"));
    let Some(adapter) = found else {
        assert!(!on("LIENZO_REQUIRE_GPU"), "LIENZO_REQUIRE_GPU=1, and there is no adapter to test on");
        tell_skipped();
        return None;
    };
    Some(Device::open(&adapter, options).expect("the adapter can be opened"))
}

/// Says on stderr, past what the test runner holds back, that the calling test ran nothing, and how many so far did.
fn tell_skipped() {
    static SKIPPED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    if skipped.insert(test.clone()) {
        let line = skipped_line(&test, skipped.len());
        // Where nobody reads it there is nobody to tell.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

fn skipped_line(test: &str, count: usize) -> String {
    let one = if count == 1 { "1 GPU test" } else { &format!("{count} GPU tests") };
    format!(
        "\nskipped: {one} so far, last {test}: no adapter to test on (on Debian: apt-get install mesa-vulkan-drivers)\n"
    )
}

#[test]
fn what_is_skipped_for_lack_of_an_adapter_is_counted() {
    assert!(skipped_line("gpu::add", 1).contains("skipped: 1 GPU test so far, last gpu::add: no adapter"));
    assert!(skipped_line("gpu::add", 2).contains("2 GPU tests so far"));
}

/// The Test cases of an op, or those of them that the environment names.
fn of(op: &str) -> Vec<Case> {
    let filter = std::env::var(CASE_VARIABLE).unwrap_or_default();
    let chosen = |c: &Case| c.role == Role::Test && c.op.name() == op && full_name(c).contains(&filter);
    cases().into_iter().filter(chosen).collect()
}

/// Checks an op's Test cases in every variant; `narrow` changes the limits that launches are made for.
fn check(op: &str, options: Options, weights: Storage, narrow: impl Fn(Limits) -> Limits) {
    check_variants(of(op), |_| true, options, weights, narrow);
}

/// The same for some cases and the variants with some names.
fn check_variants(
    cases: Vec<Case>,
    wanted: impl Fn(&str) -> bool,
    options: Options,
    weights: Storage,
    narrow: impl Fn(Limits) -> Limits,
) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(device) = device(options) else { return };
    let limits = narrow(device.limits().clone());
    let bench = Bench::new(device);
    let (mut failures, mut ran) = (Vec::new(), 0);
    for case in cases {
        let prepared = Prepared::stored(&case, weights, options.precision.storage).unwrap();
        for (i, variant) in variants(&case.op, &case.x, &case.w, &limits).iter().enumerate() {
            let layouts =
                if variant.supported && wanted(variant.name) { &[Layout::Own, Layout::View][..] } else { &[] };
            for layout in layouts {
                ran += 1;
                match prepared.check_gpu(&bench, &limits, i, *layout) {
                    Ok(outcome) if outcome.passed() => {}
                    Ok(outcome) => failures.push(format!("{outcome} ({layout:?})")),
                    Err(e) => failures.push(format!("{}, {}: {e}", full_name(&case), variant.name)),
                }
            }
        }
    }
    assert!(ran > 0 || std::env::var(CASE_VARIABLE).is_ok(), "no case was run");
    assert!(failures.is_empty(), "{} of {ran} failed:\n{}", failures.len(), failures.join("\n"));
}

const F32: Options = opened(Storage::F32, Storage::F32);
const F16: Options = opened(Storage::F16, Storage::F16);

const fn opened(storage: Storage, weights: Storage) -> Options {
    let precision = Precision { storage, weights, products: Products::F32 };
    Options { precision, checked: false, minimal: false }
}

macro_rules! ops {
    ($($op:ident)*) => {$(
        mod $op {
            use super::*;

            #[test]
            fn f32_storage() {
                check(stringify!($op), F32, Storage::F32, |l| l);
            }

            #[test]
            fn f16_storage() {
                check(stringify!($op), F16, Storage::F16, |l| l);
            }

            /// As on a device that offers nothing beyond WebGPU's defaults, with wgpu's bounds checks, f16 weights and
            /// bindings so small that work is cut into bands.
            #[test]
            fn least_device() {
                let options = Options { checked: true, minimal: true, ..opened(Storage::F32, Storage::F16) };
                check(stringify!($op), options, Storage::F16, |l| Limits { max_binding: 16 << 10, ..l });
            }
        }
    )*

        #[test]
        fn every_op_is_tested() {
            let tested = [$(stringify!($op)),*];
            for case in cases().into_iter().filter(|c| !c.op.after_norm_read()) {
                assert!(tested.contains(&case.op.name()), "{} is not in the list of this file", case.op.name());
            }
        }
    };
}

ops! { matmul conv2d group_norm layer_norm attention geglu activate add concat upsample timestep_embedding prelu pixel_shuffle }

/// The addresses of the kernels for tensor cores, whose arithmetic is done plainly: no software adapter has any.
///
/// Only some cases: software adapters compile each of these shaders for seconds.
#[test]
fn emulated_tensor_cores() {
    for (options, weights, size, every) in [(F32, Storage::F32, 16, 12), (F16, Storage::F16, 8, 32)] {
        let coop = Some(Coop { size, emulated: true });
        let some = |op: &str| of(op).into_iter().step_by(every);
        let heads = of("attention").into_iter().filter(|c| c.name.contains("_1x16") || c.name.contains("_1x8_causal"));
        let left = ["8x8_8_70", "13x15_6", "38x40_2_1398", "8x9_320"];
        let left = |c: &Case| c.name.contains("statistics64") && left.iter().any(|n| c.name.contains(n));
        let left: Vec<Case> = of("conv2d").into_iter().filter(left).collect();
        let cases = some("matmul").chain(some("conv2d")).chain(left).chain(heads).collect();
        check_variants(cases, |v| v == "coop", options, weights, |l| Limits { coop, ..l });
    }
}

/// Whether tensor cores pay is measured with the kernels that use them; here emulated, on small cases.
#[test]
fn tensor_cores_are_measured_against_the_other_kernels() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(device) = device(F16) else { return };
    let limits = Limits { coop: Some(Coop { size: 8, emulated: true }), ..device.limits().clone() };
    let bench = Bench::new(device);
    let pays = |c: &Case| variants(&c.op, &c.x, &c.w, &limits).iter().any(|v| v.supported && v.name == "coop");
    let heads = of("attention").into_iter().filter(|c| c.name.contains("_1x8_causal"));
    let all: Vec<Case> = of("matmul").into_iter().filter(pays).take(1).chain(heads.take(1)).collect();
    let samples: Vec<Sample> = all.into_iter().map(|case| Sample { case, flops: 1e9 }).collect();
    assert_eq!(samples.len(), 2);
    let found = Verdict::measure(&bench, &limits, &samples).expect("both run");
    assert!(found.plain > 0.0 && found.plain.is_finite() && found.coop > 0.0 && found.coop.is_finite(), "{found:?}");
    assert_eq!(found.faster(), found.coop < 0.95 * found.plain, "{found:?}");
    // A device without any has nothing to measure, and does not use them.
    let none = Verdict::measure(&bench, &Limits { coop: None, ..limits }, &samples).expect("nothing to run");
    assert!(none == Verdict { plain: 0.0, coop: 0.0 } && !none.faster());
}

#[test]
fn every_case_has_a_variant() {
    for case in cases().into_iter().filter(|c| !c.op.after_norm_read()) {
        for limits in [Limits::webgpu(Storage::F32), Limits::webgpu(Storage::F16)] {
            let any = variants(&case.op, &case.x, &case.w, &limits).iter().any(|v| v.supported);
            assert!(any, "{} runs on no WebGPU device", full_name(&case));
        }
    }
    assert!(cases().iter().any(|c| !c.op.packings().iter().all(|p| p.is_vector())));
}
