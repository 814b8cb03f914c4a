//! A line of text goes in, dots on a picture come out: ASCII and Latin letters with accents, 5 x 7 dots each.
//!
//! A character's cell is 6 x 12 dots: two rows for the accents of capitals, seven for the letter, two for what hangs
//! below the line, one of space.

use crate::image::Image;
use unicode_normalization::UnicodeNormalization as _;

/// Dots of a character's cell.
pub const CELL: (usize, usize) = (6, 12);
/// Rows above a letter.
const ABOVE: usize = 2;

/// Seven rows from the top and two below the line, the leftmost dot in bit 4; from the space to the tilde.
#[rustfmt::skip]
const GLYPHS: [[u8; 9]; 95] = [
    [0; 9], // space
    [4, 4, 4, 4, 4, 0, 4, 0, 0], // !
    [10, 10, 10, 0, 0, 0, 0, 0, 0], // "
    [10, 10, 31, 10, 31, 10, 10, 0, 0], // #
    [4, 15, 20, 14, 5, 30, 4, 0, 0], // $
    [24, 25, 2, 4, 8, 19, 3, 0, 0], // %
    [12, 18, 20, 8, 21, 18, 13, 0, 0], // &
    [4, 4, 8, 0, 0, 0, 0, 0, 0], // '
    [2, 4, 8, 8, 8, 4, 2, 0, 0], // (
    [8, 4, 2, 2, 2, 4, 8, 0, 0], // )
    [0, 4, 21, 14, 21, 4, 0, 0, 0], // *
    [0, 4, 4, 31, 4, 4, 0, 0, 0], // +
    [0, 0, 0, 0, 0, 12, 4, 8, 0], // ,
    [0, 0, 0, 31, 0, 0, 0, 0, 0], // -
    [0, 0, 0, 0, 0, 12, 12, 0, 0], // .
    [0, 1, 2, 4, 8, 16, 0, 0, 0], // /
    [14, 17, 19, 21, 25, 17, 14, 0, 0], // 0
    [4, 12, 4, 4, 4, 4, 14, 0, 0], // 1
    [14, 17, 1, 2, 4, 8, 31, 0, 0], // 2
    [31, 2, 4, 2, 1, 17, 14, 0, 0], // 3
    [2, 6, 10, 18, 31, 2, 2, 0, 0], // 4
    [31, 16, 30, 1, 1, 17, 14, 0, 0], // 5
    [6, 8, 16, 30, 17, 17, 14, 0, 0], // 6
    [31, 1, 2, 4, 8, 8, 8, 0, 0], // 7
    [14, 17, 17, 14, 17, 17, 14, 0, 0], // 8
    [14, 17, 17, 15, 1, 2, 12, 0, 0], // 9
    [0, 12, 12, 0, 12, 12, 0, 0, 0], // :
    [0, 12, 12, 0, 0, 12, 4, 8, 0], // ;
    [2, 4, 8, 16, 8, 4, 2, 0, 0], // <
    [0, 0, 31, 0, 31, 0, 0, 0, 0], // =
    [8, 4, 2, 1, 2, 4, 8, 0, 0], // >
    [14, 17, 1, 2, 4, 0, 4, 0, 0], // ?
    [14, 17, 1, 13, 21, 21, 14, 0, 0], // @
    [14, 17, 17, 17, 31, 17, 17, 0, 0], // A
    [30, 17, 17, 30, 17, 17, 30, 0, 0], // B
    [14, 17, 16, 16, 16, 17, 14, 0, 0], // C
    [28, 18, 17, 17, 17, 18, 28, 0, 0], // D
    [31, 16, 16, 30, 16, 16, 31, 0, 0], // E
    [31, 16, 16, 30, 16, 16, 16, 0, 0], // F
    [14, 17, 16, 23, 17, 17, 15, 0, 0], // G
    [17, 17, 17, 31, 17, 17, 17, 0, 0], // H
    [14, 4, 4, 4, 4, 4, 14, 0, 0], // I
    [7, 2, 2, 2, 2, 18, 12, 0, 0], // J
    [17, 18, 20, 24, 20, 18, 17, 0, 0], // K
    [16, 16, 16, 16, 16, 16, 31, 0, 0], // L
    [17, 27, 21, 21, 17, 17, 17, 0, 0], // M
    [17, 17, 25, 21, 19, 17, 17, 0, 0], // N
    [14, 17, 17, 17, 17, 17, 14, 0, 0], // O
    [30, 17, 17, 30, 16, 16, 16, 0, 0], // P
    [14, 17, 17, 17, 21, 18, 13, 0, 0], // Q
    [30, 17, 17, 30, 20, 18, 17, 0, 0], // R
    [15, 16, 16, 14, 1, 1, 30, 0, 0], // S
    [31, 4, 4, 4, 4, 4, 4, 0, 0], // T
    [17, 17, 17, 17, 17, 17, 14, 0, 0], // U
    [17, 17, 17, 17, 17, 10, 4, 0, 0], // V
    [17, 17, 17, 21, 21, 21, 10, 0, 0], // W
    [17, 17, 10, 4, 10, 17, 17, 0, 0], // X
    [17, 17, 17, 10, 4, 4, 4, 0, 0], // Y
    [31, 1, 2, 4, 8, 16, 31, 0, 0], // Z
    [14, 8, 8, 8, 8, 8, 14, 0, 0], // [
    [0, 16, 8, 4, 2, 1, 0, 0, 0], // backslash
    [14, 2, 2, 2, 2, 2, 14, 0, 0], // ]
    [4, 10, 17, 0, 0, 0, 0, 0, 0], // ^
    [0, 0, 0, 0, 0, 0, 0, 31, 0], // _
    [8, 4, 2, 0, 0, 0, 0, 0, 0], // `
    [0, 0, 14, 1, 15, 17, 15, 0, 0], // a
    [16, 16, 22, 25, 17, 17, 30, 0, 0], // b
    [0, 0, 14, 16, 16, 17, 14, 0, 0], // c
    [1, 1, 13, 19, 17, 17, 15, 0, 0], // d
    [0, 0, 14, 17, 31, 16, 14, 0, 0], // e
    [6, 9, 8, 28, 8, 8, 8, 0, 0], // f
    [0, 0, 15, 17, 17, 17, 15, 1, 14], // g
    [16, 16, 22, 25, 17, 17, 17, 0, 0], // h
    [4, 0, 12, 4, 4, 4, 14, 0, 0], // i
    [2, 0, 6, 2, 2, 2, 2, 18, 12], // j
    [16, 16, 18, 20, 24, 20, 18, 0, 0], // k
    [12, 4, 4, 4, 4, 4, 14, 0, 0], // l
    [0, 0, 26, 21, 21, 17, 17, 0, 0], // m
    [0, 0, 22, 25, 17, 17, 17, 0, 0], // n
    [0, 0, 14, 17, 17, 17, 14, 0, 0], // o
    [0, 0, 30, 17, 17, 17, 30, 16, 16], // p
    [0, 0, 15, 17, 17, 17, 15, 1, 1], // q
    [0, 0, 22, 25, 16, 16, 16, 0, 0], // r
    [0, 0, 15, 16, 14, 1, 30, 0, 0], // s
    [8, 8, 28, 8, 8, 9, 6, 0, 0], // t
    [0, 0, 17, 17, 17, 19, 13, 0, 0], // u
    [0, 0, 17, 17, 17, 10, 4, 0, 0], // v
    [0, 0, 17, 17, 21, 21, 10, 0, 0], // w
    [0, 0, 17, 10, 4, 10, 17, 0, 0], // x
    [0, 0, 17, 17, 17, 17, 15, 1, 14], // y
    [0, 0, 31, 2, 4, 8, 31, 0, 0], // z
    [2, 4, 4, 8, 4, 4, 2, 0, 0], // {
    [4, 4, 4, 4, 4, 4, 4, 0, 0], // |
    [8, 4, 4, 2, 4, 4, 8, 0, 0], // }
    [0, 0, 8, 21, 2, 0, 0, 0, 0], // ~
];

/// What is none of them.
const UNKNOWN: [u8; 9] = [31, 17, 17, 17, 17, 17, 31, 0, 0];

fn glyph(c: char) -> [u8; 9] {
    match c {
        '¿' => [4, 0, 4, 8, 16, 17, 14, 0, 0],
        '¡' => [4, 0, 4, 4, 4, 4, 4, 0, 0],
        // The letter that takes an accent in the place of its dot.
        'ı' => [0, 0, 12, 4, 4, 4, 14, 0, 0],
        ' '..='~' => GLYPHS[c as usize - ' ' as usize],
        _ => UNKNOWN,
    }
}

/// Two rows of a combining mark.
fn mark(c: char) -> Option<[u8; 2]> {
    match c {
        '\u{300}' => Some([8, 4]),
        '\u{301}' => Some([2, 4]),
        '\u{302}' => Some([4, 10]),
        '\u{303}' => Some([13, 18]),
        '\u{308}' => Some([10, 0]),
        _ => None,
    }
}

/// The characters of a text as they are drawn: each with the marks above it.
fn characters(text: &str) -> Vec<(char, Option<[u8; 2]>)> {
    let mut out: Vec<(char, Option<[u8; 2]>)> = Vec::new();
    for c in text.nfd() {
        match (mark(c), out.last_mut()) {
            (Some(rows), Some(last)) => *last = (if last.0 == 'i' { 'ı' } else { last.0 }, Some(rows)),
            _ => out.push((c, None)),
        }
    }
    out
}

/// Draws one line with its top left corner at `(x, y)`, each dot `size` pixels; what is
/// outside of the picture is left out.
pub fn draw(image: &mut Image, text: &str, (x, y): (usize, usize), size: usize) {
    for (i, (c, mark)) in characters(text).into_iter().enumerate() {
        let left = x + i * CELL.0 * size;
        let rows = glyph(c);
        for (row, bits) in rows.into_iter().enumerate() {
            dots(image, bits, (left, y + (ABOVE + row) * size), size);
        }
        // Capitals have theirs above, small letters in the two rows that they leave free.
        let top = if rows[0] == 0 && rows[1] == 0 { ABOVE } else { 0 };
        for (row, bits) in mark.into_iter().flatten().enumerate() {
            dots(image, bits, (left, y + (top + row) * size), size);
        }
    }
}

fn dots(image: &mut Image, bits: u8, (x, y): (usize, usize), size: usize) {
    for column in (0..5).filter(|column| bits >> (4 - column) & 1 == 1) {
        for (dy, dx) in (0..size * size).map(|i| (i / size, i % size)) {
            let (px, py) = (x + column * size + dx, y + dy);
            if px < image.width && py < image.height {
                let at = 3 * (py * image.width + px);
                image.rgb[at..at + 3].fill(32);
            }
        }
    }
}

/// Cuts a text into lines of at most `columns` characters, between words where that is possible, and into at most
/// `most` lines; what is left out shows as dots.
pub fn wrap(text: &str, columns: usize, most: usize) -> Vec<String> {
    let columns = columns.max(4);
    let mut lines = vec![String::new()];
    let length = |s: &str| characters(s).len();
    for word in text.nfc().collect::<String>().split_whitespace() {
        let mut word = word.to_string();
        while let Some(last) = lines.last_mut() {
            let space = usize::from(!last.is_empty());
            if length(last) + space + length(&word) <= columns {
                last.push_str(&" "[..space]);
                last.push_str(&word);
                break;
            }
            if last.is_empty() {
                let rest = word.chars().skip(columns).collect();
                last.extend(word.chars().take(columns));
                word = rest;
            }
            lines.push(String::new());
        }
    }
    lines.retain(|l| !l.is_empty());
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(columns - 3).chain("...".chars()).collect();
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> Image {
        let mut image = Image { width: 60, height: 12, rgb: vec![255; 60 * 12 * 3] };
        draw(&mut image, text, (0, 0), 1);
        image
    }

    #[test]
    fn every_character_has_its_own_shape() {
        let all: Vec<char> = (' '..='~').chain("áéíóúüñÁÉÍÓÚÜÑ¿¡猫".chars()).collect();
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| drawn(&a.to_string()) != drawn(&b.to_string())), "{a}");
        }
        // Composed or not, an accent takes no place of its own.
        assert!(drawn("áx") == drawn("a\u{301}x"));
    }

    #[test]
    fn lines_are_cut_between_words() {
        assert_eq!(wrap("a red apple on grass", 9, 9), ["a red", "apple on", "grass"]);
        assert_eq!(wrap("incomprehensible", 8, 9), ["incompre", "hensible"]);
        assert_eq!(wrap("one two three", 5, 2), ["one", "tw..."]);
        assert!(wrap("", 8, 3).is_empty());
    }
}
