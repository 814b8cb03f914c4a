//! Broken pictures and texts to their readers.

use super::*;
use crate::fuzz::{answer, corpus, fuzz};
use crate::image::parameters::Parameters;
use jpeg_encoder::{ColorType, Encoder};

const SMALL: Limits = Limits { pixels: 1 << 16, side: 4096, text: 1 << 12 };

/// Sound checksums: with broken ones nothing behind them is ever reached.
fn repaired(data: &[u8]) -> Vec<u8> {
    let mut out = data.get(..8).unwrap_or_default().to_vec();
    let mut rest = data.get(8..).unwrap_or_default();
    while rest.len() >= 12 {
        let len = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let len = len.min(rest.len() - 12);
        out.extend((len as u32).to_be_bytes());
        out.extend(&rest[4..8 + len]);
        out.extend(crc(&rest[4..8 + len]).to_be_bytes());
        rest = &rest[12 + len..];
    }
    out
}

/// CRC-32 as PNG, annex D, defines it.
fn crc(data: &[u8]) -> u32 {
    let bit = |c: u32| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
    !data.iter().fold(!0, |c, b| (0..8).fold(c ^ u32::from(*b), |c, _| bit(c)))
}

#[test]
fn pngs() {
    let words: [&[u8]; 10] = [
        b"\0\0\0\0IEND",
        b"IHDR",
        b"tEXt",
        b"iTXt",
        b"zTXt",
        b"PLTE",
        b"tRNS",
        b"parameters\0",
        b"\x08\x06\0\0\0",
        b"acTL",
    ];
    let read = |data: &[u8]| read_png_bytes(data, "fuzz", SMALL);
    fuzz("png", corpus("png"), &words, |data| answer(read(data)) + &answer(read(&repaired(data))));
}

#[test]
fn jpegs() {
    let mut seeds = Vec::new();
    let pixels: Vec<u8> = (0..24 * 17 * 4).map(|i| (i * 13 % 256) as u8).collect();
    for (kind, channels, progressive) in [
        (ColorType::Rgb, 3, false),
        (ColorType::Rgb, 3, true),
        (ColorType::Luma, 1, false),
        (ColorType::CmykAsYcck, 4, false),
    ] {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, 60);
        encoder.set_progressive(progressive);
        encoder
            .add_app_segment(1, b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0".to_vec())
            .unwrap();
        encoder.encode(&pixels[..24 * 17 * channels], 24, 17, kind).unwrap();
        seeds.push(out);
    }
    let words: [&[u8]; 10] = [
        b"\xff\xd8",
        b"\xff\xc0",
        b"\xff\xc2",
        b"\xff\xc4",
        b"\xff\xda",
        b"\xff\xdb",
        b"\xff\xdd\0\x04\0\x01",
        b"\xff\xd0",
        b"\xff\xd9",
        b"Adobe",
    ];
    fuzz("jpeg", seeds, &words, |data| answer(jpeg::decode(data, Path::new("fuzz"), SMALL)));
}

#[test]
fn parameters() {
    let words: [&[u8]; 9] =
        [b"Negative prompt: ", b"Steps: 20", b", ", b": \"", b"\\\"", b"\n", b"Size: 1x1", b"\xc3\xa9", b"\\u0041"];
    fuzz("parameters", corpus("parameters"), &words, |data| {
        let text = String::from_utf8_lossy(data);
        let read = Parameters::parse(&text);
        // Whatever was read can be written and read again.
        assert!(Parameters::parse(&read.to_text()).entries.len() <= 4096);
        let keys: Vec<&str> = read.entries.iter().map(|(k, _)| k.get(..2).unwrap_or("?")).take(3).collect();
        format!("{keys:?}{}", read.entries.len().min(5))
    });
}
