//! A choice's name goes in, the choice comes out, and back: one spelling for flags, for JSON and for metadata.

use crate::diffusion::conditioning::{EmptyNegative, ToldCrop, ToldSize};
use crate::diffusion::denoise::samplers::{Named, find_named};
use crate::diffusion::denoise::sigmas::ScheduleKind;
use crate::diffusion::denoise::timesteps::Timesteps;
use crate::diffusion::inpaint::Fill;
use crate::diffusion::outpaint::Sides;
use crate::diffusion::preview::{Preview, PreviewBy};
use crate::engine::devices::{NumberKind, WeightType, Where};
use crate::error::{Error, Result, escape};
use crate::graph::target::VariantName;
use crate::image::resize::ResizeMode;
use crate::models::training::{Prediction, Spacing};
use crate::rng::RngKind;
use serde::de::{Deserialize as _, Deserializer, Error as _};
use serde::ser::Serializer;

/// What is told by a word.
pub trait Word: Sized {
    /// Reads the word.
    ///
    /// # Errors
    /// Usage: it is not known, with those that are.
    fn parse(word: &str) -> Result<Self>;

    /// The word that [`Word::parse`] reads as this.
    fn word(&self) -> String;
}

/// For `#[serde(serialize_with)]`: the word, or null.
pub fn serialize<T: Word, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.serialize_str(&value.word()),
        None => serializer.serialize_none(),
    }
}

/// For `#[serde(deserialize_with)]`: what the word says; null is nothing.
pub fn deserialize<'de, T: Word, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let word: Option<String> = Option::deserialize(deserializer)?;
    word.map(|word| T::parse(&word).map_err(D::Error::custom)).transpose()
}

impl Word for Named {
    fn parse(word: &str) -> Result<Self> {
        find_named(word)
    }

    fn word(&self) -> String {
        match (self.schedule, self.timesteps) {
            (Some(schedule), _) => format!("{} {}", self.sampler.name, schedule.name()),
            (None, Some(_)) => "ddim_trailing".into(),
            (None, None) => self.sampler.name.into(),
        }
    }
}

impl Word for ScheduleKind {
    fn parse(word: &str) -> Result<Self> {
        Self::parse(word)
    }

    fn word(&self) -> String {
        self.name().into()
    }
}

impl Word for Timesteps {
    fn parse(word: &str) -> Result<Self> {
        Self::parse(word)
    }

    fn word(&self) -> String {
        match self {
            Self::Auto => "auto",
            Self::Spaced(Spacing::Leading) => "leading",
            Self::Spaced(Spacing::Linspace) => "linspace",
            Self::Spaced(Spacing::Trailing) => "trailing",
            Self::Webui => "webui",
            Self::Only(timestep) => return timestep.to_string(),
        }
        .into()
    }
}

/// What the model's own word says, unless something else is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Auto<T> {
    /// The model's own.
    #[default]
    Auto,
    /// This one.
    Told(T),
}

impl<T> Auto<T> {
    /// What was told.
    pub fn told(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Told(told) => Some(told),
        }
    }
}

impl Word for Auto<Prediction> {
    fn parse(word: &str) -> Result<Self> {
        match word.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "eps" | "epsilon" => Ok(Self::Told(Prediction::Epsilon)),
            "v" | "v_prediction" | "v-prediction" => Ok(Self::Told(Prediction::V)),
            "sample" | "x0" => Ok(Self::Told(Prediction::Sample)),
            _ => Err(Error::usage(format!("prediction '{}' is not known; use auto, eps, v or sample", escape(word)))),
        }
    }

    fn word(&self) -> String {
        match self {
            Self::Auto => "auto",
            Self::Told(Prediction::V) => "v",
            Self::Told(Prediction::Sample) => "sample",
            Self::Told(_) => "eps",
        }
        .into()
    }
}

impl Word for RngKind {
    fn parse(word: &str) -> Result<Self> {
        Self::parse(word)
    }

    fn word(&self) -> String {
        self.name().to_ascii_lowercase()
    }
}

impl Word for ResizeMode {
    fn parse(word: &str) -> Result<Self> {
        Self::parse(word)
    }

    fn word(&self) -> String {
        self.name().into()
    }
}

impl Word for Fill {
    fn parse(word: &str) -> Result<Self> {
        Self::parse(word)
    }

    fn word(&self) -> String {
        self.name().replace(' ', "-")
    }
}

impl Word for Sides {
    fn parse(word: &str) -> Result<Self> {
        Self::parse(word)
    }

    fn word(&self) -> String {
        self.to_string()
    }
}

/// Previews as they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Which are made.
    pub preview: Preview,
    /// Each is a picture of its own that stays, instead of one that the next replaces and the end removes.
    pub keep: bool,
}

impl Word for Shown {
    /// `every=5`, `5`, with `,vae` or `,taesd`, and `,keep` behind it.
    fn parse(word: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!(
                "preview '{}': write every=5, every=5,vae, every=5,taesd or every=5,keep",
                escape(word)
            ))
        };
        let mut words = word.split(',').map(str::trim);
        let every = words.next().map_or("", |first| first.strip_prefix("every=").unwrap_or(first));
        let every = every.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
        let mut shown = Self { preview: Preview { every, by: PreviewBy::Colours }, keep: false };
        for word in words {
            match word {
                "vae" => shown.preview.by = PreviewBy::Vae,
                "taesd" | "tae" => shown.preview.by = PreviewBy::Tiny,
                "keep" => shown.keep = true,
                _ => return Err(wrong()),
            }
        }
        Ok(shown)
    }

    fn word(&self) -> String {
        let by = match self.preview.by {
            PreviewBy::Colours => "",
            PreviewBy::Vae => ",vae",
            PreviewBy::Tiny => ",taesd",
        };
        format!("every={}{by}{}", self.preview.every, if self.keep { ",keep" } else { "" })
    }
}

/// What is read by its own [`std::str::FromStr`] and written by its own [`std::fmt::Display`].
macro_rules! words {
    ($($word:ty),*) => {$(
        impl Word for $word {
            fn parse(word: &str) -> Result<Self> {
                word.parse()
            }

            fn word(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

words!(ToldSize, ToldCrop, EmptyNegative);

impl Word for NumberKind {
    fn parse(word: &str) -> Result<Self> {
        match word.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "f32" | "fp32" => Ok(Self::F32),
            "f16" | "fp16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::usage(format!("precision '{}' is not known; use auto, f32, f16 or bf16", escape(word)))),
        }
    }

    fn word(&self) -> String {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
        .into()
    }
}

impl Word for VariantName {
    fn parse(word: &str) -> Result<Self> {
        Self::parse(word)
    }

    fn word(&self) -> String {
        self.to_string()
    }
}

impl Word for Where {
    fn parse(word: &str) -> Result<Self> {
        Self::parse(word)
    }

    fn word(&self) -> String {
        match self {
            // As it was typed: not as it is shown.
            Self::Name(name) => name.clone(),
            device => device.to_string(),
        }
    }
}

impl Word for WeightType {
    fn parse(word: &str) -> Result<Self> {
        match word.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "f16" | "fp16" => Ok(Self::F16),
            "f32" | "fp32" => Ok(Self::F32),
            _ => Err(Error::usage(format!("weight type '{}' is not known; use auto, f16 or f32", escape(word)))),
        }
    }

    fn word(&self) -> String {
        match self {
            Self::Auto => "auto",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
        .into()
    }
}

/// A number of bytes: `2.4GB`, `800 MB`, `3GiB` or plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

impl Word for ByteCount {
    fn parse(word: &str) -> Result<Self> {
        let wrong = || Error::usage(format!("'{}' is not a size; write 2.4GB, 800MB or 2GiB", escape(word)));
        let text = word.trim();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let factor: f64 = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" | "k" => 1e3,
            "mb" | "m" => 1e6,
            "gb" | "g" => 1e9,
            "mib" => 1_048_576.0,
            "gib" => 1_073_741_824.0,
            _ => return Err(wrong()),
        };
        let value: f64 = digits.parse().map_err(|_| wrong())?;
        if value.is_finite() && value > 0.0 { Ok(Self((value * factor) as u64)) } else { Err(wrong()) }
    }

    fn word(&self) -> String {
        self.0.to_string()
    }
}

/// The first picture's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seed {
    /// A new one, whatever a picture that is repeated says.
    Random,
    /// This one.
    Fixed(u64),
}

impl Seed {
    /// The seed; a random one is in the webui's range, 0 to 4294967293.
    pub fn drawn(self) -> u64 {
        use std::hash::{BuildHasher as _, RandomState};
        match self {
            Self::Fixed(seed) => seed,
            // The standard library keys its hash maps from the system's random source.
            Self::Random => RandomState::new().hash_one(0u8) % 4_294_967_294,
        }
    }
}

impl Word for Seed {
    /// 0 to 2^64 - 1, as torch and ComfyUI have them; what is below 0 is random.
    fn parse(word: &str) -> Result<Self> {
        let text = word.trim();
        let below = text.strip_prefix('-').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if below {
            // -0 is 0.
            let zero = text.bytes().skip(1).all(|b| b == b'0');
            return Ok(if zero { Self::Fixed(0) } else { Self::Random });
        }
        let wrong = || {
            let text = escape(word);
            Error::usage(format!("seed '{text}' is no whole number from 0 to {}; -1 is a random one", u64::MAX))
        };
        text.parse().map(Self::Fixed).map_err(|_| wrong())
    }

    fn word(&self) -> String {
        match self {
            Self::Random => "-1".into(),
            Self::Fixed(seed) => seed.to_string(),
        }
    }
}

impl serde::Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Random => serializer.serialize_i8(-1),
            Self::Fixed(seed) => serializer.serialize_u64(*seed),
        }
    }
}

/// A number, or a text of one: what is above 2^53 comes through JavaScript only so.
impl<'de> serde::Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(serde_json::Number),
            Text(String),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Number(number) => number.to_string(),
            Form::Text(text) => text,
        };
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both<T: Word + PartialEq + std::fmt::Debug>(words: &[&str]) {
        for word in words {
            let value = T::parse(word).unwrap();
            assert_eq!(T::parse(&value.word()).unwrap(), value, "{word}");
        }
    }

    #[test]
    fn every_word_is_read_as_it_is_written() {
        both::<Named>(&["euler_a", "DPM++ 2M SDE Karras", "ddim_trailing", "unipc"]);
        both::<ScheduleKind>(&["automatic", "karras", "sgm_uniform", "kl_optimal"]);
        both::<Timesteps>(&["auto", "leading", "linspace", "trailing", "webui", "800"]);
        both::<Auto<Prediction>>(&["auto", "eps", "v", "x0"]);
        both::<RngKind>(&["nv", "cpu", "cuda"]);
        both::<ResizeMode>(&["just", "crop", "fill"]);
        both::<Fill>(&["fill", "original", "latent noise", "latent_nothing"]);
        both::<Sides>(&["left=8,down=16"]);
        both::<Shown>(&["every=5", "7,vae", "every=2,keep,vae", "3,taesd"]);
        both::<Where>(&["auto", "cpu", "gpu", "gpu:3", "GeForce"]);
        both::<NumberKind>(&["auto", "F32", "f16", "bf16"]);
        both::<WeightType>(&["auto", "F16", "f32"]);
        both::<ByteCount>(&["2.4GB", "77"]);
        both::<Seed>(&["-1", "0", "18446744073709551615"]);
    }

    #[test]
    fn previews_are_read() {
        let both = Shown { preview: Preview { every: 2, by: PreviewBy::Vae }, keep: true };
        assert_eq!(Shown::parse("every=2,keep,vae").ok(), Some(both));
        for text in ["", "every=0", "every=x", "every=5,full", "-1"] {
            assert!(<Shown as Word>::parse(text).is_err(), "{text}");
        }
        assert!(Auto::<Prediction>::parse("x").is_err());
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("2.4GB", 2_400_000_000), ("800 mb", 800_000_000), ("1GiB", 1 << 30), ("77", 77)] {
            assert_eq!(ByteCount::parse(text).ok(), Some(ByteCount(bytes)), "{text}");
        }
        for text in ["", "GB", "-1GB", "2 potatoes", "nan"] {
            assert!(ByteCount::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seeds_go_as_far_as_other_programs_go() {
        for (text, seed) in [("-1", Seed::Random), ("-7", Seed::Random), ("-0", Seed::Fixed(0))] {
            assert_eq!(Seed::parse(text).ok(), Some(seed), "{text}");
        }
        assert_eq!(Seed::parse("12345678901234567890").ok(), Some(Seed::Fixed(12_345_678_901_234_567_890)));
        for text in ["", "-", "x", "18446744073709551616", "1.5"] {
            assert!(Seed::parse(text).is_err(), "{text}");
        }
        for (json, seed) in
            [("-1", Seed::Random), ("5", Seed::Fixed(5)), ("\"18446744073709551615\"", Seed::Fixed(u64::MAX))]
        {
            assert_eq!(serde_json::from_str::<Seed>(json).ok(), Some(seed), "{json}");
        }
        assert_eq!(serde_json::to_string(&Seed::Fixed(u64::MAX)).unwrap(), "18446744073709551615");
        assert_eq!(Seed::Fixed(3).drawn(), 3);
        assert!(Seed::Random.drawn() < 4_294_967_294);
    }
}
