//! A decoded tensor goes in, an 8-bit picture comes out; a picture goes in, a PNG with
//! its settings comes out, and back.

pub mod cut;
pub mod extend;
pub mod jpeg;
pub mod mask;
pub mod membrane;
pub mod parameters;
pub mod read;
pub mod resize;

use crate::error::{Error, Kind, Result, escape};
use crate::files::{self, IfTaken};
use crate::tensor::Tensor;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
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
pub struct Limits {
    /// Pixels in all.
    pub pixels: u64,
    /// Pixels of the longer side.
    pub side: u32,
    /// Bytes of one text, unpacked.
    pub text: usize,
}

impl Default for Limits {
    /// 64 megapixels, 16384 a side, 1 MiB of text.
    fn default() -> Self {
        Self { pixels: 64_000_000, side: 16_384, text: 1 << 20 }
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
        let failed = |message: String| Err(Error::new(Kind::NonFinite { stage: "decode".into() }, message));
        if broken > 0 {
            return failed(format!(
                "decode: {broken} of {size} values of the picture are not finite; try --precision f32 or another VAE"
            ));
        }
        let level = |v: &f32| ((v / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        let image = Self { width: shape.w, height: shape.h, rgb: values.iter().map(level).collect() };
        if image.is_flat() {
            let colour = image.rgb.get(..3).unwrap_or_default();
            return failed(format!(
                "decode: the picture has no content: every pixel is {colour:?}; try --precision f32, a lower --cfg-scale or another VAE"
            ));
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

/// Reads a PNG file: the picture (alpha laid on white) and its texts.
pub fn read_png(path: &Path, limits: Limits) -> Result<(Image, Texts)> {
    let file = File::open(path).map_err(|e| Error::bad_file(path, format!("cannot be opened: {e}")))?;
    decode_png(BufReader::new(file), path, limits)
}

/// [`read_png`] of bytes in memory; `name` is for messages.
pub fn read_png_bytes(bytes: &[u8], name: &str, limits: Limits) -> Result<(Image, Texts)> {
    decode_png(Cursor::new(bytes), Path::new(name), limits)
}

/// A PNG's colours as they are under its alpha, and the alpha if it has one: what a mask is read from.
pub(crate) fn read_png_layers(path: &Path, limits: Limits) -> Result<(Image, Option<Vec<u8>>)> {
    let file = File::open(path).map_err(|e| Error::bad_file(path, format!("cannot be opened: {e}")))?;
    let raw = decode_raw(BufReader::new(file), path, limits)?;
    let bytes = if raw.depth == png::BitDepth::Sixteen { 2 } else { 1 };
    let (channels, alpha) = match raw.colour {
        png::ColorType::GrayscaleAlpha => (2, true),
        png::ColorType::Rgb => (3, false),
        png::ColorType::Rgba => (4, true),
        _ => (1, false),
    };
    // The high byte of a sample comes first.
    let pixels = || raw.bytes.chunks_exact(channels * bytes);
    let colour = |p: &[u8]| [0, 1, 2].map(|i| p[if channels < 3 { 0 } else { i * bytes }]);
    let rgb = pixels().flat_map(colour).collect();
    let alpha = alpha.then(|| pixels().map(|p| p[(channels - 1) * bytes]).collect());
    Ok((Image { width: raw.width, height: raw.height, rgb }, alpha))
}

/// Whether a file begins as a PNG does.
pub(crate) fn is_png(path: &Path) -> bool {
    use std::io::Read as _;
    let mut head = [0; 8];
    File::open(path).and_then(|mut f| f.read_exact(&mut head)).is_ok() && head == *b"\x89PNG\r\n\x1a\n"
}

/// A PNG's samples before they become a picture.
struct Raw {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
    colour: png::ColorType,
    depth: png::BitDepth,
    texts: Texts,
}

/// Chunks other than the picture's may take this many texts' worth of memory in all.
const TEXTS: usize = 16;

fn decode_png<R: BufRead + Seek>(source: R, name: &Path, limits: Limits) -> Result<(Image, Texts)> {
    let raw = decode_raw(source, name, limits)?;
    let rgb = to_rgb(&raw.bytes, raw.colour, raw.depth)
        .ok_or_else(|| Error::bad_file(name, format!("pixels of an unknown form: {:?} {:?}", raw.colour, raw.depth)))?;
    Ok((Image { width: raw.width, height: raw.height, rgb }, raw.texts))
}

fn decode_raw<R: BufRead + Seek>(source: R, name: &Path, limits: Limits) -> Result<Raw> {
    let bad = |message: String| Error::bad_file(name, message);
    let failed = |e: png::DecodingError| match e {
        png::DecodingError::LimitsExceeded => bad(format!(
            "holds more than {} MiB of metadata: remove it with an image editor",
            limits.text.saturating_mul(TEXTS) >> 20
        )),
        e => bad(format!("not a readable PNG: {}", escape(&e.to_string()))),
    };
    let mut decoder = png::Decoder::new_with_limits(source, png::Limits { bytes: limits.text.saturating_mul(TEXTS) });
    decoder.set_transformations(png::Transformations::EXPAND);
    decoder.set_ignore_iccp_chunk(true);
    // Before anything is allocated for the pixels.
    let header = decoder.read_header_info().map_err(failed)?;
    let (width, height) = (header.width, header.height);
    if u64::from(width) * u64::from(height) > limits.pixels || width.max(height) > limits.side {
        let megapixels = limits.pixels / 1_000_000;
        let message = format!(
            "{width}x{height} pixels are too many: at most {megapixels} megapixels and {} a side: make it smaller with an image editor",
            limits.side
        );
        return Err(bad(message));
    }
    let mut reader = decoder.read_info().map_err(failed)?;
    // PNG, 11.2.2: 1 to 256 colours of three bytes. The decoder panics at other lengths.
    let palette = reader.info().palette.as_deref().filter(|_| reader.info().color_type == png::ColorType::Indexed);
    if let Some(bytes) = palette.map(<[u8]>::len).filter(|n| *n == 0 || *n > 768 || !n.is_multiple_of(3)) {
        return Err(bad(format!("not a readable PNG: its palette has {bytes} bytes, which are no colours")));
    }
    let size = reader.output_buffer_size().ok_or_else(|| bad("the picture does not fit in memory".into()))?;
    let mut raw = Vec::new();
    raw.try_reserve_exact(size).map_err(|_| bad(format!("the picture needs {size} bytes of memory")))?;
    raw.resize(size, 0);
    let frame = reader.next_frame(&mut raw).map_err(failed)?;
    // What is behind the pixels may be texts; a file that ends early there still holds a whole picture.
    let end = reader.finish();
    if let Err(png::DecodingError::LimitsExceeded) = end {
        return Err(failed(png::DecodingError::LimitsExceeded));
    }
    let texts = read_texts(reader.info(), limits.text).map_err(bad)?;
    raw.truncate(frame.buffer_size());
    let (colour, depth) = (frame.color_type, frame.bit_depth);
    Ok(Raw { width: width as usize, height: height as usize, bytes: raw, colour, depth, texts })
}

/// Grey, grey and alpha, RGB or RGBA of 8 or 16 bits to 8-bit RGB on white.
fn to_rgb(raw: &[u8], colour: png::ColorType, depth: png::BitDepth) -> Option<Vec<u8>> {
    let bytes = match depth {
        png::BitDepth::Eight => 1,
        png::BitDepth::Sixteen => 2,
        _ => return None,
    };
    let (channels, alpha) = match colour {
        png::ColorType::Grayscale => (1, None),
        png::ColorType::GrayscaleAlpha => (2, Some(1)),
        png::ColorType::Rgb => (3, None),
        png::ColorType::Rgba => (4, Some(3)),
        png::ColorType::Indexed => return None,
    };
    let top: u64 = if bytes == 1 { 255 } else { 65_535 };
    let mut out = Vec::with_capacity(raw.len() / (channels * bytes) * 3);
    for pixel in raw.chunks_exact(channels * bytes) {
        let sample = |i: usize| pixel[i * bytes..][..bytes].iter().fold(0, |v, &b| v << 8 | u64::from(b));
        let a = alpha.map_or(top, sample);
        for i in 0..3 {
            let v = sample(if channels < 3 { 0 } else { i });
            let on_white = v * a + top * (top - a);
            out.push(((on_white * 255 + top * top / 2) / (top * top)) as u8);
        }
    }
    Some(out)
}

fn read_texts(info: &png::Info<'_>, limit: usize) -> Result<Texts, String> {
    let too_long = |keyword: &str| {
        format!("its text '{}' is longer than {limit} bytes: remove it with an image editor", escape(keyword))
    };
    let mut texts = Texts::new();
    let mut add = |keyword: &str, text: String| {
        let fits = text.len() <= limit;
        texts.push((keyword.to_string(), text));
        if fits { Ok(()) } else { Err(too_long(keyword)) }
    };
    for chunk in &info.uncompressed_latin1_text {
        add(&chunk.keyword, chunk.text.clone())?;
    }
    for chunk in &info.compressed_latin1_text {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(limit).map_err(|_| too_long(&chunk.keyword))?;
        add(&chunk.keyword, chunk.get_text().map_err(|e| e.to_string())?)?;
    }
    for chunk in &info.utf8_text {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(limit).map_err(|_| too_long(&chunk.keyword))?;
        add(&chunk.keyword, chunk.get_text().map_err(|e| e.to_string())?)?;
    }
    Ok(texts)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
