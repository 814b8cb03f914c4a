//! Streamed weights and released stages: the same bits in less memory, and errors instead of waiting for ever.

use crate::common::{Temp, lienzo, stderr, tiny_model};
use lienzo::backend::cpu::Cpu;
use lienzo::backend::{Backend as _, Program, Run};
use lienzo::checkpoint::Model;
use lienzo::dtype::Dtype;
use lienzo::dtype::Storage;
use lienzo::engine::Engine;
use lienzo::engine::residency::{Again, Keep};
use lienzo::error::{Error, Kind, Result};
use lienzo::graph::plan::Plan;
use lienzo::graph::{Input, Output};
use lienzo::image::Image;
use lienzo::models::part::{Part, StepShape};
use lienzo::simd::Isa;
use lienzo::tensor::{Shape, Tensor};
use lienzo::weights::{SourceId, TensorInfo, WeightSource, decode_f32};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const STEP: Part = Part::Step(StepShape { samples: 1, contexts: 2, times: 1, h: 10, w: 6, tokens: 7 });

fn cpu(weight_type: Storage) -> Cpu {
    Cpu::new(2, Isa::best(), weight_type).expect("two threads")
}

/// A loaded stage with every input set to something.
fn program(cpu: &Cpu, model: &Arc<Model>, stage: Part, streamed: bool) -> Box<dyn Program> {
    let plan = Plan::new(stage.graph(&model.networks).expect("a graph"), &cpu.caps()).expect("a plan");
    let inputs: Vec<(Input, Shape)> = plan.inputs.iter().map(|(n, id)| (*n, plan.values[*id].shape)).collect();
    let mut program = cpu.load(Arc::new(Plan { streamed, ..plan }), model).expect("a program");
    for (name, shape) in inputs {
        let data = (0..shape.len()).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
        let value = Tensor::new(shape, data).expect("as many values as the shape has");
        program.set(name, &value.into()).expect("a known input");
    }
    program
}

fn run(program: &mut dyn Program) -> Result<Vec<u32>> {
    program.run(Run::Fast { cancel: &AtomicBool::new(false) })?;
    let names: Vec<Output> = program.plan().outputs.iter().map(|(n, _)| *n).collect();
    let mut bits = Vec::new();
    for name in names {
        bits.extend(program.get(name)?.host()?.data().iter().map(|v| v.to_bits()));
    }
    Ok(bits)
}

#[test]
fn streamed_weights_give_the_same_bits() {
    let model = Arc::new(tiny_model());
    let stages = [
        Part::Text { encoder: 0, chunks: 1, clip_skip: 1 },
        Part::Context { contexts: 2, tokens: 7 },
        Part::Time { timesteps: 3 },
        STEP,
        Part::Decode { size: (1, 6, 4) },
    ];
    let cpu = cpu(Storage::F16);
    for stage in stages {
        let kept = run(&mut *program(&cpu, &model, stage, false)).expect("a run");
        let mut streamed = program(&cpu, &model, stage, true);
        for _ in 0..2 {
            assert!(run(&mut *streamed).expect("a run") == kept, "{stage:?}");
        }
        let (less, all) = (cpu.memory(streamed.plan(), &model).weights, streamed.plan().weight_bytes(2));
        assert!(0 < less && less <= all, "{stage:?}: {less} of {all} bytes");
    }
}

/// The tiny model's values as f32, one of them beyond f16, and one tensor that cannot be read.
struct Wide {
    id: SourceId,
    base: Arc<dyn WeightSource>,
    infos: BTreeMap<String, TensorInfo>,
    huge: &'static str,
    broken: &'static str,
}

impl WeightSource for Wide {
    fn id(&self, _: &str) -> SourceId {
        self.id
    }

    fn names(&self) -> Vec<&str> {
        self.base.names()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.infos.get(name)
    }

    fn read(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        let rows = self.infos[name].shape[0];
        self.read_rows(name, 0, rows, out)
    }

    fn read_rows(&self, name: &str, first: usize, count: usize, out: &mut Vec<u8>) -> Result<()> {
        if name == self.broken {
            return Err(Error::other(format!("{name}: the file became shorter")));
        }
        let (mut raw, mut values) = (Vec::new(), Vec::new());
        self.base.read_rows(name, first, count, &mut raw)?;
        decode_f32(Dtype::F16, &raw, &mut values);
        if name == self.huge && first == 0 {
            values[0] = 1e5;
        }
        *out = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(())
    }
}

/// The tiny model as f32; the first value of `huge` is beyond f16, and `broken` cannot be read.
pub fn wide_model(huge: &'static str, broken: &'static str) -> Arc<Model> {
    let model = tiny_model();
    let wide = |name: &str| TensorInfo { dtype: Dtype::F32, ..model.source.info(name).expect("a tensor").clone() };
    let infos = model.source.names().into_iter().map(|n| (n.to_owned(), wide(n))).collect();
    let source = Arc::new(Wide { id: SourceId::new(), base: model.source.clone(), infos, huge, broken });
    Arc::new(Model::new("wide", source, model.networks))
}

/// A matrix in the middle of the U-Net.
pub const DEEP: &str = "unet.mid_block.resnets.0.conv2.weight";

#[test]
fn f32_files_are_rounded_with_a_note_and_only_where_f16_can_hold_them() {
    let tiny = Arc::new(tiny_model());
    let auto = cpu(Storage::F16);
    let want = run(&mut *program(&auto, &tiny, STEP, false)).expect("a run");
    assert!(auto.notes().is_empty(), "an f16 file loses nothing");
    // Values that f16 holds exactly: the same bits from a file of twice the size.
    let plain = wide_model("", "");
    assert!(run(&mut *program(&auto, &plain, STEP, false)).expect("a run") == want);
    let notes = auto.notes();
    assert!(notes.len() == 1 && notes[0].contains("type f32"), "{notes:?}");
    assert!(auto.notes().is_empty(), "said once");

    let huge = wide_model(DEEP, "");
    let kept = run(&mut *program(&auto, &huge, STEP, false)).expect("a run");
    assert!(kept.iter().all(|b| f32::from_bits(*b).is_finite()) && kept != want);
    let notes = auto.notes();
    assert!(notes.len() == 1 && notes[0].contains(DEEP) && notes[0].contains("65504"), "{notes:?}");
    assert!(run(&mut *program(&auto, &huge, STEP, true)).expect("a run") == kept);
    let exact = cpu(Storage::F32);
    assert!(run(&mut *program(&exact, &huge, STEP, false)).expect("a run") == kept);
    assert!(exact.notes().is_empty());
}

#[test]
fn a_stream_that_breaks_is_an_error() {
    let cpu = cpu(Storage::F16);
    let mut program = program(&cpu, &wide_model("", DEEP), STEP, true);
    for _ in 0..2 {
        let error = run(&mut *program).expect_err("the tensor cannot be read");
        assert!(error.to_string().contains("the file became shorter"), "{error}");
    }
    let cancelled = program.run(Run::Fast { cancel: &AtomicBool::new(true) }).expect_err("cancelled");
    assert_eq!(*cancelled.kind(), Kind::Cancelled);
}

/// What one guided picture of `side` pixels in 20 steps visits.
fn parts(side: usize) -> [Part; 5] {
    let (h, w, tokens) = (side / 8, side / 8, 77);
    [
        Part::Text { encoder: 0, chunks: 1, clip_skip: 1 },
        Part::Context { contexts: 2, tokens },
        Part::Time { timesteps: 20 },
        Part::Step(StepShape { samples: 1, contexts: 2, times: 1, h, w, tokens }),
        Part::Decode { size: (1, h, w) },
    ]
}

#[test]
fn a_full_size_model_stays_within_its_memory() {
    // Headers only. 50 MB are left for code, threads and buffers.
    let (engine, model) = (Engine::new(Arc::new(cpu(Storage::F16))), Model::random_sd15());
    let peak = |side, low| engine.residency(&model, &parts(side), Again::Nothing, None, low).expect("plans");
    assert_eq!((peak(512, false).keep, peak(512, true).keep), (Keep::Phase, Keep::Stream));
    for (side, low, megabytes) in [(512, false, 2350), (512, true, 750), (1024, false, 2950)] {
        let need = peak(side, low).peak / 1_000_000;
        assert!(need <= megabytes, "{side} pixels, low memory {low}: {need} MB");
    }
    // Several pictures keep the U-Net where it fits beside the decoder.
    let keep = |budget| engine.residency(&model, &parts(512), Again::Pictures, budget, false).expect("plans").keep;
    assert_eq!((keep(None), keep(Some(2_000_000_000))), (Keep::Pictures, Keep::Phase));
}

#[test]
fn a_stage_at_a_time_and_streaming_draw_the_same_picture() {
    let dir = Temp::new();
    let picture = |name: &str, more: &[&str]| {
        let base = ["generate", "two cats", "--steps", "3", "-s", "7", "-b", "2", "-o", name];
        let output = lienzo(&dir, &[&base[..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        [1, 2].map(|i| std::fs::read(dir.join(&name.replace("%d", &i.to_string()))).expect("a picture"))
    };
    let normal = picture("normal-%d.png", &[]);
    assert!(picture("low-%d.png", &["--low-memory"]) == normal);
    assert!(picture("low5-%d.png", &["--low-memory", "-t", "5"]) == normal);
    // A budget that nothing fits keeps one stage at a time; the U-Net is then loaded again for the second picture.
    assert!(picture("tight-%d.png", &["--max-memory", "1MB", "--force"]) == normal);
}

#[test]
fn what_does_not_fit_reads_its_weights_anew_by_itself() {
    let dir = Temp::new();
    let plan = lienzo(&dir, &["generate", "x", "--plan", "--max-memory", "1MB", "--force"]);
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    let numbers: Vec<f64> =
        text.lines().last().unwrap_or("").split_whitespace().filter_map(|w| w.parse().ok()).collect();
    let [normal, low] = numbers[..] else { panic!("no two numbers: {text}") };
    assert!(low + 1.0 < normal, "{low} MB and {normal} MB");
    let (between, less) = (format!("{}MB", (low + normal) / 2.0), format!("{}MB", low - 1.0));
    let drawn = |name: &str, more: &[&str]| {
        let base = ["generate", "x", "--steps", "1", "-s", "1", "-o", name];
        let output = lienzo(&dir, &[&base[..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        (std::fs::read(dir.join(name)).expect("a picture"), stderr(&output))
    };
    let (kept, quiet) = drawn("a.png", &["--max-memory", &format!("{}MB", normal + 1.0)]);
    assert!(!quiet.contains("--low-memory"), "{quiet}");
    let (streamed, told) = drawn("b.png", &["--max-memory", &between]);
    assert!(told.contains("as with --low-memory") && streamed == kept, "{told}");
    let refused = lienzo(&dir, &["generate", "x", "--steps", "1", "--max-memory", &less]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("-W, -H or --batch-size"), "{}", stderr(&refused));
}

/// The bytes that stand behind "peak memory", in the plan's last line or in what -v says.
#[cfg(target_os = "linux")]
fn peak_told(text: &str) -> f64 {
    let (_, behind) = text.rsplit_once("peak memory ").unwrap_or_else(|| panic!("no peak in {text}"));
    let mut words = behind.split([' ', ',', '\n']);
    let number: f64 = words.next().and_then(|n| n.parse().ok()).expect("a number");
    number
        * match words.next() {
            Some("MB") => 1e6,
            Some("GB") => 1e9,
            unit => panic!("{unit:?} in {behind}"),
        }
}

#[cfg(target_os = "linux")]
#[test]
fn a_plan_is_never_below_what_the_process_takes() {
    let dir = Temp::new();
    let picture = |side: usize, f: &dyn Fn(usize) -> [u8; 3]| Image {
        width: side,
        height: side,
        rgb: (0..side * side).flat_map(f).collect(),
    };
    let noise = |i: usize| [0, 8, 16].map(|s| ((i as u32).wrapping_mul(2_654_435_761) >> s) as u8);
    picture(1200, &noise).save(dir.join("large.png")).expect("a picture");
    picture(64, &noise).save(dir.join("small.png")).expect("a picture");
    let spot =
        |i: usize| if (500..560).contains(&(i % 1200)) && (500..560).contains(&(i / 1200)) { [255; 3] } else { [0; 3] };
    picture(1200, &spot).save(dir.join("mask.png")).expect("a picture");
    let wide = |i: usize| if (40..1160).contains(&(i % 1200)) { [255; 3] } else { [0; 3] };
    picture(1200, &wide).save(dir.join("wide.png")).expect("a picture");
    let works: [&[&str]; 7] = [
        &[],
        &["-W", "256", "-H", "256"],
        &["-i", "large.png", "-W", "128", "-H", "128"],
        &["-i", "large.png", "--mask", "mask.png", "--only-masked"],
        &["-i", "large.png", "--mask", "wide.png", "--only-masked"],
        &["-i", "small.png", "--outpaint", "left=32"],
        &["-b", "3", "--batch-size", "3"],
    ];
    for (n, work) in works.iter().enumerate() {
        let base = ["generate", "x", "--steps", "2", "-s", "1", "--device", "cpu"];
        let plan = lienzo(&dir, &[&base[..], work, &["--plan"]].concat());
        let plan = peak_told(&String::from_utf8_lossy(&plan.stdout));
        let name = format!("{n}-%d.png");
        let drawn = lienzo(&dir, &[&base[..], work, &["-v", "-o", &name]].concat());
        assert!(drawn.status.success(), "{}", stderr(&drawn));
        let peak = peak_told(&stderr(&drawn));
        assert!(peak <= plan, "{work:?}: {peak} bytes, {plan} planned");
        assert!(plan < 1.5 * peak + 40e6, "{work:?}: {peak} bytes, {plan} planned");
    }
}

#[test]
fn a_picture_that_is_read_stays_within_what_is_allowed() {
    let dir = Temp::new();
    let (width, height) = (4000, 3000);
    Image { width, height, rgb: vec![7; 3 * width * height] }.save(dir.join("large.png")).expect("a picture");
    let with = |limit: &str, more: &[&str]| {
        let base = ["generate", "x", "-i", "large.png", "--max-memory", limit, "--plan"];
        lienzo(&dir, &[&base[..], more].concat())
    };
    let works: [&[&str]; 3] =
        [&["-W", "64", "-H", "64"], &["--mask", "large.png", "--only-masked"], &["-W", "64", "--outpaint", "left=8"]];
    for more in works {
        let output = with("50MB", more);
        assert_eq!(output.status.code(), Some(1), "{more:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("large.png: 36.0"), "{}", stderr(&output));
        assert!(stderr(&output).contains("needed to read its 4000x3000 pixels, 30.00 MB left"), "{}", stderr(&output));
    }
    // The picture has room, the mask has none beside it.
    let output = with("100MB", works[1]);
    assert!(stderr(&output).contains("left to use"), "{}", stderr(&output));
    // As a recipe, too.
    let output = lienzo(&dir, &["generate", "--from-image", "large.png", "--max-memory", "50MB"]);
    assert!(stderr(&output).contains("needed to read its 4000x3000 pixels"), "{}", stderr(&output));
    assert!(with("500MB", works[0]).status.success());
    assert!(with("50MB", &["-W", "64", "-H", "64", "--force"]).status.success());
}
