//! A picture's file goes in, whatever its name says it is; its pixels come out upright, as 8-bit RGB on white.

use super::chunks::SIGNATURE;
use super::decode::Decoded;
use super::{Image, PictureLimits, Texts, decode, jpeg};
use crate::error::{Error, Result};
use crate::files;
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// The largest file that is read. A PNG of 64 megapixels with 16 bits a channel is smaller.
const MAX_BYTES: u64 = 512 << 20;

/// A picture, and all that is told of its file; the file was read once.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its pixels, upright, on white.
    pub image: Image,
    /// `PNG` or `JPEG`.
    pub format: &'static str,
    /// The texts of a PNG.
    pub texts: Texts,
    /// What beside the pixels could not be read.
    pub notes: Vec<String>,
    /// The sha256 of the file, 64 hex digits.
    pub sha256: String,
}

impl Picture {
    /// Reads a PNG or a JPEG; the content decides which. The path may be a pipe that somebody writes to.
    ///
    /// # Errors
    /// Bad file: not one of the two, damaged, or larger than `limits`, which is found out before the pixels are
    /// decoded.
    pub fn read(path: &Path, limits: PictureLimits) -> Result<Self> {
        Self::of_bytes(&files::read(path, MAX_BYTES)?, path, limits)
    }

    /// [`Picture::read`] of bytes in memory; `name` is for messages.
    ///
    /// # Errors
    /// As [`Picture::read`].
    pub fn of_bytes(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<Self> {
        let (format, decoded) = match format_of(bytes) {
            Format::Png => ("PNG", decode::png(bytes, name, limits)?),
            Format::Jpeg => {
                let image = jpeg::decode(bytes, name, limits)?;
                ("JPEG", Decoded { image, texts: Texts::new(), notes: Vec::new() })
            }
            Format::Other(what) => return Err(other(name, what)),
        };
        let Decoded { image, texts, notes } = decoded;
        Ok(Self { image, format, texts, notes, sha256: digest(bytes) })
    }

    /// What metadata call the file: the first 10 digits of its sha256.
    pub fn short_hash(&self) -> &str {
        &self.sha256[..10]
    }
}

/// [`Picture::short_hash`] of a file that is not decoded.
///
/// # Errors
/// The file cannot be read.
pub fn short_hash(path: &Path) -> Result<String> {
    Ok(digest(&files::read(path, MAX_BYTES)?)[..10].to_owned())
}

/// Reads a PNG or a JPEG; the content decides which. Texts are those of a PNG.
///
/// # Errors
/// As [`Picture::read`].
pub fn read_picture(path: &Path, limits: PictureLimits) -> Result<(Image, Texts)> {
    Picture::read(path, limits).map(|p| (p.image, p.texts))
}

/// A picture's colours as they are under its alpha, its alpha if it has one, and the sha256 of its file.
pub(super) fn read_layers(path: &Path, limits: PictureLimits) -> Result<(Image, Option<Vec<u8>>, String)> {
    let bytes = files::read(path, MAX_BYTES)?;
    let (image, alpha) = layers(&bytes, path, limits)?;
    Ok((image, alpha, digest(&bytes)))
}

/// Width, height and alpha of a picture in memory, row by row; None where it has no alpha. `name` is for messages.
///
/// # Errors
/// As [`Picture::of_bytes`].
pub fn alpha_of(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<(usize, usize, Option<Vec<u8>>)> {
    let (image, alpha) = layers(bytes, name, limits)?;
    Ok((image.width, image.height, alpha))
}

fn layers(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<(Image, Option<Vec<u8>>)> {
    match format_of(bytes) {
        Format::Png => decode::png_layers(bytes, name, limits),
        Format::Jpeg => Ok((jpeg::decode(bytes, name, limits)?, None)),
        Format::Other(what) => Err(other(name, what)),
    }
}

pub(super) fn other(name: &Path, what: &str) -> Error {
    Error::bad_file(name, format!("{what}; PNG and JPEG are read: convert it with an image editor"))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Jpeg,
    Other(&'static str),
}

pub(super) fn format_of(head: &[u8]) -> Format {
    let at = |from: usize, magic: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(magic));
    match () {
        () if at(0, SIGNATURE) => Format::Png,
        () if at(0, b"\xff\xd8\xff") => Format::Jpeg,
        () if head.is_empty() => Format::Other("an empty file"),
        () if at(0, b"RIFF") && at(8, b"WEBP") => Format::Other("a WebP picture"),
        () if at(0, b"GIF8") => Format::Other("a GIF picture"),
        () if at(0, b"BM") => Format::Other("a BMP picture"),
        () if at(0, b"II*\0") || at(0, b"MM\0*") => Format::Other("a TIFF picture"),
        () if at(4, b"ftypavif") => Format::Other("an AVIF picture"),
        () if at(4, b"ftyp") => Format::Other("a HEIC picture or a video"),
        () if at(0, b"\xff\x0a") || at(4, b"JXL ") => Format::Other("a JPEG XL picture"),
        () if at(0, b"<") => Format::Other("a web page or an SVG drawing"),
        () => Format::Other("not a picture of a known format"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_decides() {
        let folder = std::env::temp_dir().join(format!("lienzo-read-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let image = Image { width: 3, height: 2, rgb: (0..18).map(|i| i * 14).collect() };
        let path = folder.join("wrong.jpg");
        std::fs::write(&path, crate::image::png_bytes(&image, Some("text")).unwrap()).unwrap();
        let (read, texts) = read_picture(&path, PictureLimits::default()).unwrap();
        assert_eq!((read, texts.len()), (image, 1));
        let cases: [(&[u8], &str); 7] = [
            (b"", "empty"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
            (b"GIF89a", "GIF"),
            (b"\0\0\0\x20ftypheic", "HEIC"),
            (b"<svg", "SVG"),
            (b"hello", "not a picture"),
            (b"\xff\xd8\xff", "JPEG"),
        ];
        for (bytes, why) in cases {
            std::fs::write(&path, bytes).unwrap();
            let error = read_picture(&path, PictureLimits::default()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(read_picture(&folder, PictureLimits::default()).is_err());
        assert!(
            read_picture(&folder.join("none"), PictureLimits::default()).unwrap_err().to_string().contains("opened")
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
