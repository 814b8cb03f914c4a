//! A picture's file goes in, whatever its name says it is; its pixels come out upright, as 8-bit RGB on white.

use super::{Image, Limits, Texts, jpeg, read_png};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// A JPEG of 64 megapixels is far smaller.
const MAX_JPEG_BYTES: u64 = 256 << 20;

/// Reads a PNG or a JPEG; the content decides which. Texts are those of a PNG.
///
/// # Errors
/// Bad file: not one of the two, damaged, or larger than `limits`, which is found out before the pixels are decoded.
pub fn read_picture(path: &Path, limits: Limits) -> Result<(Image, Texts)> {
    let bad = |message: String| Error::bad_file(path, message);
    let mut file = File::open(path).map_err(|e| bad(format!("cannot be opened: {e}")))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(bad("is a folder, not a picture".into()));
    }
    let mut head = Vec::new();
    file.by_ref().take(16).read_to_end(&mut head).map_err(|e| bad(format!("cannot be read: {e}")))?;
    match format_of(&head) {
        Format::Png => read_png(path, limits),
        Format::Jpeg => {
            let size = file.metadata().map_or(0, |m| m.len());
            if size > MAX_JPEG_BYTES {
                return Err(bad(format!("a JPEG of {} MiB; at most {} are read", size >> 20, MAX_JPEG_BYTES >> 20)));
            }
            let mut bytes = head;
            file.take(MAX_JPEG_BYTES).read_to_end(&mut bytes).map_err(|e| bad(format!("cannot be read: {e}")))?;
            Ok((jpeg::decode(&bytes, path, limits)?, Texts::new()))
        }
        Format::Other(what) => Err(bad(format!("{what}; PNG and JPEG are read: convert it with an image editor"))),
    }
}

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
    Other(&'static str),
}

fn format_of(head: &[u8]) -> Format {
    let at = |from: usize, magic: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(magic));
    match () {
        () if at(0, b"\x89PNG\r\n\x1a\n") => Format::Png,
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
        let (read, texts) = read_picture(&path, Limits::default()).unwrap();
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
            let error = read_picture(&path, Limits::default()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(read_picture(&folder, Limits::default()).is_err());
        assert!(read_picture(&folder.join("none"), Limits::default()).unwrap_err().to_string().contains("opened"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
