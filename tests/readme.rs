//! The READMEs: every command that they show exists, with the flags that they use, and every picture is there.

use crate::common::{Temp, lienzo};
use std::collections::BTreeMap;
use std::path::Path;

const PAGES: [&str; 2] = ["README.md", "README.es.md"];

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a page")
}

/// The words of every `lienzo ...` command of a page, in code blocks and in the running text.
fn commands(text: &str) -> Vec<Vec<String>> {
    let blocks = text.lines().filter_map(|l| l.strip_prefix("lienzo ").or(l.strip_prefix("cargo run --release -- ")));
    let inline = text.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("lienzo "));
    blocks.chain(inline).map(words).collect()
}

/// Splits as a shell does, for double quotes alone.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("one word at least").push(c),
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

#[test]
fn commands_and_flags_exist() {
    let dir = Temp::new();
    let mut help: BTreeMap<String, String> = BTreeMap::new();
    for name in PAGES {
        let all = commands(&page(name));
        assert!(all.len() > 10, "{name} shows {} commands", all.len());
        for command in all {
            let text = help.entry(command[0].clone()).or_insert_with(|| {
                let output = lienzo(&dir, &[&command[0], "--help"]);
                assert!(output.status.success(), "{name}: lienzo {} is no command", command[0]);
                String::from_utf8_lossy(&output.stdout).into_owned()
            });
            for flag in command[1..].iter().filter(|w| w.starts_with('-')) {
                let known = text.split([' ', ',', '\n']).any(|w| w == flag);
                assert!(known, "{name}: lienzo {} has no {flag}", command[0]);
            }
        }
    }
}

#[test]
fn flags_of_the_tables_exist() {
    let dir = Temp::new();
    let help = String::from_utf8_lossy(&lienzo(&dir, &["generate", "--help"]).stdout).into_owned();
    for name in PAGES {
        let text = page(name);
        for flag in text.split('`').skip(1).step_by(2).filter(|code| code.starts_with('-')) {
            let flag = flag.split(' ').next().unwrap_or("");
            assert!(help.split([' ', ',', '\n']).any(|w| w == flag), "{name}: {flag} is no flag of generate");
        }
    }
}

#[test]
fn pictures_and_pages_are_there() {
    for name in PAGES {
        for link in page(name).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.starts_with("http") && !link.starts_with('<') {
                assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists(), "{name} links to {link}");
            }
        }
    }
}
