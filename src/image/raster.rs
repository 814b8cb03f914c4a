//! A picture as its file has it goes in and comes out: 8 or 16 bits a channel, colours and alpha apart, with its colour
//! profile. What is drawn needs none of that ([`super::Image`]); what is made larger keeps it.

use super::read::{Format, format_of, other};
use super::resize::{Level, lanczos};
use super::{Image, PARAMETERS, PictureLimits, Texts, chunks, decode, exif, jpeg};
use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::path::Path;

/// A picture of whatever depth. Samples are 0 to [`Raster::top`].
#[derive(Clone, PartialEq, Eq)]
pub struct Raster {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Whether the file has 16 bits a channel.
    pub sixteen: bool,
    /// Three a pixel, as they are under the alpha.
    pub colours: Vec<u16>,
    /// One a pixel.
    pub alpha: Option<Vec<u16>>,
    /// The ICC profile.
    pub profile: Option<Vec<u8>>,
    /// Keyword and text of a PNG.
    pub texts: Texts,
}

impl From<&Image> for Raster {
    fn from(image: &Image) -> Self {
        let colours = image.rgb.iter().map(|v| u16::from(*v)).collect();
        let (width, height) = (image.width, image.height);
        Self { width, height, sixteen: false, colours, alpha: None, profile: None, texts: Texts::new() }
    }
}

impl std::fmt::Debug for Raster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Raster {}x{}", self.width, self.height)
    }
}

impl Raster {
    /// What is brightest, and opaque.
    pub fn top(&self) -> u16 {
        if self.sixteen { u16::MAX } else { u16::from(u8::MAX) }
    }

    /// Reads a PNG's or a JPEG's bytes, upright; `name` is for messages.
    ///
    /// # Errors
    /// Bad file: not one of the two, damaged, or larger than `limits`, which is found out before the pixels are
    /// decoded.
    pub fn of_bytes(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<Self> {
        match format_of(bytes) {
            Format::Png => png(bytes, name, limits),
            Format::Jpeg => {
                let (image, profile) = jpeg::decode_with_profile(bytes, name, limits)?;
                Ok(Self { profile, ..Self::from(&image) })
            }
            Format::Other(what) => Err(other(name, what)),
        }
    }

    /// In another size, by Lanczos.
    #[must_use]
    pub fn resized(&self, size: (usize, usize)) -> Self {
        let from = (self.width, self.height);
        if from == size {
            return self.clone();
        }
        let scaled = |samples: &[u16], channels| match self.sixteen {
            true => lanczos(samples, channels, from, size),
            false => {
                let bytes: Vec<u8> = samples.iter().map(|v| *v as u8).collect();
                lanczos(&bytes, channels, from, size).into_iter().map(u16::from).collect()
            }
        };
        Self {
            width: size.0,
            height: size.1,
            colours: scaled(&self.colours, 3),
            alpha: self.alpha.as_ref().map(|a| scaled(a, 1)),
            ..self.clone()
        }
    }

    /// Gives pixels that nobody sees the colours of the nearest that are seen, so that what mixes neighbours brings no
    /// hidden colour to an edge.
    pub fn fill_hidden(&mut self) {
        let Some(alpha) = &self.alpha else { return };
        let (w, h) = (self.width, self.height);
        let mut seen: Vec<bool> = alpha.iter().map(|a| *a > 0).collect();
        let mut edge: VecDeque<usize> = (0..w * h).filter(|i| seen[*i]).collect();
        while let Some(i) = edge.pop_front() {
            let (x, y) = (i % w, i / w);
            let around =
                [(x > 0, i.wrapping_sub(1)), (x + 1 < w, i + 1), (y > 0, i.wrapping_sub(w)), (y + 1 < h, i + w)];
            for (_, next) in around.into_iter().filter(|(inside, _)| *inside) {
                if !std::mem::replace(&mut seen[next], true) {
                    self.colours.copy_within(3 * i..3 * i + 3, 3 * next);
                    edge.push_back(next);
                }
            }
        }
    }

    /// As a PNG file, with its profile, and `parameters` as webui tools read them.
    ///
    /// # Errors
    /// A side that is too long for PNG.
    pub fn png_bytes(&self, parameters: Option<&str>) -> Result<Vec<u8>> {
        let failed = |e: png::EncodingError| Error::other(format!("the picture cannot be written as PNG: {e}"));
        let side =
            |n: usize| u32::try_from(n).map_err(|_| Error::other(format!("a side of {n} pixels is too long for PNG")));
        let mut info = png::Info::with_size(side(self.width)?, side(self.height)?);
        info.color_type = if self.alpha.is_some() { png::ColorType::Rgba } else { png::ColorType::Rgb };
        info.bit_depth = if self.sixteen { png::BitDepth::Sixteen } else { png::BitDepth::Eight };
        info.icc_profile = self.profile.as_deref().map(Into::into);
        let mut out = Vec::new();
        let mut encoder = png::Encoder::with_info(&mut out, info).map_err(failed)?;
        encoder.set_compression(png::Compression::Balanced);
        if let Some(text) = parameters {
            encoder.add_itxt_chunk(PARAMETERS.into(), text.into()).map_err(failed)?;
        }
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.samples()).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(out)
    }

    /// Its samples as a PNG has them: colours and alpha side by side, the high byte first.
    fn samples(&self) -> Vec<u8> {
        let channels = 3 + usize::from(self.alpha.is_some());
        let mut out = Vec::with_capacity(self.width * self.height * channels * (1 + usize::from(self.sixteen)));
        let mut push = |v: u16| match self.sixteen {
            true => out.extend_from_slice(&v.to_be_bytes()),
            false => out.push(v as u8),
        };
        for (i, pixel) in self.colours.chunks_exact(3).enumerate() {
            pixel.iter().copied().for_each(&mut push);
            if let Some(alpha) = &self.alpha {
                push(alpha[i]);
            }
        }
        out
    }
}

fn png(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<Raster> {
    let parts = chunks::take_apart(bytes, limits.text);
    let raw = decode::decode(&parts.pixels, name, limits)?;
    let sixteen = raw.depth == png::BitDepth::Sixteen;
    let sample = |p: &[u8], i: usize| match sixteen {
        true => u16::from_be_bytes([p[2 * i], p[2 * i + 1]]),
        false => u16::from(p[i]),
    };
    let (channels, has_alpha) = match raw.colour {
        png::ColorType::Grayscale => (1, false),
        png::ColorType::GrayscaleAlpha => (2, true),
        png::ColorType::Rgb => (3, false),
        png::ColorType::Rgba => (4, true),
        png::ColorType::Indexed => return Err(decode::unknown((raw.colour, raw.depth), name)),
    };
    let pixels = || raw.bytes.chunks_exact(channels * (1 + usize::from(sixteen)));
    let colour = |p| [0, 1, 2].map(|i| sample(p, if channels < 3 { 0 } else { i }));
    let colours: Vec<u16> = pixels().flat_map(colour).collect();
    let alpha = has_alpha.then(|| pixels().map(|p| sample(p, channels - 1)).collect::<Vec<u16>>());
    let size = (raw.width, raw.height);
    let (colours, width, height) = exif::turned(colours, size, 3, parts.orientation);
    let alpha = alpha.map(|a| exif::turned(a, size, 1, parts.orientation).0);
    Ok(Raster { width, height, sixteen, colours, alpha, profile: parts.profile, texts: parts.texts })
}

/// Values 0 to 1 as levels of `top`.
pub fn levels(values: impl Iterator<Item = f32>, top: u16) -> impl Iterator<Item = u16> {
    values.map(move |v| u16::nearest((v.clamp(0.0, 1.0) * f32::from(top)).round_ties_even()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(sixteen: bool, alpha: bool) -> Raster {
        let most: u16 = if sixteen { 65_535 } else { 255 };
        let colours = (0..4 * 3 * 3).map(|i| (i * 1801 % 65_536) as u16 % most).collect();
        Raster {
            width: 4,
            height: 3,
            sixteen,
            colours,
            alpha: alpha.then(|| (0..12).map(|i| if i % 5 == 0 { 0 } else { most }).collect()),
            profile: Some(vec![7; 300]),
            texts: Texts::new(),
        }
    }

    #[test]
    fn depth_alpha_and_profile_come_back() {
        for sixteen in [false, true] {
            for alpha in [false, true] {
                let picture = picture(sixteen, alpha);
                let bytes = picture.png_bytes(None).unwrap();
                assert_eq!(Raster::of_bytes(&bytes, Path::new("x.png"), PictureLimits::default()).unwrap(), picture);
            }
        }
    }

    #[test]
    fn hidden_colours_become_those_beside_them() {
        let mut picture = picture(false, true);
        let before = picture.colours.clone();
        picture.fill_hidden();
        let alpha = picture.alpha.as_ref().unwrap();
        for (i, a) in alpha.iter().enumerate() {
            let (now, was) = (&picture.colours[3 * i..3 * i + 3], &before[3 * i..3 * i + 3]);
            assert_eq!(*a > 0, now == was, "pixel {i}");
        }
    }
}
