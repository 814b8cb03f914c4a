//! The tiny model against diffusers' values, as a folder and as one file; the embedded model
//! against diffusers' values for it.

use crate::common::{Temp, golden, lienzo, stderr};
use lienzo::Result;
use lienzo::backend::cpu::Cpu;
use lienzo::checkpoint::{self, Model};
use lienzo::dtype::Dtype;
use lienzo::dtype::Storage;
use lienzo::engine::Engine;
use lienzo::simd::Isa;
use lienzo::verify::reference::Reference;
use lienzo::verify::{Check, Status, VerifyOptions, verify};
use lienzo::weights::{SourceId, TensorInfo, WeightSource};
use safetensors::SafeTensors;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn checks(model: Model, reference: &Reference, isa: Isa) -> Vec<Check> {
    let engine = Engine::new(Arc::new(Cpu::new(2, isa, Storage::F16).expect("two threads")));
    let model = Arc::new(model);
    let tokens = model.tokenizer().expect("the model's tokenizer");
    let cancel = AtomicBool::new(false);
    let mut all = Vec::new();
    let session = engine.session(&model, &cancel);
    verify(&session, &tokens, reference, &VerifyOptions::default(), &mut |c| all.push(c.clone())).expect("verify runs");
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

/// The tiny model with the golden overlay put over its U-Net: nine channels, the last five of them the mask and the
/// masked picture.
fn told_the_mask(dir: &Temp) -> Model {
    for part in ["text_encoder", "unet", "vae", "scheduler"] {
        fs::create_dir_all(dir.join(part)).expect("a folder");
        for entry in fs::read_dir(golden("tiny-sd").join(part)).expect("a part of the model").flatten() {
            fs::copy(entry.path(), dir.join(part).join(entry.file_name())).expect("a copy");
        }
    }
    fs::copy(golden("tiny-sd/model_index.json"), dir.join("model_index.json")).expect("a copy");
    let config = dir.join("unet/config.json");
    let text = fs::read_to_string(&config).expect("the configuration");
    let told = text.replace("\"in_channels\": 4", "\"in_channels\": 9");
    assert_ne!(text, told, "the configuration tells the channels");
    fs::write(&config, told).expect("a configuration");
    let path = dir.join("unet/diffusion_pytorch_model.safetensors");
    let (own, over) =
        (fs::read(&path).expect("weights"), fs::read(golden("overlay-inpaint.safetensors")).expect("one"));
    let (own, over) =
        (SafeTensors::deserialize(&own).expect("a file"), SafeTensors::deserialize(&over).expect("a file"));
    let name = "conv_in.weight";
    let replaced = own.tensors().into_iter().filter(|(n, _)| n != name);
    let all: Vec<_> = replaced.chain([(name.to_owned(), over.tensor(name).expect("the overlay's tensor"))]).collect();
    fs::write(&path, safetensors::serialize(all, None).expect("a file")).expect("weights");
    checkpoint::open(&dir.join(".")).expect("the nine-channel model")
}

#[test]
fn a_model_that_is_told_the_mask() {
    let dir = Temp::new();
    let reference = Reference::open(&golden("")).expect("the golden folder");
    let all = checks(told_the_mask(&dir), &reference, Isa::best());
    assert_pass(&all, 60);
    for name in ["unet9.output", "inpaint9.latents"] {
        assert!(all.iter().any(|c| c.name == name && c.status == Status::Pass), "{name} was not compared");
    }
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
    let mut bytes = fs::read(&path).expect("the file");
    let end = bytes.len();
    for pair in bytes[end - 4000..].chunks_mut(2) {
        pair.copy_from_slice(&[0x00, 0x3c]);
    }
    fs::write(&path, bytes).expect("the changed file");
    let reference = Reference::open(&golden("")).expect("the golden folder");
    let all = checks(checkpoint::open(&path).expect("the file"), &reference, Isa::best());
    assert!(all.iter().any(|c| c.status == Status::Fail), "a changed weight passes");
}

/// A model's weights, with one row of some tensors 0.1% too large: what a kernel does that gets one column of a matmul
/// wrong.
struct OneColumn {
    own: Arc<dyn WeightSource>,
    wrong: fn(&str) -> bool,
}

impl OneColumn {
    fn change(&self, name: &str, first: usize, bytes: &mut [u8]) {
        let Some(info) = self.own.info(name).filter(|_| (self.wrong)(name)) else { return };
        let row = info.shape.iter().skip(1).product::<usize>();
        let values = bytes.chunks_exact_mut(4).enumerate();
        for (_, value) in values.filter(|(i, _)| first + i / row == 5) {
            let old = f32::from_le_bytes([value[0], value[1], value[2], value[3]]);
            value.copy_from_slice(&(old * 1.001).to_le_bytes());
        }
    }
}

impl WeightSource for OneColumn {
    fn id(&self, name: &str) -> SourceId {
        self.own.id(name)
    }

    fn names(&self) -> Vec<&str> {
        self.own.names()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.own.info(name)
    }

    fn read(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        self.own.read(name, out)?;
        self.change(name, 0, out);
        Ok(())
    }

    fn read_rows(&self, name: &str, first: usize, count: usize, out: &mut Vec<u8>) -> Result<()> {
        self.own.read_rows(name, first, count, out)?;
        self.change(name, first, out);
        Ok(())
    }
}

#[test]
fn one_column_off_by_a_thousandth_is_noticed() {
    let dir = Temp::new();
    let path = dir.join("tiny.safetensors");
    let folder = checkpoint::open(&golden("tiny-sd")).expect("the tiny model");
    checkpoint::save_safetensors(&folder, &path, Dtype::F32).expect("a single file");
    let reference = Reference::open(&golden("")).expect("the golden folder");
    let failing = |wrong: fn(&str) -> bool| {
        let mut model = checkpoint::open(&path).expect("the file");
        model.source = Arc::new(OneColumn { own: model.source, wrong });
        let engine = Engine::new(Arc::new(Cpu::new(2, Isa::best(), Storage::F32).expect("two threads")));
        let (model, cancel) = (Arc::new(model), AtomicBool::new(false));
        let tokens = model.tokenizer().expect("a tokenizer");
        let options = VerifyOptions { only: vec!["unet".into()], ..VerifyOptions::default() };
        let mut failed = 0;
        let session = engine.session(&model, &cancel);
        verify(&session, &tokens, &reference, &options, &mut |c| failed += usize::from(c.status == Status::Fail))
            .expect("verify runs");
        failed
    };
    assert_eq!(failing(|_| false), 0, "the model itself");
    // A wrong kernel does it to all; one weight alone must show in the middle of the network and at its end.
    assert!(failing(|name| name.contains(".attentions.") && name.ends_with(".weight")) > 0, "every attention");
    assert!(failing(|name| name == "unet.up_blocks.1.attentions.2.proj_in.weight") > 0, "one matmul on the way up");
    assert!(failing(|name| name == "unet.up_blocks.3.attentions.0.proj_out.weight") > 0, "one matmul near the end");
    assert!(failing(|name| name == "unet.down_blocks.2.resnets.0.conv2.weight") > 0, "one convolution on the way down");
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
    let euler = ["latents", "timesteps", "init_noise_sigma", "sigmas"].map(|part| format!("loop.euler.{part}"));
    assert_eq!(names, [&euler.each_ref().map(String::as_str)[..], &["unet.skip.output"]].concat());
    assert!(rows.iter().all(|r| r["error"].as_f64() <= r["limit"].as_f64() && r["status"] == "pass"));

    let strict = run(&["--only", "unet", "--tolerance", "1e-12"]);
    assert_eq!(strict.status.code(), Some(1));
    let nothing = run(&["--only", "potato"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(stderr(&nothing).contains("--only: potato selects no check"));
}
