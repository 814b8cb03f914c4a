//! The command as a user types it: what is written, what is refused, with which words and exit codes.

use crate::common::{Temp, golden, lienzo, stderr};
use std::process::Output;

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that must be refused: one line that holds `words`, this exit code, no file left.
fn refused(args: &[&str], code: i32, words: &[&str]) {
    let dir = Temp::new();
    let output = lienzo(&dir, args);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{args:?}: no '{word}' in: {text}");
    }
    assert!(!text.contains("panicked"), "{args:?}: {text}");
    assert!(output.stdout.is_empty(), "{args:?} printed {}", stdout(&output));
    assert!(dir.names().iter().all(|n| n == ".cache"), "{args:?} left {:?}", dir.names());
}

#[test]
fn a_picture_is_made_and_named() {
    let dir = Temp::new();
    let first = lienzo(&dir, &["generate", "a red apple", "--steps", "2", "-s", "5"]);
    assert!(first.status.success(), "{}", stderr(&first));
    assert_eq!(stdout(&first).trim(), "output.png");
    assert!(stderr(&first).contains("seed 5"));
    let second = lienzo(&dir, &["generate", "-p", "-red", "--steps", "1", "-s", "-1"]);
    assert!(second.status.success(), "{}", stderr(&second));
    let mut names = dir.names();
    names.retain(|n| n != ".cache");
    assert_eq!(names.len(), 2, "{names:?}");

    let (image, texts) =
        lienzo::image::read_png(&dir.join("output.png"), lienzo::image::Limits::default()).expect("a PNG");
    assert_eq!((image.width, image.height), (64, 64));
    let text = &texts.iter().find(|(key, _)| key == "parameters").expect("the parameters chunk").1;
    let wanted = "a red apple\nSteps: 2, Sampler: DDIM, Schedule type: Automatic, CFG scale: 3, Seed: 5, Size: 64x64, Model hash: ";
    assert!(text.starts_with(wanted), "{text}");
    assert!(text.ends_with(concat!("RNG: NV, Version: Lienzo v", env!("CARGO_PKG_VERSION"))), "{text}");
}

#[test]
fn words_that_the_embedded_model_does_not_know_get_a_hint() {
    let dir = Temp::new();
    let drawn = |prompt: &str, more: &[&str]| {
        let args = [&["generate", prompt, "--steps", "1", "-s", "1", "--overwrite"], more].concat();
        let output = lienzo(&dir, &args);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(drawn("una manzana roja", &[]).contains("note: the built-in model reads English; try \"a red apple\""));
    assert!(drawn("a lion", &[]).contains("does not know 'lion'; near: dog, cat"));
    for quiet in [drawn("a red apple on a blue background", &[]), drawn("a red apple", &["--style", "photo"])] {
        assert!(!quiet.contains("note:"), "{quiet}");
    }
    assert!(drawn("a red apple", &["-W", "128", "-H", "128"]).contains("128x128 is far from the 64x64"));
    // Another model's words are its own business.
    assert!(!drawn("a lion", &["-m", golden("tiny-sd").to_str().unwrap(), "-W", "64", "-H", "64"]).contains("lion"));
    let words = lienzo(&dir, &["inspect", "--embedded", "--words"]);
    assert!(stdout(&words).contains("soccer ball (football)"), "{}", stdout(&words));
    let about = lienzo(&dir, &["inspect", "--embedded"]);
    assert!(stdout(&about).contains("draws small pictures of 62 things") && stdout(&about).contains("Fluent Emoji"));
    refused(&["inspect", "--words"], 2, &["--embedded"]);
    let prompt = lienzo(&dir, &["prompt", "dos gatos"]);
    assert!(stdout(&prompt).contains("try \"two cats\""), "{}", stdout(&prompt));
}

#[test]
fn wrong_flags_say_what_is_possible() {
    let generate = |more: &[&'static str]| [&["generate", "x"], more].concat();
    refused(&["generate"], 2, &["no prompt", "lienzo generate"]);
    refused(&generate(&["-W", "100"]), 2, &["width 100", "multiples of 8", "96 and 104"]);
    refused(&generate(&["-H", "5000"]), 2, &["height 5000", "2048"]);
    refused(&generate(&["--steps", "0"]), 2, &["0 steps", "1 to 1000"]);
    refused(&generate(&["--sampling-method", "eulr"]), 2, &["eulr", "Euler"]);
    refused(&generate(&["--scheduler", "karas"]), 2, &["karas", "Karras"]);
    refused(&generate(&["--cfg-scale", "99"]), 2, &["guidance 99", "0 to 30"]);
    refused(&generate(&["--clip-skip", "9"]), 2, &["clip skip 9", "1 to 3"]);
    refused(&generate(&["-b", "0"]), 2, &["0"]);
    refused(&generate(&["--device", "gpu:99"]), 2, &["device gpu:99", "auto, cpu"]);
    refused(&generate(&["--device", "no such card"]), 2, &["device no such card", "auto, cpu"]);
    refused(&generate(&["--precision", "f16"]), 2, &["precision f16", "f32"]);
    refused(&generate(&["-t", "0"]), 2, &["thread"]);
    refused(&generate(&["--max-memory", "a lot"]), 2, &["--max-memory", "2.4GB"]);
    refused(&generate(&["--rng", "dice"]), 2, &["dice", "nv"]);
    refused(&generate(&["--stepz", "3"]), 2, &["--stepz", "--steps"]);
}

#[test]
fn memory_is_judged_before_the_work() {
    refused(
        &["generate", "x", "--max-memory", "50MB"],
        1,
        &["not enough memory", "--max-memory allows 50.00 MB", "--force"],
    );
    let dir = Temp::new();
    let forced = lienzo(&dir, &["generate", "x", "--steps", "1", "--max-memory", "50MB", "--force"]);
    assert!(forced.status.success(), "{}", stderr(&forced));
}

#[test]
fn unusable_models_are_named() {
    refused(&["generate", "x", "-m", "nowhere.safetensors"], 1, &["nowhere.safetensors"]);
    let dir = Temp::new();
    let model = golden("tiny-sd/unet/diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&model).expect("the tiny U-Net");
    for (name, bytes) in
        [("empty", &whole[..0]), ("short", &whole[..5]), ("header", &whole[..3000]), ("cut", &whole[..99_999])]
    {
        let path = dir.join(&format!("{name}.safetensors"));
        std::fs::write(&path, bytes).expect("a broken file");
        let path = path.to_str().expect("text");
        for command in [&["generate", "x", "-m", path][..], &["inspect", path]] {
            let output = lienzo(&dir, command);
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{name}: {text}");
            assert!(text.contains(&format!("{name}.safetensors")) && !text.contains("panicked"), "{text}");
        }
    }
    // A U-Net alone is a readable file, but no model.
    let alone = lienzo(&dir, &["inspect", model.to_str().expect("text")]);
    assert_eq!(alone.status.code(), Some(1), "{}", stderr(&alone));
}

#[test]
fn files_are_not_replaced_unless_asked() {
    let dir = Temp::new();
    std::fs::write(dir.join("mine.png"), b"precious").expect("a file");
    let output = lienzo(&dir, &["generate", "x", "-m", "nowhere", "-o", "mine.png"]);
    // Refused before the model is even looked for.
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--overwrite"), "{}", stderr(&output));
    assert_eq!(std::fs::read(dir.join("mine.png")).expect("the file"), b"precious");
    let output = lienzo(&dir, &["generate", "x", "--steps", "1", "-o", "mine.png", "--overwrite"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(std::fs::read(dir.join("mine.png")).expect("the file").starts_with(b"\x89PNG"));
    refused(&["generate", "x", "-o", "no/such/folder/a.png"], 2, &["no/such/folder"]);
}

#[test]
fn a_very_long_prompt_is_drawn_with_a_note() {
    let dir = Temp::new();
    let prompt = "apple ".repeat(2000);
    let output = lienzo(&dir, &["generate", &prompt, "--steps", "1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("note:"), "{}", stderr(&output));
}

#[test]
fn the_plan_is_printed_without_a_picture() {
    let dir = Temp::new();
    let output = lienzo(&dir, &["generate", "x", "--plan"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for word in ["plan step", "unet.mid_block.resnets.0.conv1", "conv2d", "plan decode", "peak memory"] {
        assert!(text.contains(word), "no {word} in the plan");
    }
    assert!(dir.names().is_empty());
}

#[test]
fn inspect_says_what_there_is() {
    let dir = Temp::new();
    let tiny = golden("tiny-sd");
    let output = lienzo(&dir, &["inspect", tiny.to_str().expect("text")]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("levels 32/32/64/64"), "{}", stdout(&output));
    let embedded = lienzo(&dir, &["inspect", "--embedded"]);
    assert!(stdout(&embedded).contains("Fluent Emoji"), "{}", stdout(&embedded));
    assert!(lienzo(&dir, &["generate", "y", "--steps", "1", "-o", "y.png"]).status.success());
    let png = lienzo(&dir, &["inspect", "y.png"]);
    assert!(stdout(&png).contains("Steps: 1, Sampler: DDIM"), "{}", stdout(&png));
}

#[test]
fn contradictions_and_strangers_are_told() {
    let dir = Temp::new();
    for (args, word) in [
        (&["--plms", "--sampling-method", "euler"][..], "contradict"),
        (&["--n_samples", "2", "-b", "3"], "cannot be used with"),
        (&["--sampling-method", "sa_solver_pece"], "the nearest is DPM++ 3M SDE"),
        (&["--sampling-method", "FlowMatchEulerDiscreteScheduler"], "the nearest is Euler"),
        (&["--scheduler", "gits"], "the nearest is Align Your Steps"),
        (&["-H", "4096"], "the nearest is 2048"),
    ] {
        let output = lienzo(&dir, &[&["generate", "x", "--steps", "1"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(word), "{args:?}: {}", stderr(&output));
    }
    assert!(lienzo(&dir, &["generate", "x", "--steps", "2", "--plms", "--sampling-method", "pndm"]).status.success());
}
