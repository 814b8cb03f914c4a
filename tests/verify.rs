//! The tiny model against diffusers' values, as a folder and as one file; the embedded model against its own.

use crate::common::{Temp, golden, lienzo, stderr};
use lienzo::backend::cpu::{Cpu, WeightType};
use lienzo::checkpoint::{self, Model};
use lienzo::dtype::Dtype;
use lienzo::engine::Engine;
use lienzo::simd::Isa;
use lienzo::verify::reference::Reference;
use lienzo::verify::{Check, Options, Status, verify};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn checks(model: Model, reference: &Reference, isa: Isa) -> Vec<Check> {
    let engine = Engine::new(Arc::new(Cpu::new(2, isa, WeightType::Auto).expect("two threads")));
    let model = Arc::new(model);
    let tokens = model.tokenizer().expect("the model's tokenizer");
    let cancel = AtomicBool::new(false);
    let mut all = Vec::new();
    let session = engine.session(&model, &cancel);
    verify(&session, &tokens, reference, &Options::default(), &mut |c| all.push(c.clone())).expect("verify runs");
    all
}

fn assert_pass(all: &[Check], at_least: usize) {
    let failed: Vec<&Check> = all.iter().filter(|c| matches!(c.status, Status::Fail | Status::Unknown)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let passed = all.iter().filter(|c| c.status == Status::Pass).count();
    assert!(passed >= at_least, "only {passed} checks ran");
}

#[test]
fn tiny_model_as_a_folder() {
    let reference = Reference::open(&golden("")).expect("the golden folder");
    for isa in Isa::available() {
        let model = checkpoint::open(&golden("tiny-sd")).expect("the tiny model");
        assert_pass(&checks(model, &reference, isa), 100);
    }
}

#[test]
fn tiny_model_as_one_file() {
    let dir = Temp::new();
    let path = dir.join("tiny.safetensors");
    let folder = checkpoint::open(&golden("tiny-sd")).expect("the tiny model");
    checkpoint::save_safetensors(&folder, &path, Dtype::F16).expect("a single file");
    let reference = Reference::open(&golden("")).expect("the golden folder");
    assert_pass(&checks(checkpoint::open(&path).expect("the file"), &reference, Isa::best()), 100);
}

#[test]
fn embedded_model() {
    let model = Model::embedded().expect("the embedded model");
    assert_pass(&checks(model, &Reference::embedded().expect("its reference"), Isa::best()), 25);
}

#[test]
fn a_wrong_weight_is_noticed() {
    let dir = Temp::new();
    let path = dir.join("wrong.safetensors");
    let folder = checkpoint::open(&golden("tiny-sd")).expect("the tiny model");
    checkpoint::save_safetensors(&folder, &path, Dtype::F16).expect("a single file");
    // The file's last bytes are the data of some tensor: turn the last f16 values into 1.
    let mut bytes = std::fs::read(&path).expect("the file");
    let end = bytes.len();
    for pair in bytes[end - 4000..].chunks_mut(2) {
        pair.copy_from_slice(&[0x00, 0x3c]);
    }
    std::fs::write(&path, bytes).expect("the changed file");
    let reference = Reference::open(&golden("")).expect("the golden folder");
    let all = checks(checkpoint::open(&path).expect("the file"), &reference, Isa::best());
    assert!(all.iter().any(|c| c.status == Status::Fail), "a changed weight passes");
}

#[test]
fn the_command_selects_reports_and_exits() {
    let dir = Temp::new();
    let (model, reference) = (golden("tiny-sd"), golden(""));
    let base = ["verify", "--model", model.to_str().expect("text"), "--reference", reference.to_str().expect("text")];
    let run = |more: &[&str]| lienzo(&dir, &[&base[..], more].concat());

    let ok = run(&["--only", "loop.euler,unet.skip", "--json"]);
    assert!(ok.status.success(), "{}", stderr(&ok));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&ok.stdout).expect("a JSON array");
    let names: Vec<&str> = rows.iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names, ["loop.euler.latents", "loop.euler.timesteps", "loop.euler.sigmas", "unet.skip.output"]);
    assert!(rows.iter().all(|r| r["error"].as_f64() <= r["limit"].as_f64() && r["status"] == "pass"));

    let strict = run(&["--only", "unet", "--tolerance", "1e-12"]);
    assert_eq!(strict.status.code(), Some(1));
    let nothing = run(&["--only", "potato"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(stderr(&nothing).contains("--only potato selects no check"));
}
