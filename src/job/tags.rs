//! A prompt goes in, the tags that would change the model, `<lora:name:0.8>`, come out: adapters do not exist yet, and
//! as words they would spoil the picture.

/// What such tags begin with.
const KINDS: [&str; 3] = ["lora", "lyco", "hypernet"];

/// The place of the first tag in a text, if it holds one.
fn find(text: &str) -> Option<(usize, usize)> {
    for (at, _) in text.match_indices('<') {
        let rest = &text[at + 1..];
        let (kind, after) = rest.split_once(':')?;
        if !KINDS.contains(&kind.trim().to_ascii_lowercase().as_str()) {
            continue;
        }
        // One that is never closed ends at its line's end.
        let end = after.find(['>', '\n']).map_or(after.len(), |end| end + usize::from(after[end..].starts_with('>')));
        return Some((at, at + 1 + kind.len() + 1 + end));
    }
    None
}

/// The first tag, as it stands there.
pub fn first(prompt: &str) -> Option<String> {
    find(prompt).map(|(from, to)| prompt[from..to].to_owned())
}

/// The prompt without its tags, and the tags.
pub fn taken_out(prompt: &str) -> (String, Vec<String>) {
    let (mut out, mut tags, mut rest) = (String::new(), Vec::new(), prompt);
    while let Some((from, to)) = find(rest) {
        out.push_str(&rest[..from]);
        tags.push(rest[from..to].to_owned());
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
            ("3 < 4: yes", None),
            ("<3 <b:c> text", None),
            ("", None),
        ] {
            assert_eq!(first(prompt).as_deref(), tag, "{prompt}");
        }
    }

    #[test]
    fn a_prompt_without_its_tags_is_the_same_prompt() {
        let out = |prompt| taken_out(prompt).0;
        assert_eq!(out("a red apple <lora:a:0.8>"), "a red apple");
        assert_eq!(out("a red apple, <lora:a:0.8>, <lora:b>"), "a red apple");
        assert_eq!(out("<lora:a:1> a cat <hypernet:b:1> here"), "a cat here");
        assert_eq!(out("a cat,  3 < 4 "), "a cat,  3 < 4 ");
        assert_eq!(taken_out("<lora:a:1><lora:b:1>").1, ["<lora:a:1>", "<lora:b:1>"]);
    }
}
