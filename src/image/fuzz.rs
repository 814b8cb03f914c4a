//! Broken pictures and texts to their readers.

use super::*;
use crate::check::Random;
use crate::fuzz::{answer, corpus, fuzz, fuzz_by, mutated};
use crate::image::parameters::Parameters;
use jpeg_encoder::{ColorType, Encoder};
use std::ops::Range;

const SMALL: PictureLimits = PictureLimits { pixels: 1 << 16, side: 4096, text: 1 << 12, memory: 1 << 24 };

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
pub(super) fn crc(data: &[u8]) -> u32 {
    let bit = |c: u32| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
    !data.iter().fold(!0, |c, b| (0..8).fold(c ^ u32::from(*b), |c, _| bit(c)))
}

#[test]
fn pngs() {
    let words: [&[u8]; 13] = [
        b"eXIfMM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0\x06",
        b"XML:com.adobe.xmp\0\0\0\0\0tiff:Orientation=\"8\"",
        b"Raw profile type exif\0\0",
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

/// Where a sound JPEG's tables (what is behind the length of a segment) and entropy-coded scans are.
fn parts(data: &[u8]) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let (mut tables, mut scans, mut at) = (Vec::new(), Vec::new(), 2);
    while at + 4 <= data.len() && data[at] == 0xff {
        let end = at + 2 + usize::from(data[at + 2]) * 256 + usize::from(data[at + 3]);
        tables.push(at + 4..end);
        let scan = data[at + 1] == 0xda;
        at = end;
        if scan {
            // Up to the next marker that is not a stuffed byte and not a restart.
            let marker = |w: &[u8]| w[0] == 0xff && !matches!(w[1], 0 | 0xd0..=0xd7);
            let len = data[end..].windows(2).position(marker).unwrap_or(data.len() - end);
            scans.push(end..end + len);
            at = end + len;
        }
    }
    (tables, scans)
}

/// A sound JPEG whose segments stay where they are: its scans are damaged, now and then a value in a table.
fn damaged(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let (tables, scans) = parts(seed);
    let mut out = seed.to_vec();
    if random.below(4) == 0 {
        let table = tables[random.below(tables.len())].clone();
        if !table.is_empty() {
            out[table.start + random.below(table.len())] = random.bits() as u8;
        }
    }
    // From the last scan to the first, because lengths change.
    for scan in scans.into_iter().rev().filter(|scan| !scan.is_empty()) {
        for _ in 0..random.below(5) {
            let at = scan.start + random.below(scan.len());
            let byte = random.bits() as u8;
            match random.below(8) {
                0..4 => out[at] ^= 1 << random.below(8),
                4 => out[at] = byte,
                5 => out.insert(at, byte),
                6 => out.truncate(if random.below(8) == 0 { at } else { out.len() }),
                // A restart marker, at its place or not.
                _ => drop(out.splice(at..at, [0xff, 0xd0 + byte % 8])),
            }
            if at >= out.len() {
                return out;
            }
        }
    }
    out
}

/// Every kind of JPEG that the encoder can make, with an orientation in it.
fn sound_jpegs() -> Vec<Vec<u8>> {
    use jpeg_encoder::SamplingFactor::{F_1_1, F_2_1, F_2_2};
    let mut seeds = Vec::new();
    let pixels: Vec<u8> = (0..41 * 35 * 4).map(|i| (i * 13 % 256) as u8).collect();
    for (kind, channels, progressive, sampling, restart) in [
        (ColorType::Rgb, 3, false, F_1_1, None),
        (ColorType::Rgb, 3, false, F_2_2, Some(1)),
        (ColorType::Rgb, 3, false, F_2_1, None),
        (ColorType::Rgb, 3, true, F_1_1, None),
        (ColorType::Rgb, 3, true, F_2_2, Some(2)),
        (ColorType::Luma, 1, false, F_1_1, Some(2)),
        (ColorType::Luma, 1, true, F_1_1, None),
        (ColorType::Cmyk, 4, false, F_1_1, None),
        (ColorType::CmykAsYcck, 4, false, F_2_2, None),
        (ColorType::CmykAsYcck, 4, true, F_1_1, None),
    ] {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, 60);
        encoder.set_progressive(progressive);
        encoder.set_sampling_factor(sampling);
        if let Some(interval) = restart {
            encoder.set_restart_interval(interval);
        }
        encoder
            .add_app_segment(1, b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0".to_vec())
            .unwrap();
        encoder.encode(&pixels[..41 * 35 * channels], 41, 35, kind).unwrap();
        seeds.push(out);
    }
    seeds
}

#[test]
fn jpegs() {
    let seeds = sound_jpegs();
    let sound = seeds.len();
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
    let change = |pool: &[Vec<u8>], random: &mut Random| match random.below(4) {
        0 => mutated(pool, sound, &words, random),
        _ => damaged(&pool[random.below(sound)], random),
    };
    fuzz_by("jpeg", seeds, change, |data| answer(jpeg::decode(data, Path::new("fuzz"), SMALL)));
}

#[test]
fn damaged_jpegs_keep_their_headers() {
    for seed in sound_jpegs() {
        let (tables, scans) = parts(&seed);
        assert!(tables.len() >= 5 && !scans.is_empty() && scans.iter().all(|s| s.end <= seed.len()));
        assert!(jpeg::decode(&seed, Path::new("fuzz"), SMALL).is_ok());
    }
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
