//! A GPU that fails, played by a CPU that fails on purpose: what is done instead, what is
//! said, and that no picture is lost.

mod card;

use card::{CARD, Card, Fails, cpu};
use lienzo::backend::Memory;
use lienzo::checkpoint::Model;
use lienzo::diffusion::denoise::plan::Settings;
use lienzo::diffusion::denoise::samplers;
use lienzo::diffusion::{Event, Request};
use lienzo::engine::Engine;
use lienzo::error::{Kind, Result};
use lienzo::image::Image;
use lienzo::models::part::Part;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What came of a request for two pictures of two steps.
struct Heard {
    pictures: Vec<Image>,
    notes: Vec<String>,
    result: Result<()>,
}

impl Heard {
    /// The notes as one text.
    fn said(&self) -> String {
        self.notes.join("\n")
    }
}

fn draw(engine: &Engine, model: &Arc<Model>) -> Heard {
    draw_within(None, engine, model)
}

fn draw_within(budget: Option<u64>, engine: &Engine, model: &Arc<Model>) -> Heard {
    let sampler = samplers::find_named("euler").expect("a sampler").sampler;
    let (sampling, own) = (Settings::new(sampler, 2), Request::new(model, "a red apple").expect("a request"));
    let request = Request { count: 2, width: 64, height: 64, sampling, ..own };
    let (mut pictures, mut notes) = (Vec::new(), Vec::new());
    let cancel = AtomicBool::new(false);
    let session = engine.session(model, &cancel).within(budget);
    let result = session.draw(&request, &mut |event| {
        match event {
            Event::Picture { image, .. } => pictures.push(image),
            Event::Note(note) => notes.push(note),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    Heard { pictures, notes, result }
}

fn embedded() -> Arc<Model> {
    Arc::new(Model::embedded().expect("the embedded model"))
}

/// The same pictures without any card.
fn wanted(model: &Arc<Model>) -> Vec<Vec<u8>> {
    let heard = draw(&Engine::new(Arc::new(cpu())), model);
    heard.result.expect("the CPU draws");
    heard.pictures.into_iter().map(|p| p.rgb).collect()
}

fn rgb(heard: &Heard) -> Vec<Vec<u8>> {
    heard.pictures.iter().map(|p| p.rgb.clone()).collect()
}

#[test]
fn a_device_lost_in_the_middle_is_replaced() {
    let model = embedded();
    let want = wanted(&model);
    // In the first picture, in the second, and between a picture's latents and its pixels.
    for (plan, n) in [("text", 1), ("context", 1), ("time", 1), ("step", 2), ("step", 4), ("decode", 1), ("decode", 2)]
    {
        let engine = Engine::new(Arc::new(Card::new(Fails::Run(plan, n, Kind::DeviceLost)))).or(Arc::new(cpu()));
        let heard = draw(&engine, &model);
        assert!(heard.result.is_ok(), "{plan} {n}: {:?}", heard.result);
        assert_eq!(rgb(&heard), want, "{plan} {n}");
        let said = heard.said();
        for part in [CARD, "update the driver", "going on with cpu, 1 threads", "12 kernels checked"] {
            assert!(said.contains(part), "{plan} {n}: '{part}' is not in '{said}'");
        }
        assert_eq!(said.matches("going on").count(), 1, "{said}");
        assert_eq!((engine.numerics().device, engine.numerics().after), (None, Some("gpu")));
    }
}

#[test]
fn without_another_device_the_pictures_that_are_made_are_kept() {
    let model = embedded();
    let want = wanted(&model);
    let engine = Engine::new(Arc::new(Card::new(Fails::Run("step", 3, Kind::DeviceLost))));
    let heard = draw(&engine, &model);
    let error = heard.result.as_ref().expect_err("nothing could go on");
    assert_eq!(*error.kind(), Kind::DeviceLost);
    let message = error.to_string();
    for part in ["step", CARD, "update the driver, or use the CPU"] {
        assert!(message.contains(part), "'{part}' is not in '{message}'");
    }
    assert_eq!(rgb(&heard), want[..1]);
    // What the card had to say is said although the run failed.
    assert!(heard.said().contains("12 kernels checked"), "{}", heard.said());
}

#[test]
fn a_stage_that_finds_no_room_gets_the_device_to_itself_and_then_the_cpu() {
    let model = embedded();
    let want = wanted(&model);
    for (times, left) in [(1, false), (2, true)] {
        let card = Card::new(Fails::Load("step", times, Kind::OutOfMemory));
        let engine = Engine::new(Arc::new(card)).or(Arc::new(cpu()));
        let heard = draw(&engine, &model);
        assert!(heard.result.is_ok(), "{:?}", heard.result);
        assert_eq!(rgb(&heard), want, "{times}");
        assert!(heard.said().contains("trying again with nothing else loaded"), "{}", heard.said());
        assert_eq!(heard.said().contains("going on with cpu"), left, "{}", heard.said());
        assert_eq!(engine.numerics().device.is_none(), left);
    }
    // The first stage has it to itself already.
    let card = Card::new(Fails::Load("text", 1, Kind::OutOfMemory));
    let heard = draw(&Engine::new(Arc::new(card)).or(Arc::new(cpu())), &model);
    assert!(heard.result.is_ok() && !heard.said().contains("trying again"), "{}", heard.said());
}

#[test]
fn what_is_too_large_for_the_device_goes_to_the_cpu() {
    let model = embedded();
    let too_big = Kind::TooBig { need: 2, have: 1 };
    let heard = draw(&Engine::new(Arc::new(Card::new(Fails::Load("decode", 9, too_big)))).or(Arc::new(cpu())), &model);
    assert!(heard.result.is_ok() && heard.said().contains("going on with cpu"), "{}", heard.said());
    assert_eq!(rgb(&heard), wanted(&model));
}

#[test]
fn a_decoder_that_overflows_is_run_again_with_wider_storage() {
    let model = embedded();
    let want = wanted(&model);
    let card = |wider| Card::new(Fails::NotFinite("decode")).widened(wider);
    // It helps; it runs out of memory, which costs this decode the card; the card is lost, which costs all that follow.
    let full = Fails::Load("decode", 9, Kind::OutOfMemory);
    let lost = Fails::Run("decode", 1, Kind::DeviceLost);
    for (wider, times, with_cpu, device) in
        [(Fails::Never, 2, 0, Some("gpu")), (full, 2, 2, Some("gpu")), (lost, 1, 0, None)]
    {
        let engine = Engine::new(Arc::new(card(Some(wider.clone())))).or(Arc::new(cpu()));
        let heard = draw(&engine, &model);
        assert!(heard.result.is_ok(), "{wider:?}: {:?}", heard.result);
        assert_eq!(rgb(&heard), want, "{wider:?}");
        // Each picture is judged by itself, so that a batch equals its single pictures.
        let said = heard.said();
        assert_eq!(said.matches("computed again with f32 storage").count(), times, "{said}");
        assert_eq!(said.matches("computed again with cpu, 1 threads").count(), with_cpu, "{said}");
        assert_eq!(
            (engine.numerics().device, said.contains("going on with cpu")),
            (device, device.is_none()),
            "{said}"
        );
    }
    // Nothing wider, or as broken: an error, never a picture.
    for wider in [None, Some(Fails::NotFinite("decode"))] {
        let heard = draw(&Engine::new(Arc::new(card(wider))).or(Arc::new(cpu())), &model);
        let error = heard.result.expect_err("a picture that is not finite");
        assert_eq!(*error.kind(), Kind::NonFinite { stage: "decode".into() });
        assert!(error.to_string().contains("compute in f32") && heard.pictures.is_empty(), "{error}");
    }
}

/// Beside what is loaded, alone, or not on the card at all: the budget decides, and nothing is kept beyond it.
#[test]
fn wider_storage_stays_within_the_budget() {
    let model = embedded();
    let want = wanted(&model);
    let card = || Card::new(Fails::NotFinite("decode")).widened(Some(Fails::Never));
    // Without a budget: all stages of the first picture, its decoder with wider storage, and that of the second.
    let free = card();
    let loaded = free.loaded.clone();
    draw(&Engine::new(Arc::new(free)), &model).result.expect("it draws");
    let loaded = loaded.lock().expect("no panic").clone();
    let names: Vec<&str> = loaded.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["text", "context", "time", "step", "decode", "decode", "decode"]);
    let bytes = |m: &Memory| m.weights + m.activations;
    let alone = bytes(&loaded[5].1);
    // Both decoders share their weights.
    let beside = loaded[..5].iter().map(|(_, m)| bytes(m)).sum::<u64>() + loaded[5].1.activations;
    for (budget, on_card, steps) in [(beside, true, 1), (beside - 1, true, 2), (alone, true, 2), (alone - 1, false, 1)]
    {
        let card = card();
        let loaded = card.loaded.clone();
        let engine = Engine::new(Arc::new(card)).or(Arc::new(cpu()));
        let heard = draw_within(Some(budget), &engine, &model);
        assert!(heard.result.is_ok(), "{budget}: {:?}", heard.result);
        assert_eq!(rgb(&heard), want, "{budget}");
        let said = heard.said();
        let (again, left) = if on_card { ("f32 storage", 0) } else { ("cpu, 1 threads", 2) };
        assert_eq!(said.matches(&format!("computed again with {again}")).count(), 2, "{budget}: {said}");
        assert_eq!(said.matches(&format!("are needed on {CARD}, and")).count(), left, "{budget}: {said}");
        // The card goes on with everything else, from where it was if nothing had to give way.
        assert_eq!(engine.numerics().device, Some("gpu"));
        let loaded = loaded.lock().expect("no panic");
        assert_eq!(loaded.iter().filter(|(name, _)| name == "step").count(), steps, "{budget}: {loaded:?}");
    }
    // Without another device it is an error with the numbers, not a picture.
    let error = draw_within(Some(alone - 1), &Engine::new(Arc::new(card())), &model).result.expect_err("no room");
    assert_eq!(*error.kind(), Kind::TooBig { need: alone, have: alone - 1 });
}

#[test]
fn a_card_whose_kernels_are_all_refused_is_named_and_left() {
    let model = embedded();
    let card = || Arc::new(Card::new(Fails::Refused("matmul")));
    let heard = draw(&Engine::new(card()).or(Arc::new(cpu())), &model);
    assert!(heard.result.is_ok(), "{:?}", heard.result);
    assert_eq!(rgb(&heard), wanted(&model));
    for part in [CARD, "cannot be used", "matmul: no variant is left", "update the driver", "going on with cpu"] {
        assert!(heard.said().contains(part), "'{part}' is not in '{}'", heard.said());
    }
    let error = draw(&Engine::new(card()), &model).result.expect_err("nothing is left");
    assert_eq!(*error.kind(), Kind::Refused);
    assert!(error.to_string().contains("or use the CPU"), "{error}");
}

/// What no binding of a card holds is known from the plan: before a weight is read, and while a picture is made.
#[test]
fn a_card_whose_bindings_are_too_small_is_left_with_the_numbers() {
    let model = embedded();
    let card = || Arc::new(Card::new(Fails::Limit(20_000)));
    let stages = [Part::Decode { size: (1, 8, 8) }];
    let parts = [CARD, "vae.", "conv2d: its weight", "the device's limit is 20000", "use the CPU", "going on with cpu"];
    let (settled, drawn) = (Engine::new(card()).or(Arc::new(cpu())), Engine::new(card()).or(Arc::new(cpu())));
    settled.settle(&model, &stages).expect("the CPU can");
    let heard = draw(&drawn, &model);
    assert_eq!(rgb(&heard), wanted(&model));
    for (said, engine, parts) in [(settled.notes().join("\n"), settled, &parts[..]), (heard.said(), drawn, &parts[3..])]
    {
        for part in parts {
            assert!(said.contains(part), "'{part}' is not in '{said}'");
        }
        assert_eq!(engine.numerics().device, None);
    }
    let alone = Engine::new(card());
    let error = alone.settle(&model, &stages).expect_err("nothing else is there");
    assert!(matches!(error.kind(), Kind::TooBig { have: 20_000, .. }), "{error}");
    // A card that can is kept.
    let able = Engine::new(Arc::new(Card::new(Fails::Never))).or(Arc::new(cpu()));
    able.settle(&model, &stages).expect("it can");
    assert!(able.numerics().device == Some("gpu") && able.notes().is_empty());
}

/// What is not the device's fault, or was asked for, is no reason to leave it.
#[test]
fn other_errors_stay_errors() {
    let model = embedded();
    for kind in [Kind::Cancelled, Kind::BadFile, Kind::Other] {
        let card = Card::new(Fails::Run("step", 1, kind.clone()));
        let heard = draw(&Engine::new(Arc::new(card)).or(Arc::new(cpu())), &model);
        assert_eq!(*heard.result.expect_err("an error").kind(), kind);
        assert!(!heard.notes.iter().any(|n| n.contains("going on")), "{:?}", heard.notes);
    }
}

/// A real device, lost on purpose while its programs are loaded: an error that names it, not a panic, then the CPU.
#[cfg(feature = "gpu")]
#[test]
fn a_real_device_that_is_lost_says_so() {
    use lienzo::backend::gpu::{Gpu, Options};
    use lienzo::diffusion::Stages as _;
    use lienzo::tensor::{Shape, Tensor};

    let Some(device) = crate::gpu::device(Options::default()) else { return };
    let model = Arc::new(crate::common::tiny_model());
    let cancel = AtomicBool::new(false);
    let gpu = Arc::new(Gpu::new(device.clone()));
    // Known texts are not computed again.
    let tokens = |v: f32| {
        let shape = Shape::tokens(1, model.networks.positions(), model.networks.text_width());
        Tensor::new(shape, vec![v; shape.len()]).expect("as many values")
    };
    let alone = Engine::new(gpu.clone());
    let behind = Engine::new(gpu).or(Arc::new(cpu()));
    let before = alone.session(&model, &cancel).text(0, tokens(0.0), 1).expect("it works");
    behind.session(&model, &cancel).text(0, tokens(1.0), 1).expect("it works");
    device.lose();
    // A program that is loaded, and one that is not.
    for result in [
        alone.session(&model, &cancel).text(0, tokens(1.0), 1),
        alone.session(&model, &cancel).decode(Tensor::zeros(Shape::new(1, 4, 4, 4))),
    ] {
        let error = result.expect_err("the device is lost");
        assert_eq!(*error.kind(), Kind::DeviceLost, "{error}");
        let message = error.to_string();
        for part in [&device.describe(), "lost", "update the driver, or use the CPU"] {
            assert!(message.contains(part), "'{part}' is not in '{message}'");
        }
    }
    let session = behind.session(&model, &cancel);
    let after = session.text(0, tokens(0.0), 1).expect("the CPU goes on");
    let most = before.data().iter().zip(after.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(most < 1e-3, "the CPU's text differs by {most}");
    assert!(behind.notes().join("\n").contains("going on with cpu"));
}
