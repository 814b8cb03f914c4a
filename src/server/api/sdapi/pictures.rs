//! Pictures as texts go in, their bytes come out, and back: base64, plain or behind `data:image/...;base64,`.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Reads with and without padding at the end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes of a picture that was sent as a text.
///
/// # Errors
/// In words: a URL, which is never fetched; another kind of `data:`; no base64; nothing.
pub(crate) fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    let begins = |with: &str| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    if begins("http:") || begins("https:") || begins("file:") || begins("ftp:") {
        return Err("Invalid image url: pictures are never fetched, send the picture itself as base64".into());
    }
    let data = if begins("data:") {
        let (head, data) = text.split_once(',').unwrap_or((text, ""));
        let head = head.to_ascii_lowercase();
        if !head.starts_with("data:image/") || !head.ends_with(";base64") {
            return Err("Invalid encoded image: only data:image/...;base64, is read".into());
        }
        data
    } else {
        text
    };
    let plain: Vec<u8> = data.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    if plain.is_empty() {
        return Err("Invalid encoded image: there is nothing in it".into());
    }
    LENIENT.decode(plain).map_err(|e| format!("Invalid encoded image: it is no base64: {e}"))
}

/// Bytes as base64.
pub(crate) fn base64_of(bytes: &[u8]) -> String {
    LENIENT.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_read_in_the_forms_that_clients_send() {
        let text = base64_of(b"a picture!");
        for form in [
            text.clone(),
            format!("data:image/png;base64,{text}"),
            format!("DATA:image/jpeg;base64,{text}"),
            format!(" {}\r\n{} ", &text[..4], &text[4..]),
            text.trim_end_matches('=').to_owned(),
        ] {
            assert_eq!(bytes_of(&form).unwrap(), b"a picture!", "{form}");
        }
    }

    #[test]
    fn nothing_is_fetched_and_nothing_is_guessed() {
        for (text, why) in [
            ("http://127.0.0.1/a.png", "never fetched"),
            ("HTTPS://example.org/a.png", "never fetched"),
            ("file:///etc/passwd", "never fetched"),
            ("data:text/html;base64,AAAA", "only data:image"),
            ("data:image/png,AAAA", "only data:image"),
            ("data:image/png;base64,", "nothing in it"),
            ("", "nothing in it"),
            ("!!!not base64!!!", "no base64"),
            ("/etc/passwd!", "no base64"),
        ] {
            let told = bytes_of(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
