//! The crate's own files, as the structure tests read them: which room a line is in, and which rooms it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file under `src/` or another folder of the crate.
pub struct Source {
    /// From the crate's root, with slashes.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// All files under a folder of the crate with one of these endings, in order.
pub fn sources(folder: &str, endings: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    paths.retain(|p| p.extension().is_some_and(|e| endings.iter().any(|known| e == *known)));
    paths.sort();
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(root).expect("a path in the crate").display().to_string().replace('\\', "/"),
        text: fs::read_to_string(&path).expect("a source file is text"),
    };
    paths.into_iter().map(read).collect()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the crate").flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The files of `src/` that are compiled outside of tests too.
pub fn code() -> Vec<Source> {
    let all = sources("src", &["rs"]);
    let tests: Vec<String> = all.iter().flat_map(test_modules).collect();
    let own = |s: &Source| !tests.iter().any(|t| s.path == format!("{t}.rs") || s.path.starts_with(&format!("{t}/")));
    all.into_iter().filter(own).collect()
}

/// The files, without their ending, of `#[cfg(test)] mod NAME;`.
fn test_modules(source: &Source) -> Vec<String> {
    let home = source.path.trim_end_matches(".rs").trim_end_matches("/lib").trim_end_matches("/main");
    let lines: Vec<&str> = source.text.lines().collect();
    let named = lines.windows(2).filter(|w| w[0].trim() == "#[cfg(test)]").filter_map(|w| {
        let declared = w[1].trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        declared.strip_prefix("mod ")?.strip_suffix(';')
    });
    named.map(|name| format!("{home}/{name}")).collect()
}

impl Source {
    /// The room: the first part of the path below `src/`.
    pub fn room(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split('/').next().unwrap_or("").trim_end_matches(".rs")
    }

    /// Its lines that are code outside of tests, without comments: what follows a test module counts again.
    pub fn code_lines(&self) -> Vec<&str> {
        let mut lines = Vec::new();
        let mut all = self.text.lines().peekable();
        while let Some(line) = all.next() {
            if line.trim() != "#[cfg(test)]" {
                if !line.trim_start().starts_with("//") {
                    lines.push(line);
                }
                continue;
            }
            let indent = &line[..line.len() - line.trim_start().len()];
            while all.peek().is_some_and(|l| l.trim_start().starts_with("#[")) {
                all.next();
            }
            // rustfmt closes an item with a brace in the column where it began.
            if all.next().is_some_and(|item| item.ends_with('{')) {
                let end = format!("{indent}}}");
                while all.next().is_some_and(|l| l != end) {}
            }
        }
        lines
    }

    /// The rooms that its code names: after `crate::`, in `crate::{...}`, and by enough `super::`.
    pub fn names(&self) -> BTreeSet<String> {
        let text = self.code_lines().join("\n");
        let mut found = BTreeSet::new();
        for (at, _) in text.match_indices("crate::") {
            let rest = &text[at + "crate::".len()..];
            match rest.strip_prefix('{') {
                Some(list) => found.extend(first_words(list)),
                None => found.extend(word(rest)),
            }
        }
        let depth = self.path.trim_end_matches(".rs").split('/').count() - 1;
        let up = "super::".repeat(depth);
        found.extend(text.match_indices(&up).filter_map(|(at, _)| word(&text[at + up.len()..])));
        found.remove(self.room());
        found.remove("super");
        found
    }
}

/// The identifier that a text begins with.
fn word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// The first identifier of each entry of `a::b, c::{d, e}, f}`.
fn first_words(list: &str) -> Vec<String> {
    let (mut depth, mut entry, mut found) = (0, String::new(), Vec::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.extend(word(std::mem::take(&mut entry).trim())),
            c if depth == 0 => entry.push(c),
            _ => {}
        }
    }
    found.extend(word(entry.trim()));
    found
}

#[test]
fn what_a_file_names_is_found_in_every_form() {
    let source = |text: &str| Source { path: "src/graph/plan.rs".into(), text: text.into() };
    let text = "use crate::{backend::cpu::Cpu, kernels::{Op, Caps},\n    tensor};\nfn f() { super::super::engine::x(); super::fuse(); }";
    let names: Vec<String> = source(text).names().into_iter().collect();
    assert_eq!(names, ["backend", "engine", "kernels", "tensor"]);
    let inside = "#[cfg(test)]\nmod tests {\n    use crate::cli;\n}\n\nuse crate::verify;\n// crate::bench\n";
    assert_eq!(source(inside).names().into_iter().collect::<Vec<_>>(), ["verify"]);
    assert_eq!(test_modules(&source("#[cfg(test)]\nmod tests;\nmod code;")), ["src/graph/plan/tests"]);
}
