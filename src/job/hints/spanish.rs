//! A Spanish prompt to the English one that says the same to the embedded model.

use super::{Meaning, Object, Phrase, Vocabulary};

/// Small words that the English prompt does not need.
pub const FILLERS: [&str; 22] = [
    "un", "una", "uno", "unos", "unas", "el", "la", "los", "las", "lo", "de", "del", "en", "con", "sobre", "color",
    "es", "imagen", "dibujo", "foto", "emoji", "al",
];
/// Before another object.
pub const AND: [&str; 2] = ["y", "e"];
/// Before the background's colour.
pub const BACKGROUND: [&str; 2] = ["fondo", "fondos"];

/// Words whose spelling the table does not tell: it is without accents.
const ACCENTED: [&str; 17] = [
    "pingüino",
    "búho",
    "árbol",
    "champiñón",
    "sandía",
    "plátano",
    "café",
    "autobús",
    "avión",
    "muñeco",
    "balón",
    "fútbol",
    "corazón",
    "círculo",
    "pequeño",
    "marrón",
    "Navidad",
];

/// A word or phrase of the table, spelt as it should be.
pub fn accented(phrase: &str) -> String {
    let word = |word| ACCENTED.iter().find(|spelt| super::plain(spelt) == word).copied().unwrap_or(word);
    phrase.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// What is said of one object.
#[derive(Default)]
struct Thing<'a> {
    object: Option<&'a Object>,
    several: bool,
    color: Option<&'a str>,
    size: Option<&'a str>,
    count: Option<&'a str>,
}

/// The English prompt, when every phrase is known and there is an object among them.
pub fn translate(phrases: &[Phrase<'_>]) -> Option<String> {
    let mut things = vec![Thing::default()];
    let (mut place, mut background, mut behind) = (None, None, false);
    for phrase in phrases {
        let Meaning { object, several, color, size, place: put, count, and, background: back } = phrase.meaning?;
        if and {
            things.push(Thing::default());
        }
        behind |= back;
        let thing = things.last_mut()?;
        match (object, color) {
            (_, Some(color)) if behind => background = Some(color),
            (Some(object), _) if thing.object.is_none() => {
                thing.object = Some(object);
                thing.several = several;
            }
            (_, Some(color)) => thing.color = Some(color),
            _ => {}
        }
        thing.size = size.or(thing.size);
        thing.count = count.or(thing.count);
        place = put.or(place);
    }
    let things: Vec<String> = things.iter().filter_map(Thing::english).collect();
    if things.is_empty() {
        return None;
    }
    let mut english = things.join(" and ");
    if let Some(place) = place {
        english.push_str(&format!(" {place}"));
    }
    if let Some(color) = background {
        english.push_str(&format!(" on {} background", article(color)));
    }
    Some(english)
}

impl Thing<'_> {
    fn english(&self) -> Option<String> {
        let object = self.object?;
        let count = self.count.or(self.several.then_some("two"));
        let name = match (count, object.plurals.first()) {
            (Some(_), Some(plural)) => plural,
            _ => &object.name,
        };
        let words: Vec<&str> = self.size.into_iter().chain(self.color).chain([name.as_str()]).collect();
        let words = words.join(" ");
        Some(match count {
            _ if object.mass => words,
            Some(count) => format!("{count} {words}"),
            None => article(&words),
        })
    }
}

fn article(words: &str) -> String {
    let vowel =
        words.starts_with(['a', 'e', 'i', 'o', 'u']) && !words.starts_with("unicorn") && !words.starts_with("ufo");
    format!("{} {words}", if vowel { "an" } else { "a" })
}

impl Vocabulary {
    /// The English prompt for a Spanish one whose every word is known.
    #[cfg(test)]
    fn in_english(&self, prompt: &str) -> Option<String> {
        translate(&self.spanish().read(&super::words_of(prompt)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_shown_are_spelt_as_they_should_be_and_mean_what_they_stand_beside() {
        let words = Vocabulary::embedded().unwrap();
        let groups = words.groups();
        let spanish = |kind: &str, name: &str| {
            let (_, all) = groups.iter().find(|(k, _)| *k == kind).unwrap();
            all.iter().find(|(n, _)| n == name).unwrap().1.clone().unwrap()
        };
        assert_eq!(spanish("objects", "Christmas tree"), "árbol de Navidad");
        assert_eq!(spanish("objects", "soccer ball"), "balón de fútbol");
        assert_eq!(spanish("backgrounds", "light blue"), "azul claro");
        assert_eq!((spanish("sizes", "small"), spanish("sizes", "big")), ("pequeño".into(), "grande".into()));
        assert_eq!(
            (spanish("object_colors", "purple"), spanish("backgrounds", "brown")),
            ("morado".into(), "marrón".into())
        );
        assert!(groups.iter().all(|(_, all)| !all.is_empty()));
        // Each is read back as the word that it stands beside.
        let (_, objects) = &groups[0];
        for (name, spanish) in objects.iter().filter_map(|(n, s)| Some((n, s.as_ref()?))) {
            let english = words.in_english(spanish).unwrap_or_default();
            assert!(english.ends_with(name.as_str()), "{spanish}: {english}, not {name}");
        }
    }

    #[test]
    fn spanish_prompts_become_english_ones() {
        let words = Vocabulary::embedded().unwrap();
        for (spanish, english) in [
            ("una manzana roja", "a red apple"),
            ("Una MANZANA roja sobre un fondo azul claro", "a red apple on a light blue background"),
            ("dos gatos azules", "two blue cats"),
            ("tres plátanos", "three bananas"),
            ("cuatro árboles de Navidad en fondo negro", "four Christmas trees on a black background"),
            ("un perro pequeño a la izquierda", "a small dog on the left"),
            ("un pez grande en la parte de arriba", "a big fish at the top"),
            ("una rosa rosa sobre fondo rosa", "a pink rose on a pink background"),
            ("un perro y un gato verde sobre fondo blanco", "a dog and a green cat on a white background"),
            ("un pulpo naranja con fondo de color amarillo", "an orange octopus on a yellow background"),
            ("taza de café", "a cup of coffee"),
            ("estrellas moradas", "two purple stars"),
            ("un muñeco de nieve abajo", "a snowman at the bottom"),
            ("peces", "two fish"),
        ] {
            assert_eq!(words.in_english(spanish).as_deref(), Some(english), "{spanish}");
        }
        for other in ["un unicornio rojo", "a red apple", "rojo", "", "fondo azul"] {
            assert_eq!(words.in_english(other), None, "{other}");
        }
    }
}
