//! A PNG's bytes go in; its pixels come out upright, as 8-bit RGB on white or as colours and alpha apart, with its
//! texts.

use super::{Image, PictureLimits, Texts, chunks, exif};
use crate::error::{Error, Result, escape};
use std::io::Cursor;
use std::path::Path;

/// What is read from a PNG.
pub(super) struct Decoded {
    /// On white.
    pub image: Image,
    /// Keyword and text.
    pub texts: Texts,
    /// What beside the pixels could not be read.
    pub notes: Vec<String>,
}

/// A PNG laid on white.
pub(super) fn png(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<Decoded> {
    let parts = chunks::take_apart(bytes, limits.text);
    let raw = decode(&parts.pixels, name, limits)?;
    let rgb = to_rgb(&raw.bytes, raw.colour, raw.depth).ok_or_else(|| unknown(&raw, name))?;
    let image = exif::upright(Image { width: raw.width, height: raw.height, rgb }, parts.orientation);
    Ok(Decoded { image, texts: parts.texts, notes: parts.notes })
}

/// A PNG's colours as they are under its alpha, and the alpha if it has one: what a mask is read from.
pub(super) fn png_layers(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<(Image, Option<Vec<u8>>)> {
    let parts = chunks::take_apart(bytes, limits.text);
    let raw = decode(&parts.pixels, name, limits)?;
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
    let alpha: Option<Vec<u8>> = alpha.then(|| pixels().map(|p| p[(channels - 1) * bytes]).collect());
    let alpha = alpha.map(|a| exif::turned(a, (raw.width, raw.height), 1, parts.orientation).0);
    let image = Image { width: raw.width, height: raw.height, rgb };
    Ok((exif::upright(image, parts.orientation), alpha))
}

/// A PNG's samples before they become a picture.
pub(super) struct Raw {
    pub width: usize,
    pub height: usize,
    pub bytes: Vec<u8>,
    pub colour: png::ColorType,
    pub depth: png::BitDepth,
}

pub(super) fn unknown(raw: &Raw, name: &Path) -> Error {
    Error::bad_file(name, format!("pixels of an unknown form: {:?} {:?}", raw.colour, raw.depth))
}

/// What the decoder may allocate beside the pixels; nothing that needs it is given to it.
const ROOM: usize = 16 << 20;

pub(super) fn decode(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<Raw> {
    let bad = |message: String| Error::bad_file(name, message);
    let failed = |e: png::DecodingError| bad(format!("not a readable PNG: {}", escape(&e.to_string())));
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: ROOM });
    decoder.set_transformations(png::Transformations::EXPAND);
    // Before anything is allocated for the pixels.
    let header = decoder.read_header_info().map_err(failed)?;
    let (width, height) = (header.width, header.height);
    limits.check(width.into(), height.into()).map_err(bad)?;
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
    raw.truncate(frame.buffer_size());
    let (colour, depth) = (frame.color_type, frame.bit_depth);
    Ok(Raw { width: width as usize, height: height as usize, bytes: raw, colour, depth })
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
