//! What a picture's settings ask for and this job cannot give goes in, sentences that say so come out.

use crate::error::escape;
use crate::job::note::{Field, Phrase, phrase};

/// What of a recipe cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// A share of noise that the program's version decides the meaning of.
    Eta(String),
    /// A schedule that the text does not tell: the sampler's name.
    Schedule(String),
    /// A setting that nobody here understands.
    Setting(String),
    /// Another model: its name and hash, and whether one was given.
    Model(String, bool),
    /// Another VAE: its name and hash, and whether one was given.
    Vae(String, bool),
    /// Another refiner: its name and hash, and whether one was given.
    Refiner(String, bool),
    /// A picture to begin with: the strength.
    Picture(String),
    /// The picture that was given is another.
    OtherPicture,
    /// A tag in the prompt that would change the model.
    Tag(String),
    /// An adapter: its name and hash.
    Adapter(String),
    /// The embeddings.
    Embeddings(String),
}

impl Lacking {
    /// In words.
    pub fn phrase(&self) -> Phrase {
        match self {
            Self::Eta(value) => phrase![
                format!(
                    "Eta: {} (which older versions of stable-diffusion.cpp wrote without using it: give ",
                    escape(value)
                ),
                Field::Eta,
                " 1 or 0)"
            ],
            Self::Schedule(sampler) => phrase![
                format!("the schedule of {} (its text does not tell it: give it with ", escape(sampler)),
                Field::Schedule,
                ")"
            ],
            Self::Setting(text) => escape(text).into(),
            Self::Model(wanted, true) => phrase![escape(wanted), " (the file of ", Field::Model, " is another)"],
            Self::Model(wanted, false) => phrase![escape(wanted), " (give its file with ", Field::Model, ")"],
            Self::Vae(wanted, true) => phrase![escape(wanted), " (the file of ", Field::Vae, " is another)"],
            Self::Vae(wanted, false) => phrase![escape(wanted), " (give its file with ", Field::Vae, ")"],
            Self::Refiner(wanted, true) => phrase![escape(wanted), " (the file of ", Field::Refiner, " is another)"],
            Self::Refiner(wanted, false) => phrase![escape(wanted), " (give its file with ", Field::Refiner, ")"],
            Self::Picture(strength) => phrase![
                format!("Denoising strength: {} (made from a picture: give that with ", escape(strength)),
                Field::InitImage,
                ")"
            ],
            Self::OtherPicture => phrase!["Init image hash (the picture of ", Field::InitImage, " is another)"],
            Self::Adapter(wanted) => format!("Lora hashes: {} (give the same file)", escape(wanted)).into(),
            Self::Tag(tag) => format!("the {} in its prompt", escape(tag)).into(),
            Self::Embeddings(wanted) => format!("TI hashes: {} (give the same embeddings)", escape(wanted)).into(),
        }
    }
}

/// All of it as one list.
pub fn listed(lacking: &[Lacking]) -> Phrase {
    let mut out = Phrase::default();
    for (i, lacking) in lacking.iter().enumerate() {
        if i > 0 {
            out.0.push("; ".into());
        }
        out.0.extend(lacking.phrase().0);
    }
    out
}
