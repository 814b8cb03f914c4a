//! The arrows of the architecture: what a folder may not name.

use std::fs;
use std::path::Path;

fn sources(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).expect("a folder of the crate").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            found.push((path.display().to_string(), text));
        }
    }
}

/// All files of `src/NAME.rs` and `src/NAME/`.
fn files(name: &str) -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let file = src.join(format!("{name}.rs"));
    found.push((file.display().to_string(), fs::read_to_string(&file).expect("a module's front door")));
    if src.join(name).is_dir() {
        sources(&src.join(name), &mut found);
    }
    found
}

fn never_names(folder: &str, forbidden: &[&str]) {
    for (path, text) in files(folder) {
        // Tests inside a file may reach further than its code.
        let code = text.split("#[cfg(test)]").next().unwrap_or("");
        for word in forbidden {
            let named = code.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(word));
            assert!(!named, "{path} names {word}");
        }
    }
}

#[test]
fn models_know_no_device() {
    for folder in ["diffusion", "layers"] {
        never_names(folder, &["crate::backend", "crate::engine", "kernels::cpu", "crate::simd"]);
    }
}

#[test]
fn kernels_know_no_model() {
    never_names(
        "kernels",
        &["crate::diffusion", "crate::layers", "crate::graph", "crate::checkpoint::Model", "crate::engine"],
    );
}

#[test]
fn only_the_backend_names_the_graphics_crate() {
    for folder in ["kernels", "graph", "diffusion", "layers", "engine", "check", "verify", "bench", "cli"] {
        never_names(folder, &["wgpu::"]);
    }
}

#[test]
fn the_graph_knows_neither() {
    never_names("graph", &["crate::diffusion", "crate::layers", "crate::backend", "crate::engine"]);
}

#[test]
fn no_kernel_names_rayon() {
    never_names("kernels", &["rayon"]);
}

#[test]
fn unsafe_code_lives_where_it_is_expected() {
    let mut all = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    for (path, text) in all {
        let path = path.replace('\\', "/");
        let places = [
            "/src/simd",
            "/src/kernels/cpu/",
            "/src/backend/cpu/memory.rs",
            "/src/backend/gpu/device.rs",
            "/src/backend/gpu/shader.rs",
            "/src/backend/gpu/pipeline.rs",
        ];
        let allowed = places.iter().any(|a| path.contains(a));
        assert!(allowed || !text.contains("allow(unsafe_code"), "{path} allows unsafe code");
    }
}
