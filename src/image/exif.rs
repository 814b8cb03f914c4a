//! What a camera or an editor wrote beside a picture goes in; which way is up comes out, and the picture turned so.

use super::Image;

/// The orientation, 1 to 8, of an EXIF block (from its TIFF header on): tag 0x0112 of the first directory.
///
/// Source: Exif 2.32, 4.6.4 and 4.6.2; TIFF 6.0, section 2. The tag is a SHORT; some programs write a LONG or a BYTE.
pub(super) fn of_exif(exif: &[u8]) -> Option<u16> {
    // PNG leaves JPEG's marker out; some writers do not.
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
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
    let bytes = match uint(entry + 2, 2)? {
        1 => 1,
        3 => 2,
        4 => 4,
        _ => return None,
    };
    let one = uint(entry + 4, 4)? == 1;
    u16::try_from(uint(entry + 8, bytes)?).ok().filter(|turn| one && (1..=8).contains(turn))
}

/// The orientation in an XMP packet: `tiff:Orientation`, as an attribute or as an element. A packet is looked through,
/// not parsed: it may be larger and odder than any XML reader likes.
///
/// Source: XMP specification part 2, 3.3 (the TIFF namespace).
pub(super) fn of_xmp(packet: &[u8]) -> Option<u16> {
    const NAME: &[u8] = b"tiff:Orientation";
    let behind = packet.windows(NAME.len()).position(|w| w == NAME)? + NAME.len();
    let value = packet.get(behind..)?;
    let value = [&b"=\""[..], b"='", b">"].iter().find_map(|opening| value.strip_prefix(*opening))?;
    let (digit, rest) = value.split_first()?;
    let alone = !rest.first().is_some_and(u8::is_ascii_digit);
    (alone && (b'1'..=b'8').contains(digit)).then(|| u16::from(digit - b'0'))
}

/// The EXIF block in the text that ImageMagick writes into PNG: a line break, `exif`, the length, lines of hex digits.
pub(super) fn of_raw_profile(text: &str) -> Option<u16> {
    let digits = text.trim_start().split_once('\n')?.1.trim_start().split_once('\n')?.1;
    // The first directory lies near the front.
    let hex: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).take(1 << 16).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let exif: Option<Vec<u8>> = hex.chunks_exact(2).map(byte).collect();
    of_exif(&exif?)
}

/// Turns and mirrors a picture by its orientation.
pub(super) fn upright(image: Image, turn: u16) -> Image {
    let (rgb, width, height) = turned(image.rgb, (image.width, image.height), 3, turn);
    Image { width, height, rgb }
}

/// Pixels of `size` bytes each, `w` by `h` of them, turned and mirrored; and their new width and height.
pub(super) fn turned<T: Copy>(
    pixels: Vec<T>,
    (w, h): (usize, usize),
    size: usize,
    turn: u16,
) -> (Vec<T>, usize, usize) {
    if turn <= 1 {
        return (pixels, w, h);
    }
    let (width, height) = if turn >= 5 { (h, w) } else { (w, h) };
    let mut out = Vec::with_capacity(pixels.len());
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
            let at = (sy * w + sx) * size;
            out.extend_from_slice(&pixels[at..at + size]);
        }
    }
    (out, width, height)
}

/// An EXIF block with one orientation of this type (3 SHORT, 4 LONG), for tests.
#[cfg(test)]
pub(super) fn example(turn: u8, little: bool, kind: u8) -> Vec<u8> {
    let mut e = if little { b"II*\0\x08\0\0\0\x01\0".to_vec() } else { b"MM\0*\0\0\0\x08\0\x01".to_vec() };
    match (little, kind) {
        (true, kind) => e.extend([0x12, 1, kind, 0, 1, 0, 0, 0, turn, 0, 0, 0]),
        (false, 4) => e.extend([1, 0x12, 0, 4, 0, 0, 0, 1, 0, 0, 0, turn]),
        (false, kind) => e.extend([1, 0x12, 0, kind, 0, 0, 0, 1, 0, turn, 0, 0]),
    }
    e
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn an_orientation_is_found_in_every_form_and_never_beyond_the_block() {
        for (little, kind) in [(true, 3), (false, 3), (true, 4), (false, 4)] {
            let block = example(6, little, kind);
            assert_eq!(of_exif(&block), Some(6), "{little} {kind}");
            assert_eq!(of_exif(&[b"Exif\0\0", &block[..]].concat()), Some(6));
            for cut in 0..20 {
                assert_eq!(of_exif(&block[..cut]), None, "{cut}");
            }
        }
        assert_eq!(of_exif(&example(9, true, 3)), None);
        assert_eq!(of_exif(&example(6, true, 5)), None);
        assert_eq!(of_exif(b"II*\0\xff\xff\xff\xff"), None);
        let hex: String = example(8, false, 3).iter().map(|b| format!("{b:02x}")).collect();
        let (first, second) = hex.split_at(30);
        assert_eq!(of_raw_profile(&format!("\nexif\n      22\n{first}\n{second}\n")), Some(8));
        assert_eq!(of_raw_profile("\nexif"), None);
        for (packet, want) in [
            (&b"<rdf:Description tiff:Orientation=\"3\" x=\"1\"/>"[..], Some(3)),
            (b"<x tiff:Orientation='8'/>", Some(8)),
            (b"<tiff:Orientation>5</tiff:Orientation>", Some(5)),
            (b"<tiff:Orientation>9</tiff:Orientation>", None),
            (b"<tiff:Orientation>16</tiff:Orientation>", None),
            (b"tiff:Orientation=\"", None),
            (b"tiff:Orientation", None),
            (b"", None),
        ] {
            assert_eq!(of_xmp(packet), want, "{}", String::from_utf8_lossy(packet));
        }
    }
}
