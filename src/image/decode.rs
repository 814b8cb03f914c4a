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
    let rows = Rows::open(&parts.pixels, name, limits, (3, beside(bytes, &parts)))?;
    let (width, height) = rows.size;
    let mut rgb = rows.room(3)?;
    rows.each(|row, form| form.on_white(row, &mut rgb))?;
    let image = exif::upright(Image { width, height, rgb }, parts.orientation);
    Ok(Decoded { image, texts: parts.texts, notes: parts.notes })
}

/// A PNG's colours as they are under its alpha, and the alpha if it has one: what a mask is read from.
pub(super) fn png_layers(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<(Image, Option<Vec<u8>>)> {
    let parts = chunks::take_apart(bytes, limits.text);
    // Colours, alpha, and the mask that is made of them.
    let rows = Rows::open(&parts.pixels, name, limits, (5, beside(bytes, &parts)))?;
    let (width, height) = rows.size;
    let mut rgb = rows.room(3)?;
    let mut alpha = rows.form.alpha.map(|_| rows.room(1)).transpose()?;
    rows.each(|row, form| {
        for pixel in row.chunks_exact(form.channels * form.bytes) {
            // The high byte of a sample comes first.
            rgb.extend([0, 1, 2].map(|i| pixel[if form.channels < 3 { 0 } else { i * form.bytes }]));
            if let (Some(alpha), Some(channel)) = (&mut alpha, form.alpha) {
                alpha.push(pixel[channel * form.bytes]);
            }
        }
    })?;
    let alpha = alpha.map(|a| exif::turned(a, (width, height), 1, parts.orientation).0);
    Ok((exif::upright(Image { width, height, rgb }, parts.orientation), alpha))
}

/// What is in memory beside the pixels: fixed bytes, and bytes a pixel while they are turned.
fn beside(bytes: &[u8], parts: &chunks::Parts) -> (u64, u64) {
    ((bytes.len() + parts.pixels.len()) as u64, if parts.orientation > 1 { 3 } else { 0 })
}

/// How samples lie in a row.
#[derive(Clone, Copy)]
struct Form {
    channels: usize,
    /// Of a sample.
    bytes: usize,
    /// Which channel is the alpha.
    alpha: Option<usize>,
}

impl Form {
    /// None for what the decoder was told to unfold.
    fn of(colour: png::ColorType, depth: png::BitDepth) -> Option<Self> {
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
        Some(Self { channels, bytes, alpha })
    }

    /// Appends a row as 8-bit RGB on white.
    fn on_white(self, row: &[u8], out: &mut Vec<u8>) {
        let top: u64 = if self.bytes == 1 { 255 } else { 65_535 };
        for pixel in row.chunks_exact(self.channels * self.bytes) {
            let sample = |i: usize| pixel[i * self.bytes..][..self.bytes].iter().fold(0, |v, &b| v << 8 | u64::from(b));
            let a = self.alpha.map_or(top, sample);
            for i in 0..3 {
                let v = sample(if self.channels < 3 { 0 } else { i });
                let on_white = v * a + top * (top - a);
                out.push(((on_white * 255 + top * top / 2) / (top * top)) as u8);
            }
        }
    }
}

/// What the decoder may allocate beside the pixels; nothing that needs it is given to it.
const ROOM: usize = 16 << 20;

/// A PNG's samples before they become a picture.
pub(super) struct Raw {
    pub width: usize,
    pub height: usize,
    pub bytes: Vec<u8>,
    pub colour: png::ColorType,
    pub depth: png::BitDepth,
}

pub(super) fn unknown((colour, depth): (png::ColorType, png::BitDepth), name: &Path) -> Error {
    Error::bad_file(name, format!("pixels of an unknown form: {colour:?} {depth:?}"))
}

/// All samples as they are in a PNG's pixels.
pub(super) fn decode(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<Raw> {
    // Eight bytes a pixel at most, and the same in samples of 16 bits.
    let rows = Rows::open(bytes, name, limits, (16, (2 * bytes.len() as u64, 0)))?;
    let ((width, height), (colour, depth)) = (rows.size, rows.kind);
    let mut raw = rows.room(rows.form.channels * rows.form.bytes)?;
    rows.each(|row, _| raw.extend_from_slice(row))?;
    Ok(Raw { width, height, bytes: raw, colour, depth })
}

/// A PNG whose header was read and found to be within limits: its samples come row by row.
struct Rows<'a> {
    reader: png::Reader<Cursor<&'a [u8]>>,
    name: &'a Path,
    /// Width and height.
    size: (usize, usize),
    form: Form,
    kind: (png::ColorType, png::BitDepth),
    /// Bytes that an interlaced picture needs, which is decoded whole before the first row is given.
    whole: Option<usize>,
}

impl<'a> Rows<'a> {
    /// Reads the header. What will be taken has `each` bytes a pixel; beside it there are fixed bytes, and more for
    /// each pixel.
    fn open(
        bytes: &'a [u8],
        name: &'a Path,
        limits: PictureLimits,
        (each, (fixed, more)): (u64, (u64, u64)),
    ) -> Result<Self> {
        let bad = |message: String| Error::bad_file(name, message);
        let failed = |e: png::DecodingError| unreadable(name, &e);
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: ROOM });
        decoder.set_transformations(png::Transformations::EXPAND);
        // Before anything is allocated for the pixels.
        let header = decoder.read_header_info().map_err(failed)?;
        let (width, height, interlaced) = (header.width, header.height, header.interlaced);
        let (w, h) = (u64::from(width), u64::from(height));
        limits.check(w, h).map_err(bad)?;
        let reader = decoder.read_info().map_err(failed)?;
        // PNG, 11.2.2: 1 to 256 colours of three bytes. The decoder panics at other lengths.
        let palette = reader.info().palette.as_deref().filter(|_| reader.info().color_type == png::ColorType::Indexed);
        if let Some(bytes) = palette.map(<[u8]>::len).filter(|n| *n == 0 || *n > 768 || !n.is_multiple_of(3)) {
            return Err(bad(format!("not a readable PNG: its palette has {bytes} bytes, which are no colours")));
        }
        let kind = reader.output_color_type();
        let form = Form::of(kind.0, kind.1).ok_or_else(|| unknown(kind, name))?;
        let size = reader.output_buffer_size().ok_or_else(|| bad("the picture does not fit in memory".into()))?;
        let whole = interlaced.then_some(size);
        let need = w * h * (each + more) + whole.unwrap_or_default() as u64 + fixed;
        limits.check_memory(name, (w, h), need)?;
        Ok(Self { reader, name, size: (width as usize, height as usize), form, kind, whole })
    }

    /// Room for `each` bytes a pixel.
    fn room(&self, each: usize) -> Result<Vec<u8>> {
        reserved(self.size.0 * self.size.1 * each, self.name)
    }

    /// Gives each row to `take`, from the top.
    fn each(mut self, mut take: impl FnMut(&[u8], Form)) -> Result<()> {
        let (form, name) = (self.form, self.name);
        let failed = |e: png::DecodingError| unreadable(name, &e);
        if let Some(size) = self.whole {
            let mut raw = reserved(size, name)?;
            raw.resize(size, 0);
            let frame = self.reader.next_frame(&mut raw).map_err(failed)?;
            raw[..frame.buffer_size()].chunks_exact(frame.line_size.max(1)).for_each(|row| take(row, form));
        } else {
            while let Some(row) = self.reader.next_row().map_err(failed)? {
                take(row.data(), form);
            }
        }
        Ok(())
    }
}

fn unreadable(name: &Path, why: &png::DecodingError) -> Error {
    Error::bad_file(name, format!("not a readable PNG: {}", escape(&why.to_string())))
}

fn reserved(bytes: usize, name: &Path) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let failed = |_| Error::bad_file(name, format!("the picture needs {bytes} bytes of memory"));
    out.try_reserve_exact(bytes).map_err(failed)?;
    Ok(out)
}
