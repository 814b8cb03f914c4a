//! One engine and many callers: nobody loads twice, throws out what another uses, hears of another's work or gets
//! another picture than alone.

use crate::common::golden;
use lienzo::backend::cpu::Cpu;
use lienzo::backend::{Backend, Memory, Program};
use lienzo::checkpoint::{Model, open};
use lienzo::diffusion::denoise::plan::Settings;
use lienzo::diffusion::denoise::samplers;
use lienzo::diffusion::{Event, Request};
use lienzo::dtype::Storage;
use lienzo::engine::Engine;
use lienzo::engine::residency::Keep;
use lienzo::error::{Kind, Result};
use lienzo::graph::plan::Plan;
use lienzo::graph::target::Caps;
use lienzo::simd::Isa;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

/// A CPU that counts what it loads and has something to say of each.
struct Counting {
    cpu: Cpu,
    loads: AtomicUsize,
    notes: Mutex<Vec<String>>,
}

impl Counting {
    fn new(threads: usize) -> Arc<Self> {
        let cpu = Cpu::new(threads, Isa::best(), Storage::F16).expect("threads");
        Arc::new(Self { cpu, loads: AtomicUsize::new(0), notes: Mutex::default() })
    }
}

impl Backend for Counting {
    fn name(&self) -> String {
        self.cpu.name()
    }

    fn caps(&self) -> Caps {
        self.cpu.caps()
    }

    fn memory(&self, plan: &Plan, model: &Model) -> Memory {
        self.cpu.memory(plan, model)
    }

    fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().expect("no panic"))
    }

    fn load(&self, plan: Arc<Plan>, model: &Arc<Model>) -> Result<Box<dyn Program>> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.notes.lock().expect("no panic").push(format!("loaded {}", plan.name));
        self.cpu.load(plan, model)
    }
}

fn request(model: &Model, seed: u64, count: usize) -> Request {
    let sampling = Settings::new(samplers::find_named("euler_a").expect("a sampler").sampler, 2);
    let own = Request::new(model, "a red apple").expect("a request");
    Request { seed, count, width: 64, height: 64, sampling, ..own }
}

/// The embedded model and one from a folder.
fn models() -> [Arc<Model>; 2] {
    [Model::embedded(), open(&golden("tiny-sd"))].map(|model| Arc::new(model.expect("a model")))
}

/// What comes of a request: pictures and notes.
fn heard(
    draw: impl FnOnce(&mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<()>,
    mut also: impl FnMut(&Event),
) -> (Vec<Vec<u8>>, Vec<String>, Result<()>) {
    let (mut pictures, mut notes) = (Vec::new(), Vec::new());
    let result = draw(&mut |event| {
        also(&event);
        match event {
            Event::Picture { image, .. } => pictures.push(image.rgb),
            Event::Note(note) => notes.push(note),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    (pictures, notes, result)
}

#[test]
fn callers_share_what_is_loaded_and_each_hears_of_its_own_work() {
    let backend = Counting::new(2);
    let engine = Engine::new(backend.clone());
    let model = Arc::new(Model::embedded().expect("the embedded model"));
    let (want, ..) = heard(|listen| Engine::new(Counting::new(1)).draw(&model, &request(&model, 1, 1), listen), |_| ());
    let (together, said) = (Barrier::new(4), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                together.wait();
                let (got, notes, result) = heard(|listen| engine.draw(&model, &request(&model, 1, 1), listen), |_| ());
                result.expect("it draws");
                assert!(got == want && want.len() == 1);
                said.lock().expect("no panic").extend(notes);
            });
        }
    });
    let mut said = said.into_inner().expect("no panic");
    said.sort_unstable();
    assert_eq!(said, ["loaded context", "loaded decode", "loaded step", "loaded text", "loaded time"]);
    assert!(backend.loads.load(Ordering::Relaxed) == 5 && engine.notes().is_empty());
    // A text is known by then, and its encoder not even loaded again where nothing is kept.
    let cancel = AtomicBool::new(false);
    let session = engine.session(&model, &cancel).keeping(Keep::Phase);
    let (got, notes, result) = heard(|listen| session.draw(&request(&model, 1, 1), listen), |_| ());
    result.expect("it draws");
    assert!(got == want && !notes.contains(&"loaded text".to_owned()), "{notes:?}");
}

/// Threads draw from two models and stop each other at random moments, with all the memory in the world and with too
/// little for both. `LIENZO_STRESS_SECONDS` makes it longer.
#[test]
fn neighbours_that_stop_each_other_change_no_picture() {
    let seconds = std::env::var("LIENZO_STRESS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    let models = models();
    let alone = Engine::new(Counting::new(2));
    let want: Vec<Vec<Vec<Vec<u8>>>> = models
        .iter()
        .map(|model| (0..3).map(|seed| heard(|l| alone.draw(model, &request(model, seed, 2), l), |_| ()).0).collect())
        .collect();
    assert!(want.iter().flatten().all(|pictures| pictures.len() == 2));
    for budget in [None, Some(12_000_000)] {
        let engine = Engine::new(Counting::new(2)).within(budget);
        let flags: [AtomicBool; 3] = Default::default();
        let (whole, stopped) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let end = Instant::now() + Duration::from_secs(seconds) / 2;
        std::thread::scope(|scope| {
            for me in 0..3 {
                let (engine, flags, want, models) = (&engine, &flags, &want, &models);
                let (whole, stopped) = (&whole, &stopped);
                scope.spawn(move || {
                    let mut dice = 0x9e37_79b9_u64 * (me as u64 + 1);
                    let mut roll = move |sides: u64| {
                        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        (dice >> 33) % sides
                    };
                    while Instant::now() < end {
                        let (which, seed) = (me % 2, roll(3));
                        let keep = [Keep::All, Keep::Pictures, Keep::Phase][roll(3) as usize];
                        flags[me].store(false, Ordering::Relaxed);
                        let session = engine.session(&models[which], &flags[me]).keeping(keep);
                        let (got, _, result) = heard(
                            |listen| session.draw(&request(&models[which], seed, 2), listen),
                            |event| {
                                if matches!(event, Event::Done(_)) && roll(12) == 0 {
                                    flags[(me + 1) % 3].store(true, Ordering::Relaxed);
                                }
                            },
                        );
                        let all = &want[which][seed as usize];
                        match result {
                            Ok(()) => {
                                assert!(got == *all, "thread {me}, seed {seed}: another picture");
                                whole.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(e) => {
                                let asked = flags[me].load(Ordering::Relaxed);
                                assert!(*e.kind() == Kind::Cancelled && asked, "thread {me}: {e}");
                                assert!(all.starts_with(&got), "thread {me}, seed {seed}: another picture");
                                stopped.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        let (whole, stopped) = (whole.into_inner(), stopped.into_inner());
        println!("budget {budget:?}: {whole} draws whole, {stopped} stopped");
        assert!(whole > 3 && stopped > 0, "{whole} whole, {stopped} stopped");
    }
}
