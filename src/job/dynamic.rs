//! A prompt with choices, `a {red|green} __fruit__`, and a seed go in; the prompt of one picture comes out.
//!
//! The same seed chooses the same words. `{2::red|green}` makes red twice as likely; choices may hold choices. A line
//! of
//! `fruit.txt` in the folder of wildcards stands for `__fruit__`, where there is such a folder.

use crate::diffusion::prompt::schedule::MAX_BYTES;
use crate::error::{Error, Result, escape};
use std::path::Path;

/// Choices inside of choices at most.
const MAX_DEPTH: usize = 16;
/// The largest file of wildcards, or of prompts, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Prompts of one job at most.
const MAX_PROMPTS: usize = 10_000;

/// Whether a prompt has choices in it.
pub fn is_dynamic(prompt: &str, wildcards: bool) -> bool {
    let choice = prompt
        .char_indices()
        .filter(|(_, c)| *c == '{')
        .any(|(at, _)| closing(&prompt[at + 1..]).is_some_and(|end| options(&prompt[at + 1..at + 1 + end]).len() > 1));
    choice || wildcards && prompt.char_indices().any(|(at, _)| wildcard(&prompt[at..]).is_some())
}

/// The prompt of the picture with this seed.
///
/// # Errors
/// Usage: a choice that is not understood, a wildcard without a file, or a prompt that grows too long.
pub fn chosen(prompt: &str, seed: u64, wildcards: Option<&Path>) -> Result<String> {
    let mut chooser = Chooser { state: seed, wildcards };
    let mut out = String::new();
    chooser.write(prompt, 0, &mut out)?;
    Ok(out)
}

/// The prompts of a text, one a line; empty lines are none.
///
/// # Errors
/// Usage: there is none, or there are too many.
pub fn lines(text: &str) -> Result<Vec<String>> {
    let all: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    match all.len() {
        0 => Err(Error::usage("there is no prompt: write one on each line")),
        n if n > MAX_PROMPTS => Err(Error::usage(format!("there are {n} prompts; at most {MAX_PROMPTS} are drawn"))),
        _ => Ok(all),
    }
}

/// The text of a file of prompts or wildcards.
///
/// # Errors
/// Usage, naming the file: it cannot be read, or is none.
pub fn read(path: &Path) -> Result<String> {
    let wrong = |why: String| Error::usage(format!("{}: {why}", escape(&path.to_string_lossy())));
    let size = std::fs::metadata(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    if !size.is_file() || size.len() > MAX_FILE {
        return Err(wrong(format!("is no text file of at most {} MB", MAX_FILE >> 20)));
    }
    std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot be read: {e}")))
}

struct Chooser<'a> {
    /// Of a SplitMix64 generator.
    state: u64,
    wildcards: Option<&'a Path>,
}

impl Chooser<'_> {
    fn write(&mut self, text: &str, depth: usize, out: &mut String) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::usage(format!("the prompt has more than {MAX_DEPTH} choices inside of choices")));
        }
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if out.len() > MAX_BYTES {
                return Err(Error::usage(format!("the prompt's choices make more than {MAX_BYTES} bytes of it")));
            }
            if c == '{'
                && let Some(end) = closing(&rest[1..])
            {
                let body = &rest[1..=end];
                rest = &rest[end + 2..];
                match options(body) {
                    all if all.len() > 1 => {
                        let option = self.option(&all)?;
                        self.write(option, depth + 1, out)?;
                    }
                    // Braces without a choice are the prompt's own.
                    _ => {
                        out.push('{');
                        self.write(body, depth + 1, out)?;
                        out.push('}');
                    }
                }
            } else if let (Some(folder), Some(name)) = (self.wildcards, wildcard(rest)) {
                let line = self.line(&folder.join(format!("{name}.txt")))?;
                rest = &rest[name.len() + 4..];
                self.write(&line, depth + 1, out)?;
            } else {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        Ok(())
    }

    /// One of the options, by their weights.
    fn option<'t>(&mut self, all: &[&'t str]) -> Result<&'t str> {
        if let Some((count, _)) = all[0].split_once("$$") {
            let message = format!("'{}$$' in a choice is not here yet: one of its options is taken", escape(count));
            return Err(Error::usage(message));
        }
        let weighted = |option: &&'t str| match option.split_once("::") {
            Some((weight, text)) => match weight.trim().parse::<f64>() {
                Ok(weight) if weight.is_finite() && weight >= 0.0 => (weight, text),
                _ => (1.0, *option),
            },
            None => (1.0, *option),
        };
        let all: Vec<(f64, &str)> = all.iter().map(weighted).collect();
        let mut left = self.share() * all.iter().map(|(weight, _)| weight).sum::<f64>();
        for (weight, text) in &all {
            left -= weight;
            if left < 0.0 {
                return Ok(text);
            }
        }
        Ok(all[all.len() - 1].1)
    }

    fn line(&mut self, path: &Path) -> Result<String> {
        let text = read(path)?;
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        if lines.is_empty() {
            return Err(Error::usage(format!("{}: has no line to choose", escape(&path.to_string_lossy()))));
        }
        let at = (self.share() * lines.len() as f64) as usize;
        Ok(lines[at.min(lines.len() - 1)].to_owned())
    }

    /// The next number from 0 to below 1.
    fn share(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Where the brace that was opened before `text` closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// What stands between the bars of a choice that are not inside of another.
fn options(body: &str) -> Vec<&str> {
    let (mut out, mut depth, mut from) = (Vec::new(), 0usize, 0);
    for (at, c) in body.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                out.push(&body[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    out.push(&body[from..]);
    out
}

/// The name in a `__name__` at the front of `text`: no name leads out of its folder.
fn wildcard(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("__")?;
    let name = &rest[..rest.find("__")?];
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | ' ');
    let inside = !name.starts_with('/') && !name.split('/').any(str::is_empty);
    (!name.is_empty() && inside && name.chars().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_chooses_the_same_words() {
        let prompt = "a {red|green|blue} {small |}cat [a|b] {x}";
        let all: Vec<String> = (0..60).map(|seed| chosen(prompt, seed, None).unwrap()).collect();
        assert_eq!(all[7], chosen(prompt, 7, None).unwrap());
        for word in ["red", "green", "blue", "small cat", "red cat"] {
            assert!(all.iter().any(|p| p.contains(word)), "{word}");
        }
        assert!(all.iter().all(|p| p.starts_with("a ") && p.ends_with("cat [a|b] {x}")), "{all:?}");
    }

    #[test]
    fn weights_and_choices_in_choices() {
        let count = |prompt: &str, word: &str| (0..1000).filter(|s| chosen(prompt, *s, None).unwrap() == word).count();
        assert!((850..950).contains(&count("{9::a|b}", "a")));
        assert_eq!(count("{0::a|b}", "b"), 1000);
        assert!(count("{a|{b|c}}", "c") > 150);
        assert!(chosen("{2$$a|b|c}", 1, None).unwrap_err().to_string().contains("2$$"));
        assert!(chosen(&"{a|".repeat(40), 1, None).is_ok(), "braces that never close are text");
        assert!(chosen(&format!("{}x{}", "{|".repeat(40), "}".repeat(40)), 3, None).is_ok());
    }

    #[test]
    fn only_choices_make_a_prompt_dynamic() {
        for prompt in ["a cat", "{a cat}", "[a|b]", "{[a|b]}", "a | b", "__x__", "{a"] {
            assert!(!is_dynamic(prompt, false), "{prompt}");
            assert_eq!(chosen(prompt, 1, None).unwrap(), prompt);
        }
        assert!(is_dynamic("x {a|b}", false) && is_dynamic("__x__", true) && is_dynamic("{y {a|b}}", false));
        assert!(!is_dynamic("__../x__", true) && !is_dynamic("__/etc/passwd__", true) && !is_dynamic("____", true));
    }

    #[test]
    fn wildcards_are_lines_of_files() {
        let folder = std::env::temp_dir().join(format!("lienzo-wild-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("color.txt"), "# colours\nred\n\ngreen {x|y}\n").unwrap();
        std::fs::write(folder.join("sub/loop.txt"), "__sub/loop__ __sub/loop__\n").unwrap();
        let draw = |prompt: &str, seed| chosen(prompt, seed, Some(&folder));
        let all: Vec<String> = (0..40).map(|seed| draw("a __color__ cat", seed).unwrap()).collect();
        for word in ["a red cat", "a green x cat", "a green y cat"] {
            assert!(all.iter().any(|p| p == word), "{word}: {all:?}");
        }
        assert!(draw("__sub/loop__", 1).unwrap_err().to_string().contains("inside of choices"));
        assert!(draw("__none__", 1).unwrap_err().to_string().contains("none.txt"));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_text_holds_a_prompt_a_line() {
        assert_eq!(lines("a cat\r\n\n  a dog \n").unwrap(), ["a cat", "a dog"]);
        assert!(lines("\n \n").is_err() && lines(&"x\n".repeat(10_001)).is_err());
    }
}
