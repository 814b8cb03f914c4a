//! The words that the embedded model was trained on, in English and in Spanish: what a
//! prompt says, in the model's terms.

mod say;
mod spanish;

use crate::error::{Error, Result};
pub use say::{Hint, Hints, hints};
use serde::Deserialize;
use std::collections::HashMap;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// Made by `tools/train_embedded/words_table.py`.
static TABLE: &str = include_str!("../assets/words.json");
/// Words of the longest phrase, `en la parte de arriba`.
const LONGEST: usize = 5;
/// Small words that carry nothing that the model could miss.
const FILLERS: [&str; 20] = [
    "a",
    "an",
    "the",
    "one",
    "single",
    "and",
    "with",
    "of",
    "on",
    "in",
    "at",
    "to",
    "it",
    "its",
    "is",
    "are",
    "background",
    "plain",
    "color",
    "colored",
];

/// What can be said to the embedded model, and what it does not know but has something near for.
#[derive(Deserialize)]
pub struct Vocabulary {
    objects: Vec<Object>,
    /// What may stand before an object: `a picture of`.
    prefixes: Vec<String>,
    /// The colours that objects were drawn in.
    #[serde(rename = "object colors")]
    object_colors: Vec<String>,
    /// Every colour; those of backgrounds.
    colors: Vec<Word>,
    sizes: Vec<Word>,
    places: Vec<Word>,
    counts: Vec<Word>,
    /// Unknown words, by what is near to them.
    groups: Vec<Group>,
}

/// A word that can be said, and its Spanish.
pub type Sayable = (String, Option<String>);

/// A thing that can be drawn.
#[derive(Deserialize)]
struct Object {
    name: String,
    also: Vec<String>,
    /// Of `name` and of each of `also`; none for a word without a plural.
    plurals: Vec<String>,
    mass: bool,
    /// The colour that it has of itself.
    natural: Option<String>,
    /// Whether it was drawn in other colours.
    tinted: bool,
    /// Without accents, lower case, as all Spanish here.
    spanish: Vec<String>,
    #[serde(rename = "spanish plurals")]
    spanish_plurals: Vec<String>,
}

#[derive(Deserialize)]
struct Word {
    name: String,
    #[serde(default)]
    also: Vec<String>,
    spanish: Vec<String>,
}

#[derive(Deserialize)]
struct Group {
    near: Vec<String>,
    /// With spaces between them.
    words: String,
}

/// What a phrase says. Of a word with two meanings, such as the Spanish `rosa`, both are given.
#[derive(Clone, Copy, Default)]
struct Meaning<'a> {
    object: Option<&'a Object>,
    /// The object is in the plural.
    several: bool,
    color: Option<&'a str>,
    size: Option<&'a str>,
    place: Option<&'a str>,
    count: Option<&'a str>,
    /// What follows is another object.
    and: bool,
    /// A colour that follows is the background's.
    background: bool,
}

/// Phrases of one language and their meanings.
struct Lexicon<'a>(HashMap<String, Meaning<'a>>);

/// A word or phrase of a prompt, with what it means, if it is known.
struct Phrase<'a> {
    text: String,
    meaning: Option<Meaning<'a>>,
}

impl Vocabulary {
    /// The embedded model's.
    pub fn embedded() -> Result<Self> {
        serde_json::from_str(TABLE).map_err(|e| Error::other(format!("the embedded words.json: {e}")))
    }

    /// Everything that can be said, a kind a line.
    pub fn list(&self) -> String {
        let names = |words: &[Word]| {
            words.iter().flat_map(|w| std::iter::once(&w.name).chain(&w.also)).cloned().collect::<Vec<_>>().join(", ")
        };
        let object = |o: &Object| {
            let also = if o.also.is_empty() { String::new() } else { format!(" ({})", o.also.join(", ")) };
            format!("{}{also}", o.name)
        };
        let objects = self.objects.iter().map(object).collect::<Vec<_>>().join(", ");
        let mut out = String::new();
        for (title, words) in [
            ("objects", objects),
            ("object colors", self.object_colors.join(", ")),
            ("backgrounds", format!("on a COLOR background: {}", names(&self.colors))),
            ("sizes", names(&self.sizes)),
            ("places", names(&self.places)),
            ("counts", format!("{}, with the plural", names(&self.counts))),
            ("two objects", "a dog and a cat, a red dog and a blue cat".into()),
        ] {
            out.push_str(&format!("{title:<14} {words}\n"));
        }
        out
    }

    /// What can be said, by kind, each word with its Spanish: `objects`, `object_colors`, `backgrounds`, `sizes`,
    /// `places`, `counts`.
    pub fn groups(&self) -> Vec<(&'static str, Vec<Sayable>)> {
        let beside = |names: &[String]| names.first().map(|name| spanish::accented(name));
        let words = |all: &[Word]| all.iter().map(|w| (w.name.clone(), shortest(&w.spanish))).collect::<Vec<_>>();
        let colors = |wanted: &dyn Fn(&str) -> bool| {
            let all = self.colors.iter().filter(|c| wanted(&c.name));
            all.map(|c| (c.name.clone(), masculine(&c.spanish))).collect::<Vec<_>>()
        };
        vec![
            ("objects", self.objects.iter().map(|o| (o.name.clone(), beside(&o.spanish))).collect()),
            ("object_colors", colors(&|name| self.object_colors.iter().any(|c| c == name))),
            ("backgrounds", colors(&|_| true)),
            ("sizes", words(&self.sizes)),
            ("places", words(&self.places)),
            ("counts", words(&self.counts)),
        ]
    }

    fn english(&self) -> Lexicon<'_> {
        let mut all = Lexicon(HashMap::new());
        for object in &self.objects {
            let single = Meaning { object: Some(object), ..Meaning::default() };
            all.add(std::iter::once(&object.name).chain(&object.also), single);
            all.add(&object.plurals, Meaning { several: true, ..single });
        }
        all.words(self, |word| std::iter::once(&word.name).chain(&word.also));
        all.add(&self.prefixes, Meaning::default());
        all.add(FILLERS, Meaning::default());
        all.add(["and"], Meaning { and: true, ..Meaning::default() });
        all
    }

    fn spanish(&self) -> Lexicon<'_> {
        let mut all = Lexicon(HashMap::new());
        for object in &self.objects {
            let single = Meaning { object: Some(object), ..Meaning::default() };
            all.add(&object.spanish_plurals, Meaning { several: true, ..single });
            all.add(&object.spanish, single);
        }
        all.words(self, |word| &word.spanish);
        all.add(spanish::FILLERS, Meaning::default());
        all.add(spanish::AND, Meaning { and: true, ..Meaning::default() });
        all.add(spanish::BACKGROUND, Meaning { background: true, ..Meaning::default() });
        all
    }
}

/// Of several Spanish words the one that people say: the table has them by the alphabet.
fn shortest(words: &[String]) -> Option<String> {
    const SAID: [&str; 4] = ["pequeno", "grande", "arriba", "abajo"];
    let said = words.iter().find(|word| SAID.contains(&word.as_str()));
    said.or(words.first()).map(|word| spanish::accented(word))
}

/// A colour's Spanish name: the masculine one.
fn masculine(words: &[String]) -> Option<String> {
    const SAID: [&str; 4] = ["naranja", "morado", "rosa", "marron"];
    let said = words.iter().find(|word| SAID.contains(&word.as_str()));
    let ends = words.iter().find(|word| word.ends_with('o'));
    said.or(ends).or(words.first()).map(|word| spanish::accented(word))
}

impl<'a> Lexicon<'a> {
    fn add<T: AsRef<str>>(&mut self, phrases: impl IntoIterator<Item = T>, meaning: Meaning<'a>) {
        for phrase in phrases {
            let old = self.0.entry(plain(phrase.as_ref())).or_insert(meaning);
            // A second meaning beside the first.
            old.object = old.object.or(meaning.object);
            old.color = old.color.or(meaning.color);
            old.and |= meaning.and;
            old.several &= meaning.several;
        }
    }

    /// Colours, sizes, places and counts under the names that `said` gives.
    fn words<'s, I>(&mut self, from: &'a Vocabulary, said: impl Fn(&'a Word) -> I)
    where
        I: IntoIterator<Item = &'s String>,
    {
        let none = Meaning::default();
        for word in &from.colors {
            self.add(said(word), Meaning { color: Some(&word.name), ..none });
        }
        for word in &from.sizes {
            self.add(said(word), Meaning { size: Some(&word.name), ..none });
        }
        for word in &from.places {
            self.add(said(word), Meaning { place: Some(&word.name), ..none });
        }
        for word in &from.counts {
            self.add(said(word), Meaning { count: Some(&word.name), several: true, ..none });
        }
    }

    /// Cuts words into phrases, the longest known ones first.
    fn read(&self, words: &[String]) -> Vec<Phrase<'a>> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let longest = LONGEST.min(words.len() - at);
            let known = (1..=longest).rev().find_map(|n| {
                let text = words[at..at + n].join(" ");
                self.0.get(&text).map(|meaning| (n, Phrase { text, meaning: Some(*meaning) }))
            });
            let (n, phrase) = known.unwrap_or_else(|| (1, Phrase { text: words[at].clone(), meaning: None }));
            found.push(phrase);
            at += n;
        }
        found
    }
}

/// Lower case, without accents.
fn plain(text: &str) -> String {
    text.nfd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect()
}

/// A prompt's words in [`plain`] form, without its punctuation, weights and keywords.
fn words_of(prompt: &str) -> Vec<String> {
    let inside = |c: char| c.is_alphanumeric() || is_combining_mark(c) || matches!(c, '-' | '\'' | '.');
    let mut found = Vec::new();
    // What a word follows tells a count from a weight or a share of the steps, `(word:2)`.
    let mut before = ' ';
    for piece in prompt.split_inclusive(|c| !inside(c)) {
        let word = piece.trim_matches(|c: char| !c.is_alphanumeric() && !is_combining_mark(c));
        let number = word.parse::<f32>().is_ok() && (before == ':' || word.contains('.'));
        if !word.is_empty() && !matches!(word, "BREAK" | "AND") && !number {
            found.push(plain(word));
        }
        before = piece.chars().last().unwrap_or(' ');
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_words_without_its_marks() {
        assert_eq!(
            words_of("A (red:1.3) apple, [cat:dog:0.5] AND Plátano."),
            ["a", "red", "apple", "cat", "dog", "platano"]
        );
        assert_eq!(words_of("t-rex's  ... -- BREAK 3 [a:b:5] (c:2)"), ["t-rex's", "3", "a", "b", "c"]);
    }

    #[test]
    fn every_phrase_is_found_and_what_is_near_is_known() {
        let words = Vocabulary::embedded().unwrap();
        let english = words.english();
        for phrase in english.0.keys() {
            assert!(phrase.split(' ').count() <= LONGEST, "{phrase}");
            assert_eq!(english.read(&words_of(phrase)).len(), 1, "{phrase}");
        }
        assert!(
            words.spanish().0.keys().all(|phrase| phrase.split(' ').count() <= LONGEST && *phrase == plain(phrase))
        );
        // What is near is known itself, and what has something near is not.
        for group in &words.groups {
            assert!(!group.near.is_empty() && group.near.iter().all(|near| english.0.contains_key(&plain(near))));
            assert!(group.words.split(' ').all(|w| !english.0.contains_key(w)), "{}", group.words);
        }
        assert_eq!(words.objects.len(), 62);
        assert!(words.list().contains("dog (puppy), cat (kitten)"));
    }
}
