//! Every op, variant, instruction set and Test case against the f64 reference; and that results depend on nothing else.

use lienzo::check::{CASE_VARIABLE, Layout, Prepared, full_name};
use lienzo::dtype::Storage;
use lienzo::graph::choose::choose;
use lienzo::graph::target::Caps;
use lienzo::kernels::cpu::InPlace;
use lienzo::kernels::{Case, Op, Role, cases, cpu, gpu};
use lienzo::simd::Isa;
use lienzo::workers::Workers;
use std::collections::{BTreeMap, BTreeSet};

/// The Test cases, or those of them that the environment names.
fn chosen() -> Vec<Case> {
    let filter = std::env::var(CASE_VARIABLE).unwrap_or_default();
    cases().into_iter().filter(|c| c.role == Role::Test && full_name(c).contains(&filter)).collect()
}

fn of(op: &str) -> Vec<Case> {
    chosen().into_iter().filter(|c| c.op.name() == op).collect()
}

/// Checks the Test cases of an op with every variant, instruction set and layout.
fn check(op: &str) {
    let workers = Workers::new(2).unwrap();
    let mut failures = Vec::new();
    for case in of(op) {
        let panels = !case.op.packings().iter().all(|p| p.is_vector());
        let types = if panels { &[Storage::F16, Storage::F32][..] } else { &[Storage::F32][..] };
        for weights in types {
            let prepared = Prepared::new(&case, *weights).unwrap();
            for (i, variant) in cpu::variants(&case.op, &case.x, &case.w).iter().enumerate() {
                // The naive variants are plain Rust: one set covers them.
                let sets = if variant.name == "naive" { vec![Isa::Scalar] } else { Isa::available() };
                let sets = if variant.supported { sets } else { Vec::new() };
                for isa in sets {
                    for layout in [Layout::Own, Layout::View] {
                        let outcome = prepared.check(i, isa, layout, &workers).unwrap();
                        if !outcome.passed() {
                            failures.push(format!("{outcome} ({layout:?})"));
                        }
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

macro_rules! ops {
    ($($op:ident)*) => {
        $(#[test] fn $op() { check(stringify!($op)); })*

        #[test]
        fn every_op_is_tested() {
            let tested = [$(stringify!($op)),*];
            for case in cases() {
                assert!(tested.contains(&case.op.name()), "{} is not in the list of this file", case.op.name());
            }
        }
    };
}

ops! { matmul conv2d group_norm group_affine layer_norm attention geglu activate add concat upsample timestep_embedding prelu pixel_shuffle }

#[test]
fn outputs_take_an_operands_place_in_every_variant() {
    let mut tried = BTreeMap::new();
    for case in cases().iter().filter(|c| c.role == Role::Test) {
        let residual = match case.op {
            Op::Matmul(op) => op.residual,
            Op::Conv2d(op) => op.residual,
            _ => false,
        };
        let same = case.x.last() == case.op.output(&case.x, &case.w).unwrap().first();
        for v in cpu::variants(&case.op, &case.x, &case.w).iter().filter(|v| v.supported) {
            let by_element = matches!(v.in_place, Some(InPlace::Element(_)));
            let takes = residual || matches!(case.op, Op::Prelu(_)) && v.name == "lanes";
            assert_eq!(by_element, takes && same, "{}, {}", full_name(case), v.name);
            let [elements, rows] = tried.entry((case.op.name(), v.name)).or_insert([0, 0]);
            *elements += usize::from(by_element);
            *rows += usize::from(matches!(v.in_place, Some(InPlace::Rows(_))));
        }
    }
    for (op, variant, least) in [
        ("matmul", "naive", [5, 3]),
        ("matmul", "panels", [5, 3]),
        ("matmul", "bf16", [5, 3]),
        ("conv2d", "naive", [5, 0]),
        ("conv2d", "panels", [5, 0]),
        ("conv2d", "upsample9", [5, 0]),
        ("conv2d", "winograd", [5, 0]),
        ("prelu", "lanes", [4, 0]),
    ] {
        let cases = tried[&(op, variant)];
        assert!(cases[0] >= least[0] && cases[1] >= least[1], "{op}, {variant}: in place in {cases:?} cases");
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<String> = cases().iter().map(full_name).collect();
    names.sort();
    let repeated: Vec<_> = names.windows(2).filter(|w| w[0] == w[1]).map(|w| &w[0]).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
}

/// The last variant that supports a case.
fn fastest(case: &Case) -> usize {
    choose(&case.op, &case.x, &case.w, &Caps::cpu(Isa::best())).unwrap().0
}

/// The output's bits with the fastest variant and instruction set.
fn bits(case: &Case, threads: usize) -> Vec<u32> {
    let workers = Workers::new(threads).unwrap();
    let prepared = Prepared::new(case, Storage::F16).unwrap();
    let mut loaded = prepared.load(Layout::Own, &workers).unwrap();
    loaded.run(fastest(case), Isa::best(), &workers).unwrap();
    loaded.output().iter().map(|v| v.to_bits()).collect()
}

#[test]
fn threads_do_not_change_a_bit() {
    for case in chosen().iter().filter(|c| c.w.iter().map(|d| d.len()).sum::<usize>() < 1_000_000) {
        let one = bits(case, 1);
        for threads in [2, 5] {
            assert!(one == bits(case, threads), "{} differs with {threads} threads", full_name(case));
        }
    }
}

#[test]
fn a_batch_has_the_bits_of_its_samples() {
    let workers = Workers::new(2).unwrap();
    for case in chosen().iter().filter(|c| c.x.iter().any(|s| s.b > 1)) {
        let batch = Prepared::new(case, Storage::F16).unwrap();
        let output = |p: &Prepared| {
            let mut loaded = p.load(Layout::Own, &workers).unwrap();
            loaded.run(fastest(case), Isa::best(), &workers).unwrap();
            loaded.output().iter().map(|v| v.to_bits()).collect::<Vec<u32>>()
        };
        let all = output(&batch);
        let samples = case.x.iter().map(|s| s.b).max().unwrap();
        for (i, whole) in all.chunks_exact(all.len() / samples).enumerate() {
            assert!(whole == output(&batch.sample(i)), "{}: sample {i} differs alone", full_name(case));
        }
    }
}

/// What a file says of itself.
fn description(path: &str) -> String {
    let text = std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default();
    text.lines().take_while(|l| l.starts_with("//!")).collect()
}

#[test]
fn a_contract_names_every_variant_of_its_op() {
    let limits = gpu::Limits::webgpu(Storage::F16);
    let mut missing = BTreeSet::new();
    for Case { op, x, w, .. } in cases() {
        let path = format!("src/kernels/{}.rs", op.name());
        let described = description(&path);
        let cpu = cpu::variants(&op, &x, &w).into_iter().map(|v| v.name);
        let gpu = gpu::variants(&op, &x, &w, &limits).into_iter().map(|v| v.name);
        let unnamed = cpu.chain(gpu).filter(|name| !described.contains(&format!("`{name}`")));
        missing.extend(unnamed.map(|name| (path.clone(), name)));
    }
    assert!(missing.is_empty(), "say at the top of these contracts why the variant exists: {missing:#?}");
}
