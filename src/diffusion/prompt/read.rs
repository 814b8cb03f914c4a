//! A prompt goes in, what it means comes out: branches, the texts that they have over the steps, chunks of tokens.

use super::attention::parse;
use super::chunks::{Chunk, Lexicon, MAX_CHUNKS, chunks};
use super::schedule::{branches, spans};
use crate::error::{Error, Result};
use std::collections::HashMap;

/// Chunks of all texts that a prompt has over its steps.
const MAX_CHUNKS_IN_ALL: usize = 2_000;

/// A prompt as it was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The distinct texts that it has at some step.
    pub texts: Vec<Text>,
    /// One for each side of an AND; mostly one.
    pub branches: Vec<Branch>,
}

/// One text and its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// With the attention syntax in it.
    pub text: String,
    /// At least one.
    pub chunks: Vec<Chunk>,
    /// Tokens that are ignored, because there are too many.
    pub cut: usize,
}

/// One side of an AND.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// How much it counts.
    pub weight: f32,
    /// The last step (from 1) of each text, and the text's number. The last one holds to the end.
    pub spans: Vec<(usize, usize)>,
}

impl Reading {
    /// What to tell of a prompt that is cut; `what` is which prompt.
    pub fn note(&self, what: &str, positions: usize) -> Option<String> {
        let cut = self.texts.iter().map(|t| t.cut).max().filter(|cut| *cut > 0)?;
        let room = positions.saturating_sub(2);
        Some(format!("{what} is cut after {MAX_CHUNKS} chunks of {room} tokens; the last {cut} tokens are ignored"))
    }
}

impl Branch {
    /// The number of the text at a step, from 1.
    pub fn at(&self, step: usize) -> usize {
        let found = self.spans.partition_point(|(until, _)| *until < step);
        self.spans.get(found).or(self.spans.last()).map_or(0, |span| span.1)
    }
}

/// Reads a prompt for so many steps. A negative prompt knows no AND.
///
/// # Errors
/// Usage: what is too long, too deep or out of range.
pub fn read(prompt: &str, negative: bool, steps: usize, lexicon: Lexicon<'_>) -> Result<Reading> {
    let sides = branches(prompt)?;
    let sides = if negative { vec![(prompt, 1.0)] } else { sides };
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut out = Reading { texts: Vec::new(), branches: Vec::new() };
    let mut total = 0;
    for (text, weight) in sides {
        let mut branch = Branch { weight, spans: Vec::new() };
        for span in spans(text, steps)? {
            let number = match known.get(&span.text) {
                Some(number) => *number,
                None => {
                    let (chunks, cut) = chunks(&parse(&span.text), lexicon)?;
                    total += chunks.len();
                    if total > MAX_CHUNKS_IN_ALL {
                        let message = format!(
                            "the prompt changes into more than {MAX_CHUNKS_IN_ALL} chunks of tokens over its steps"
                        );
                        return Err(Error::usage(format!("{message}; use less of [a|b] and [a:b:n]")));
                    }
                    known.insert(span.text.clone(), out.texts.len());
                    out.texts.push(Text { text: span.text, chunks, cut });
                    out.texts.len() - 1
                }
            };
            branch.spans.push((span.until, number));
        }
        out.branches.push(branch);
    }
    Ok(out)
}
