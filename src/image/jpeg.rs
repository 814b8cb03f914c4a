//! A JPEG's bytes go in, the picture comes out as the camera was held.

use super::{Image, Limits};
use crate::error::{Error, Result, escape};
use std::path::Path;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Decodes grey, YCbCr, RGB, CMYK and YCCK, baseline and progressive, and applies the EXIF orientation.
///
/// # Errors
/// Bad file: truncated, damaged, or more than `limits`; the size is checked before the pixels are decoded.
pub fn decode(bytes: &[u8], name: &Path, limits: Limits) -> Result<Image> {
    let bad = |message: String| Error::bad_file(name, message);
    let failed = |e: &dyn std::fmt::Display| {
        let why = escape(e.to_string().trim());
        bad(format!("a truncated or damaged JPEG ({why}): get the file again, or save it anew with an image editor"))
    };
    // Strict: half a photo with a grey rest is not what anybody wants to start from.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| failed(&e))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| bad("a JPEG without a size".into()))?;
    if width as u64 * height as u64 > limits.pixels || width.max(height) as u64 > u64::from(limits.side) {
        let megapixels = limits.pixels / 1_000_000;
        return Err(bad(format!(
            "{width}x{height} pixels are too many: at most {megapixels} megapixels and {} a side: make it smaller with an \
             image editor",
            limits.side
        )));
    }
    let size = width * height * 3;
    let mut rgb = Vec::new();
    rgb.try_reserve_exact(size).map_err(|_| bad(format!("the picture needs {size} bytes of memory")))?;
    rgb.resize(size, 0);
    decoder.decode_into(&mut rgb).map_err(|e| failed(&e))?;
    let turn = decoder.exif().and_then(|exif| orientation(exif)).unwrap_or(1);
    Ok(upright(Image { width, height, rgb }, turn))
}

/// The orientation, 1 to 8, of an EXIF block (from its TIFF header on): tag 0x0112 of the first directory.
///
/// Source: Exif 2.32, 4.6.4 and 4.6.2; TIFF 6.0, section 2.
fn orientation(exif: &[u8]) -> Option<u16> {
    let little = match exif.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let uint = |at: usize, n: usize| -> Option<usize> {
        let raw = exif.get(at..at.checked_add(n)?)?;
        let add = |v: usize, b: &u8| v << 8 | usize::from(*b);
        Some(if little { raw.iter().rev().fold(0, add) } else { raw.iter().fold(0, add) })
    };
    let directory = uint(4, 4)?;
    let entries = uint(directory, 2)?;
    let entry = (0..entries).map(|i| directory + 2 + 12 * i).find(|&at| uint(at, 2) == Some(0x0112))?;
    let is_short = uint(entry + 2, 2)? == 3 && uint(entry + 4, 4)? == 1;
    u16::try_from(uint(entry + 8, 2)?).ok().filter(|turn| is_short && (1..=8).contains(turn))
}

/// Turns and mirrors a picture by its EXIF orientation.
fn upright(image: Image, turn: u16) -> Image {
    if turn <= 1 {
        return image;
    }
    let (w, h) = (image.width, image.height);
    let (width, height) = if turn >= 5 { (h, w) } else { (w, h) };
    let mut rgb = Vec::with_capacity(image.rgb.len());
    for y in 0..height {
        for x in 0..width {
            // Where this pixel is in the file.
            let (sx, sy) = match turn {
                2 => (w - 1 - x, y),
                3 => (w - 1 - x, h - 1 - y),
                4 => (x, h - 1 - y),
                5 => (y, x),
                6 => (y, h - 1 - x),
                7 => (w - 1 - y, h - 1 - x),
                _ => (w - 1 - y, x),
            };
            let at = (sy * w + sx) * 3;
            rgb.extend_from_slice(&image.rgb[at..at + 3]);
        }
    }
    Image { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jpeg_encoder::{ColorType, Encoder};

    fn encode(pixels: &[u8], w: u16, h: u16, kind: ColorType, with: impl Fn(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, 95);
        with(&mut encoder);
        encoder.encode(pixels, w, h, kind).unwrap();
        out
    }

    fn read(bytes: &[u8]) -> Result<Image> {
        decode(bytes, Path::new("x.jpg"), Limits::default())
    }

    /// Left half red, right half blue.
    fn halves(w: usize, h: usize) -> Vec<u8> {
        (0..w * h).flat_map(|i| if i % w < w / 2 { [200, 20, 20] } else { [20, 20, 200] }).collect()
    }

    fn near(image: &Image, x: usize, y: usize, want: [u8; 3]) {
        let at = (y * image.width + x) * 3;
        let have = &image.rgb[at..at + 3];
        assert!(have.iter().zip(want).all(|(a, b)| a.abs_diff(b) < 12), "{have:?} at {x} {y}, not {want:?}");
    }

    #[test]
    fn every_colour_model() {
        let rgb = encode(&halves(32, 16), 32, 16, ColorType::Rgb, |_| {});
        let progressive = encode(&halves(32, 16), 32, 16, ColorType::Rgb, |e| e.set_progressive(true));
        for bytes in [&rgb, &progressive] {
            let image = read(bytes).unwrap();
            assert_eq!((image.width, image.height), (32, 16));
            near(&image, 4, 8, [200, 20, 20]);
            near(&image, 28, 8, [20, 20, 200]);
        }
        let grey: Vec<u8> = (0..32 * 16).map(|i| if i % 32 < 16 { 30 } else { 220 }).collect();
        let image = read(&encode(&grey, 32, 16, ColorType::Luma, |_| {})).unwrap();
        near(&image, 4, 8, [30, 30, 30]);
        near(&image, 28, 8, [220, 220, 220]);
        // Ink: cyan and half black; nothing at all.
        let ink: Vec<u8> =
            (0..32 * 16).flat_map(|i| if i % 32 < 16 { [255, 0, 0, 128] } else { [0, 0, 0, 0] }).collect();
        for kind in [ColorType::Cmyk, ColorType::CmykAsYcck] {
            let image = read(&encode(&ink, 32, 16, kind, |_| {})).unwrap();
            near(&image, 4, 8, [0, 127, 127]);
            near(&image, 28, 8, [255, 255, 255]);
        }
    }

    fn exif(turn: u8, little: bool) -> Vec<u8> {
        let mut e = if little { b"II*\0\x08\0\0\0\x01\0".to_vec() } else { b"MM\0*\0\0\0\x08\0\x01".to_vec() };
        if little {
            e.extend([0x12, 1, 3, 0, 1, 0, 0, 0, turn, 0, 0, 0]);
        } else {
            e.extend([1, 0x12, 0, 3, 0, 0, 0, 1, 0, turn, 0, 0]);
        }
        e
    }

    #[test]
    fn the_orientation_is_applied() {
        for little in [true, false] {
            let mut app1 = b"Exif\0\0".to_vec();
            app1.extend(exif(6, little));
            let bytes =
                encode(&halves(32, 16), 32, 16, ColorType::Rgb, |e| e.add_app_segment(1, app1.clone()).unwrap());
            let image = read(&bytes).unwrap();
            // The camera was turned to the right: what was left is on top.
            assert_eq!((image.width, image.height), (16, 32));
            near(&image, 8, 4, [200, 20, 20]);
            near(&image, 8, 28, [20, 20, 200]);
        }
    }

    #[test]
    fn all_eight_orientations() {
        // a b c / d e f
        let image = Image { width: 3, height: 2, rgb: b"abcdef".iter().flat_map(|&b| [b; 3]).collect() };
        let turned = |turn| {
            let t = upright(image.clone(), turn);
            (t.width, String::from_utf8(t.rgb.iter().step_by(3).copied().collect()).unwrap())
        };
        let want = ["abcdef", "cbafed", "fedcba", "defabc", "adbecf", "daebfc", "fcebda", "cfbead"].map(str::to_string);
        for (i, text) in want.into_iter().enumerate() {
            assert_eq!(turned(i as u16 + 1), (if i < 4 { 3 } else { 2 }, text), "orientation {}", i + 1);
        }
        assert_eq!(orientation(&exif(9, true)), None);
        assert_eq!(orientation(b"II*\0\xff\xff\xff\xff"), None);
        for cut in 0..20 {
            assert_eq!(orientation(&exif(6, true)[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn damaged_and_huge_files_are_refused() {
        let bytes = encode(&halves(64, 64), 64, 64, ColorType::Rgb, |_| {});
        for cut in [3, 20, 200, bytes.len() / 2, bytes.len() - 40] {
            let error = read(&bytes[..cut]).unwrap_err().to_string();
            assert!(error.contains("truncated or damaged"), "{cut}: {error}");
        }
        let mut huge = bytes.clone();
        let sof = huge.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        huge[sof + 5..sof + 9].copy_from_slice(&[0x4e, 0x20, 0x4e, 0x20]);
        assert!(read(&huge).unwrap_err().to_string().contains("20000x20000 pixels are too many"));
    }
}
