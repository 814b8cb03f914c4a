//! A run that is interrupted or killed at any moment loses no finished picture, and `--resume` finishes it.
//!
//! `LIENZO_KILLS` sets how many moments are tried with each signal, `LIENZO_KILL_SEED`
//! where they lie: a failure prints both.

use crate::common::{Temp, lienzo, stderr};
use lienzo::diffusion::answers::{Answer, Answers};
use lienzo::diffusion::denoise::plan::Settings;
use lienzo::diffusion::denoise::samplers::find_named;
use lienzo::diffusion::outpaint::{Outpaint, Sides};
use lienzo::diffusion::{Event, Request, Start};
use lienzo::engine::Engine;
use lienzo::rng::RngKind;
use lienzo::{Image, Kind, Model};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const BATCH: [&str; 14] = [
    "generate",
    "two cats",
    "-s",
    "90",
    "-b",
    "5",
    "--batch-size",
    "2",
    "--steps",
    "3",
    "--preview",
    "every=1",
    "-o",
    "p%d.png",
];

fn start(dir: &Temp, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lienzo"));
    command.current_dir(dir.join(".")).env("LIENZO_CACHE_DIR", dir.join(".cache")).args(args);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts")
}

/// The batch, whole, and how long it took.
fn whole() -> (Vec<Vec<u8>>, Duration) {
    let dir = Temp::new();
    let begun = Instant::now();
    let output = lienzo(&dir, &BATCH);
    assert!(output.status.success(), "{}", stderr(&output));
    let read = |i: usize| std::fs::read(dir.join(&format!("p{i}.png"))).expect("a picture");
    ((1..=5).map(read).collect(), begun.elapsed())
}

/// Numbers from 0 to 1, other ones every day: a failure is repeated by the seed that it prints.
fn shares() -> (u64, impl FnMut() -> f64) {
    let today = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs() / 86_400);
    let seed = number("LIENZO_KILL_SEED").unwrap_or_else(today);
    let mut generator = RngKind::Cpu.generator(seed);
    let next = move || {
        let mut random = [0.0];
        generator.randn(&mut random);
        (f64::from(random[0]) * 1000.0).rem_euclid(1.0)
    };
    (seed, next)
}

/// A request's pictures and answers, stopped after so many answers.
fn drawn(
    engine: &Engine,
    model: &Arc<Model>,
    request: &Request,
    most: usize,
) -> (BTreeMap<usize, Image>, BTreeMap<usize, Vec<Answer>>, usize) {
    let (mut pictures, mut answers, mut count) = (BTreeMap::new(), BTreeMap::<usize, Vec<Answer>>::new(), 0);
    let result = engine.draw(model, request, &mut |event| {
        match event {
            Event::Picture { index, image, .. } => drop(pictures.insert(index, image)),
            Event::Answer { index, answer } => {
                answers.entry(index).or_default().push(answer);
                count += 1;
                if count == most {
                    return ControlFlow::Break(());
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert!(result.is_ok() || *result.unwrap_err().kind() == Kind::Cancelled);
    (pictures, answers, count)
}

#[test]
fn a_picture_goes_on_behind_its_last_evaluation_to_the_same_bytes() {
    let (engine, model) = (Engine::on_cpu().expect("a CPU"), Arc::new(Model::embedded().expect("the embedded model")));
    let (seed, mut share) = shares();
    let moments = number("LIENZO_KILLS").unwrap_or(3);
    let base = Request::new(&model, "two [cats:dogs:0.5]").expect("a request");
    let base = Request { width: 64, height: 64, count: 3, batch_size: 2, seed: 11, ..base };
    let mut requests: Vec<(String, Request)> =
        ["euler_a", "dpm++2m_sde", "plms", "heun", "dpm_adaptive", "restart", "euler_a_cfg_pp", "unipc", "lms", "lcm"]
            .into_iter()
            .map(|name| {
                let sampling = Settings::new(find_named(name).expect("a sampler").sampler, 5);
                (name.to_owned(), Request { sampling, ..base.clone() })
            })
            .collect();
    // A picture of several windows, which are painted one after the other.
    let rgb = (0..64 * 64 * 3).map(|i| (i % 251) as u8).collect();
    let image = Image { width: 64, height: 64, rgb };
    let mode = lienzo::image::resize::ResizeMode::default();
    let picture = lienzo::diffusion::img2img::Init { image, size: (64, 64), hash: String::new(), mode };
    let sides = Sides { left: 24, down: 40, ..Sides::default() };
    let mut grown =
        Request { count: 1, batch_size: 1, start: Start::Grown(Arc::new(Outpaint { picture, sides })), ..base };
    grown.sampling.strength = Some(0.9);
    requests.push(("outpainting".into(), grown));
    for (name, request) in requests {
        let (want, whole, evaluations) = drawn(&engine, &model, &request, usize::MAX);
        assert!(want.len() == request.count && evaluations > 3 * request.count, "{name}");
        for _ in 0..moments {
            let most = 1 + (share() * (evaluations - 1) as f64) as usize;
            println!("LIENZO_KILL_SEED={seed}: {name} after {most} of {evaluations} answers");
            let (there, left, _) = drawn(&engine, &model, &request, most);
            let skip = there.keys().copied().collect();
            let known = left.iter().map(|(index, all)| (*index, Answers::new(all.clone()))).collect();
            let rest = Request { skip, known, ..request.clone() };
            let (mut got, answers, _) = drawn(&engine, &model, &rest, usize::MAX);
            assert!(answers.iter().all(|(index, all)| whole[index] == *all), "{name}: other answers");
            got.extend(there);
            assert!(got == want, "{name} after {most} of {evaluations} answers: another picture");
        }
        // It is what is known that the picture is made of.
        let wrong = |all: &Vec<Answer>| {
            let wrong = all.iter().map(|a| Answer { t: a.t, values: a.values.iter().map(|v| v * 0.5).collect() });
            Answers::new(wrong.collect())
        };
        let known = whole.iter().map(|(index, all)| (*index, wrong(all))).collect();
        let (other, ..) = drawn(&engine, &model, &Request { known, ..request.clone() }, usize::MAX);
        assert!(want.iter().all(|(index, image)| other[index] != *image), "{name}: what is known changes nothing");
    }
}

#[test]
fn a_killed_picture_goes_on_and_leaves_nothing_behind() {
    let args = ["generate", "two cats", "-s", "7", "--steps", "40", "--resume", "-o", "p.png"];
    let dir = Temp::new();
    let begun = Instant::now();
    let output = lienzo(&dir, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    let (want, time) = (std::fs::read(dir.join("p.png")).expect("a picture"), begun.elapsed());
    let (seed, mut share) = shares();
    for (k, signal) in [Signal::INT, Signal::KILL, Signal::KILL].into_iter().enumerate() {
        let dir = Temp::new();
        let moment = time.mul_f64((k as f64 + share()) / 3.0);
        println!("LIENZO_KILL_SEED={seed}: {signal:?} after {moment:?} of {time:?}");
        let child = start(&dir, &args);
        std::thread::sleep(moment);
        // It may have ended just now.
        let _ = kill_process(Pid::from_child(&child), signal);
        child.wait_with_output().expect("the end of the run");
        let unfinished = dir.join("p.png.unfinished");
        let there = unfinished.exists();
        // Asked for in another way it is begun anew, and that is said.
        if there && k == 1 {
            let other = lienzo(&dir, &["generate", "two cats", "-s", "8", "--steps", "2", "--resume", "-o", "p.png"]);
            assert!(other.status.success() && stderr(&other).contains("begun anew"), "{}", stderr(&other));
            std::fs::remove_file(dir.join("p.png")).expect("a removal");
        }
        let output = lienzo(&dir, &args);
        assert!(output.status.success(), "{}", stderr(&output));
        println!("a file: {there}; {}", stderr(&output));
        assert!(std::fs::read(dir.join("p.png")).is_ok_and(|bytes| bytes == want), "{}", stderr(&output));
        assert!(!unfinished.exists());
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

#[test]
fn nothing_finished_is_lost() {
    let (want, time) = whole();
    let kills = number("LIENZO_KILLS").unwrap_or(2);
    // The day: a failure can be repeated, and every day tries other moments.
    let today = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs() / 86_400);
    let seed = number("LIENZO_KILL_SEED").unwrap_or_else(today);
    let mut generator = RngKind::Cpu.generator(seed);
    for (k, signal) in (0..kills).flat_map(|k| [(k, Signal::INT), (k, Signal::KILL)]) {
        let dir = Temp::new();
        let child = start(&dir, &BATCH);
        // A moment in each part of the run.
        let mut random = [0.0];
        generator.randn(&mut random);
        let share = (k as f64 + f64::from(random[0]).rem_euclid(1.0)) / kills as f64;
        let moment = time.mul_f64(share);
        // Shown where the test fails.
        println!("LIENZO_KILLS={kills} LIENZO_KILL_SEED={seed}: {signal:?} after {moment:?}, {share:.3} of {time:?}");
        std::thread::sleep(moment);
        let pid = Pid::from_child(&child);
        // It may have ended just now.
        let _ = kill_process(pid, signal);
        let output = child.wait_with_output().expect("the end of the run");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let code = output.status.code();
        assert!(signal == Signal::KILL || matches!(code, Some(0 | 130)) || told.is_empty(), "{code:?}");
        for (i, want) in want.iter().enumerate() {
            let name = format!("p{}.png", i + 1);
            match std::fs::read(dir.join(&name)) {
                Ok(bytes) => assert!(bytes == *want, "{name} is not whole after {signal:?}"),
                Err(_) => assert!(!told.contains(&name), "{name} was finished and is lost after {signal:?}"),
            }
        }
        let output = lienzo(&dir, &[&BATCH[..], &["--resume"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let there = want.len() - String::from_utf8_lossy(&output.stdout).lines().count();
        // Shown with --nocapture: how many pictures each moment had left behind.
        println!("{signal:?} {k}: {there} of {} pictures were finished", want.len());
        for (i, want) in want.iter().enumerate() {
            assert!(std::fs::read(dir.join(&format!("p{}.png", i + 1))).is_ok_and(|b| b == *want), "picture {i}");
        }
    }
}

#[test]
fn resume_makes_what_is_missing_and_replaces_nothing() {
    let dir = Temp::new();
    let command = ["generate", "two cats", "-b", "3", "--steps", "2", "-o", "p%d.png"];
    let with = |more: &[&'static str]| lienzo(&dir, &[&command[..], more].concat());
    // The seed is random: what is there tells it.
    assert!(with(&[]).status.success());
    let read = |i: usize| std::fs::read(dir.join(&format!("p{i}.png"))).expect("a picture");
    let want: Vec<_> = (1..=3).map(read).collect();
    std::fs::remove_file(dir.join("p1.png")).expect("a removal");
    std::fs::remove_file(dir.join("p3.png")).expect("a removal");
    let output = with(&["--resume"]);
    assert!(stderr(&output).contains("1 of 3 pictures are there"), "{}", stderr(&output));
    assert_eq!((1..=3).map(read).collect::<Vec<_>>(), want);
    let output = with(&["--resume", "--cfg-scale", "5"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("p1.png") && stderr(&output).contains("--overwrite"), "{}", stderr(&output));
    assert!(output.stdout.is_empty() && read(1) == want[0]);
}

#[test]
fn a_seed_in_the_name_is_found_again() {
    let dir = Temp::new();
    let command = ["generate", "two cats", "-b", "3", "--steps", "2", "-o", "q_{seed}.png"];
    let with = |more: &[&'static str]| lienzo(&dir, &[&command[..], more].concat());
    assert!(with(&[]).status.success());
    let names: Vec<String> = dir.names().into_iter().filter(|n| n.ends_with(".png")).collect();
    let want: Vec<_> = names.iter().map(|n| std::fs::read(dir.join(n)).expect("a picture")).collect();
    std::fs::remove_file(dir.join(&names[1])).expect("a removal");
    let output = with(&["--resume"]);
    assert!(stderr(&output).contains("2 of 3 pictures are there"), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), names[1]);
    for (name, want) in names.iter().zip(want) {
        assert!(std::fs::read(dir.join(name)).is_ok_and(|bytes| bytes == want), "{name}");
    }
}

#[test]
fn several_prompts_and_grids_go_on_too() {
    let several: &[&str] = &["generate", "a {red|blue|green} ball", "-b", "3", "--steps", "2", "-o", "d%d.png"];
    let grid: &[&str] = &["generate", "a ball", "--grid", "steps=1,2,3", "-o", "g.png"];
    for (command, missing, there) in [
        (several, &["d2.png"][..], "2 of 3"),
        (grid, &["g_2.png", "g_grid.png"], "2 of 3"),
        (grid, &["g_grid.png"], "3 of 3"),
    ] {
        let dir = Temp::new();
        // The seed is random: what is there tells it.
        let output = lienzo(&dir, command);
        assert!(output.status.success(), "{}", stderr(&output));
        let names: Vec<String> = dir.names().into_iter().filter(|n| n.ends_with(".png")).collect();
        let read = |name: &String| std::fs::read(dir.join(name)).expect("a picture");
        let want: Vec<_> = names.iter().map(read).collect();
        missing.iter().for_each(|name| std::fs::remove_file(dir.join(name)).expect("a removal"));
        let output = lienzo(&dir, &[command, &["--resume"]].concat());
        assert!(stderr(&output).contains(there), "{}", stderr(&output));
        assert!(names.iter().map(read).collect::<Vec<_>>() == want, "{command:?} without {missing:?}");
        let output = lienzo(&dir, &[command, &["--resume"]].concat());
        assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));
    }
}

/// A pipe that was opened for writing and stays silent: a cancelled download, a program that waits.
#[test]
fn a_silent_pipe_is_left_at_once() {
    let dir = Temp::new();
    let made = Command::new("mkfifo").arg(dir.join("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    for args in [["-i", "pipe"], ["--from-image", "pipe"]] {
        let child = start(&dir, &[&["generate", "x"], &args[..]].concat());
        // Opening waits for the reader.
        let writer = std::fs::OpenOptions::new().write(true).open(dir.join("pipe")).expect("somebody reads");
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it still waits");
        let output = child.wait_with_output().expect("the end of the run");
        assert_eq!(output.status.code(), Some(130), "{args:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        drop(writer);
    }
}
