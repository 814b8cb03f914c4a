//! A prompt for the embedded model to hints: what it does not know, and what can be said instead.

use super::{Lexicon, Meaning, Phrase, Vocabulary, plain, spanish, words_of};
use crate::error::{Result, escape};

/// Words that get a line of their own; a sentence of unknown words gets one line.
const NAMED: usize = 3;
/// Words offered in one line.
const OFFERED: usize = 6;
/// Kinds of objects in one picture of the training.
const KINDS: usize = 2;

/// One thing to tell of a prompt, as data: an asker's own language words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A word that the model does not know, and known ones near to it.
    UnknownWord {
        /// In lower case, without accents.
        word: String,
        /// Of its kind, or of nearly its letters.
        near: Vec<String>,
    },
    /// So many more such words.
    MoreUnknownWords(usize),
    /// A Spanish prompt: the English one that says the same.
    OtherLanguage(String),
    /// An object in a colour that it was never shown in.
    UntrainedColor {
        /// The object.
        word: String,
        /// The whole as a sentence.
        sentence: String,
    },
    /// More kinds of things than were ever together.
    TooManyThings(usize),
    /// Big things in numbers.
    SeveralBigThings,
}

impl Hint {
    /// As a sentence.
    pub fn line(&self) -> String {
        match self {
            Self::UnknownWord { word, near } => about(word, near),
            Self::MoreUnknownWords(more) => {
                let words = if *more == 1 { "word" } else { "words" };
                format!("nor does it know {more} other {words} of this prompt")
            }
            Self::OtherLanguage(english) => format!("the built-in model reads English; try \"{english}\""),
            Self::UntrainedColor { sentence, .. } => sentence.clone(),
            Self::TooManyThings(kinds) => format!(
                "the built-in model was never shown more than {KINDS} kinds of things in a picture; this names {kinds}"
            ),
            Self::SeveralBigThings => {
                "the built-in model was never shown several big things; without a size it draws the number".into()
            }
        }
    }
}

fn about(word: &str, near: &[String]) -> String {
    let shown = escape(word);
    match near {
        [] => format!("the built-in model does not know '{shown}'"),
        [one] => format!("the built-in model does not know '{shown}'; try '{one}'"),
        [first @ .., last] => {
            format!("the built-in model does not know '{shown}'; near: {} or {last}", first.join(", "))
        }
    }
}

/// What to tell of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// As data.
    pub all: Vec<Hint>,
    /// A sentence each.
    pub lines: Vec<String>,
    /// Whether a word was unknown: a list of those that can be said would help.
    pub unknown: bool,
}

impl Hints {
    fn new(all: Vec<Hint>, unknown: bool) -> Self {
        Self { lines: all.iter().map(Hint::line).collect(), all, unknown }
    }
}

/// The lines to print about `prompt` before the embedded model draws it; `embeddings` are words that it was given. None
/// for a prompt of its own words.
///
/// # Errors
/// The table in the binary is broken.
pub fn hints(prompt: &str, embeddings: &[&str]) -> Result<Hints> {
    let words: Vec<String> =
        words_of(prompt).into_iter().filter(|w| !embeddings.iter().any(|e| plain(e) == *w)).collect();
    let all = Vocabulary::embedded()?;
    let lexicon = all.english();
    let read = lexicon.read(&words);
    let unknown = unknown(&read);
    if unknown.is_empty() {
        let lines = all.untrained_colors(&read).into_iter().chain(too_many(prompt, &read)).chain(several_big(&read));
        return Ok(Hints::new(lines.collect(), false));
    }
    let spanish = all.spanish().read(&words);
    if let Some(english) = spanish::translate(&spanish) {
        return Ok(Hints::new(vec![Hint::OtherLanguage(english)], false));
    }
    // Half of the words in Spanish: only the others are unknown.
    let foreign = self::unknown(&spanish);
    let unknown = if foreign.len() < unknown.len() { foreign } else { unknown };
    let hint = |word: &String| Hint::UnknownWord { word: word.clone(), near: all.near(word, &lexicon) };
    let mut out: Vec<Hint> = unknown.iter().take(NAMED).map(hint).collect();
    if unknown.len() > NAMED {
        out.push(Hint::MoreUnknownWords(unknown.len() - NAMED));
    }
    Ok(Hints::new(out, true))
}

/// The phrases without a meaning, each once.
fn unknown(read: &[Phrase<'_>]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for phrase in read.iter().filter(|p| p.meaning.is_none()) {
        if !found.contains(&phrase.text) {
            found.push(phrase.text.clone());
        }
    }
    found
}

/// More kinds of objects than the model was ever shown together. Objects that take turns, `[cat|dog]`, or have a prompt
/// each, with
/// `AND`, are not together.
fn too_many(prompt: &str, read: &[Phrase<'_>]) -> Option<Hint> {
    let kinds = read.iter().filter(|p| p.meaning.is_some_and(|m| m.object.is_some())).count();
    let apart = prompt.contains(['[', '|']) || prompt.split_whitespace().any(|word| word == "AND");
    (kinds > KINDS && !apart).then_some(Hint::TooManyThings(kinds))
}

/// Several big things: only small and medium ones were drawn in numbers, and the model then forgets the number.
fn several_big(read: &[Phrase<'_>]) -> Option<Hint> {
    let said = |what: fn(&Meaning<'_>) -> bool| read.iter().any(|p| p.meaning.as_ref().is_some_and(what));
    let both = said(|m| m.count.is_some()) && said(|m| m.size == Some("big"));
    both.then_some(Hint::SeveralBigThings)
}

impl Vocabulary {
    /// Known words near to an unknown one: of its kind, else of nearly its letters.
    fn near(&self, word: &str, lexicon: &Lexicon<'_>) -> Vec<String> {
        let kind = |word: &str| self.groups.iter().find(|g| g.words.split(' ').any(|w| w == word));
        let singular = || {
            let cut = ["es", "s"].iter().filter_map(|end| word.strip_suffix(end));
            cut.into_iter().find_map(kind)
        };
        if let Some(group) = kind(word) {
            return group.near.clone();
        }
        let allowed = if word.chars().count() > 5 { 2 } else { 1 };
        let far = |known: &str| strsim::damerau_levenshtein(known, word);
        let close = |(phrase, meaning): (&String, &Meaning<'_>)| {
            let says = meaning.object.is_some() || meaning.color.is_some() || meaning.size.is_some();
            let says = says && (!meaning.several || word.ends_with('s'));
            let distance = phrase.split(' ').map(far).chain([far(phrase)]).min()?;
            let whole = far(phrase);
            (says && distance <= allowed).then(|| (distance, whole, phrase.clone()))
        };
        let mut typed: Vec<_> = lexicon.0.iter().filter_map(close).collect();
        typed.sort();
        typed.truncate(OFFERED);
        // A slip of one letter is better explained by one word than by several.
        if typed.first().is_some_and(|(_, whole, _)| *whole <= allowed) {
            typed.retain(|(_, whole, _)| *whole <= allowed);
            typed.truncate(2);
        }
        if typed.is_empty() {
            singular().map_or_else(Vec::new, |g| g.near.clone())
        } else {
            typed.into_iter().map(|t| t.2).collect()
        }
    }

    /// Objects in colours that only backgrounds had in the training.
    fn untrained_colors(&self, read: &[Phrase<'_>]) -> Vec<Hint> {
        let mut out = Vec::new();
        for pair in read.windows(2) {
            let [Some(color), Some(object)] = [pair[0].meaning, pair[1].meaning] else { continue };
            let (Some(color), Some(object)) = (color.color, object.object) else { continue };
            let trained = object.tinted && self.object_colors.iter().any(|c| c == color);
            if !trained && object.natural.as_deref() != Some(color) {
                let (name, colors) = (&object.name, self.object_colors.join(", "));
                let known = if object.tinted {
                    format!("it was drawn in its own colour, {colors}")
                } else {
                    "only in its own colour".into()
                };
                let sentence = format!("the built-in model was never shown '{name}' in {color}: {known}");
                out.push(Hint::UntrainedColor { word: name.clone(), sentence });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(prompt: &str) -> String {
        hints(prompt, &[]).unwrap().lines.first().cloned().unwrap_or_default()
    }

    #[test]
    fn known_prompts_are_silent() {
        for prompt in [
            "a red apple",
            "three small dogs on a light blue background",
            "A picture of a Christmas tree.",
            "an ice cream and a cup of coffee",
            "a (red:1.3) apple AND a cat",
            "a gray elephant at the top",
            "",
            "a large balloon on the right on a brown background",
        ] {
            assert_eq!(hints(prompt, &[]).unwrap(), Hints::default(), "{prompt}");
        }
        assert_eq!(hints("a My-Cat dog", &["my-cat"]).unwrap(), Hints::default());
    }

    #[test]
    fn unknown_words_have_near_ones() {
        let near = |prompt: &str, told: &str| assert!(first(prompt).contains(told), "{prompt}: {}", first(prompt));
        near("a lion", "'lion'; near: dog, cat, pig");
        near("two lions", "'lions'; near: dog");
        near("un león rojo", "'leon'; near: dog, cat");
        near("an appel", "try 'apple'");
        near("a strawbery on a blue backgroud", "try 'strawberry'");
        near("a grey cat", "try 'gray'");
        near("a truck", "near: car, bus, bicycle or train");
        near("a ball", "try 'soccer ball'");
        near("five cats", "near: two, three or four");
        near("3 cats", "near: two, three or four");
        near("a xylograph", "does not know 'xylograph'");
        near("a \u{1b}[2J cat", "does not know '2j'");
        let many = hints("the quick brown fox jumps over the lazy dog quietly tonight", &[]).unwrap();
        assert!(many.unknown && many.lines.len() == 4 && many.lines[3].starts_with("nor does it know"), "{many:?}");
        let one_more = hints("xylograph zither quux blorf", &[]).unwrap().lines;
        assert!(one_more[3].ends_with("1 other word of this prompt"), "{one_more:?}");
    }

    #[test]
    fn spanish_prompts_get_the_english_one() {
        assert_eq!(first("una manzana roja"), "the built-in model reads English; try \"a red apple\"");
        assert_eq!(hints("un gato azul", &[]).unwrap().lines.len(), 1);
    }

    #[test]
    fn colors_that_objects_never_had_are_told() {
        assert!(first("a black cat").contains("never shown 'cat' in black"));
        assert!(first("a purple cat").is_empty() && first("a cat on a black background").is_empty());
    }

    #[test]
    fn several_big_things_are_told() {
        assert!(first("two large apples").contains("never shown several big things"));
        assert!(first("two small apples").is_empty() && first("a big apple").is_empty());
    }

    #[test]
    fn more_than_two_kinds_are_told() {
        assert!(first("a cat, a dog and an apple").ends_with("this names 3"));
        for prompt in ["a cat and a dog", "a [cat|dog|pig] and an apple", "a cat AND a dog AND a pig"] {
            assert!(first(prompt).is_empty(), "{prompt}");
        }
    }
}
