//! What an asker should know, in sentences that name settings as data: a command line words them as flags, a server as
//! fields.

use crate::error::{Error, Kind};
use std::fmt;

/// What can be asked for, as far as sentences speak of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// What to draw.
    Prompt,
    /// The model's file.
    Model,
    /// Another VAE.
    Vae,
    /// A second model for the last steps.
    Refiner,
    /// Pixels.
    Width,
    /// Pixels.
    Height,
    /// Sampler steps.
    Steps,
    /// How strongly the picture follows the prompt.
    Guidance,
    /// The sampler.
    Sampler,
    /// Noise levels.
    Schedule,
    /// Timesteps of the samplers that have no levels.
    Timesteps,
    /// The share of fresh noise.
    Eta,
    /// The text encoder's hidden state.
    ClipSkip,
    /// What the network predicts.
    Prediction,
    /// How large the picture was.
    OriginalSize,
    /// What was cut off it.
    Crop,
    /// How large it is to be.
    TargetSize,
    /// What an empty negative prompt is.
    EmptyNegative,
    /// The first seed.
    Seed,
    /// How many pictures.
    Count,
    /// How many at a time.
    BatchSize,
    /// How far towards the second seed.
    VariationStrength,
    /// The picture to begin with.
    InitImage,
    /// How much of it may change.
    Strength,
    /// Where it is painted anew.
    Mask,
    /// Black instead of white.
    MaskInvert,
    /// How soft the border is.
    MaskBlur,
    /// The masked part alone.
    OnlyMasked,
    /// How much around it.
    OnlyMaskedPadding,
    /// Beyond the edges.
    Outpaint,
    /// One picture for every combination.
    Grid,
    /// Styles by name.
    Style,
    /// Of the device.
    Precision,
    /// Of the device.
    Device,
    /// Bytes at most.
    MaxMemory,
    /// Weights are read as they are needed.
    LowMemory,
    /// Whatever is asked, it is tried.
    Force,
    /// Go on without what cannot be honoured.
    IgnoreUnsupported,
}

impl Field {
    /// In plain words: `mask blur`.
    pub fn plain(self) -> String {
        let mut out = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_ascii_uppercase() && !out.is_empty() {
                out.push(' ');
            }
            out.push(c.to_ascii_lowercase());
        }
        out
    }
}

/// How an asker calls a field.
pub type Names<'a> = &'a dyn Fn(Field) -> String;

/// A fragment of a [`Phrase`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Words.
    Text(String),
    /// A field, under the asker's name for it.
    Field(Field),
}

impl From<&str> for Fragment {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Fragment {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Field> for Fragment {
    fn from(field: Field) -> Self {
        Self::Field(field)
    }
}

/// A sentence that may name fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phrase(pub Vec<Fragment>);

impl Phrase {
    /// The sentence for somebody who calls fields by these names.
    pub fn told(&self, names: Names<'_>) -> String {
        let fragment = |fragment: &Fragment| match fragment {
            Fragment::Text(text) => text.clone(),
            Fragment::Field(field) => names(*field),
        };
        self.0.iter().map(fragment).collect()
    }

    /// The fields that it names.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        self.0.iter().filter_map(|fragment| if let Fragment::Field(field) = fragment { Some(*field) } else { None })
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(&Field::plain))
    }
}

impl From<String> for Phrase {
    fn from(text: String) -> Self {
        Self(vec![text.into()])
    }
}

impl From<&str> for Phrase {
    fn from(text: &str) -> Self {
        Self(vec![text.into()])
    }
}

/// `phrase![Field::Mask, " needs a picture"]`: a [`Phrase`] of texts and fields.
macro_rules! phrase {
    ($($fragment:expr),+ $(,)?) => {
        $crate::job::note::Phrase(vec![$($crate::job::note::Fragment::from($fragment)),+])
    };
}
pub(crate) use phrase;

/// Why an order cannot be carried out.
#[derive(Clone, Debug)]
pub enum Objection {
    /// Something below the job failed.
    Error(Error),
    /// The order is wrong, and says so in its own fields.
    Wrong {
        /// What it means to the program.
        kind: Kind,
        /// The sentence.
        phrase: Phrase,
        /// What it is about, such as a file's name; stands in front.
        place: Option<String>,
    },
}

impl Objection {
    /// The order cannot be carried out as it is.
    pub fn usage(phrase: Phrase) -> Self {
        Self::Wrong { kind: Kind::Usage, phrase, place: None }
    }

    /// Puts in front what it is about.
    #[must_use]
    pub fn at(self, at: impl fmt::Display) -> Self {
        match self {
            Self::Error(e) => Self::Error(e.at(at)),
            Self::Wrong { kind, phrase, place } => {
                let place = place.map_or_else(|| at.to_string(), |inner| format!("{at}: {inner}"));
                Self::Wrong { kind, phrase, place: Some(place) }
            }
        }
    }

    /// The error in the words of somebody who calls fields by these names.
    pub fn told(self, names: Names<'_>) -> Error {
        match self {
            Self::Error(e) => e,
            Self::Wrong { kind, phrase, place } => {
                let error = Error::new(kind, phrase.told(names));
                match place {
                    Some(place) => error.at(place),
                    None => error,
                }
            }
        }
    }
}

impl Objection {
    /// The error in plain words.
    pub fn plain(self) -> Error {
        self.told(&Field::plain)
    }
}

impl From<Error> for Objection {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.clone().plain().fmt(f)
    }
}

impl std::error::Error for Objection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_asker_reads_its_own_names() {
        let phrase = phrase![Field::MaskBlur, format!(" {} is out of range", 99)];
        assert_eq!(phrase.to_string(), "mask blur 99 is out of range");
        assert_eq!(phrase.told(&|field| format!("<{field:?}>")), "<MaskBlur> 99 is out of range");
        assert_eq!(phrase.fields().collect::<Vec<_>>(), [Field::MaskBlur]);
        let error = Objection::usage(phrase).at("a.png").plain();
        assert_eq!((error.to_string().as_str(), error.kind()), ("a.png: mask blur 99 is out of range", &Kind::Usage));
    }
}
