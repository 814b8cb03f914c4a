//! A style's name goes in, a longer prompt comes out: from the webui's `styles.csv`, or from the presets here.
//!
//! The presets follow one formula: kind of picture, object, place, time, style or author, then words such as "highly
//! detailed". The prompt brings the object, the place and the time.

use crate::diffusion::prompt::schedule::MAX_BYTES as MAX_PROMPT;
use crate::error::{Error, Remedy, Result, escape};
use crate::files;
use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;

/// The largest `styles.csv` that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Words around a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// What orders call it.
    pub name: String,
    /// The prompt replaces `{prompt}` in it; without that it stands behind the prompt and a comma.
    pub prompt: String,
    /// The same for the negative prompt.
    pub negative_prompt: String,
}

impl Style {
    /// Prompt and negative prompt in this style.
    ///
    /// # Errors
    /// Usage: longer than any prompt may be.
    pub fn apply(&self, prompt: &str, negative: &str) -> Result<(String, String)> {
        let merged = |style: &str, prompt: &str| {
            merge(style, prompt).ok_or_else(|| {
                let name = escape(&self.name);
                Error::of_option("style", format!("{name} makes a prompt of more than {MAX_PROMPT} bytes of this one"))
            })
        };
        Ok((merged(&self.prompt, prompt)?, merged(&self.negative_prompt, negative)?))
    }
}

/// The place of the prompt in a style.
const PLACE: &str = "{prompt}";

/// None where it would be longer than prompts may be: a file can name its place millions of times.
fn merge(style: &str, prompt: &str) -> Option<String> {
    let places = style.matches(PLACE).count();
    if places > 0 {
        let length = (style.len() - places * PLACE.len()).saturating_add(places.saturating_mul(prompt.len()));
        return (length <= MAX_PROMPT).then(|| style.replace(PLACE, prompt));
    }
    match (prompt.trim(), style.trim()) {
        // A prompt that gets nothing stays as it was typed.
        (_, "") => Some(prompt.to_string()),
        ("", style) => Some(style.to_string()),
        (prompt, style) => (prompt.len() + 2 + style.len() <= MAX_PROMPT).then(|| format!("{prompt}, {style}")),
    }
}

/// The styles that an order asks for, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Styling(Vec<Style>);

impl Styling {
    /// Finds the styles by name among those there are.
    ///
    /// # Errors
    /// Usage: no such style, with the nearest names.
    pub fn new(names: &[String], all: &[Style]) -> Result<Self> {
        names.iter().map(|name| find(all, name).cloned()).collect::<Result<_>>().map(Self)
    }

    /// Prompt and negative prompt in the styles.
    ///
    /// # Errors
    /// Usage: longer than any prompt may be.
    pub fn apply(&self, prompt: &str, negative: &str) -> Result<(String, String)> {
        let typed = (prompt.to_string(), negative.to_string());
        self.0.iter().try_fold(typed, |(prompt, negative), style| style.apply(&prompt, &negative))
    }
}

/// All styles: those of a file before the built-in ones.
///
/// # Errors
/// As [`read`].
pub fn all(file: Option<&Path>) -> Result<Vec<Style>> {
    let mut all = file.map(read).transpose()?.unwrap_or_default();
    all.extend(presets());
    Ok(all)
}

const CLEAN: &str = "blurry, low quality, deformed, text, watermark";

const PRESETS: [(&str, &str, &str); 12] = [
    (
        "photo",
        "photograph of {prompt}, natural light, 35 mm, sharp focus, highly detailed",
        "drawing, painting, cartoon",
    ),
    (
        "portrait",
        "studio portrait of {prompt}, soft light, 85 mm, shallow depth of field, highly detailed",
        "drawing, painting",
    ),
    ("cinematic", "film still of {prompt}, wide shot, dramatic light, film grain, highly detailed", "drawing, cartoon"),
    ("oil-painting", "oil painting of {prompt}, visible brush strokes, rich colours, highly detailed", "photograph"),
    ("baroque", "painting of {prompt}, 17th century, by Velazquez, chiaroscuro, highly detailed", "photograph, modern"),
    ("impressionist", "painting of {prompt}, 1880, by Claude Monet, loose brush strokes, light and air", "photograph"),
    ("watercolor", "watercolor painting of {prompt}, soft washes, white paper, delicate", "photograph, oil painting"),
    ("pencil", "pencil drawing of {prompt}, fine hatching, white paper, highly detailed", "photograph, colour"),
    ("poster", "poster of {prompt}, 1960, screen print, flat colours, bold shapes", "photograph, photorealistic"),
    ("storybook", "illustration of {prompt} for a children's book, gouache, warm colours, charming", "photograph"),
    ("isometric", "isometric 3D render of {prompt}, small diorama, soft shadows, clean, highly detailed", "photograph"),
    ("pixel-art", "pixel art of {prompt}, 16-bit video game, limited palette, crisp", "photograph, smooth"),
];

/// The built-in styles.
pub fn presets() -> Vec<Style> {
    let style = |&(name, prompt, against): &(&str, &str, &str)| Style {
        name: name.into(),
        prompt: prompt.into(),
        negative_prompt: format!("{against}, {CLEAN}"),
    };
    PRESETS.iter().map(style).collect()
}

/// The style of this name, in whatever case; of several the first.
///
/// # Errors
/// Usage: no such style, with the nearest names.
pub fn find<'a>(styles: &'a [Style], name: &str) -> Result<&'a Style> {
    let same = |s: &&Style| s.name == name;
    let alike = |s: &&Style| s.name.to_lowercase() == name.to_lowercase();
    if let Some(found) = styles.iter().find(same).or_else(|| styles.iter().find(alike)) {
        return Ok(found);
    }
    let mut near: Vec<(f64, &str)> = Vec::new();
    for style in styles {
        let likeness = strsim::jaro_winkler(&style.name.to_lowercase(), &name.to_lowercase());
        near.extend((likeness > 0.75).then_some((likeness, style.name.as_str())));
    }
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<String> = near.iter().take(3).map(|(_, name)| escape(name)).collect();
    let hint = if near.is_empty() { String::new() } else { format!(": did you mean {}?", near.join(", ")) };
    Err(Error::of_option("style", format!("{} is not known{hint}", escape(name))).try_this(Remedy::ListStyles))
}

/// Reads a webui `styles.csv`.
///
/// # Errors
/// Usage, naming the file and the line: what is missing or wrongly quoted.
pub fn read(path: &Path) -> Result<Vec<Style>> {
    let shown = escape(&path.to_string_lossy());
    let wrong = |why: String| Error::of_option("styles", format!("{shown}: {why}"));
    let bytes = files::read(path, MAX_FILE).map_err(|e| wrong(format!("no styles file: it {}", e.message())))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        wrong(format!("line {line}: is not UTF-8; save it with that encoding"))
    })?;
    parse(&text).map_err(wrong)
}

/// The styles of a CSV text whose first line names the columns.
fn parse(text: &str) -> Result<Vec<Style>, String> {
    let mut records = records(text.strip_prefix('\u{feff}').unwrap_or(text))?.into_iter();
    let (_, header) = records.next().ok_or("is empty; its first line is: name,prompt,negative_prompt")?;
    let column = |names: &[&str]| header.iter().position(|field| names.contains(&field.trim()));
    let (Some(name), Some(prompt)) = (column(&["name"]), column(&["prompt", "text"])) else {
        return Err("line 1: has no columns 'name' and 'prompt'; it should read: name,prompt,negative_prompt".into());
    };
    let negative = column(&["negative_prompt"]);
    let mut styles = Vec::new();
    for (_, record) in records {
        let field = |column: Option<usize>| column.and_then(|c| record.get(c)).cloned().unwrap_or_default();
        let style = Style { name: field(Some(name)), prompt: field(Some(prompt)), negative_prompt: field(negative) };
        if !style.name.is_empty() {
            styles.push(style);
        }
    }
    Ok(styles)
}

/// Each record with the line it begins in, as Python's csv module reads it with `skipinitialspace`, which is how the
/// webui does: spaces before a field do not count, text behind a closing quote belongs to the field, a quote inside of
/// an unquoted field is itself. Empty lines are skipped. Only a quote that is never closed is refused: Python would
/// take the rest of the file for one style.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let mut records = Vec::new();
    let mut chars = text.chars().peekable();
    let mut line = 1;
    while chars.peek().is_some() {
        let (began, mut record) = (line, Vec::new());
        loop {
            while chars.next_if_eq(&' ').is_some() {}
            let mut field = String::new();
            if chars.next_if_eq(&'"').is_some() {
                quoted(&mut chars, &mut line, &mut field)?;
            }
            while let Some(c) = chars.next_if(|c| !matches!(c, ',' | '\n' | '\r')) {
                field.push(c);
            }
            record.push(field);
            if chars.next_if_eq(&',').is_none() {
                break;
            }
        }
        let cut = chars.next_if_eq(&'\r').is_some();
        if chars.next_if_eq(&'\n').is_some() || cut {
            line += 1;
        }
        if record.iter().any(|field| !field.is_empty()) {
            records.push((began, record));
        }
    }
    Ok(records)
}

/// What stands between quotes, the first of which has been taken; two of them are one that is meant.
fn quoted(chars: &mut Peekable<Chars<'_>>, line: &mut usize, field: &mut String) -> Result<(), String> {
    let opened = *line;
    loop {
        match chars.next() {
            Some('"') if chars.next_if_eq(&'"').is_some() => field.push('"'),
            Some('"') => return Ok(()),
            Some(c) => {
                *line += usize::from(c == '\n');
                field.push(c);
            }
            None => return Err(format!("line {opened}: a quote is opened and never closed; add the closing \"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webui_file_is_read() {
        let text = "\u{feff}name,prompt,negative_prompt\r\n\
            plain,highly detailed,blurry\r\n\r\n\
            \"with, comma\",\"a \"\"fine\"\"\n{prompt}, 1960\",\r\nshort,only this\nquote,a \"nice\" one,x";
        let styles = parse(text).unwrap();
        let names: Vec<&str> = styles.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["plain", "with, comma", "short", "quote"]);
        assert_eq!(styles[1].apply("a cat", "no").unwrap(), ("a \"fine\"\na cat, 1960".into(), "no".into()));
        assert_eq!(styles[0].apply("a cat ", "").unwrap(), ("a cat, highly detailed".into(), "blurry".into()));
        assert_eq!(styles[3].prompt, "a \"nice\" one");
        assert_eq!(parse("name,text\na,b").unwrap()[0].prompt, "b");
    }

    #[test]
    fn a_file_edited_by_hand_is_read_as_python_does() {
        let text = "name, prompt,  negative_prompt\nx, \"masterpiece, best\", \"low, bad\"\n\
            y,\"bright\" ,\"du\"\"ll\" grey\nz, a \"b\" c ,\n";
        let read: Vec<_> =
            parse(text).unwrap().into_iter().map(|s| [s.name, s.prompt, s.negative_prompt].join("|")).collect();
        assert_eq!(read, ["x|masterpiece, best|low, bad", "y|bright |du\"ll grey", "z|a \"b\" c |"]);
    }

    #[test]
    fn broken_files_are_told_with_their_line() {
        for (text, why) in [
            ("", "is empty"),
            ("a,b\nc,d", "line 1: has no columns"),
            ("name,prompt\nx,\"y\nz\n", "line 2: a quote is opened"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{error}");
        }
    }

    mod fuzz {
        use super::*;
        use crate::fuzz::{answer, fuzz};

        #[test]
        fn styles() {
            let seed = "\u{feff}name, prompt,negative_prompt\r\nx, \"a, \"\"b\"\" {prompt}\" c,d\n\ny,z\n";
            let words: [&[u8]; 8] = [b"\"", b"\"\"", b", ", b"\r\n", b"{prompt}", b"name,prompt", b" \"", b"\xc3\xa9"];
            fuzz("styles", vec![seed.into()], &words, |data| {
                let styles = match parse(&String::from_utf8_lossy(data)) {
                    Ok(styles) => styles,
                    Err(why) => return answer::<(), _>(Err(why)),
                };
                let made: Vec<bool> = styles.iter().map(|s| s.apply("a cat", "").is_ok()).collect();
                format!("{} {}", styles.len().min(5), made.contains(&false))
            });
        }
    }

    #[test]
    fn no_style_makes_more_than_a_prompt() {
        let style = |prompt: &str| Style { name: "x".into(), prompt: prompt.into(), negative_prompt: String::new() };
        let many = style(&PLACE.repeat(2_000_000));
        assert_eq!(many.apply("", "").unwrap().0, "");
        let error = many.apply(&"a".repeat(100_000), "").unwrap_err().to_string();
        assert!(error.starts_with("style: x makes a prompt of more than"), "{error}");
        let double = style("{prompt}{prompt}");
        let styling = Styling(vec![double; 60]);
        assert!(styling.apply("apple", "").is_err());
        assert_eq!(styling.apply("", "no").unwrap(), (String::new(), "no".into()));
        // As long as they come.
        assert_eq!(style("x").apply(&"a".repeat(MAX_PROMPT - 3), "").unwrap().0.len(), MAX_PROMPT);
        // What gets nothing is not its business.
        assert!(style("").apply(&"a".repeat(MAX_PROMPT + 9), "").is_ok());
    }

    #[test]
    fn presets_take_the_prompt_in_and_names_are_found() {
        let styles = presets();
        for style in &styles {
            let (prompt, negative) = style.apply("a cat with glasses in a theater", "").unwrap();
            assert!(prompt.contains(" of a cat with glasses in a theater"), "{prompt}");
            assert!(negative.contains("blurry") && !negative.starts_with(','), "{negative}");
        }
        assert_eq!(find(&styles, "Photo").unwrap().name, "photo");
        let error = find(&styles, "watercolour").err().unwrap().to_string();
        assert!(error.contains("did you mean watercolor?"), "{error}");
    }
}
