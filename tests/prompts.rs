//! Prompts, styles, embeddings and grids as a user meets them.

use crate::common::{Temp, lienzo, stderr};
use lienzo::image::{PictureLimits, read_png};
use std::fs;

/// Runs a command that must end with this exit code; gives stdout and stderr.
fn told(dir: &Temp, args: &[&str], code: i32) -> (String, String) {
    let output = lienzo(dir, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
    assert!(!err.contains("panicked"), "{args:?}: {err}");
    (out, err)
}

fn parameters(dir: &Temp, name: &str) -> String {
    let (_, texts) = read_png(&dir.join(name), PictureLimits::default()).expect("a PNG");
    texts.into_iter().find(|(key, _)| key == "parameters").map(|(_, text)| text).unwrap_or_default()
}

#[test]
fn a_grid_is_its_single_pictures() {
    let dir = Temp::new();
    let (steps, samplers, prompts) =
        (["2", "3"], ["euler_a", "dpm++2m"], ["a cat", "a [dog|cat]", "a bird AND (red:1.2)"]);
    let axes = format!("steps={} x sampler={} x prompt={}", steps.join(","), samplers.join(","), prompts.join("|"));
    let (out, _) = told(&dir, &["generate", "--grid", &axes, "-s", "7", "-n", "blurry", "-o", "g.png"], 0);
    let names: Vec<&str> = out.lines().collect();
    assert_eq!((names.len(), names[0], names[12]), (13, "g_1.png", "g_grid.png"));
    let mut cell = 0;
    for prompt in prompts {
        for sampler in samplers {
            for steps in steps {
                let args =
                    ["generate", prompt, "--steps", steps, "--sampling-method", sampler, "-s", "7", "-n", "blurry"];
                told(&dir, &[&args[..], &["-o", "single.png", "--overwrite"]].concat(), 0);
                let same = fs::read(dir.join("single.png")).expect("a file")
                    == fs::read(dir.join(names[cell])).expect("a file");
                assert!(same, "{prompt} {sampler} {steps}");
                cell += 1;
            }
        }
    }
    let (sheet, _) = read_png(&dir.join("g_grid.png"), PictureLimits::default()).expect("a PNG");
    assert!(sheet.width > 2 * 128 && sheet.height > 6 * 128, "{sheet:?}");
    assert!(parameters(&dir, "g_grid.png").starts_with("a cat\nNegative prompt: blurry\nSteps: 2, "));
}

#[test]
fn grids_that_cannot_be_made_are_refused() {
    let dir = Temp::new();
    let numbers: Vec<String> = (1..=100).map(|n| n.to_string()).collect();
    let many = format!("steps={0} x seed={0}", numbers.join(","));
    for (args, why) in [
        (&["--grid", &many][..], "10000 pictures"),
        (&["--grid", "steps=1,2", "-b", "3"], "seed=1,2,3"),
        (&["--grid", "stps=1"], "stps"),
        (&["--grid", "steps=1,x"], "steps=x is not a number"),
        (&["--grid", "steps=0,1"], "0 steps"),
        (&["--grid", "size=64,65"], "65"),
        (&["--grid", "steps=1,2", "-o", "x_{seed}.png"], "{index}"),
        (&["--grid", "sampler=eulr"], "did you mean"),
    ] {
        let (out, err) = told(&dir, &[&["generate", "x", "-s", "1"], args].concat(), 2);
        assert!(err.contains(why) && out.is_empty(), "{args:?}: {err}");
    }
    assert!(dir.names().iter().all(|n| n == ".cache"), "{:?}", dir.names());
}

#[test]
fn styles_come_from_a_file_or_from_the_binary() {
    let dir = Temp::new();
    let styles = dir.join("styles.csv");
    fs::write(&styles, "name,prompt,negative_prompt\nmine,\"{prompt}, on \"\"grass\"\"\",dark\n").expect("a file");
    let path = styles.to_string_lossy().into_owned();
    told(&dir, &["generate", "a cat", "--styles", &path, "--style", "mine", "--steps", "1", "-o", "a.png"], 0);
    assert!(parameters(&dir, "a.png").starts_with("a cat, on \"grass\"\nNegative prompt: dark\nSteps: 1"));
    let (out, _) = told(&dir, &["generate", "--style", "list", "--styles", &path], 0);
    assert!(out.contains("mine") && out.contains("watercolor"));
    let (_, err) = told(&dir, &["generate", "x", "--style", "watercolour"], 2);
    assert!(err.contains("did you mean watercolor"), "{err}");
    fs::write(&styles, "name,prompt\nx,y\nmine,\"open\n").expect("a file");
    let (_, err) = told(&dir, &["generate", "x", "--styles", &path, "--style", "mine"], 2);
    assert!(err.contains("styles.csv: line 3: a quote is opened"), "{err}");
}

/// A safetensors file with one f32 matrix of `rows` x `width`.
fn embedding(rows: usize, width: usize) -> Vec<u8> {
    let bytes = 4 * rows * width;
    let header = format!(r#"{{"emb_params":{{"dtype":"F32","shape":[{rows},{width}],"data_offsets":[0,{bytes}]}}}}"#);
    let values = (0..rows * width).flat_map(|i| (i as f32 * 0.01).to_le_bytes());
    (header.len() as u64).to_le_bytes().into_iter().chain(header.bytes()).chain(values).collect()
}

#[test]
fn an_embedding_is_a_word() {
    let dir = Temp::new();
    fs::create_dir(dir.join("e")).expect("a folder");
    fs::write(dir.join("e/myCat.safetensors"), embedding(2, 128)).expect("a file");
    fs::write(dir.join("e/wide.safetensors"), embedding(1, 768)).expect("a file");
    fs::write(dir.join("e/broken.pt"), b"no pickle at all").expect("a file");
    let generate = |prompt: &str, more: &[&str], code: i32| {
        told(&dir, &[&["generate", prompt, "--steps", "1", "-s", "1", "--overwrite"], more].concat(), code).1
    };
    generate("a (mycat:1.1) on wood", &["--embd-dir", "e", "-o", "with.png"], 0);
    generate("a (mycat:1.1) on wood", &["-o", "without.png"], 0);
    let pixels = |name: &str| read_png(&dir.join(name), PictureLimits::default()).expect("a PNG").0;
    assert!(pixels("with.png") != pixels("without.png"));
    assert!(parameters(&dir, "with.png").contains("TI hashes: \"myCat: "));
    assert!(!parameters(&dir, "without.png").contains("TI hashes"));
    // Letters of another word are no word, whatever the file holds; folders within the folder are looked into.
    fs::write(dir.join("e/art.pt"), b"no pickle at all").expect("a file");
    fs::write(dir.join("e/car.safetensors"), embedding(1, 768)).expect("a file");
    fs::write(dir.join("e/a.safetensors"), embedding(1, 128)).expect("a file");
    fs::create_dir_all(dir.join("e/sub/sub")).expect("a folder");
    fs::write(dir.join("e/sub/sub/deepword.safetensors"), embedding(1, 128)).expect("a file");
    generate("party of carrots, deepword", &["--embd-dir", "e", "-o", "deep.png"], 0);
    let text = parameters(&dir, "deep.png");
    assert!(text.contains("TI hashes: \"deepword: ") && !text.contains("car: ") && !text.contains(" a: "), "{text}");
    // Only what a prompt names is read.
    let err = generate("a wide cat", &["--embd-dir", "e"], 2);
    assert!(err.contains("wide.safetensors") && err.contains("768") && err.contains("128"), "{err}");
    let err = generate("broken", &["--embd-dir", "e"], 1);
    assert!(err.contains("broken.pt"), "{err}");
    let err = generate("x", &["--embd-dir", "nowhere"], 2);
    assert!(err.contains("nowhere"), "{err}");
}

#[test]
fn a_prompt_is_shown_as_it_is_read() {
    let dir = Temp::new();
    let (out, _) =
        told(&dir, &["prompt", "a (red:1.3) [apple:banana:0.5] BREAK zzqx", "--steps", "4", "-n", "blue"], 0);
    for line in [
        "steps 1 to 2 of 4: text 1",
        "steps 3 to 4 of 4: text 2",
        "x1.3000",
        "chunk 2 of 2",
        "does not know 'zzqx'",
        "negative prompt: blue",
    ] {
        assert!(out.contains(line), "no '{line}' in\n{out}");
    }
    let (out, _) = told(&dir, &["prompt", &"cat ".repeat(1600)], 0);
    assert!(out.contains("cut after 20 chunks of 75 tokens; the last 100 tokens are ignored"), "{out}");
    told(&dir, &["prompt"], 2);
    let long = "a red apple, ".repeat(30);
    told(&dir, &["generate", &long, "-n", "(((blurry", "--steps", "1"], 0);
}
