//! Pictures say how they were made: what this program writes it repeats byte for byte,
//! what others write it understands.

use crate::common::{Temp, lienzo, stderr};
use lienzo::image::{Image, png_bytes};

fn ok(dir: &Temp, args: &[&str]) -> String {
    let output = lienzo(dir, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stderr(&output)
}

fn bytes(dir: &Temp, name: &str) -> Vec<u8> {
    std::fs::read(dir.join(name)).expect("a written picture")
}

/// A PNG with this text.
fn with_text(dir: &Temp, name: &str, text: &str) {
    let image = Image { width: 2, height: 1, rgb: vec![0, 50, 100, 150, 200, 250] };
    std::fs::write(dir.join(name), png_bytes(&image, Some(text)).expect("a PNG")).expect("a file");
}

#[test]
fn a_picture_is_repeated_byte_for_byte() {
    let dir = Temp::new();
    let first = ["generate", "a cat,\n\"so\": nice", "-n", "dogs", "--steps", "3", "-s", "4", "-b", "2"];
    let cases: [&[&str]; 8] = [
        &["--sampling-method", "DPM++ 2M Karras", "--cfg-scale", "6.25"],
        &["--sampling-method", "DPM++ 2M SDE", "--scheduler", "beta", "--eta", "0.3"],
        &["--sampling-method", "ddim", "--timesteps", "webui", "--clip-skip", "2"],
        &["--rng", "cpu", "-W", "72", "-H", "64"],
        &["--variation-strength", "0.3", "--variation-seed", "8", "--batch-size", "2"],
        &["--prediction", "v", "--type", "f32"],
        &["--sampling-method", "lcm", "--steps", "2", "--cfg-scale", "1"],
        &["--sampling-method", "euler_a", "--batch-size", "2"],
    ];
    for case in cases {
        let mut args = first.to_vec();
        if case.contains(&"--steps") {
            args.drain(4..6);
        }
        ok(&dir, &[&args[..], case, &["--overwrite", "-o", "a%d.png"]].concat());
        ok(&dir, &["generate", "--from-image", "a2.png", "-o", "b.png", "--overwrite"]);
        assert_eq!(bytes(&dir, "a2.png"), bytes(&dir, "b.png"), "{case:?}");
    }
    // With the picture it was made from.
    ok(&dir, &["generate", "x", "-i", "b.png", "--strength", "0.6", "-s", "1", "--steps", "4", "-o", "i.png"]);
    ok(&dir, &["generate", "--from-image", "i.png", "-i", "b.png", "-o", "i2.png"]);
    assert_eq!(bytes(&dir, "i.png"), bytes(&dir, "i2.png"));
    // Flags win.
    ok(&dir, &["generate", "x", "-s", "2", "--steps", "2", "-o", "s2.png"]);
    ok(&dir, &["generate", "--from-image", "s2.png", "-s", "1", "-o", "s1.png"]);
    ok(&dir, &["generate", "x", "-s", "1", "--steps", "2", "-o", "own.png"]);
    assert_eq!(bytes(&dir, "s1.png"), bytes(&dir, "own.png"));
}

#[test]
fn what_cannot_be_honoured_is_listed() {
    let dir = Temp::new();
    let settings = "Steps: 2, Sampler: DDIM, CFG scale: 7, Seed: 5, Size: 64x64";
    with_text(&dir, "hires.png", &format!("x\n{settings}, Hires upscale: 2, ENSD: 31337, Denoising strength: 0.7"));
    with_text(&dir, "lora.png", &format!("x <lora:a:1>\n{settings}, Lora hashes: \"a: 1234\""));
    with_text(&dir, "model.png", &format!("x\n{settings}, Model hash: fe4efff1e1, Model: ../../etc/passwd"));
    with_text(&dir, "init.png", &format!("x\n{settings}, Denoising strength: 0.7"));
    for (name, words) in [
        ("hires.png", &["Hires upscale: 2", "ENSD: 31337", "--ignore-unsupported"][..]),
        ("lora.png", &["<lora:a:1>", "--lora-model-dir"]),
        ("model.png", &["fe4efff1e1", "-m"]),
        ("init.png", &["-i"]),
    ] {
        let output = lienzo(&dir, &["generate", "--from-image", name, "-o", "out.png"]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        for word in words {
            assert!(stderr(&output).contains(word), "{name}: {}", stderr(&output));
        }
        assert!(!dir.join("out.png").exists());
        let note = ok(&dir, &["generate", "--from-image", name, "--ignore-unsupported", "-o", "o.png", "--overwrite"]);
        assert!(note.contains("not honoured"), "{note}");
    }
}

#[test]
fn the_webuis_tables_follow_its_version() {
    let dir = Temp::new();
    let settings = "x\nSteps: 20, Sampler: DDIM, CFG scale: 7, Seed: 5, Size: 64x64";
    with_text(&dir, "webui.png", &format!("{settings}, Version: v1.10.1"));
    with_text(&dir, "other.png", &format!("{settings}, Version: somebody"));
    // The webui's 20 steps of DDIM are 19 evaluations.
    assert!(ok(&dir, &["generate", "--from-image", "webui.png", "-o", "a.png"]).contains("19 evaluations"));
    assert!(ok(&dir, &["generate", "--from-image", "other.png", "-o", "b.png"]).contains("20 evaluations"));
    let flag = ["generate", "--from-image", "webui.png", "--timesteps", "leading", "-o", "c.png"];
    assert!(ok(&dir, &flag).contains("20 evaluations"));
}

#[test]
fn values_pass_the_limits_of_flags() {
    let dir = Temp::new();
    for (settings, word) in [
        ("Steps: 100000, Sampler: DDIM, Seed: 1, Size: 64x64", "1 to 1000"),
        ("Steps: 2, Sampler: DDIM, Seed: 1, Size: 64000x64", "64000"),
        ("Steps: 2, Sampler: DDIM, Seed: 1, Size: wide", "'Size'"),
        ("Steps: two, Sampler: DDIM, Seed: 1, Size: 64x64", "'Steps'"),
        ("Steps: 2, Sampler: magic, Seed: 1, Size: 64x64", "magic"),
        ("Steps: 2, Sampler: DDIM, Seed: 1, Size: 64x64, CFG scale: 1e9", "guidance"),
        ("Steps: 2, Sampler: DDIM, Seed: 1, Size: 64x64, RNG: tpu", "tpu"),
    ] {
        with_text(&dir, "x.png", &format!("x\n{settings}"));
        let output = lienzo(&dir, &["generate", "--from-image", "x.png", "-o", "out.png"]);
        assert_eq!(output.status.code(), Some(2), "{settings}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{settings}: {}", stderr(&output));
    }
    with_text(&dir, "x.png", "only a prompt");
    assert_eq!(lienzo(&dir, &["generate", "--from-image", "x.png"]).status.code(), Some(1));
}

#[test]
fn a_preview_is_written_and_goes_away() {
    let dir = Temp::new();
    for preview in ["every=2", "every=2,vae"] {
        ok(&dir, &["generate", "x", "-s", "1", "--steps", "5", "--preview", preview, "-o", "a.png", "--overwrite"]);
        assert!(dir.names().iter().all(|n| !n.contains("preview")), "{:?}", dir.names());
        ok(&dir, &["generate", "x", "-s", "1", "--steps", "5", "-o", "b.png", "--overwrite"]);
        assert_eq!(bytes(&dir, "a.png"), bytes(&dir, "b.png"), "{preview} changes the picture");
    }
}

#[test]
fn a_vae_is_known_by_its_hash() {
    let dir = Temp::new();
    let tiny = crate::common::golden("tiny-sd");
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    std::fs::copy(tiny.join("vae/diffusion_pytorch_model.safetensors"), file("my vae.safetensors")).expect("a copy");
    std::fs::copy(file("my vae.safetensors"), file("renamed.safetensors")).expect("a copy");
    let model = tiny.to_string_lossy().into_owned();
    let made = ["generate", "x", "-m", &model, "-W", "64", "-H", "64", "--steps", "1", "-s", "1"];
    let with = |vae: &str, out: &str| {
        ok(&dir, &[&made[..], &["--vae", vae, "-o", out, "--overwrite"]].concat());
        let (_, texts) =
            lienzo::image::read_png(&dir.join(out), lienzo::image::PictureLimits::default()).expect("a PNG");
        texts.into_iter().map(|(_, text)| text).collect::<String>()
    };
    let text = with("my vae.safetensors", "a.png");
    let hash = lienzo::checkpoint::sha256_file(&dir.join("my vae.safetensors"), &false.into()).expect("a hash");
    let short = &hash[..10];
    assert!(text.contains(&format!("Model: tiny-sd, VAE hash: {short}, VAE: my vae.safetensors, ")), "{text}");
    // A folder has the hash of the file in it.
    let folder = tiny.join("vae").to_string_lossy().into_owned();
    assert!(with(&folder, "f.png").contains(&format!("VAE hash: {short}, VAE: vae, ")));
    let again = ["generate", "--from-image", "a.png", "-m", &model, "-o", "b.png", "--overwrite"];
    ok(&dir, &[&again[..], &["--vae", "my vae.safetensors"]].concat());
    assert_eq!(bytes(&dir, "a.png"), bytes(&dir, "b.png"));
    // The hash decides, not the name.
    ok(&dir, &[&again[..], &["--vae", "renamed.safetensors"]].concat());
    let mut changed = bytes(&dir, "my vae.safetensors");
    *changed.last_mut().expect("a byte") ^= 1;
    std::fs::write(file("renamed.safetensors"), changed).expect("a file");
    for (vae, word) in [(&["--vae", "renamed.safetensors"][..], "another"), (&[], "give its file with --vae")] {
        let output = lienzo(&dir, &[&again[..], vae].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(short) && stderr(&output).contains(word), "{}", stderr(&output));
    }
    // Programs that write no hash are believed by the name, with or without its extension.
    let settings = "x\nSteps: 1, Sampler: Euler a, Seed: 1, Size: 64x64";
    for (name, code) in [("my vae.safetensors", 0), ("my vae", 0), ("other", 2)] {
        with_text(&dir, "n.png", &format!("{settings}, VAE: {name}"));
        let args = ["generate", "--from-image", "n.png", "-m", &model, "--vae", "my vae.safetensors", "-o", "n2.png"];
        let output = lienzo(&dir, &[&args[..], &["--overwrite"]].concat());
        assert_eq!(output.status.code(), Some(code), "{name}: {}", stderr(&output));
    }
}
