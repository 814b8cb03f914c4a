//! Weighted pieces of a prompt go in, chunks that the text encoder takes come out.
//!
//! A chunk has room for 75 tokens between its start and its end. When it fills up within 20 tokens after a comma, what
//! follows the comma moves to the next chunk, as in the webui. The vectors of an embedding are never split.

use super::attention::Piece;
use super::embeddings::Embedding;
use crate::error::{Error, Result, escape};
use crate::models::tokenizer::Tokenizer;

/// Most chunks of one prompt.
pub const MAX_CHUNKS: usize = 20;
/// How far back a comma may be at which a full chunk is cut.
const BACKTRACK: usize = 20;
/// Weights beyond this are a slip of the keyboard: 1.1 to the power of 48.
const MAX_WEIGHT: f64 = 100.0;

/// What one position of a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// A word or a part of one.
    Id(u32),
    /// A vector of a textual inversion embedding.
    Vector {
        /// Which embedding.
        embedding: usize,
        /// Which of its vectors.
        row: usize,
    },
}

impl Token {
    /// Which embedding it is a vector of, if any.
    pub fn embedding(&self) -> Option<usize> {
        match *self {
            Self::Id(_) => None,
            Self::Vector { embedding, .. } => Some(embedding),
        }
    }
}

/// One chunk, its start and end not included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// The tokens with their weights, at most as many as the encoder has positions, less two.
    pub tokens: Vec<(Token, f32)>,
}

impl Chunk {
    /// As the encoder takes it: start, tokens, end, and `padding` up to `positions`.
    pub fn padded(&self, tokens: &Tokenizer, positions: usize, padding: u32) -> Vec<Token> {
        let mut out = vec![Token::Id(tokens.start())];
        out.extend(self.tokens.iter().map(|t| t.0));
        out.push(Token::Id(tokens.end()));
        out.resize(positions, Token::Id(padding));
        out
    }

    /// The weights of [`Chunk::padded`]; none if all are 1.
    pub fn weights(&self, positions: usize) -> Option<Vec<f32>> {
        self.tokens.iter().any(|t| t.1 != 1.0).then(|| {
            let mut out = vec![1.0];
            out.extend(self.tokens.iter().map(|t| t.1));
            out.resize(positions, 1.0);
            out
        })
    }
}

/// What words mean: the vocabulary, the embeddings, and the encoder's room.
#[derive(Clone, Copy)]
pub struct Lexicon<'a> {
    /// The model's tokenizer.
    pub tokens: &'a Tokenizer,
    /// Textual inversion embeddings by name.
    pub embeddings: &'a [Embedding],
    /// Positions of the encoder, start and end included (77).
    pub positions: usize,
}

/// The chunks of a prompt, at least one and at most [`MAX_CHUNKS`], and how many tokens did not fit into so many.
///
/// # Errors
/// Usage: a weight out of range. Bad file: an embedding that is larger than a chunk.
pub fn chunks(pieces: &[Piece], lexicon: Lexicon<'_>) -> Result<(Vec<Chunk>, usize)> {
    let room = lexicon.positions.saturating_sub(2);
    if room == 0 {
        return Err(Error::other(format!("a text encoder of {} positions has no room for words", lexicon.positions)));
    }
    let comma = lexicon.tokens.encode(",");
    let names: Vec<Vec<u32>> = lexicon.embeddings.iter().map(|e| lexicon.tokens.encode(&e.name)).collect();
    let mut out = Filler { room, full: Vec::new(), chunk: Chunk::default(), comma: None };
    for piece in pieces {
        if piece.is_break() {
            out.next(0);
            continue;
        }
        if piece.weight.is_nan() || piece.weight.abs() > MAX_WEIGHT {
            let (text, weight) = (escape(&piece.text), piece.weight);
            let message =
                format!("the weight {weight:.4} of '{text}' is out of range: use -{MAX_WEIGHT} to {MAX_WEIGHT}");
            return Err(Error::usage(message));
        }
        let weight = piece.weight as f32;
        let ids = lexicon.tokens.encode(&piece.text);
        let mut at = 0;
        while at < ids.len() {
            if let Some(embedding) = embedding_at(&ids[at..], &names) {
                let vectors = lexicon.embeddings[embedding].vectors(room)?;
                out.vectors(embedding, vectors, weight);
                at += names[embedding].len();
            } else {
                out.push(Token::Id(ids[at]), weight, comma == [ids[at]]);
                at += 1;
            }
        }
    }
    if !out.chunk.tokens.is_empty() || out.full.is_empty() {
        out.next(0);
    }
    let cut = out.full.iter().skip(MAX_CHUNKS).map(|c| c.tokens.len()).sum();
    out.full.truncate(MAX_CHUNKS);
    Ok((out.full, cut))
}

/// The embedding with the longest name that the ids begin with.
fn embedding_at(ids: &[u32], names: &[Vec<u32>]) -> Option<usize> {
    let fits = names.iter().enumerate().filter(|(_, name)| !name.is_empty() && ids.starts_with(name));
    fits.max_by_key(|(_, name)| name.len()).map(|(i, _)| i)
}

struct Filler {
    room: usize,
    full: Vec<Chunk>,
    chunk: Chunk,
    /// Where the chunk's last comma is.
    comma: Option<usize>,
}

impl Filler {
    /// Ends the chunk; its last `keep` tokens begin the next one.
    fn next(&mut self, keep: usize) {
        let kept = self.chunk.tokens.split_off(self.chunk.tokens.len() - keep);
        self.full.push(std::mem::replace(&mut self.chunk, Chunk { tokens: kept }));
        self.comma = None;
    }

    fn push(&mut self, token: Token, weight: f32, comma: bool) {
        let len = self.chunk.tokens.len();
        if comma {
            // The place that it will have, as the webui counts: in a full chunk, one behind the last.
            self.comma = Some(len);
        } else if len == self.room {
            match self.comma {
                Some(at) if len - at <= BACKTRACK => self.next(len.saturating_sub(at + 1)),
                _ => {}
            }
        }
        if self.chunk.tokens.len() == self.room {
            self.next(0);
        }
        self.chunk.tokens.push((token, weight));
    }

    fn vectors(&mut self, embedding: usize, vectors: usize, weight: f32) {
        if self.chunk.tokens.len() + vectors > self.room {
            self.next(0);
        }
        self.chunk.tokens.extend((0..vectors).map(|row| (Token::Vector { embedding, row }, weight)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::attention::parse;
    use super::*;

    fn sizes(text: &str) -> Vec<usize> {
        let tokens = Tokenizer::clip();
        let lexicon = Lexicon { tokens: &tokens, embeddings: &[], positions: 77 };
        chunks(&parse(text), lexicon).unwrap().0.iter().map(|c| c.tokens.len()).collect()
    }

    #[test]
    fn long_prompts_become_chunks() {
        let words = |n: usize| vec!["cat"; n].join(" ");
        assert_eq!(sizes(""), [0]);
        assert_eq!(sizes(&words(75)), [75]);
        assert_eq!(sizes(&words(76)), [75, 1]);
        assert_eq!(sizes(&words(151)), [75, 75, 1]);
        assert_eq!(sizes("cat BREAK dog"), [1, 1]);
        assert_eq!(sizes("cat BREAK BREAK dog"), [1, 0, 1]);
        assert_eq!(sizes("cat BREAK"), [1]);
    }

    #[test]
    fn a_full_chunk_is_cut_at_a_comma_that_is_near() {
        let words = |a: usize, b: usize| format!("{}, {}", vec!["cat"; a].join(" "), vec!["dog"; b].join(" "));
        // 60 words, a comma, 14 words fill the chunk; the next word sends all 14 over.
        assert_eq!(sizes(&words(60, 14)), [75]);
        assert_eq!(sizes(&words(60, 15)), [61, 15]);
        assert_eq!(sizes(&words(55, 20)), [56, 20]);
        assert_eq!(sizes(&words(54, 21)), [75, 1]);
        // A comma that comes when the chunk is full begins the next one.
        assert_eq!(sizes(&words(75, 3)), [75, 4]);
    }

    #[test]
    fn weights_stay_with_their_tokens() {
        let tokens = Tokenizer::clip();
        let lexicon = Lexicon { tokens: &tokens, embeddings: &[], positions: 77 };
        let long = format!("{}, (dog:1.5) {}", vec!["cat"; 60].join(" "), vec!["bird"; 20].join(" "));
        let (read, cut) = chunks(&parse(&long), lexicon).unwrap();
        assert_eq!(cut, 0);
        assert_eq!((read[0].tokens.len(), read[1].tokens[0].1, read[1].tokens[1].1), (61, 1.5, 1.0));
        assert_eq!((read[0].weights(77), read[1].weights(77).unwrap()[..3].to_vec()), (None, vec![1.0, 1.5, 1.0]));
        let padded = read[0].padded(&tokens, 77, 0);
        let at = |i: usize| padded[i];
        assert_eq!((padded.len(), at(0), at(62), at(63)), (77, Token::Id(49406), Token::Id(49407), Token::Id(0)));
        assert_eq!(read[0].padded(&tokens, 77, 49407)[63..], [Token::Id(49407); 14]);
        let error = chunks(&parse("(a:500)"), lexicon).err().map(|e| e.to_string());
        assert!(error.unwrap_or_default().contains("out of range"));
        let (read, cut) = chunks(&parse(&"cat ".repeat(1600)), lexicon).unwrap();
        assert_eq!((read.len(), cut), (MAX_CHUNKS, 100));
    }
}
