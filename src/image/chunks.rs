//! A PNG's bytes go in; a PNG of its pixels alone comes out, and beside it what the other chunks say: texts, which way
//! is up, and what of them could not be read.
//!
//! The decoder of the pixels never sees a text, a profile or a private chunk, so none of them keeps a picture from
//! being read, whatever its size and however broken it is.

use super::{Texts, exif};
use crate::error::escape;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

/// What every PNG begins with.
pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// The chunk that ends one.
const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";
/// Texts may take this many times the memory of one in all.
const TEXTS: usize = 16;
/// Notes of one file; more tell nobody anything.
const MAX_NOTES: usize = 8;

/// A PNG taken apart.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The same picture without what is not needed for its pixels.
    pub pixels: Vec<u8>,
    /// Keyword and text: plain ones, packed ones, Unicode ones, in the file's order of each kind.
    pub texts: Texts,
    /// 1 to 8.
    pub orientation: u16,
    /// The ICC profile, unpacked.
    pub profile: Option<Vec<u8>>,
    /// What could not be read.
    pub notes: Vec<String>,
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    /// Length, kind, data and checksum, as far as they are there.
    whole: &'a [u8],
}

impl Chunk<'_> {
    /// Whether a decoder has to know it, by the case of its first letter (PNG, 5.4).
    fn is_critical(&self) -> bool {
        self.kind[0] & 0x20 == 0
    }

    fn is_sound(&self) -> bool {
        let from = self.whole.len().saturating_sub(4);
        self.whole.len() == 12 + self.data.len() && self.whole[from..] == checksum(&self.whole[4..from])
    }
}

/// The chunks of a file; the last one may be cut short.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.get(SIGNATURE.len()..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk::<8>()?;
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let data = &behind[..len.min(behind.len())];
        let (whole, next) = rest.split_at(rest.len().min(12 + data.len()));
        rest = next;
        Some(Chunk { kind: [head[4], head[5], head[6], head[7]], data, whole })
    })
}

/// Takes a PNG apart. `limit` is what one text may have, unpacked.
pub(super) fn take_apart(bytes: &[u8], limit: usize) -> Parts {
    let mut parts = Parts { pixels: bytes[..bytes.len().min(SIGNATURE.len())].to_vec(), ..Parts::default() };
    let mut found = Found { limit, left: limit.saturating_mul(TEXTS), ..Found::default() };
    for chunk in chunks(bytes) {
        match &chunk.kind {
            b"IEND" => break,
            // The file may end in the checksum of its last pixels, or before: those that are there are given to the
            // decoder.
            b"IDAT" if chunk.whole.len() < 12 + chunk.data.len() => append(&mut parts.pixels, chunk.kind, chunk.data),
            b"tRNS" => parts.pixels.extend_from_slice(chunk.whole),
            b"iCCP" => parts.profile = colour_profile(&chunk).or(parts.profile),
            b"eXIf" => found.exif = exif::of_exif(chunk.data).or(found.exif),
            b"tEXt" | b"zTXt" | b"iTXt" => found.text(&chunk),
            _ if chunk.is_critical() => parts.pixels.extend_from_slice(chunk.whole),
            _ => {}
        }
    }
    parts.pixels.extend_from_slice(END);
    parts.orientation = found.exif.or(found.profile).or(found.xmp).unwrap_or(1);
    parts.texts = found.texts.into_iter().flatten().collect();
    parts.notes = found.notes;
    parts
}

/// Profiles of cameras and screens have a few KB, those of printers a few MB.
const MAX_PROFILE: usize = 8 << 20;

/// A name, how it is packed (0: zlib), and the packed profile.
fn colour_profile(chunk: &Chunk<'_>) -> Option<Vec<u8>> {
    let (_, behind) = split(chunk.data).filter(|_| chunk.is_sound())?;
    decompress_to_vec_zlib_with_limit(behind.strip_prefix(&[0])?, MAX_PROFILE).ok()
}

#[derive(Default)]
struct Found {
    limit: usize,
    /// Bytes that texts may still take.
    left: usize,
    exif: Option<u16>,
    profile: Option<u16>,
    xmp: Option<u16>,
    texts: [Texts; 3],
    notes: Vec<String>,
}

impl Found {
    fn text(&mut self, chunk: &Chunk<'_>) {
        let (keyword, behind) = split(chunk.data).unwrap_or_default();
        let keyword = latin1(keyword);
        if !chunk.is_sound() || !(1..80).contains(&keyword.chars().count()) {
            return self.note("a text is damaged".into());
        }
        let limit = self.limit.min(self.left);
        let text = match &chunk.kind {
            b"tEXt" => (behind.len() <= limit).then(|| latin1(behind)).ok_or(Fault::Long),
            b"zTXt" => packed(behind, limit).map(|text| latin1(&text)),
            _ => unicode(behind, limit),
        };
        match text {
            Ok(text) => {
                match keyword.as_str() {
                    "XML:com.adobe.xmp" => self.xmp = exif::of_xmp(text.as_bytes()).or(self.xmp),
                    "Raw profile type exif" | "Raw profile type APP1" => self.profile = exif::of_raw_profile(&text),
                    _ => {}
                }
                self.left -= text.len().min(self.left);
                let which = usize::from(&chunk.kind == b"zTXt") + 2 * usize::from(&chunk.kind == b"iTXt");
                self.texts[which].push((keyword, text));
            }
            Err(Fault::Long) if limit < self.limit => {
                self.note(format!("its text '{}' and those before it are too much and left out", escape(&keyword)));
            }
            Err(Fault::Long) => {
                let message = format!("its text '{}' is longer than {limit} bytes and left out", escape(&keyword));
                self.note(message);
            }
            Err(Fault::Broken) => self.note(format!("its text '{}' is damaged", escape(&keyword))),
        }
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        }
    }
}

/// Why a text is not read.
enum Fault {
    Long,
    Broken,
}

/// What is before and behind the first zero.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = data.iter().position(|b| *b == 0)?;
    Some((&data[..at], &data[at + 1..]))
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

/// A method and packed bytes. UTF-8 makes Latin-1 twice as long at most.
fn packed(data: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    let Some((0, packed)) = data.split_first() else { return Err(Fault::Broken) };
    decompress_to_vec_zlib_with_limit(packed, limit).map_err(|e| match e.status {
        miniz_oxide::inflate::TINFLStatus::HasMoreOutput => Fault::Long,
        _ => Fault::Broken,
    })
}

/// Whether it is packed, the method, a language, a translated keyword, the text (PNG, 11.3.3.4).
fn unicode(data: &[u8], limit: usize) -> Result<String, Fault> {
    let (&is_packed, behind) = data.split_first().ok_or(Fault::Broken)?;
    let (_, behind_method) = behind.split_first().ok_or(Fault::Broken)?;
    let (_, translated) = split(behind_method).ok_or(Fault::Broken)?;
    let (_, text) = split(translated).ok_or(Fault::Broken)?;
    let text = match is_packed {
        0 if text.len() > limit => return Err(Fault::Long),
        0 => text.to_vec(),
        1 => packed(&[&behind[..1], text].concat(), limit)?,
        _ => return Err(Fault::Broken),
    };
    String::from_utf8(text).map_err(|_| Fault::Broken)
}

/// A chunk with its length and checksum.
fn append(out: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    let from = out.len();
    out.extend_from_slice(&kind);
    out.extend_from_slice(data);
    let sum = checksum(&out[from..]);
    out.extend_from_slice(&sum);
}

/// CRC-32 as PNG, annex D, defines it, in the file's byte order.
fn checksum(data: &[u8]) -> [u8; 4] {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let (mut c, mut bit) = (n as u32, 0);
            while bit < 8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
                bit += 1;
            }
            table[n] = c;
            n += 1;
        }
        table
    };
    let sum = data.iter().fold(u32::MAX, |c, b| TABLE[(c as u8 ^ b) as usize] ^ (c >> 8));
    (!sum).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_has_the_published_checksum() {
        let mut end = Vec::new();
        append(&mut end, *b"IEND", &[]);
        assert_eq!(end, END);
    }

    #[test]
    fn cut_and_empty_files_have_few_chunks_or_none() {
        for bytes in [&b""[..], SIGNATURE, b"\x89PNG\r\n\x1a\n\0\0\0", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIDAT"] {
            assert!(chunks(bytes).count() <= 1);
            let parts = take_apart(bytes, 10);
            assert!(parts.pixels.len() <= bytes.len() + 24 && parts.texts.is_empty());
        }
    }
}
