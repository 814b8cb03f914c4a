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
        lienzo::image::read_png(&dir.join("output.png"), lienzo::image::PictureLimits::default()).expect("a PNG");
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
        &["generate", "x", "--max-memory", "40MB"],
        1,
        &["not enough memory", "--max-memory allows 40.00 MB", "--force"],
    );
    let dir = Temp::new();
    let forced = lienzo(&dir, &["generate", "x", "--steps", "1", "--max-memory", "40MB", "--force"]);
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
fn records_of_a_benchmark_are_not_replaced_unless_asked() {
    let dir = Temp::new();
    for flag in ["--json", "--csv"] {
        let file = format!("mine{flag}");
        std::fs::write(dir.join(&file), b"precious").expect("a file");
        let bench = ["bench", "timestep_embedding", flag, &file];
        let output = lienzo(&dir, &bench);
        // Refused before anything is measured.
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("give --overwrite"), "{}", stderr(&output));
        assert!(!stderr(&output).contains("measuring"), "{}", stderr(&output));
        assert_eq!(std::fs::read(dir.join(&file)).expect("the file"), b"precious");
        let output = lienzo(&dir, &[&bench[..], &["--overwrite"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let text = std::fs::read_to_string(dir.join(&file)).expect("the file");
        assert!(text.contains("timestep_embedding/") && !text.contains("precious"), "{text}");
    }
    let both = lienzo(&dir, &["bench", "timestep_embedding", "--json", "-", "--csv", "-"]);
    assert_eq!(both.status.code(), Some(2), "{}", stderr(&both));
}

#[test]
fn shapes_of_ones_own_are_checked_and_timed() {
    let dir = Temp::new();
    let bench = |args: &[&str]| lienzo(&dir, &[&["bench"], args].concat());
    let sizes = ["matmul", "--m", "8,16", "--n", "4..8*2", "--k", "12", "--epilogue", "gelu", "--samples", "2"];
    let output = bench(&[&sizes[..], &["--quick", "--json", "-"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = rows.as_array().expect("rows");
    let names: Vec<&str> = rows.iter().filter_map(|r| r["name"].as_str()).collect();
    assert!(names.contains(&"matmul/own_b1_1x16_12_8_gelu/panels"), "{names:?}");
    assert!(!names.iter().any(|n| n.ends_with("naive")), "{names:?}");
    assert!(rows.iter().all(|r| r["runs_s"].as_array().is_some_and(|runs| runs.len() == 2)), "{rows:?}");
    for (args, part) in [
        (&["--m", "8"][..], "needs the name of one op"),
        (&["layer_norm", "--m", "8"], "takes no sizes"),
        (&["matmul", "--m", "8"], "--n is missing"),
        (&["attention", "--queries", "8", "--keys", "8", "--heads", "1", "--dim", "8", "--m", "1"], "has no --m"),
        (&["matmul", "--m", "8..", "--n", "1", "--k", "1"], "is no list of sizes"),
        (&["matmul", "--m", "1", "--n", "1", "--k", "999999999"], "elements in one tensor"),
        (&["matmul", "--variant", "fast"], "implicit_gemm"),
    ] {
        let output = bench(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{args:?}: {}", stderr(&output));
    }
    let list = bench(&["--list", "layer_norm", "conv2d/b2_64x64_320_320*", "--quick"]);
    let text = String::from_utf8(list.stdout).expect("text");
    assert!(text.lines().count() > 2 && !text.contains("naive") && text.contains("winograd, panels"), "{text}");
    assert!(text.lines().all(|l| l.starts_with("layer_norm/") || l.starts_with("conv2d/b2_64x64_320_320")), "{text}");
}

#[test]
fn a_variant_is_refused_and_preferred_by_name() {
    let dir = Temp::new();
    let plan = |args: &[&str]| {
        let output =
            lienzo(&dir, &[&["bench", "--explain", "--arch", "embedded", "-W", "64", "-H", "64"], args].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(plan(&[]).contains("flash"));
    assert!(!plan(&["--refuse", "attention/flash"]).contains("flash"));
    assert!(!plan(&["--prefer", "attention/naive"]).contains("flash"));
    let unknown = lienzo(&dir, &["generate", "x", "--refuse", "attention/flashy"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("on a CPU: naive, flash, flash_bf16"), "{}", stderr(&unknown));
    // It is what runs, not only what is shown: other sums, other bits, a picture all the same.
    let draw = |name: &str, args: &[&str]| {
        let output = lienzo(&dir, &[&["generate", "x", "-s", "1", "--steps", "1", "-o", name], args].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        std::fs::read(dir.join(name)).expect("the picture")
    };
    let (fast, plain) = (draw("fast.png", &[]), draw("plain.png", &["--refuse", "matmul/panels"]));
    assert!(plain.starts_with(b"\x89PNG") && plain.len().abs_diff(fast.len()) < fast.len() / 2);
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

#[test]
fn what_cannot_be_said_loses_no_picture() {
    let dir = Temp::new();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").ok();
    let Some(_) = full() else { return };
    let run = |name: &str, out: bool, err: bool| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lienzo"));
        command.current_dir(dir.join(".")).env("LIENZO_CACHE_DIR", dir.join(".cache"));
        command.args(["generate", "a red apple", "-s", "1", "--steps", "1", "-b", "2", "-o", name]);
        let sink = |lost: bool| if lost { full().expect("a full device").into() } else { std::process::Stdio::piped() };
        command.stdout(sink(out)).stderr(sink(err)).output().expect("the binary runs")
    };
    let silent = run("a%d.png", false, true);
    assert!(silent.status.success() && stdout(&silent).lines().count() == 2);
    let unheard = run("b%d.png", true, false);
    assert_eq!(unheard.status.code(), Some(1));
    assert_eq!(stderr(&unheard).matches("not all could be printed").count(), 1, "{}", stderr(&unheard));
    for name in ["a1.png", "a2.png", "b1.png", "b2.png"] {
        assert!(dir.join(name).exists(), "{name} is lost: {:?}", dir.names());
    }
    let input = golden("tiny-sd");
    let mut convert = std::process::Command::new(env!("CARGO_BIN_EXE_lienzo"));
    convert.current_dir(dir.join(".")).arg("convert").arg(&input).arg("c.safetensors");
    let output = convert.stdout(full().expect("a full device")).output().expect("the binary runs");
    assert!(output.status.code() == Some(1) && dir.join("c.safetensors").exists(), "{}", stderr(&output));
}

#[test]
fn a_name_that_no_file_can_have_is_refused_before_the_work() {
    let long = "word_".repeat(60);
    refused(&["generate", "x", "-o", &long], 2, &["too long"]);
    refused(&["generate", "x", "-o", &format!("{long}{{seed}}")], 2, &["too long"]);
    // The picture's name would do, its preview's would not.
    let name = format!("{}.png", "n".repeat(248));
    refused(&["generate", "x", "--preview", "every=1", "-o", &name], 2, &["too long"]);
    refused(&["generate", "x", "-b", "1000000000"], 2, &["1000000000 pictures", "1000000"]);
}

#[test]
fn an_ending_keeps_its_case() {
    let dir = Temp::new();
    let drawn = lienzo(&dir, &["generate", "x", "--steps", "1", "-b", "2", "-o", "a.PNG"]);
    assert!(drawn.status.success(), "{}", stderr(&drawn));
    assert!(dir.join("a_1.PNG").exists() && dir.join("a_2.PNG").exists(), "{:?}", dir.names());
}

#[test]
fn words_of_other_programs_are_understood() {
    let dir = Temp::new();
    let base = ["generate", "x", "-s", "1", "--overwrite"];
    let drawn = |more: &[&str]| {
        let output = lienzo(&dir, &[&base[..], more, &["-o", "a.png"]].concat());
        assert!(output.status.success(), "{more:?}: {}", stderr(&output));
        std::fs::read(dir.join("a.png")).expect("a picture")
    };
    let want = drawn(&["--steps", "2", "--cfg-scale", "4"]);
    assert!(drawn(&["--num-inference-steps", "2", "--guidance-scale", "4", "-t", "-1"]) == want);
    assert!(drawn(&["--ddim_steps", "2", "--cfg", "4", "--clip-skip", "-1", "-M", "img_gen"]) == want);
    let help = stdout(&lienzo(&dir, &["generate", "--help"]));
    assert!(help.contains("--guidance-scale") && help.contains("Sampling:") && help.contains("Output:"), "{help}");
    let short = stdout(&lienzo(&dir, &["generate", "-h"]));
    assert!(short.lines().count() < help.lines().count() / 2 && !short.contains("--only-masked-padding"), "{short}");
}

#[test]
fn tips_help() {
    refused(&["generate", "a", "red", "apple"], 2, &["needs quotes"]);
    for (args, word, not) in [
        (&["--hr-scale", "2"][..], "no second pass", "'--scale'"),
        (&["--upscale-repeats", "2"], "use --upscale FACTOR", "'--scale'"),
        (&["--tiling"], "no tiling", "init_img"),
        (&["--control-net", "x"], "ControlNet is not here", "similar"),
        (&["--lcm"], "unexpected", "plms"),
        (&["--guidance_scal", "3"], "'--cfg-scale'", "'--scale'"),
        (&["-M", "vid_gen"], "vid_gen is not here", "panicked"),
    ] {
        let dir = Temp::new();
        let output = lienzo(&dir, &[&["generate", "x"], args].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(word) && !text.contains(not), "{args:?}: {text}");
    }
}

#[test]
fn tags_that_would_change_the_model_are_no_words() {
    refused(&["generate", "a red apple <lora:add_detail:0.8>"], 2, &["<lora:add_detail:0.8>", "--lora-model-dir"]);
    refused(&["generate", "x", "-n", "<hypernet:a:1>"], 2, &["<hypernet:a:1>"]);
    let dir = Temp::new();
    let draw = |prompt: &str, more: &[&str], name: &str| {
        let args = [&["generate", prompt, "-s", "1", "--steps", "2", "-o", name], more].concat();
        let output = lienzo(&dir, &args);
        assert!(output.status.success(), "{}", stderr(&output));
        (std::fs::read(dir.join(name)).expect("a picture"), stderr(&output))
    };
    let (plain, _) = draw("a red apple", &[], "a.png");
    let (without, told) = draw("a red apple <lora:add_detail:0.8>", &["--ignore-unsupported"], "b.png");
    assert!(plain == without && told.contains("taken out of the prompt: <lora:add_detail:0.8>"), "{told}");
}

#[test]
fn previews_leave_alone_what_was_there() {
    let dir = Temp::new();
    for name in ["s.preview.png", "k.preview-001.png"] {
        std::fs::write(dir.join(name), b"precious").expect("a file");
    }
    for (out, preview) in [("s.png", "every=1"), ("k.png", "every=1,keep")] {
        let output = lienzo(&dir, &["generate", "x", "-s", "1", "--steps", "3", "--preview", preview, "-o", out]);
        assert!(output.status.success() && stderr(&output).contains("was there before"), "{}", stderr(&output));
    }
    for name in ["s.preview.png", "k.preview-001.png"] {
        assert_eq!(std::fs::read(dir.join(name)).expect("the file"), b"precious");
    }
    assert!(dir.join("k.preview-001_2.png").exists() && !dir.join("s.preview_2.png").exists(), "{:?}", dir.names());
}

#[test]
fn prompts_come_from_a_file_and_choices_are_made_by_the_seed() {
    let dir = Temp::new();
    std::fs::write(dir.join("p.txt"), "a red apple\n\na blue ball\n").expect("a file");
    let run = |args: &[&str]| {
        let output = lienzo(&dir, &[&["generate"], args, &["--steps", "1", "--overwrite"]].concat());
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stdout(&output).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let text = |name: &str| {
        let (_, texts) =
            lienzo::image::read_png(&dir.join(name), lienzo::image::PictureLimits::default()).expect("a PNG");
        texts[0].1.clone()
    };
    assert_eq!(run(&["-p", "@p.txt", "-s", "5", "-o", "f%d.png"]), ["f1.png", "f2.png"]);
    assert!(text("f1.png").starts_with("a red apple\n") && text("f2.png").starts_with("a blue ball\n"));
    assert!(text("f2.png").contains("Seed: 6"));
    // Each is the picture that its prompt and seed make alone.
    run(&["a blue ball", "-s", "6", "-o", "alone.png"]);
    let bytes = |name: &str| std::fs::read(dir.join(name)).expect("a picture");
    assert!(bytes("alone.png") == bytes("f2.png"));
    run(&["a {red|blue|green|yellow} ball", "-s", "1", "-b", "6", "-o", "d%d.png"]);
    let first: Vec<String> =
        (1..=6).map(|i| text(&format!("d{i}.png")).lines().next().expect("a prompt").into()).collect();
    assert!(first.iter().all(|p| !p.contains('{')) && first.iter().any(|p| *p != first[0]), "{first:?}");
    run(&["--from-image", "d3.png", "-o", "again.png"]);
    assert!(bytes("again.png") == bytes("d3.png"));
    refused(&["generate", "-p", "@none.txt"], 2, &["none.txt"]);
    refused(&["generate", "a {red|blue} ball", "--grid", "steps=1,2"], 2, &["--grid", "choices", "prompt=a red cat"]);
    // Each is shown on the way, and goes on where it was interrupted, like the pictures of one prompt.
    let shown =
        ["generate", "a {red|blue} ball", "-b", "2", "--steps", "2", "--preview", "every=1,keep", "-o", "s%d.png"];
    assert_eq!(stdout(&lienzo(&dir, &shown)), "s1.png\ns2.png\n");
    assert!(dir.join("s1.preview-001.png").exists() && dir.join("s2.preview-001.png").exists(), "{:?}", dir.names());
}

#[test]
fn a_picture_goes_to_stdout() {
    let dir = Temp::new();
    let base = ["generate", "x", "--steps", "1", "-s", "1", "-o"];
    let output = lienzo(&dir, &[&base[..], &["-"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(lienzo(&dir, &[&base[..], &["a.png"]].concat()).status.success());
    assert!(output.stdout == std::fs::read(dir.join("a.png")).expect("a picture"));
    assert!(!dir.names().iter().any(|n| n.starts_with('-')), "{:?}", dir.names());
    refused(&["generate", "x", "-o", "-", "-b", "2"], 2, &["only one picture"]);
    refused(&["generate", "x", "-o", "-", "--resume"], 2, &["--resume"]);
}
