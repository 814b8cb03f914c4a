//! One engine and many callers: nobody loads twice, throws out what another uses, hears of another's work or gets
//! another picture than alone.

use crate::common::golden;
use lienzo::backend::cpu::Cpu;
use lienzo::backend::{Backend, Memory, Program, Run, Value};
use lienzo::checkpoint::{Model, ModelId, open};
use lienzo::diffusion::denoise::plan::Settings;
use lienzo::diffusion::denoise::samplers;
use lienzo::diffusion::{Event, Request};
use lienzo::dtype::Storage;
use lienzo::engine::Engine;
use lienzo::engine::residency::Keep;
use lienzo::error::{Kind, Result};
use lienzo::graph::plan::Plan;
use lienzo::graph::target::Caps;
use lienzo::graph::{Input, Output};
use lienzo::simd::Isa;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

/// A CPU that counts what it loads, knows what of it is still there, and has something to say of each.
struct Counting {
    cpu: Cpu,
    loads: AtomicUsize,
    notes: Mutex<Vec<String>>,
    live: Arc<Mutex<Live>>,
}

/// Programs that were loaded and not dropped: the model, the part's name and its memory.
#[derive(Default)]
struct Live {
    programs: Vec<(ModelId, String, Memory)>,
    /// The most bytes that there were at a time; programs of one kind share their weights.
    peak: u64,
}

impl Live {
    fn add(&mut self, program: (ModelId, String, Memory)) {
        self.programs.push(program);
        let mut weights = HashMap::new();
        for (model, name, memory) in &self.programs {
            let most: &mut u64 = weights.entry((model, name)).or_default();
            *most = memory.weights.max(*most);
        }
        let activations: u64 = self.programs.iter().map(|(.., memory)| memory.activations).sum();
        self.peak = self.peak.max(activations + weights.values().sum::<u64>());
    }
}

/// A program that says when it goes.
struct Watched {
    inner: Box<dyn Program>,
    own: (ModelId, String, Memory),
    live: Arc<Mutex<Live>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut live = self.live.lock().expect("no panic");
        let at = live.programs.iter().position(|program| *program == self.own).expect("it was there");
        live.programs.swap_remove(at);
    }
}

impl Program for Watched {
    fn plan(&self) -> &Plan {
        self.inner.plan()
    }

    fn set(&mut self, input: Input, value: &Value) -> Result<()> {
        self.inner.set(input, value)
    }

    fn submit(&mut self, how: Run<'_>) -> Result<()> {
        self.inner.submit(how)
    }

    fn wait(&mut self) -> Result<()> {
        self.inner.wait()
    }

    fn get(&mut self, output: Output) -> Result<Value> {
        self.inner.get(output)
    }
}

impl Counting {
    fn new(threads: usize) -> Arc<Self> {
        let cpu = Cpu::new(threads, Isa::best(), Storage::F16).expect("threads");
        Arc::new(Self { cpu, loads: AtomicUsize::new(0), notes: Mutex::default(), live: Arc::default() })
    }

    fn peak(&self) -> u64 {
        self.live.lock().expect("no panic").peak
    }

    fn programs(&self) -> usize {
        self.live.lock().expect("no panic").programs.len()
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
        let own = (model.id(), plan.name.clone(), self.memory(&plan, model));
        let inner = self.cpu.load(plan, model)?;
        self.live.lock().expect("no panic").add(own.clone());
        Ok(Box::new(Watched { inner, own, live: self.live.clone() }))
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

#[test]
fn the_budget_is_that_of_all_sessions_together() {
    let models = models();
    // What each model takes alone: room for either, and not for both.
    let alone = |model: &Arc<Model>| {
        let backend = Counting::new(1);
        let engine = Engine::new(backend.clone());
        let session = AtomicBool::new(false);
        let session = engine.session(model, &session).keeping(Keep::All);
        let (got, _, result) = heard(|listen| session.draw(&request(model, 1, 1), listen), |_| ());
        result.expect("it draws");
        (backend.peak(), got)
    };
    let [(first, a), (second, b)] = [alone(&models[0]), alone(&models[1])];
    let budget = first.max(second);
    assert!(first > 0 && second > 0);
    let backend = Counting::new(2);
    let engine = Engine::new(backend.clone()).within(Some(budget));
    std::thread::scope(|scope| {
        for (me, want) in [&a, &b, &a, &b].into_iter().enumerate() {
            let (engine, model) = (&engine, &models[me % 2]);
            scope.spawn(move || {
                for _ in 0..3 {
                    let cancel = AtomicBool::new(false);
                    let session = engine.session(model, &cancel).keeping(Keep::All);
                    let (got, _, result) = heard(|listen| session.draw(&request(model, 1, 1), listen), |_| ());
                    result.expect("it draws");
                    assert!(got == *want, "thread {me}: another picture");
                }
            });
        }
    });
    assert!(backend.peak() <= budget, "{} bytes were loaded, {budget} are allowed", backend.peak());
}

#[test]
fn a_listener_that_panics_harms_nobody_else() {
    let [model, other] = models();
    let want = heard(|listen| Engine::new(Counting::new(2)).draw(&model, &request(&model, 1, 1), listen), |_| ()).0;
    // Too little for both models: a claim that stays behind would make the second wait for ever.
    let engine = Engine::new(Counting::new(2)).within(Some(1));
    for moment in 0.. {
        let mut left = moment;
        let mut panics = |_: Event| {
            if left == 0 {
                // Without a word on stderr.
                std::panic::resume_unwind(Box::new(()));
            }
            left -= 1;
            ControlFlow::Continue(())
        };
        let end = catch_unwind(AssertUnwindSafe(|| engine.draw(&model, &request(&model, 1, 1), &mut panics)));
        if let Ok(result) = end {
            result.expect("it draws");
            assert!(moment > 6, "{moment} events");
            break;
        }
        heard(|listen| engine.draw(&other, &request(&other, 1, 1), listen), |_| ()).2.expect("it draws");
        let (got, _, result) = heard(|listen| engine.draw(&model, &request(&model, 1, 1), listen), |_| ());
        assert!(result.is_ok() && got == want, "after event {moment}");
    }
}

#[test]
fn a_model_that_was_dropped_takes_no_memory() {
    let backend = Counting::new(1);
    let engine = Engine::new(backend.clone());
    let [first, second] = models();
    let draw = |model: &Arc<Model>, keep: Keep| {
        let cancel = AtomicBool::new(false);
        let session = engine.session(model, &cancel).keeping(keep);
        heard(|listen| session.draw(&request(model, 1, 1), listen), |_| ()).2.expect("it draws");
    };
    draw(&first, Keep::All);
    let own = backend.programs();
    draw(&second, Keep::All);
    assert!(own > 3 && backend.programs() == 2 * own, "{own} of one, {} of both", backend.programs());
    drop(first);
    draw(&second, Keep::All);
    assert_eq!(backend.programs(), own);
    // What is read at every run is not worth to be kept, and holds its model.
    drop(second);
    let [model, _] = models();
    draw(&model, Keep::Stream);
    assert_eq!(backend.programs(), 0);
}

/// The listener of one session takes its time, or asks the engine something: nobody else waits for it.
#[test]
fn a_note_is_told_while_nothing_is_locked() {
    let engine = Engine::new(Counting::new(2));
    let model = Arc::new(Model::embedded().expect("the embedded model"));
    let mut notes = 0;
    let (_, _, result) = heard(
        |listen| engine.draw(&model, &request(&model, 1, 1), listen),
        |event| {
            if matches!(event, Event::Note(_)) {
                notes += 1;
                let (engine, model) = (&engine, &model);
                // Another size: it has to load its own.
                let own = Request { width: 64 + 8 * notes, ..request(model, 2, 1) };
                std::thread::scope(|scope| {
                    scope.spawn(|| heard(|listen| engine.draw(model, &own, listen), |_| ()).2.expect("it draws"));
                });
            }
        },
    );
    assert!(result.is_ok() && notes > 2, "{notes} notes");
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
