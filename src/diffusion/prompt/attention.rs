//! A prompt's text goes in, pieces with their weights come out: the webui's attention syntax.
//!
//! `(x)` is 1.1 times as strong, `[x]` 1.1 times weaker, `(x:1.3)` exactly 1.3 times; what is nested multiplies. A
//! bracket that is never closed holds to the end, one that was never opened is text. `\(`, `\[`, `\)`, `\]` and `\\`
//! are the characters themselves, and a lone backslash vanishes. The word `BREAK` begins a new chunk.

/// A part of a prompt with one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Its text, without brackets and backslashes.
    pub text: String,
    /// What its tokens' embeddings are multiplied by.
    pub weight: f64,
}

/// The weight by which [`parse`] marks a `BREAK`; brackets multiply it like any other, and then it is a word.
const BREAK_WEIGHT: f64 = -1.0;
const BREAK: &str = "BREAK";
const ROUND: f64 = 1.1;
const SQUARE: f64 = 1.0 / 1.1;

impl Piece {
    /// Whether it is no text, but the end of a chunk.
    pub fn is_break(&self) -> bool {
        self.weight == BREAK_WEIGHT && self.text == BREAK
    }
}

/// What the scanner finds, in the order of the text.
enum Part<'a> {
    Text(&'a str),
    Break,
    /// A bracket that is opened, with its number among those of its shape.
    Round(usize),
    RoundEnd,
    Square,
    SquareEnd,
}

/// The pieces of a prompt; neighbours of equal weight are one piece. There is always at least one. Linear in the text.
pub fn parse(text: &str) -> Vec<Piece> {
    let mut scanner = Scanner::default();
    scanner.scan(text);
    scanner.pieces()
}

#[derive(Default)]
struct Scanner<'a> {
    parts: Vec<Part<'a>>,
    /// The factor of each round bracket.
    factors: Vec<f64>,
    /// Round brackets that are open.
    open: Vec<usize>,
    /// How many square brackets are open.
    squares: usize,
}

impl<'a> Scanner<'a> {
    fn scan(&mut self, mut rest: &'a str) {
        while let Some(c) = rest.chars().next() {
            let length = match c {
                '\\' => self.escape(rest),
                '(' => {
                    self.parts.push(Part::Round(self.factors.len()));
                    self.open.push(self.factors.len());
                    self.factors.push(ROUND);
                    1
                }
                '[' => {
                    self.parts.push(Part::Square);
                    self.squares += 1;
                    1
                }
                ')' if !self.open.is_empty() => self.close(ROUND, 1),
                ']' if self.squares > 0 => {
                    self.squares -= 1;
                    self.parts.push(Part::SquareEnd);
                    1
                }
                ':' => match explicit_weight(rest) {
                    Some((weight, length)) if !self.open.is_empty() => self.close(weight, length),
                    _ => self.text(&rest[..1]),
                },
                ')' | ']' => self.text(&rest[..1]),
                _ => {
                    let end = rest.find(['\\', '(', ')', '[', ']', ':']).unwrap_or(rest.len());
                    self.text(&rest[..end])
                }
            };
            rest = &rest[length..];
        }
    }

    /// A backslash with what it protects; gives the number of bytes.
    fn escape(&mut self, rest: &'a str) -> usize {
        match rest.as_bytes().get(1) {
            Some(b'(' | b')' | b'[' | b']' | b'\\') => {
                self.parts.push(Part::Text(&rest[1..2]));
                2
            }
            _ => 1,
        }
    }

    fn close(&mut self, factor: f64, length: usize) -> usize {
        if let Some(bracket) = self.open.pop() {
            self.factors[bracket] = factor;
        }
        self.parts.push(Part::RoundEnd);
        length
    }

    /// Text without brackets, cut at the word `BREAK` and its spaces.
    fn text(&mut self, text: &'a str) -> usize {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let mut from = 0;
        for (at, word) in text.match_indices(BREAK) {
            let end = at + word.len();
            if text[..at].ends_with(is_word) || text[end..].starts_with(is_word) {
                continue;
            }
            let before = text[from..at].trim_end();
            self.parts.extend([Part::Text(if from == 0 { before } else { before.trim_start() }), Part::Break]);
            from = end;
        }
        let last = &text[from..];
        self.parts.push(Part::Text(if from == 0 { last } else { last.trim_start() }));
        text.len()
    }

    /// Multiplies every part by the brackets around it. The two shapes need not nest in each other, so each has its own
    /// stack of products.
    fn pieces(self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        let (mut round, mut square) = (vec![1.0], vec![1.0]);
        let inner = |stack: &[f64]| stack.last().copied().unwrap_or(1.0);
        for part in self.parts {
            let (text, own) = match part {
                Part::Text("") => continue,
                Part::Text(text) => (text, 1.0),
                Part::Break => (BREAK, BREAK_WEIGHT),
                Part::Round(bracket) => {
                    round.push(inner(&round) * self.factors[bracket]);
                    continue;
                }
                Part::Square => {
                    square.push(inner(&square) * SQUARE);
                    continue;
                }
                Part::RoundEnd | Part::SquareEnd => {
                    let stack = if matches!(part, Part::RoundEnd) { &mut round } else { &mut square };
                    stack.pop();
                    continue;
                }
            };
            let weight = own * (inner(&round) * inner(&square));
            let piece = Piece { text: text.to_string(), weight };
            match pieces.last_mut() {
                Some(last) if last.weight == weight && !last.is_break() && !piece.is_break() => last.text += text,
                _ => pieces.push(piece),
            }
        }
        if pieces.is_empty() {
            pieces.push(Piece { text: String::new(), weight: 1.0 });
        }
        pieces
    }
}

/// A `:1.3)` at the front: the number, and the bytes of all of it.
fn explicit_weight(rest: &str) -> Option<(f64, usize)> {
    let number = rest[1..].trim_start();
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    let after = digits.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let value: f64 = number[..number.len() - after.len()].parse().ok()?;
    let end = after.trim_start().strip_prefix(')')?;
    value.is_finite().then_some((value, rest.len() - end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[(&str, f64)]) {
        let got = parse(text);
        let same = got.len() == want.len()
            && got.iter().zip(want).all(|(g, w)| g.text == w.0 && (g.weight - w.1).abs() < 1e-9);
        assert!(same, "{text:?}: {got:?}");
    }

    #[test]
    fn the_documented_cases() {
        check("normal text", &[("normal text", 1.0)]);
        check("an (important) word", &[("an ", 1.0), ("important", 1.1), (" word", 1.0)]);
        check("(unbalanced", &[("unbalanced", 1.1)]);
        check(r"\(literal\]", &[("(literal]", 1.0)]);
        check("(unnecessary)(parens)", &[("unnecessaryparens", 1.1)]);
        check(
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            &[
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        );
        check("", &[("", 1.0)]);
        check("()[]", &[("", 1.0)]);
    }

    #[test]
    fn what_does_not_fit_is_text() {
        check("a) b] :1.2) c", &[("a) b] :1.2) c", 1.0)]);
        check("(a:b) (c:1.2.3) (d: -.5 )", &[("a:b", 1.1), (" ", 1.0), ("c:1.2.3", 1.1), (" ", 1.0), ("d", -0.5)]);
        check(r"C:\dir \\ \x", &[(r"C:dir \ x", 1.0)]);
        check("[a", &[("a", 1.0 / 1.1)]);
        // Brackets of two shapes that cross.
        check("(a[b)c]d", &[("a", 1.1), ("b", 1.0), ("c", 1.0 / 1.1), ("d", 1.0)]);
    }

    #[test]
    fn break_is_a_word_of_its_own() {
        check("a  BREAK  b", &[("a", 1.0), ("BREAK", -1.0), ("b", 1.0)]);
        check("BREAK BREAK,", &[("BREAK", -1.0), ("BREAK", -1.0), (",", 1.0)]);
        check("BREAKFAST aBREAK BREAK_", &[("BREAKFAST aBREAK BREAK_", 1.0)]);
        // Inside of brackets it is multiplied, and lost as a break.
        check("(a BREAK b)", &[("a", 1.1), ("BREAK", -1.1), ("b", 1.1)]);
        assert!(parse("a BREAK b")[1].is_break() && !parse("(a BREAK b)")[1].is_break());
    }
}
