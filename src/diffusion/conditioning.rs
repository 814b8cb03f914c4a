//! What a model of the SDXL family is told beside the prompt: how large the picture was, what was cut off it, how large
//! it is to be; and what an empty negative prompt is to it. The numbers that its network embeds come out.

use crate::error::{Error, Result, escape};
use crate::models::unet::AddedEmbedding;
use std::fmt;
use std::str::FromStr;

/// What a refiner is told of how good a picture is, for the prompt and for the negative prompt (Stability's generative
/// models, `sd_xl_refiner.yaml`).
const SCORES: (f32, f32) = (6.0, 2.5);
/// The largest number that is told.
const MOST: u32 = 65_535;

/// Width and height of a picture, in pixels, as a model is told them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToldSize {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// How many rows and columns were cut off a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToldCrop {
    /// Rows above.
    pub top: u32,
    /// Columns to the left.
    pub left: u32,
}

/// What an empty negative prompt is to models that take pooled text. Others always encode it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EmptyNegative {
    /// Nothing at all: zeros, as in the webui (and in diffusers where no negative prompt is given).
    #[default]
    Zero,
    /// The text of no words, as in ComfyUI (and in diffusers where the empty text is given).
    Encode,
}

/// What is told of a picture. What is `None` is the picture's own: as large as it is drawn, nothing cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How large the picture was before it was cut and scaled.
    pub original: Option<ToldSize>,
    /// What was cut off it.
    pub crop: Option<ToldCrop>,
    /// How large it is to be.
    pub target: Option<ToldSize>,
    /// What an empty negative prompt is.
    pub empty_negative: EmptyNegative,
}

impl Told {
    /// The numbers of one context, for a picture of this height and width in pixels: original height and width, rows
    /// and columns cut off, target height and width (SDXL), or the aesthetic score instead of the last two (refiner).
    /// `negative` tells whose context it is.
    pub fn numbers(&self, kind: AddedEmbedding, (height, width): (usize, usize), negative: bool) -> Vec<f32> {
        let own = ToldSize { width: width as u32, height: height as u32 };
        let size = |told: Option<ToldSize>| told.unwrap_or(own);
        let (original, target) = (size(self.original), size(self.target));
        let crop = self.crop.unwrap_or(ToldCrop { top: 0, left: 0 });
        let first = [original.height, original.width, crop.top, crop.left].map(|n| n as f32);
        let score = if negative { SCORES.1 } else { SCORES.0 };
        let last = if kind.numbers == 5 { vec![score] } else { vec![target.height as f32, target.width as f32] };
        first.into_iter().chain(last).collect()
    }

    /// Whether any number is another than the picture's own.
    pub fn sizes_are_told(&self) -> bool {
        self.original.is_some() || self.crop.is_some() || self.target.is_some()
    }
}

/// Two numbers with one of these characters between them.
fn two(text: &str, between: &[char], least: u32) -> Option<(u32, u32)> {
    let (a, b) = text.trim().split_once(between)?;
    let number = |text: &str| text.trim().parse().ok().filter(|n| (least..=MOST).contains(n));
    number(a).zip(number(b))
}

impl FromStr for ToldSize {
    type Err = Error;

    /// `1024x768`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::usage(format!("'{}' is not a size; write WIDTHxHEIGHT, for example 1024x1024", escape(text)));
        let (width, height) = two(text, &['x', 'X', '\u{d7}'], 1).ok_or_else(wrong)?;
        Ok(Self { width, height })
    }
}

impl fmt::Display for ToldSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for ToldCrop {
    type Err = Error;

    /// `0,64`: above, to the left, in diffusers' order.
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::usage(format!("'{}' is no crop; write TOP,LEFT in pixels, for example 0,0", escape(text)));
        let (top, left) = two(text, &[',', 'x'], 0).ok_or_else(wrong)?;
        Ok(Self { top, left })
    }
}

impl fmt::Display for ToldCrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.top, self.left)
    }
}

impl FromStr for EmptyNegative {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "zero" => Ok(Self::Zero),
            "encode" => Ok(Self::Encode),
            _ => Err(Error::usage(format!("empty negative '{}' is not known; use zero or encode", escape(text)))),
        }
    }
}

impl fmt::Display for EmptyNegative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zero => "zero",
            Self::Encode => "encode",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDXL: AddedEmbedding = AddedEmbedding { pooled: 8, numbers: 6, each: 4 };
    const REFINER: AddedEmbedding = AddedEmbedding { pooled: 8, numbers: 5, each: 4 };

    #[test]
    fn a_picture_is_told_its_own_size_with_nothing_cut_off() {
        let told = Told::default();
        assert_eq!(told.numbers(SDXL, (768, 1024), false), [768.0, 1024.0, 0.0, 0.0, 768.0, 1024.0]);
        assert_eq!(told.numbers(SDXL, (768, 1024), true), told.numbers(SDXL, (768, 1024), false));
        assert_eq!(told.numbers(REFINER, (768, 1024), false), [768.0, 1024.0, 0.0, 0.0, 6.0]);
        assert_eq!(told.numbers(REFINER, (768, 1024), true), [768.0, 1024.0, 0.0, 0.0, 2.5]);
    }

    #[test]
    fn heights_come_first_whatever_is_told() {
        let told = Told {
            original: Some("4096x2048".parse().unwrap()),
            crop: Some("32,64".parse().unwrap()),
            target: Some("512X256".parse().unwrap()),
            ..Told::default()
        };
        assert_eq!(told.numbers(SDXL, (8, 8), false), [2048.0, 4096.0, 32.0, 64.0, 256.0, 512.0]);
        assert!(told.sizes_are_told() && !Told::default().sizes_are_told());
    }

    #[test]
    fn words_go_there_and_back_and_nonsense_is_refused() {
        for word in ["1x65535", "1024x1024"] {
            assert_eq!(word.parse::<ToldSize>().unwrap().to_string(), word);
        }
        assert_eq!("0,7".parse::<ToldCrop>().unwrap().to_string(), "0,7");
        for word in ["zero", "encode"] {
            assert_eq!(word.parse::<EmptyNegative>().unwrap().to_string(), word);
        }
        for wrong in ["", "8", "0x8", "8x65536", "-1x8", "8x8x8", "1e3x8"] {
            assert!(wrong.parse::<ToldSize>().is_err(), "{wrong}");
        }
        assert!("1".parse::<ToldCrop>().is_err() && "drop".parse::<EmptyNegative>().is_err());
    }
}
