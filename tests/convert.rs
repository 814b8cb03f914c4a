//! `lienzo convert` writes what it read, never over what it reads, and `inspect` names it.

use crate::common::{Temp, golden, lienzo, stderr};

#[test]
fn a_folder_becomes_a_file_that_draws_the_same() {
    let dir = Temp::new();
    let tiny = golden("tiny-sd");
    let tiny = tiny.to_str().expect("a path of text");
    for kind in ["f32", "f16"] {
        let file = format!("{kind}.safetensors");
        let output = lienzo(&dir, &["convert", tiny, &file, "--type", kind]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), file);
        for (model, name) in [(tiny, "a"), (file.as_str(), "b")] {
            let args =
                ["generate", "x", "-m", model, "--type", kind, "-W", "64", "-H", "64", "--steps", "2", "-s", "1"];
            let output = lienzo(&dir, &[&args[..], &["--disable-image-metadata", "--overwrite", "-o", name]].concat());
            assert!(output.status.success(), "{}", stderr(&output));
        }
        let read = |name: &str| std::fs::read(dir.join(name)).expect("a picture");
        assert_eq!(read("a.png"), read("b.png"), "{kind}");
    }
    let f32 = std::fs::metadata(dir.join("f32.safetensors")).expect("a file").len();
    let f16 = std::fs::metadata(dir.join("f16.safetensors")).expect("a file").len();
    assert!(f16 < f32 * 6 / 10, "{f16} of {f32}");
    let output = lienzo(&dir, &["inspect", "f16.safetensors"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sha = text.lines().find_map(|l| l.strip_prefix("sha256")).expect("a sha256").trim().to_owned();
    let short = text.lines().find_map(|l| l.strip_prefix("short hash")).expect("a short hash");
    assert!(sha.len() == 64 && short.trim().starts_with(&sha[..10]) && short.contains("before webui 1.0"), "{text}");
}

#[test]
fn nothing_is_overwritten() {
    let dir = Temp::new();
    let tiny = golden("tiny-sd");
    let tiny = tiny.to_str().expect("a path of text");
    assert!(lienzo(&dir, &["convert", tiny, "a.safetensors"]).status.success());
    let before = std::fs::read(dir.join("a.safetensors")).expect("a file");
    #[cfg(unix)]
    std::os::unix::fs::symlink(dir.join("a.safetensors"), dir.join("link.safetensors")).expect("a link");
    for (from, to, word) in [
        ("a.safetensors", "a.safetensors", "is the checkpoint that is read"),
        #[cfg(unix)]
        ("a.safetensors", "link.safetensors", "is the checkpoint that is read"),
        (tiny, "a.safetensors", "exists already"),
        ("a.safetensors", "b.ckpt", "only safetensors"),
        ("a.safetensors", "none/b.safetensors", "does not exist"),
    ] {
        let output = lienzo(&dir, &["convert", from, to]);
        assert_eq!(output.status.code(), Some(2), "{to}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{to}: {}", stderr(&output));
    }
    assert_eq!(std::fs::read(dir.join("a.safetensors")).expect("a file"), before);
    assert_eq!(lienzo(&dir, &["convert", "a.safetensors", "b.safetensors", "--type", "q8"]).status.code(), Some(2));
    assert!(!dir.join("b.safetensors").exists());
}
