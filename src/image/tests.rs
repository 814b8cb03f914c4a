//! Pictures and PNG files, good and bad, go in; what must come out is written beside them.

use super::*;
use crate::tensor::Shape;

const EXAMPLE: &str = "painting of a cat with glasses in a theater, 1960, by Velazquez, highly detailed\n\
    Negative prompt: blurry, low quality\n\
    Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7.5, Seed: 42, Size: 512x512, \
    Model hash: fe4efff1e1, Model: sd-v1-4, RNG: NV, Version: v1.10.1";

fn sample() -> Image {
    let rgb = (0..7 * 5 * 3).map(|i| (i * 37 % 256) as u8).collect();
    Image { width: 7, height: 5, rgb }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

fn decoded(values: &[f32]) -> Result<Image> {
    Image::from_decoded(&Tensor::new(Shape::new(1, 1, values.len() / 3, 3), values.to_vec())?, 0)
}

#[test]
fn values_are_rounded_half_to_even() {
    // 0.5 * 255 = 127.5 goes to 128; level n sits at 2n/255 - 1.
    let image = decoded(&[-1.0, 0.0, 1.0, -7.0, 9.0, 2.0 * 77.0 / 255.0 - 1.0]).unwrap();
    assert_eq!(image.rgb, [0, 128, 255, 0, 255, 77]);
}

#[test]
fn a_picture_without_content_is_an_error() {
    for (values, why) in [
        ([0.1, 0.2, 0.3, f32::NAN, 0.2, 0.3], "not finite"),
        ([0.1, f32::INFINITY, 0.3, 0.9, 0.2, 0.3], "not finite"),
        ([0.1, 0.2, 0.3, 0.1, 0.2, 0.3], "no content"),
        ([9.0, 9.0, 9.0, 2.0, 3.0, 0.999], "no content"),
    ] {
        let error = decoded(&values).unwrap_err();
        assert!(matches!(error.kind(), Kind::NonFinite { stage } if stage == "decode"));
        assert!(error.to_string().contains(why), "{error}");
    }
    assert!(decoded(&[0.1, 0.2, 0.3, 0.1, 0.2, 0.35]).is_ok());
    assert!(Image::from_decoded(&Tensor::zeros(Shape::new(1, 2, 2, 4)), 0).is_err());
    assert!(Image::from_decoded(&Tensor::zeros(Shape::new(1, 2, 2, 3)), 1).is_err());
}

#[test]
fn psnr_of_known_pictures() {
    let a = sample();
    assert_eq!(psnr(&a, &a).unwrap(), f64::INFINITY);
    let mut b = a.clone();
    b.rgb.iter_mut().for_each(|v| *v ^= 1);
    assert!((psnr(&a, &b).unwrap() - 48.1308).abs() < 1e-4);
    assert!(psnr(&a, &Image { width: 5, height: 7, rgb: a.rgb.clone() }).is_err());
}

#[test]
fn the_worked_example_has_the_published_chunk() {
    let bytes = png_bytes(&sample(), Some(EXAMPLE)).unwrap();
    let at = find(&bytes, b"tEXt").unwrap();
    assert_eq!(bytes[at - 4..at], [0x00, 0x00, 0x01, 0x22]);
    assert_eq!(&bytes[at + 4..at + 15], b"parameters\0");
    assert_eq!(bytes[at + 4 + 290..][..4], [0xe6, 0xf2, 0xd2, 0x4e]);
    assert!(at < find(&bytes, b"IDAT").unwrap());
    assert_eq!(bytes, png_bytes(&sample(), Some(EXAMPLE)).unwrap());
}

#[test]
fn pictures_and_texts_come_back() {
    for (text, chunk) in [(EXAMPLE, b"tEXt"), ("Velázquez ÿ", b"tEXt"), ("中文 👩‍🚀\nSteps: 1", b"iTXt")] {
        let bytes = png_bytes(&sample(), Some(text)).unwrap();
        assert!(find(&bytes, chunk).is_some());
        let (image, texts) = read_png_bytes(&bytes, "x.png", PictureLimits::default()).unwrap();
        assert_eq!((image, texts), (sample(), vec![(PARAMETERS.to_string(), text.to_string())]));
    }
    let (_, texts) = read_png_bytes(&png_bytes(&sample(), None).unwrap(), "x.png", PictureLimits::default()).unwrap();
    assert!(texts.is_empty());
}

fn encoded(
    colour: png::ColorType,
    depth: png::BitDepth,
    data: &[u8],
    set: impl FnOnce(&mut png::Encoder<'_, &mut Vec<u8>>),
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 2, 1);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    set(&mut encoder);
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    out
}

#[test]
fn every_pixel_format_is_read() {
    use png::{BitDepth::*, ColorType::*};
    let read = |bytes: Vec<u8>| read_png_bytes(&bytes, "x.png", PictureLimits::default()).unwrap().0.rgb;
    assert_eq!(read(encoded(Grayscale, Eight, &[3, 200], |_| ())), [3, 3, 3, 200, 200, 200]);
    assert_eq!(read(encoded(Grayscale, One, &[0b0100_0000], |_| ())), [0, 0, 0, 255, 255, 255]);
    assert_eq!(read(encoded(GrayscaleAlpha, Eight, &[0, 0, 100, 255], |_| ())), [255, 255, 255, 100, 100, 100]);
    assert_eq!(read(encoded(Rgba, Eight, &[0, 100, 255, 128, 1, 2, 3, 255], |_| ())), [127, 177, 255, 1, 2, 3]);
    let palette = |e: &mut png::Encoder<'_, &mut Vec<u8>>| {
        e.set_palette(vec![9, 8, 7, 6, 5, 4]);
        e.set_trns(vec![255, 0]);
    };
    assert_eq!(read(encoded(Indexed, Two, &[0b0001_0000], palette)), [9, 8, 7, 255, 255, 255]);
    // 16 bits are rounded, not cut: 0x00ff is 0.99 of a level.
    let wide = [0x00, 0xff, 0x80, 0x80, 0xff, 0xff, 0x00, 0x00, 0x01, 0x00, 0x00, 0x7f];
    assert_eq!(read(encoded(Rgb, Sixteen, &wide, |_| ())), [1, 128, 255, 0, 1, 0]);
}

#[test]
fn packed_texts_are_read_within_bounds() {
    let with = |text: &str| {
        let z = |e: &mut png::Encoder<'_, &mut Vec<u8>>| e.add_ztxt_chunk("parameters".into(), text.into()).unwrap();
        read_png_bytes(
            &encoded(png::ColorType::Grayscale, png::BitDepth::Eight, &[1, 2], z),
            "x.png",
            PictureLimits::default(),
        )
    };
    assert_eq!(with("a cat").unwrap().1, [("parameters".to_string(), "a cat".to_string())]);
    // A megabyte too much, packed into a few kilobytes: the picture is read without it.
    assert!(with(&"a".repeat(2 << 20)).unwrap().1.is_empty());
    let plain = |n: usize| {
        let bytes = png_bytes(&sample(), Some(&"a".repeat(n))).unwrap();
        let read = Picture::of_bytes(&bytes, Path::new("x.png"), PictureLimits::default()).unwrap();
        assert_eq!(read.image, sample());
        (read.texts.len(), read.notes.join(" "))
    };
    assert_eq!(plain(1 << 20), (1, String::new()));
    let (texts, notes) = plain((1 << 20) + 1);
    assert!(texts == 0 && notes == "its text 'parameters' is longer than 1048576 bytes and left out", "{notes}");
    assert_eq!(plain(40 << 20).0, 0);
}

/// A chunk with its checksum.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let named = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &named, &fuzz::crc(&named).to_be_bytes()].concat()
}

/// The sample picture with something before its pixels.
fn with_chunks(more: &[u8]) -> Vec<u8> {
    let good = png_bytes(&sample(), None).unwrap();
    let at = find(&good, b"IDAT").unwrap() - 4;
    [&good[..at], more, &good[at..]].concat()
}

#[test]
fn nothing_beside_the_pixels_keeps_a_picture_from_being_read() {
    let broken_sum = {
        let mut chunk = chunk(b"tEXt", b"parameters\0a cat");
        *chunk.last_mut().unwrap() ^= 1;
        chunk
    };
    for (what, bytes, notes) in [
        ("a packed text that does not unpack", chunk(b"zTXt", b"parameters\0\0nonsense"), 1),
        ("no keyword", chunk(b"tEXt", b"\0a"), 1),
        ("no zero", chunk(b"tEXt", b"parameters"), 1),
        ("a wrong checksum", broken_sum, 1),
        ("text that is not UTF-8", chunk(b"iTXt", b"parameters\0\0\0\0\0\xff"), 1),
        ("a text cut short", chunk(b"iTXt", b"parameters\0\x01\0"), 1),
        ("a profile that is none", chunk(b"iCCP", b"x"), 0),
        ("a private chunk of 20 MiB", chunk(b"prVt", &vec![7; 20 << 20]), 0),
        (
            "texts of 40 MiB",
            (0..80).flat_map(|i| chunk(b"tEXt", &[&[b'a' + i % 26, 0][..], &vec![b'x'; 1 << 19]].concat())).collect(),
            8,
        ),
        (
            "odd ones",
            [chunk(b"gAMA", b""), chunk(b"tIME", b"x"), chunk(b"eXIf", b"II"), chunk(b"sBIT", b"x")].concat(),
            0,
        ),
    ] {
        let read = Picture::of_bytes(&with_chunks(&bytes), Path::new("x.png"), PictureLimits::default());
        let read = read.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(read.image == sample() && read.notes.len() == notes, "{what}: {:?}", read.notes);
    }
    // No end, half of an end, no checksum of the last pixels: all of them are there.
    let good = png_bytes(&sample(), None).unwrap();
    for cut in [1, 4, 8, 12, 13, 16] {
        let (image, _) = read_png_bytes(&good[..good.len() - cut], "x.png", PictureLimits::default()).unwrap();
        assert_eq!(image, sample(), "{cut}");
    }
    assert!(read_png_bytes(&good[..good.len() - 30], "x.png", PictureLimits::default()).is_err());
}

#[test]
fn a_png_and_its_alpha_come_out_upright() {
    let xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation=\"6\"/>";
    let exif = |kind| chunk(b"eXIf", &exif::example(6, false, kind));
    for more in [exif(3), exif(4), chunk(b"iTXt", xmp)] {
        let (image, _) = read_png_bytes(&with_chunks(&more), "x.png", PictureLimits::default()).unwrap();
        let want = exif::upright(sample(), 6);
        assert_eq!((image.width, image.height, image.rgb), (5, 7, want.rgb));
    }
    // Two pixels, the right one clear; turned to the right it is below.
    let clear = encoded(png::ColorType::GrayscaleAlpha, png::BitDepth::Eight, &[9, 255, 9, 0], |_| ());
    let at = find(&clear, b"IDAT").unwrap() - 4;
    let turned = [&clear[..at], &exif(3), &clear[at..]].concat();
    let (image, alpha) = decode::png_layers(&turned, Path::new("x.png"), PictureLimits::default()).unwrap();
    assert_eq!((image.width, image.height, alpha), (1, 2, Some(vec![255, 0])));
}

#[test]
fn bad_files_are_named() {
    let good = png_bytes(&sample(), Some(EXAMPLE)).unwrap();
    let idat = find(&good, b"IDAT").unwrap();
    let read = |bytes: &[u8]| read_png_bytes(bytes, "x.png", PictureLimits::default());
    for end in (0..idat + 8).step_by(7) {
        assert!(read(&good[..end]).unwrap_err().to_string().starts_with("x.png: "));
    }
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        // Any outcome but a panic; a wrong checksum of the pixels must not pass.
        let result = read(&bytes);
        assert!(result.is_err() || at < idat || at > good.len() - 16, "byte {at}");
    }
    let mut huge = good.clone();
    huge[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    // The header's checksum no longer holds, and nothing may be allocated by its word.
    assert!(read(&huge).is_err());
    let limits = PictureLimits { pixels: 34, ..PictureLimits::default() };
    let error = read_png_bytes(&good, "x.png", limits).unwrap_err().to_string();
    assert!(error.contains("7x5 pixels are too many"), "{error}");
    assert!(read_png(Path::new("no/such.png"), limits).unwrap_err().to_string().contains("cannot be opened"));
}

/// Found by fuzzing: the decoder takes any length for a palette and panics when it looks a colour up.
#[test]
fn a_palette_of_impossible_length_is_refused() {
    let with = |entries: Vec<u8>| {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, 2, 1);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(entries);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[0, 0]).unwrap();
        writer.finish().unwrap();
        read_png_bytes(&out, "x.png", PictureLimits::default())
    };
    assert_eq!(with(vec![1, 2, 3]).unwrap().0.rgb, [1, 2, 3, 1, 2, 3]);
    assert_eq!(with(vec![7; 768]).unwrap().0.rgb, [7; 6]);
    for bytes in [1, 2, 4, 5, 767, 769, 771, 3000] {
        let error = with(vec![9; bytes]).unwrap_err().to_string();
        assert!(error.contains("x.png: not a readable PNG"), "{bytes}: {error}");
    }
}
