//! A prompt goes in, its normal form comes out, and of that the length of the piece at its front.

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// NFC, white space to one space, lower case character by character (without the rule for a final sigma).
pub fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, mark) in text.match_indices(is_young_mark) {
        normalise_part(&text[from..at], &mut out);
        out.push_str(mark);
        from = at + mark.len();
    }
    normalise_part(&text[from..], &mut out);
    out
}

fn normalise_part(text: &str, out: &mut String) {
    for c in text.nfc() {
        if c.is_whitespace() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else {
            out.extend(c.to_lowercase());
        }
    }
}

/// Whether a combining mark is younger than Unicode 9, the version by which the published tokenizer normalises: to it
/// such a mark is an ordinary character, which is neither sorted among its neighbours nor composed with them.
fn is_young_mark(c: char) -> bool {
    let after = YOUNG_MARKS.partition_point(|&(first, _)| first <= c);
    after > 0 && c <= YOUNG_MARKS[after - 1].1
}

/// The marks of Unicode 10 to 15.1 with a combining class or a composition, as the `unicode-normalization` of
/// `Cargo.toml` knows them.
#[rustfmt::skip]
const YOUNG_MARKS: [(char, char); 36] = [
    ('\u{7fd}', '\u{7fd}'), ('\u{898}', '\u{89f}'), ('\u{8ca}', '\u{8d3}'), ('\u{9fe}', '\u{9fe}'),
    ('\u{c3c}', '\u{c3c}'), ('\u{d3b}', '\u{d3c}'), ('\u{eba}', '\u{eba}'), ('\u{1715}', '\u{1715}'),
    ('\u{1abf}', '\u{1ace}'), ('\u{1df6}', '\u{1dfa}'), ('\u{a82c}', '\u{a82c}'), ('\u{10d24}', '\u{10d27}'),
    ('\u{10eab}', '\u{10eac}'), ('\u{10efd}', '\u{10eff}'), ('\u{10f46}', '\u{10f50}'), ('\u{10f82}', '\u{10f85}'),
    ('\u{11070}', '\u{11070}'), ('\u{1133b}', '\u{1133b}'), ('\u{1145e}', '\u{1145e}'), ('\u{11839}', '\u{1183a}'),
    ('\u{11930}', '\u{11930}'), ('\u{1193d}', '\u{1193e}'), ('\u{11943}', '\u{11943}'), ('\u{119e0}', '\u{119e0}'),
    ('\u{11a34}', '\u{11a34}'), ('\u{11a47}', '\u{11a47}'), ('\u{11a99}', '\u{11a99}'), ('\u{11d42}', '\u{11d42}'),
    ('\u{11d44}', '\u{11d45}'), ('\u{11d97}', '\u{11d97}'), ('\u{16ff0}', '\u{16ff1}'), ('\u{1e08f}', '\u{1e08f}'),
    ('\u{1e130}', '\u{1e136}'), ('\u{1e2ae}', '\u{1e2ae}'), ('\u{1e2ec}', '\u{1e2ef}'), ('\u{1e4ec}', '\u{1e4ef}'),
];

/// What a character is to the word pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Space,
    Symbol,
}

fn class(c: char) -> Class {
    if c.is_ascii() {
        return match c {
            'a'..='z' | 'A'..='Z' => Class::Letter,
            '0'..='9' => Class::Digit,
            ' ' => Class::Space,
            _ => Class::Symbol,
        };
    }
    match c.general_category_group() {
        GeneralCategoryGroup::Letter => Class::Letter,
        GeneralCategoryGroup::Number => Class::Digit,
        _ => Class::Symbol,
    }
}

/// Bytes of the piece at the front of normalised, non-empty text: a contraction, a word, one digit, one space, or a run
/// of symbols (the pattern of CLIP's published tokenizer).
pub fn piece_length(text: &str) -> usize {
    if let Some(c) = CONTRACTIONS.iter().find(|c| text.starts_with(**c)) {
        return c.len();
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let kind = class(first);
    match kind {
        Class::Digit | Class::Space => first.len_utf8(),
        Class::Letter | Class::Symbol => text.find(|c| class(c) != kind).unwrap_or(text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_composed_lowered_and_its_spaces_collapsed() {
        assert_eq!(normalise("  Cafe\u{301}\u{a0}\t\u{85}ΣΑΣ"), " café σασ");
        // A mark of Unicode 11 keeps its place; one of Unicode 1 is sorted.
        assert_eq!(normalise("o\u{7fd}\u{301}"), "o\u{7fd}\u{301}");
        assert_eq!(normalise("o\u{301}\u{323}"), "\u{1ecd}\u{301}");
    }

    #[test]
    fn pieces_follow_the_published_pattern() {
        let mut text = "don't stop12!? 'll x-y";
        let mut pieces = Vec::new();
        while !text.is_empty() {
            let (piece, rest) = text.split_at(piece_length(text));
            pieces.push(piece);
            text = rest;
        }
        assert_eq!(pieces, ["don", "'t", " ", "stop", "1", "2", "!?", " ", "'ll", " ", "x", "-", "y"]);
    }

    #[test]
    fn the_young_marks_are_sorted_ranges() {
        assert!(YOUNG_MARKS.iter().all(|(a, b)| a <= b) && YOUNG_MARKS.is_sorted_by(|a, b| a.1 < b.0));
    }
}
