//! A decoded tensor goes in, an 8-bit picture comes out; a picture goes in, a PNG with
//! its settings comes out, and back.

mod chunks;
pub mod cut;
mod decode;
mod exif;
pub mod extend;
pub mod jpeg;
pub mod mask;
pub mod membrane;
pub mod parameters;
pub mod raster;
pub mod read;
pub mod resize;

use crate::error::{Error, Kind, Remedy, Result, escape};
use crate::files::{self, IfTaken};
use crate::system::format_bytes;
use crate::tensor::Tensor;
use read::Picture;
use std::path::Path;

/// The keyword of the text that webui tools read.
pub const PARAMETERS: &str = "parameters";

/// An 8-bit RGB picture, row by row from the top, three bytes a pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

/// The texts of a PNG: keyword and text, in the file's order of each kind.
pub type Texts = Vec<(String, String)>;

/// What a picture that is read may be at most.
#[derive(Clone, Copy, Debug)]
pub struct PictureLimits {
    /// Pixels in all.
    pub pixels: u64,
    /// Pixels of the longer side.
    pub side: u32,
    /// Bytes of one text, unpacked.
    pub text: usize,
    /// Bytes of memory that reading it may take, its file included.
    pub memory: u64,
}

impl Default for PictureLimits {
    /// 64 megapixels, 16384 a side, 1 MiB of text, whatever memory that takes.
    fn default() -> Self {
        Self { pixels: 64_000_000, side: 16_384, text: 1 << 20, memory: u64::MAX }
    }
}

impl PictureLimits {
    /// Refuses a picture that is larger, in words.
    fn check(&self, width: u64, height: u64) -> Result<(), String> {
        if width * height <= self.pixels && width.max(height) <= u64::from(self.side) {
            return Ok(());
        }
        let (megapixels, side) = (self.pixels / 1_000_000, self.side);
        Err(format!(
            "{width}x{height} pixels are too many: at most {megapixels} megapixels and {side} a side: make it smaller \
             with an image editor"
        ))
    }

    /// Refuses a picture that takes more memory than there is for it.
    fn check_memory(&self, name: &Path, (width, height): (u64, u64), need: u64) -> Result<()> {
        let have = self.memory;
        if need <= have {
            return Ok(());
        }
        let message = format!(
            "{} needed to read its {width}x{height} pixels, {} left to use: make it smaller with an image editor, or \
             allow more memory",
            format_bytes(need),
            format_bytes(have)
        );
        Err(Error::new(Kind::TooBig { need, have }, message).at(escape(&name.to_string_lossy())))
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image {}x{}", self.width, self.height)
    }
}

impl Image {
    /// Sample `sample` of what the VAE decoded: `[b, h, w, 3]` in -1 to 1, clamped, then rounded half to even as numpy
    /// does: `round(255 clamp(x / 2 + 0.5, 0, 1))`.
    ///
    /// A value that is not finite, and a picture of one colour (within one level), are errors: nobody asked for them,
    /// and a grey square that is called a success costs its user the most.
    pub fn from_decoded(decoded: &Tensor, sample: usize) -> Result<Self> {
        let shape = decoded.shape();
        if shape.c != 3 || sample >= shape.b {
            return Err(Error::other(format!("a picture needs sample {sample} of [b, h, w, 3], not of {shape}")));
        }
        let size = shape.pixels() * 3;
        let values = &decoded.data()[sample * size..][..size];
        let broken = values.iter().filter(|v| !v.is_finite()).count();
        let failed = |message: String, remedies: &[Remedy]| {
            let error = Error::new(Kind::NonFinite { stage: "decode".into() }, message).at("decode");
            Err(remedies.iter().copied().fold(error, Error::try_this))
        };
        if broken > 0 {
            let message = format!("{broken} of {size} values of the picture are not finite");
            return failed(message, &[Remedy::F32, Remedy::OtherVae]);
        }
        let level = |v: &f32| ((v / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        let image = Self { width: shape.w, height: shape.h, rgb: values.iter().map(level).collect() };
        if image.is_flat() {
            let colour = image.rgb.get(..3).unwrap_or_default();
            let message = format!("the picture has no content: every pixel is {colour:?}");
            return failed(message, &[Remedy::F32, Remedy::LowerGuidance, Remedy::OtherVae]);
        }
        Ok(image)
    }

    /// Writes a PNG under a name that is free, without metadata.
    ///
    /// # Errors
    /// What kept it from being written; a file that has the name stays as it is.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        files::write(path, &png_bytes(self, None)?, IfTaken::Fail).map_err(|e| files::cannot_write(path, &e))
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        self.rgb.len() as u64
    }

    /// Bytes that [`png_bytes`] gives at most, but for a few: what cannot be packed stays as it is.
    pub fn bytes_to_write(width: usize, height: usize) -> u64 {
        3 * (width * height) as u64
    }

    /// Whether all pixels are equal within one level.
    pub fn is_flat(&self) -> bool {
        (0..3).all(|channel| {
            let levels = || self.rgb.iter().skip(channel).step_by(3);
            levels().max().copied().unwrap_or(0) - levels().min().copied().unwrap_or(0) <= 1
        })
    }
}

/// Peak signal-to-noise ratio in dB of two pictures of one size; infinite when they are equal.
pub fn psnr(a: &Image, b: &Image) -> Result<f64> {
    if (a.width, a.height) != (b.width, b.height) || a.rgb.len() != b.rgb.len() {
        return Err(Error::usage(format!("pictures of different size cannot be compared: {a:?} and {b:?}")));
    }
    let squares = a.rgb.iter().zip(&b.rgb).map(|(&x, &y)| u64::from(x.abs_diff(y)).pow(2)).sum::<u64>();
    Ok(10.0 * (255.0 * 255.0 * a.rgb.len() as f64 / squares as f64).log10())
}

/// The picture as a PNG file. The same picture and text give the same bytes.
///
/// The text goes into a chunk named `parameters`: `tEXt` when Latin-1 holds it, uncompressed `iTXt` (UTF-8) otherwise,
/// as Pillow does and webui tools expect.
pub fn png_bytes(image: &Image, parameters: Option<&str>) -> Result<Vec<u8>> {
    let failed = |e: png::EncodingError| Error::other(format!("the picture cannot be written as PNG: {e}"));
    let side =
        |n: usize| u32::try_from(n).map_err(|_| Error::other(format!("a side of {n} pixels is too long for PNG")));
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, side(image.width)?, side(image.height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    if let Some(text) = parameters {
        let (keyword, text) = (PARAMETERS.to_string(), text.to_string());
        if text.chars().all(|c| c <= '\u{ff}') {
            encoder.add_text_chunk(keyword, text).map_err(failed)?;
        } else {
            encoder.add_itxt_chunk(keyword, text).map_err(failed)?;
        }
    }
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&image.rgb).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(out)
}

/// Reads a PNG file: the picture (upright, alpha laid on white) and its texts.
pub fn read_png(path: &Path, limits: PictureLimits) -> Result<(Image, Texts)> {
    read_whole_png(path, limits).map(|picture| (picture.image, picture.texts))
}

/// [`read_png`], with all that is told of the file.
///
/// # Errors
/// As [`Picture::read`]; a picture that is no PNG.
pub fn read_whole_png(path: &Path, limits: PictureLimits) -> Result<Picture> {
    let picture = Picture::read(path, limits)?;
    if picture.format != "PNG" {
        return Err(Error::bad_file(path, format!("is a {}; a PNG is needed", picture.format)));
    }
    Ok(picture)
}

/// [`read_png`] of bytes in memory; `name` is for messages.
pub fn read_png_bytes(bytes: &[u8], name: &str, limits: PictureLimits) -> Result<(Image, Texts)> {
    let decoded = decode::png(bytes, Path::new(name), limits)?;
    Ok((decoded.image, decoded.texts))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
