//! The same seed gives the same bytes: with any number of threads, twice in a row, alone or in a batch.

use crate::common::{Temp, lienzo, stderr};
use std::path::Path;

fn generate(dir: &Temp, more: &[&str]) {
    let base = ["generate", "two cats on a blue background", "--steps", "3"];
    let output = lienzo(dir, &[&base[..], more].concat());
    assert!(output.status.success(), "{}", stderr(&output));
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a written picture")
}

#[test]
fn threads_and_repetition_change_nothing() {
    let dir = Temp::new();
    for sampler in ["euler_a", "ddim", "dpm++2m_sde"] {
        let mut all = Vec::new();
        for (i, threads) in ["1", "2", "5", "2"].iter().enumerate() {
            let name = format!("{sampler}-{i}.png");
            generate(&dir, &["-s", "7", "-t", threads, "--sampling-method", sampler, "-o", &name]);
            all.push(bytes(&dir.join(&name)));
        }
        assert!(all.iter().all(|b| *b == all[0]), "{sampler}");
    }
}

#[test]
fn a_batch_is_its_single_pictures() {
    let dir = Temp::new();
    generate(&dir, &["-s", "40", "-b", "3", "-o", "batch-%d.png"]);
    for i in 0..3 {
        let (seed, name) = ((40 + i).to_string(), format!("single-{i}.png"));
        generate(&dir, &["-s", &seed, "-o", &name]);
        assert_eq!(bytes(&dir.join(&name)), bytes(&dir.join(&format!("batch-{}.png", i + 1))), "seed {seed}");
    }
}

#[test]
fn another_seed_prompt_or_generator_is_another_picture() {
    let dir = Temp::new();
    generate(&dir, &["-s", "1", "-o", "a.png"]);
    generate(&dir, &["-s", "2", "-o", "b.png"]);
    generate(&dir, &["-s", "1", "--rng", "cpu", "-o", "c.png"]);
    generate(&dir, &["-s", "1", "-n", "red", "-o", "d.png"]);
    let all = ["a", "b", "c", "d"].map(|n| bytes(&dir.join(&format!("{n}.png"))));
    for (i, a) in all.iter().enumerate() {
        assert!(all[i + 1..].iter().all(|b| a != b));
    }
}
