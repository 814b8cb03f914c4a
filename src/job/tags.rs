//! A prompt goes in; the prompt without its tags, `<lora:name:0.8>`, and the tags, come out: as words they would spoil
//! the picture.

/// What tags begin with that count as such even where they are not closed.
const KINDS: [&str; 3] = ["lora", "lyco", "hypernet"];
/// What names an adapter.
const ADAPTERS: [&str; 2] = ["lora", "lyco"];

/// `<kind:arguments>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// As it stands in the prompt.
    pub text: String,
    /// Whether it names an adapter; other kinds do not exist here.
    pub adapter: bool,
    /// What stands behind the kind, cut at colons; nothing where the tag is not closed.
    pub arguments: Vec<String>,
}

/// The place of the first tag in a text, if it holds one.
fn find(text: &str) -> Option<(usize, usize)> {
    for (at, _) in text.match_indices('<') {
        let rest = &text[at + 1..];
        let Some((kind, after)) = rest.split_once(':') else { break };
        let word = !kind.is_empty() && kind.chars().all(|c| c.is_alphanumeric() || c == '_');
        let closed = after.find('>').filter(|end| *end > 0 && word && !after[..*end].contains('\n'));
        let known = KINDS.contains(&kind.trim().to_ascii_lowercase().as_str());
        // One that is never closed ends at its line's end.
        let end = match closed {
            Some(end) => end + 1,
            None if known => {
                after.find(['>', '\n']).map_or(after.len(), |n| n + usize::from(after[n..].starts_with('>')))
            }
            None => continue,
        };
        return Some((at, at + 1 + kind.len() + 1 + end));
    }
    None
}

fn tag(text: &str) -> Tag {
    let inside = text.strip_prefix('<').unwrap_or(text);
    let (kind, after) = inside.split_once(':').unwrap_or((inside, ""));
    let adapter = ADAPTERS.contains(&kind.trim().to_ascii_lowercase().as_str());
    let arguments = after.strip_suffix('>').map_or_else(Vec::new, |a| a.split(':').map(str::to_owned).collect());
    Tag { text: text.to_owned(), adapter, arguments }
}

/// The first tag that names no adapter: nobody here can honour it.
pub fn first(prompt: &str) -> Option<String> {
    taken_out(prompt, |tag| !tag.adapter).1.into_iter().next().map(|tag| tag.text)
}

/// The prompt without some of its tags, and those tags.
pub fn taken_out(prompt: &str, which: impl Fn(&Tag) -> bool) -> (String, Vec<Tag>) {
    let (mut out, mut tags, mut rest) = (String::new(), Vec::new(), prompt);
    while let Some((from, to)) = find(rest) {
        let one = tag(&rest[from..to]);
        if !which(&one) {
            out.push_str(&rest[..to]);
            rest = &rest[to..];
            continue;
        }
        out.push_str(&rest[..from]);
        tags.push(one);
        rest = &rest[to..];
        // The space on one side of a tag goes with it.
        if (out.is_empty() || out.ends_with(' ')) && rest.starts_with(' ') {
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    if !tags.is_empty() {
        out.truncate(out.trim_end_matches([' ', ',']).len());
    }
    (out, tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_and_words_stay() {
        for (prompt, tag) in [
            ("a red apple <lora:add_detail:0.8>", Some("<lora:add_detail:0.8>")),
            ("<Hypernet:x:1> cat", Some("<Hypernet:x:1>")),
            ("cat <lyco:x", Some("<lyco:x")),
            ("<3 <b:c> text", Some("<b:c>")),
            ("3 < 4: yes", None),
            ("3 <4 > 5: x", None),
            ("", None),
        ] {
            let found = taken_out(prompt, |_| true).1.into_iter().next().map(|tag| tag.text);
            assert_eq!(found.as_deref(), tag, "{prompt}");
        }
        assert_eq!(first("<lora:a:1> <hypernet:b:1>").as_deref(), Some("<hypernet:b:1>"));
        let tag = taken_out("<lora:a b.c:1:lbw=1,0>", |_| true).1.remove(0);
        assert!(tag.adapter && tag.arguments == ["a b.c", "1", "lbw=1,0"]);
        assert!(taken_out("<lora:a", |_| true).1[0].arguments.is_empty());
    }

    #[test]
    fn a_prompt_without_its_tags_is_the_same_prompt() {
        let out = |prompt| taken_out(prompt, |_| true).0;
        assert_eq!(out("a red apple <lora:a:0.8>"), "a red apple");
        assert_eq!(out("a red apple, <lora:a:0.8>, <lora:b>"), "a red apple");
        assert_eq!(out("<lora:a:1> a cat <hypernet:b:1> here"), "a cat here");
        assert_eq!(out("a cat,  3 < 4 "), "a cat,  3 < 4 ");
        assert_eq!(taken_out("<lora:a:1> x <b:c>", |tag| !tag.adapter).0, "<lora:a:1> x");
    }
}
