//! A prompt goes in; its AND branches, and for each the texts that hold until certain steps, come out.
//!
//! `[a:b:n]` is a until step n and b from then on, `[b:n]` and `[a::n]` lack one of the two, and `[a|b]` changes at
//! every step. n is a number of steps; below 1, or written with a point, a fraction of
//! them. `x AND y :0.5` guides by both.
//!
//! As the webui documents it, a is there for the first n steps, all of them, and `[a|b]` is a in step 1 and b in
//! step 2. A step is the sampler's: where it evaluates the model twice, both evaluations have one text. (The webui's
//! own two-call samplers are reported to alternate at every evaluation, its issue 6870, which its documentation does
//! not say.) In img2img the first step that is run counts as step 1, and fractions are
//! of the steps that were asked for.

use crate::error::{Error, Result};

/// Longest prompt, in bytes: far beyond what any chunk limit lets through.
pub const MAX_BYTES: usize = 64 << 10;
/// More branches than anybody waits for: each is an evaluation of the U-Net.
const MAX_BRANCHES: usize = 20;
/// Prompt editing inside of prompt editing.
const MAX_DEPTH: usize = 32;

/// The text of a prompt until a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The last step that it holds for, from 1.
    pub until: usize,
    /// The text, attention syntax included.
    pub text: String,
}

/// The branches of a prompt with their weights: mostly one, of weight 1.
///
/// A weight is only read where there is an `AND`: a prompt that happens to end in `16:9` is a text.
pub fn branches(prompt: &str) -> Result<Vec<(&str, f32)>> {
    if prompt.len() > MAX_BYTES {
        let (n, most) = (prompt.len(), MAX_BYTES >> 10);
        return Err(Error::usage(format!("a prompt of {n} bytes is too long: at most {most} KiB are read")));
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut parts, mut from) = (Vec::new(), 0);
    for (at, word) in prompt.match_indices("AND") {
        let end = at + word.len();
        if !prompt[..at].ends_with(is_word) && !prompt[end..].starts_with(is_word) {
            parts.push(&prompt[from..at]);
            from = end;
        }
    }
    parts.push(&prompt[from..]);
    match parts[..] {
        [_] => Ok(vec![(prompt, 1.0)]),
        _ if parts.len() > MAX_BRANCHES => {
            let n = parts.len();
            Err(Error::usage(format!("{n} prompts are joined by AND; at most {MAX_BRANCHES} are possible")))
        }
        _ => parts.into_iter().map(|part| weighted(part).map_err(Error::usage)).collect(),
    }
}

/// `text :0.5` as its two halves.
fn weighted(part: &str) -> Result<(&str, f32), String> {
    let Some((text, number)) = part.rsplit_once(':') else { return Ok((part, 1.0)) };
    let number = number.trim();
    if !is_number(number) {
        return Ok((part, 1.0));
    }
    match number.parse::<f32>() {
        Ok(weight) if weight.abs() <= 100.0 => Ok((text, weight)),
        _ => Err(format!("the weight {number} of an AND is out of range: use -100 to 100")),
    }
}

/// The texts of one branch over `steps` steps; the last one holds to the end, whatever number it has.
///
/// # Errors
/// Usage: prompt editing that is nested too deeply.
pub fn spans(text: &str, steps: usize) -> Result<Vec<Span>> {
    let steps = steps.max(1);
    let items = Parser::new(text, steps).parse()?;
    let mut ends = Ends { at: vec![false; steps + 1], steps };
    ends.at[steps] = true;
    items.iter().for_each(|item| ends.note(item));
    let mut spans: Vec<Span> = Vec::new();
    for until in (1..=steps).filter(|&step| ends.at[step]) {
        let mut text = String::new();
        items.iter().for_each(|item| item.write(until, &mut text));
        match spans.last_mut() {
            Some(last) if last.text == text => last.until = until,
            _ => spans.push(Span { until, text }),
        }
    }
    Ok(spans)
}

enum Item<'a> {
    Text(&'a str),
    Edit { before: Vec<Item<'a>>, after: Vec<Item<'a>>, when: usize, depth: usize },
    Turns { options: Vec<Vec<Item<'a>>>, depth: usize },
}

impl Item<'_> {
    fn depth(&self) -> usize {
        match self {
            Self::Text(_) => 0,
            Self::Edit { depth, .. } | Self::Turns { depth, .. } => *depth,
        }
    }

    /// Appends what it is at a step, from 1.
    fn write(&self, step: usize, out: &mut String) {
        let chosen = match self {
            Self::Text(text) => return out.push_str(text),
            Self::Edit { before, after, when, .. } => {
                if step <= *when {
                    before
                } else {
                    after
                }
            }
            Self::Turns { options, .. } => &options[(step - 1) % options.len()],
        };
        chosen.iter().for_each(|item| item.write(step, out));
    }
}

/// The steps after which something changes.
struct Ends {
    at: Vec<bool>,
    steps: usize,
}

impl Ends {
    fn note(&mut self, item: &Item<'_>) {
        match item {
            Item::Text(_) => {}
            Item::Edit { before, after, when, .. } => {
                self.at[(*when).min(self.steps)] = true;
                before.iter().chain(after).for_each(|item| self.note(item));
            }
            Item::Turns { options, .. } => {
                self.at.fill(true);
                options.iter().flatten().for_each(|item| self.note(item));
            }
        }
    }
}

/// An open bracket: where its content begins among the items, and its separators at this level.
struct Frame {
    square: bool,
    first: usize,
    /// Index of the item, and whether it is a colon (else a bar).
    marks: Vec<(usize, bool)>,
}

/// Reads a text once from left to right. All items lie in one list, so that brackets that
/// turn out to be text cost nothing.
struct Parser<'a> {
    text: &'a str,
    steps: usize,
    items: Vec<Item<'a>>,
    frames: Vec<Frame>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, steps: usize) -> Self {
        Self { text, steps, items: Vec::new(), frames: Vec::new() }
    }

    fn parse(mut self) -> Result<Vec<Item<'a>>> {
        let mut rest = self.text;
        while let Some(c) = rest.chars().next() {
            let length = match c {
                '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
                '(' | ')' | '[' | ']' | ':' | '|' => 1,
                _ => rest.find(['\\', '(', ')', '[', ']', ':', '|']).unwrap_or(rest.len()),
            };
            let (token, after) = rest.split_at(length);
            rest = after;
            match c {
                '(' | '[' => {
                    self.items.push(Item::Text(token));
                    self.frames.push(Frame { square: c == '[', first: self.items.len(), marks: Vec::new() });
                    continue;
                }
                ':' | '|' => {
                    if let Some(frame) = self.frames.last_mut().filter(|f| f.square) {
                        frame.marks.push((self.items.len(), c == ':'));
                    }
                }
                ')' | ']' => match self.frames.pop() {
                    Some(frame) if frame.square && c == ']' => {
                        if let Some(item) = self.close(&frame)? {
                            self.items.push(item);
                            continue;
                        }
                    }
                    Some(frame) if !frame.square && c == ')' => {}
                    // A bracket of the wrong shape: nothing that is open can reach across it.
                    _ => self.frames.clear(),
                },
                _ => {}
            }
            self.items.push(Item::Text(token));
        }
        Ok(self.items)
    }

    /// Takes the content of `[...]` out of the items, its opening bracket too, if it is editing or alternation.
    fn close(&mut self, frame: &Frame) -> Result<Option<Item<'a>>> {
        let colons = frame.marks.iter().filter(|m| m.1).count();
        let bars = frame.marks.len() - colons;
        let item = match (colons, frame.marks.last()) {
            (1 | 2, Some(&(last, true))) => {
                let Some(when) = self.when(&self.items[last + 1..]) else { return Ok(None) };
                let middle = frame.marks.iter().find(|m| m.1).map_or(last, |m| m.0);
                self.items.truncate(last);
                let mut after: Vec<_> = self.items.drain(frame.first..).collect();
                let mut before = Vec::new();
                if colons == 2 {
                    let rest = after.split_off(middle - frame.first + 1);
                    before = std::mem::replace(&mut after, rest);
                    before.pop();
                }
                let depth = 1 + before.iter().chain(&after).map(Item::depth).max().unwrap_or(0);
                Item::Edit { before, after, when, depth }
            }
            (0, Some(_)) if bars > 0 => {
                let mut options: Vec<Vec<Item<'a>>> = Vec::new();
                for &(mark, _) in frame.marks.iter().rev() {
                    options.push(self.items.drain(mark + 1..).collect());
                    self.items.pop();
                }
                options.push(self.items.drain(frame.first..).collect());
                options.reverse();
                let depth = 1 + options.iter().flatten().map(Item::depth).max().unwrap_or(0);
                Item::Turns { options, depth }
            }
            _ => return Ok(None),
        };
        self.items.pop();
        if item.depth() > MAX_DEPTH {
            let message = format!("prompt editing is nested more than {MAX_DEPTH} levels deep; write it flatter");
            return Err(Error::usage(message));
        }
        Ok(Some(item))
    }

    /// The step after which an edit happens, if the items are a number.
    fn when(&self, items: &[Item<'_>]) -> Option<usize> {
        let [Item::Text(number)] = items else { return None };
        let number = number.trim();
        if !is_number(number) {
            return None;
        }
        let value: f64 = number.parse().ok()?;
        let fraction = number.contains('.') || value < 1.0;
        // A cast saturates, and makes 0 of what is negative.
        let step = (if fraction { value * self.steps as f64 } else { value }) as usize;
        Some(step.min(self.steps))
    }
}

/// A number with an optional sign, point and exponent; no `inf`, no `nan`.
fn is_number(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    body.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[(usize, &str)]) {
        let got = spans(text, 10).unwrap();
        let got: Vec<(usize, &str)> = got.iter().map(|s| (s.until, s.text.as_str())).collect();
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn the_documented_cases_of_editing() {
        check("test", &[(10, "test")]);
        check("a [b:3]", &[(3, "a "), (10, "a b")]);
        check("a [b: 3]", &[(3, "a "), (10, "a b")]);
        check("a [[[b]]:2]", &[(2, "a "), (10, "a [[b]]")]);
        check("[(a:2):3]", &[(3, ""), (10, "(a:2)")]);
        check("a [b : c : 1] d", &[(1, "a b  d"), (10, "a  c  d")]);
        check("a[b:[c:d:2]:1]e", &[(1, "abe"), (2, "ace"), (10, "ade")]);
        check("a [unbalanced", &[(10, "a [unbalanced")]);
        check("a [b:.5] c", &[(5, "a  c"), (10, "a b c")]);
        check("a [{b|d{:.5] c", &[(5, "a  c"), (10, "a {b|d{ c")]);
        check("((a][:b:c [d:3]", &[(3, "((a][:b:c "), (10, "((a][:b:c d")]);
        check("a [b::4]", &[(4, "a b"), (10, "a ")]);
        check("[a:b:0.5]", &[(5, "a"), (10, "b")]);
        check("[a:b:1.5]", &[(10, "a")]);
        check("[a:b:0]", &[(10, "b")]);
        check("[a:b:-3]", &[(10, "b")]);
        check("[a:b:1e9]", &[(10, "a")]);
    }

    #[test]
    fn alternation_takes_turns() {
        let turns = spans("[fe|]male", 4).unwrap();
        let texts: Vec<&str> = turns.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(texts, ["female", "male", "female", "male"]);
        let turns = spans("[fe|||]male", 8).unwrap();
        assert_eq!(turns.iter().map(|s| s.until).collect::<Vec<_>>(), [1, 4, 5, 8]);
        check(
            "[a|(b:1.1)] c:3]",
            &[
                (1, "a c:3]"),
                (2, "(b:1.1) c:3]"),
                (3, "a c:3]"),
                (4, "(b:1.1) c:3]"),
                (5, "a c:3]"),
                (6, "(b:1.1) c:3]"),
                (7, "a c:3]"),
                (8, "(b:1.1) c:3]"),
                (9, "a c:3]"),
                (10, "(b:1.1) c:3]"),
            ],
        );
    }

    #[test]
    fn what_is_not_editing_stays_as_it_is() {
        for text in
            ["[a:b:c:3]", "[a:b]", "[a]", "[(a:3]", r"\[a:3\]", r"\[a:3]", "a:3]", "16:9", "[a:3", "[a:(3)]", "[a:b|c]"]
        {
            check(text, &[(10, text)]);
        }
        check(r"[\]:3]", &[(3, ""), (10, r"\]")]);
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |n: usize| format!("{}a{}", "[".repeat(n), ":3]".repeat(n));
        assert_eq!(spans(&deep(MAX_DEPTH), 5).unwrap().len(), 2);
        assert!(spans(&deep(MAX_DEPTH + 1), 5).is_err());
        // Brackets that are no editing may be as deep as they like.
        let plain = format!("{}a{}", "[(".repeat(9_000), ")]".repeat(9_000));
        assert_eq!(spans(&plain, 5).unwrap()[0].text, plain);
    }

    #[test]
    fn and_makes_branches() {
        assert_eq!(
            branches("a cat :1.2 AND a dog AND grass:-.5 ").unwrap(),
            [("a cat ", 1.2), (" a dog ", 1.0), (" grass", -0.5)]
        );
        assert_eq!(branches("SAND AND_ and 16:9").unwrap(), [("SAND AND_ and 16:9", 1.0)]);
        assert_eq!(branches("(a:1.2) AND b:").unwrap(), [("(a:1.2) ", 1.0), (" b:", 1.0)]);
        assert!(branches("a AND b:1e9").is_err());
        assert!(branches(&"a AND ".repeat(30)).is_err());
        assert!(branches(&"a".repeat(MAX_BYTES + 1)).is_err());
    }
}
