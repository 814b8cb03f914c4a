//! A JPEG's bytes go in, the picture comes out as the camera was held.

use super::{Image, PictureLimits, exif};
use crate::error::{Error, Result, escape};
use std::borrow::Cow;
use std::path::Path;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Decodes grey, YCbCr, RGB, CMYK and YCCK, baseline and progressive, and applies the orientation of its EXIF or XMP.
///
/// # Errors
/// Bad file: truncated, damaged, or more than `limits`; the size is checked before the pixels are decoded.
pub fn decode(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<Image> {
    decode_with_profile(bytes, name, limits).map(|(image, _)| image)
}

/// The same, and the picture's ICC profile.
///
/// # Errors
/// As [`decode`].
pub fn decode_with_profile(bytes: &[u8], name: &Path, limits: PictureLimits) -> Result<(Image, Option<Vec<u8>>)> {
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
    let file = bytes.len();
    let bytes = mended(bytes);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*bytes), options);
    decoder.decode_headers().map_err(|e| failed(&e))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| bad("a JPEG without a size".into()))?;
    let (w, h) = (width as u64, height as u64);
    limits.check(w, h).map_err(bad)?;
    // An orientation behind the headers turns the picture too, but nothing writes it there.
    let turned = decoder.exif().is_some_and(|block| exif::of_exif(block).is_some_and(|turn| turn > 1));
    let turned = turned || xmp_orientation(&bytes).is_some();
    // The pixels, once more while they are turned, and what a progressive file keeps of all its blocks.
    let each = if turned { 6 } else { 3 } + coefficients(&bytes);
    limits.check_memory(name, (w, h), w * h * each + (file + bytes.len()) as u64)?;
    let size = width * height * 3;
    let mut rgb = Vec::new();
    rgb.try_reserve_exact(size).map_err(|_| bad(format!("the picture needs {size} bytes of memory")))?;
    rgb.resize(size, 0);
    decoder.decode_into(&mut rgb).map_err(|e| failed(&e))?;
    let turn = decoder.exif().and_then(|block| exif::of_exif(block)).or_else(|| xmp_orientation(&bytes)).unwrap_or(1);
    Ok((exif::upright(Image { width, height, rgb }, turn), decoder.icc_profile()))
}

/// A JPEG's segments, as libjpeg finds them: bytes between two of them are skipped (ITU-T T.81, B.1.1.2 allows fill
/// bytes; some cameras leave more).
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether a scan was seen: from there on only the markers that may follow one begin a segment.
    scanned: bool,
}

impl<'a> Segments<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 2, scanned: false }
    }
}

impl<'a> Iterator for Segments<'a> {
    /// Marker and bytes from the marker on; of a scan with its entropy-coded data, of what is not understood to the
    /// end.
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        // A marker is 0xff and neither zero nor another 0xff, which fills.
        let skip = rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0 | 0xff))?;
        let (from, marker) = (self.at + skip, rest[skip + 1]);
        let known = matches!(marker, 0xc4 | 0xcc | 0xd8..=0xde | 0xe0..=0xef | 0xfe);
        let size = match marker {
            0xd9 => None,
            _ if self.scanned && !known => None,
            0x01 | 0xd0..=0xd8 => Some(2),
            _ => rest.get(skip + 2..skip + 4).map(|b| 2 + usize::from(b[0]) * 256 + usize::from(b[1])),
        };
        let end = size.filter(|n| *n >= 2).map(|n| from + n).filter(|end| *end <= self.bytes.len());
        self.at = end.unwrap_or(self.bytes.len());
        if marker == 0xda {
            self.scanned = true;
            let data = &self.bytes[self.at..];
            let next = |w: &[u8]| w[0] == 0xff && !matches!(w[1], 0 | 0xd0..=0xd7 | 0xff);
            self.at += data.windows(2).position(next).unwrap_or(data.len());
        }
        Some((marker, &self.bytes[from..self.at]))
    }
}

/// Without the bytes between segments.
fn mended(bytes: &[u8]) -> Cow<'_, [u8]> {
    let found = || Segments::new(bytes).map(|(_, segment)| segment);
    let kept = 2 + found().map(<[u8]>::len).sum::<usize>();
    // Where nothing is understood nothing is mended.
    if kept >= bytes.len() || kept == 2 {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(kept);
    out.extend_from_slice(&bytes[..2]);
    found().for_each(|segment| out.extend_from_slice(segment));
    Cow::Owned(out)
}

/// Bytes a pixel, at most, that the coefficients of a progressive file take while it is decoded: 16 bits for each
/// sample of each component, as densely as it is sampled (ITU-T T.81, B.2.2). A baseline file keeps none.
fn coefficients(bytes: &[u8]) -> u64 {
    // SOF2: length, precision, height, width, components; then for each its name, two factors, a table.
    let Some((_, frame)) = Segments::new(bytes).find(|(marker, _)| *marker == 0xc2) else { return 0 };
    let factors = frame.get(10..).unwrap_or_default().chunks_exact(3);
    let (mut all, mut most) = (0, (1, 1));
    for factor in factors.map(|c| (u64::from(c[1] >> 4), u64::from(c[1] & 15))) {
        all += factor.0 * factor.1;
        most = (most.0.max(factor.0), most.1.max(factor.1));
    }
    (2 * all).div_ceil(most.0 * most.1)
}

/// The orientation in the XMP packet of an APP1 segment.
fn xmp_orientation(bytes: &[u8]) -> Option<u16> {
    const NAME: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
    let mut packets = Segments::new(bytes).filter(|(marker, _)| *marker == 0xe1);
    packets.find_map(|(_, segment)| exif::of_xmp(segment.get(4..)?.strip_prefix(NAME)?))
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
        decode(bytes, Path::new("x.jpg"), PictureLimits::default())
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

    #[test]
    fn the_orientation_is_applied() {
        let xmp = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation=\"6\"/>".to_vec();
        let exif = |little, kind| [b"Exif\0\0", &exif::example(6, little, kind)[..]].concat();
        for app1 in [exif(true, 3), exif(false, 3), exif(true, 4), exif(false, 4), xmp] {
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
    fn bytes_between_headers_are_skipped() {
        let bytes = encode(&halves(32, 16), 32, 16, ColorType::Rgb, |_| {});
        let want = read(&bytes).unwrap();
        let progressive = encode(&halves(32, 16), 32, 16, ColorType::Rgb, |e| e.set_progressive(true));
        for (bytes, want) in [(&bytes, &want), (&progressive, &read(&progressive).unwrap())] {
            assert!(matches!(mended(bytes), Cow::Borrowed(_)));
            let mut with = bytes[..2].to_vec();
            let mut scan = false;
            for (marker, segment) in Segments::new(bytes) {
                // Behind a scan they would be read as a part of it.
                with.extend(if scan { &[][..] } else { &[0, 7, 0xff, 0, 0xff, 0xff] });
                with.extend(segment);
                scan = marker == 0xda;
            }
            assert_eq!(&read(&with).unwrap(), want);
        }
        // Behind the end anything may stand.
        let trailing = [&bytes[..], b"\0\0anything"].concat();
        assert_eq!(read(&trailing).unwrap(), want);
    }

    #[test]
    fn what_decoding_takes_is_known_from_the_header() {
        let with = |sampling, progressive| {
            encode(&halves(64, 64), 64, 64, ColorType::Rgb, |e| {
                e.set_sampling_factor(sampling);
                e.set_progressive(progressive);
            })
        };
        let (full, quarter) = (jpeg_encoder::SamplingFactor::F_1_1, jpeg_encoder::SamplingFactor::F_2_2);
        let all = [with(full, false), with(full, true), with(quarter, true)];
        assert_eq!(all.each_ref().map(|bytes| coefficients(bytes)), [0, 6, 3]);
        for (bytes, each) in all.iter().zip([3, 9, 6]) {
            let need = 64 * 64 * each + 2 * bytes.len() as u64;
            let within =
                |memory| decode(bytes, Path::new("x.jpg"), PictureLimits { memory, ..PictureLimits::default() });
            assert!(within(need).is_ok());
            let error = within(need - 1).unwrap_err();
            assert_eq!(*error.kind(), crate::Kind::TooBig { need, have: need - 1 }, "{error}");
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
