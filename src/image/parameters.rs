//! The webui's `parameters` text: a prompt and its settings go in, the text that other tools read comes out, and back.
//!
//! The form is `prompt`, `Negative prompt: ...` and one line of `Key: value, Key: value`; a value that holds a comma, a
//! colon or a line break is a JSON string.

use std::fmt;

/// What `Negative prompt:` lines begin with.
const NEGATIVE: &str = "Negative prompt:";
/// Fewer settings than this and the last line is prompt text.
const MIN_ENTRIES: usize = 3;
/// No tool writes more settings; a hostile text may hold millions.
const MAX_ENTRIES: usize = 4096;

/// What the `parameters` text of a picture says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The prompt; may hold line breaks.
    pub prompt: String,
    /// The negative prompt; empty when there is none.
    pub negative_prompt: String,
    /// The settings in the order of the text.
    pub entries: Vec<(String, String)>,
}

impl Parameters {
    /// The value of `key`, of the first one if it is there twice.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The text as it stands in a picture, without white space at its ends.
    pub fn to_text(&self) -> String {
        let mut text = self.prompt.clone();
        if !self.negative_prompt.is_empty() {
            text.push_str(&format!("\n{NEGATIVE} {}", self.negative_prompt));
        }
        for (i, (key, value)) in self.entries.iter().enumerate() {
            text.push_str(if i == 0 { "\n" } else { ", " });
            text.push_str(key);
            // A setting that is nothing but its name is printed once.
            if key != value {
                text.push_str(": ");
                text.push_str(&quote(value));
            }
        }
        text.trim().to_string()
    }

    /// Reads a text; anything is some text, and what is no setting is prompt. Takes time linear in the text's length.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let (body, last) = match text.rsplit_once('\n') {
            Some((body, last)) => (body.strip_suffix('\r').unwrap_or(body), last),
            None => ("", text),
        };
        let (entries, matches) = scan(last);
        let (body, entries) = match matches < MIN_ENTRIES {
            true => earlier(text).unwrap_or((text, Vec::new())),
            false => (body, entries),
        };
        let mut out = Self { entries, ..Self::default() };
        let (mut prompt, mut negative) = (Vec::new(), Vec::new());
        let mut in_negative = false;
        // Not `lines`, which would lose an empty line at the end.
        for line in body.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)) {
            match line.trim_start().strip_prefix(NEGATIVE) {
                Some(rest) => {
                    in_negative = true;
                    negative.push(rest.strip_prefix(' ').unwrap_or(rest));
                }
                None if in_negative => negative.push(line),
                None => prompt.push(line),
            }
        }
        out.prompt = prompt.join("\n");
        out.negative_prompt = negative.join("\n");
        out
    }
}

/// What stands before the settings, and the settings, where these are not the last line: a quoted value may run on over
/// line breaks, and some programs write lines of their own behind (`Template: ...`, sd-dynamic-prompts).
fn earlier(text: &str) -> Option<(&str, Vec<(String, String)>)> {
    const FIRST: &str = "Steps: ";
    let begins = |at: &usize| {
        (*at == 0 || text[..*at].ends_with('\n')) && text[at + FIRST.len()..].starts_with(|c: char| c.is_ascii_digit())
    };
    let at = text.rmatch_indices(FIRST).map(|(at, _)| at).find(begins)?;
    let (body, settings) = text.split_at(at);
    let end = line_end(settings);
    let (mut entries, matches) = scan(&settings[..end]);
    if matches < MIN_ENTRIES {
        return None;
    }
    for line in settings[end..].lines().map(str::trim).filter(|line| !line.is_empty()) {
        let word = |key: &str| key.len() > 1 && key.starts_with(char::is_alphabetic) && key.chars().all(is_key);
        if let Some((key, value)) = line.split_once(": ").filter(|(key, _)| word(key)) {
            if entries.len() < MAX_ENTRIES {
                entries.push((key.trim_end().into(), value.trim().into()));
            }
        } else if let Some((_, value)) = entries.last_mut() {
            // It goes on over the line break.
            value.push_str(&format!("\n{line}"));
        }
    }
    let body = body.strip_suffix('\n').unwrap_or(body);
    Some((body.strip_suffix('\r').unwrap_or(body), entries))
}

/// Where a line of settings ends: at a line break that is not inside of quotes, or at the first where these do not end.
fn line_end(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'\n' if !quoted => return at,
            _ => {}
        }
    }
    if quoted { text.find('\n').unwrap_or(text.len()) } else { text.len() }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// A value as it stands in the text. Besides the webui's three characters, what its
/// reader would not give back is quoted.
fn quote(value: &str) -> String {
    let plain = !value.contains([',', ':', '\n', '\r']) && !value.starts_with('"') && value.trim() == value;
    if plain { value.to_string() } else { serde_json::Value::from(value).to_string() }
}

fn is_key(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | ' ' | '-' | '/')
}

/// The settings of one line, and how many of them had a value.
///
/// A key is two or more letters, digits, `_`, spaces, `-` and `/`, the first a letter, digit or `_`, right before a
/// colon; its value is a JSON string followed by a comma or the end, or else everything up to the next comma.
fn scan(line: &str) -> (Vec<(String, String)>, usize) {
    let mut entries = Vec::new();
    let mut matches = 0;
    let mut rest = line;
    while !rest.is_empty() && entries.len() < MAX_ENTRIES {
        // What cannot be in a key is skipped, so that a key is found behind any garbage.
        rest = rest.trim_start_matches(|c: char| !is_key(c) || matches!(c, ' ' | '-' | '/'));
        let (key, after) = rest.split_at(rest.find(|c| !is_key(c)).unwrap_or(rest.len()));
        let long_enough = key.chars().nth(1).is_some();
        if let Some(after) = after.strip_prefix(':').filter(|_| long_enough) {
            let (value, after) = value(after.trim_start());
            entries.push((key.to_string(), value));
            matches += 1;
            rest = after;
        } else {
            // Between commas and without a colon: a setting that equals its name.
            let before = line[..line.len() - rest.len()].trim_end();
            let alone = (before.is_empty() || before.ends_with(',')) && (after.is_empty() || after.starts_with(','));
            if long_enough && alone && key == key.trim_end() {
                entries.push((key.to_string(), key.to_string()));
            }
            rest = after;
        }
    }
    (entries, matches)
}

/// The value at the front of `text`, and what is behind it and its comma.
fn value(text: &str) -> (String, &str) {
    if let Some(end) = quoted_end(text)
        && (end == text.len() || text[end..].starts_with(','))
    {
        let raw = &text[..end];
        let value = serde_json::from_str(raw).unwrap_or_else(|_| raw.to_string());
        return (value, text[end..].strip_prefix(',').unwrap_or_default());
    }
    if let Some(end) = nested_end(text) {
        let after = text[end..].trim_start();
        if after.is_empty() || after.starts_with(',') {
            return (text[..end].to_string(), after.strip_prefix(',').unwrap_or_default());
        }
    }
    let (raw, after) = text.split_once(',').unwrap_or((text, ""));
    (raw.trim_end().to_string(), after)
}

/// The longest array or object that counts as one value: hostile texts may open many and close none.
const MAX_NESTED: usize = 16 << 10;

/// Where the JSON array or object at the front of `text` ends, as Civitai writes them.
fn nested_end(text: &str) -> Option<usize> {
    if !text.starts_with(['[', '{']) {
        return None;
    }
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate().take(MAX_NESTED) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Where the JSON string at the front of `text` ends, its closing quote included.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    let inside = text.strip_prefix('"')?;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 2),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "painting of a cat with glasses in a theater, 1960, by Velazquez, highly detailed\n\
        Negative prompt: blurry, low quality\n\
        Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7.5, Seed: 42, Size: 512x512, \
        Model hash: fe4efff1e1, Model: sd-v1-4, RNG: NV, Version: v1.10.1";

    fn entries(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn the_worked_example_goes_there_and_back() {
        let p = Parameters::parse(EXAMPLE);
        assert_eq!(p.prompt, "painting of a cat with glasses in a theater, 1960, by Velazquez, highly detailed");
        assert_eq!(p.negative_prompt, "blurry, low quality");
        assert_eq!(p.entries.len(), 10);
        assert_eq!((p.get("Sampler"), p.get("Seed"), p.get("Version")), (Some("Euler a"), Some("42"), Some("v1.10.1")));
        assert_eq!(p.get("Nothing"), None);
        assert_eq!(p.to_text(), EXAMPLE);
    }

    #[test]
    fn every_key_goes_there_and_back() {
        #[rustfmt::skip]
        let list = [
            ("Steps", "30"), ("Sampler", "DPM++ 2M SDE"), ("Schedule type", "Karras"), ("CFG scale", "7"),
            ("Image CFG scale", "1.5"), ("Seed", "4294967295"), ("Face restoration", "CodeFormer"),
            ("Size", "768x512"), ("Model hash", "fe4efff1e1"), ("Model", "a: b, \"c\" \\ d"), ("FP8 weight", "Enable"),
            ("Cache FP16 weight for LoRA", "False"), ("VAE hash", "735e4c3a44"), ("VAE", "vae-ft-mse.safetensors"),
            ("Variation seed", "1"), ("Variation seed strength", "0.25"), ("Seed resize from", "512x512"),
            ("Denoising strength", "0.75"), ("Conditional mask weight", "1.0"), ("Clip skip", "2"), ("ENSD", "31337"),
            ("Token merging ratio", "0.5"), ("Token merging ratio hr", "0.5"), ("Init image hash", "0123456789"),
            ("RNG", "CPU"), ("Tiling", "Tiling"), ("Hires upscale", "2"), ("Hires steps", "10"),
            ("Hires upscaler", "Latent (nearest-exact)"), ("Hires resize", "1024x1024"), ("Mask blur", "4"),
            ("Inpaint area", "Only masked"), ("Masked area padding", "32"), ("Masked content", "latent noise"),
            ("Mask mode", "Inpaint not masked"), ("TI hashes", "easynegative: c74b4e810b03"),
            ("Lora hashes", "one: aaaa, two: bbbb"), ("Eta", "0.5"), ("Emphasis", "No norm"), ("Empty", ""),
            ("Odd", " line\nbreak\t\u{1}é中 "), ("Quoted", "\"x\""), ("Version", "Lienzo v0.1.0"),
        ];
        for negative in ["", "ugly,\nblurry: very"] {
            let p = Parameters {
                prompt: "two lines,\n  of (prompt:1.2)".into(),
                negative_prompt: negative.into(),
                entries: entries(&list),
            };
            let text = p.to_text();
            assert_eq!(Parameters::parse(&text), p);
            assert_eq!(Parameters::parse(&text).to_text(), text);
        }
    }

    #[test]
    fn values_are_quoted_as_the_webui_quotes() {
        let p = |v: &str| Parameters { entries: entries(&[("Model", v)]), ..Default::default() }.to_text();
        assert_eq!(p("plain"), "Model: plain");
        assert_eq!(p("a:b"), r#"Model: "a:b""#);
        assert_eq!(p("é, \"q\"\n"), r#"Model: "é, \"q\"\n""#);
        assert_eq!(p("Model"), "Model");
    }

    #[test]
    fn a_last_line_with_few_settings_is_prompt() {
        let p = Parameters::parse("a cat\nratio: 1, mood: good");
        assert_eq!((p.prompt.as_str(), p.entries.len()), ("a cat\nratio: 1, mood: good", 0));
        let p = Parameters::parse("Negative prompt: no dogs\nSteps: 1, Seed: 2, Size: 8x8");
        assert_eq!((p.prompt.as_str(), p.negative_prompt.as_str(), p.entries.len()), ("", "no dogs", 3));
        assert_eq!(Parameters::parse(&p.to_text()), p);
        let p = Parameters::parse("Steps: 1, Seed: 2, Size: 8x8");
        assert_eq!((p.prompt.as_str(), p.entries.len()), ("", 3));
        assert_eq!(Parameters::parse(""), Parameters::default());
        assert_eq!(Parameters::parse("a\r\nb\r\nSteps: 1, Seed: 2, Size: 8x8\r\n").prompt, "a\nb");
    }

    #[test]
    fn other_tools_texts_are_read() {
        let p = Parameters::parse(
            "x\nSteps: 20, CFG scale: 7.0, Sampler: euler_a karras, RNG: cuda, Version: stable-diffusion.cpp, \
             SDCPP: {\"a\": 1, \"bb\": [2]}",
        );
        assert_eq!((p.get("Sampler"), p.get("RNG")), (Some("euler_a karras"), Some("cuda")));
        assert_eq!(p.get("SDCPP"), Some("{\"a\": 1, \"bb\": [2]}"));
        // A broken quote reads up to the comma, and a key is found behind garbage.
        let p = Parameters::parse("x\nModel: \"a, ((Steps: 3, Seed: \"1\"2, Size: 8x8");
        assert_eq!(p.entries, entries(&[("Model", "\"a"), ("Steps", "3"), ("Seed", "\"1\"2"), ("Size", "8x8")]));
    }

    #[test]
    fn settings_are_found_where_they_are_not_the_last_line() {
        let settings = "Steps: 2, Sampler: Euler, CFG scale: 3, Seed: 5, Size: 64x64";
        let behind = format!("a red apple\nNegative prompt: dark\n{settings}\nTemplate: a {{red|blue}}\napple\n");
        let p = Parameters::parse(&behind);
        assert_eq!((p.prompt.as_str(), p.negative_prompt.as_str()), ("a red apple", "dark"));
        assert_eq!((p.get("Size"), p.get("Template")), (Some("64x64"), Some("a {red|blue}\napple")));
        assert_eq!(Parameters::parse(&p.to_text()), p);
        let inside = format!("a red apple\n{settings}, Wildcard prompt: \"a __x__\nof y, z\", Version: v1.10.0");
        let p = Parameters::parse(&inside);
        assert_eq!((p.prompt.as_str(), p.get("Seed"), p.get("Version")), ("a red apple", Some("5"), Some("v1.10.0")));
        // A prompt that speaks of steps is a prompt.
        for text in ["a stair\nSteps: 3 of them\nand a cat", "Steps: 3"] {
            assert_eq!(Parameters::parse(text), Parameters { prompt: text.into(), ..Parameters::default() });
        }
    }

    #[test]
    fn empty_lines_at_the_end_of_a_prompt_stay() {
        for (prompt, negative) in [("a\n", ""), ("a\n\n\n", ""), ("a", "b\n"), ("a\n", "b\n\n"), ("", "b\n")] {
            let entries = entries(&[("Steps", "1"), ("Seed", "2"), ("Size", "8x8")]);
            let p = Parameters { prompt: prompt.into(), negative_prompt: negative.into(), entries };
            assert_eq!(Parameters::parse(&p.to_text()), p);
        }
    }

    #[test]
    fn hostile_texts_are_bounded() {
        for unit in [
            "aa:[,",
            "aa:{\"",
            "aa:\"b,",
            "aa:\"\\\",",
            "aa, ",
            "aa:",
            "\n",
            " ",
            "\"",
            "Negative prompt:",
            "-",
            "a ",
            ":\\\"",
        ] {
            let p = Parameters::parse(&unit.repeat(500_000));
            assert!(p.entries.len() <= MAX_ENTRIES);
        }
    }
}
