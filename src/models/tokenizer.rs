//! A prompt goes in, CLIP's token ids come out: byte-level byte-pair encoding, equal to transformers' `CLIPTokenizer`.
//!
//! The text is normalised (NFC, runs of white space to one space, lower case), cut into words, digits, contractions and
//! runs of symbols, and each piece's UTF-8 bytes are merged pairwise, the pair that
//! was learned first before all others.

mod pieces;

use crate::error::{Error, Result, escape};
use pieces::{normalise, piece_length};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// CLIP's merges, the pair learned first in the first line (lines 2 to 48895 of `bpe_simple_vocab_16e6.txt`).
const MERGES: &str = include_str!("../assets/bpe_merges.txt");
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
const END_OF_WORD: &str = "</w>";

/// A vocabulary file above this is not a CLIP tokenizer's (the real ones are 0.5 and 1 MB).
const MAX_FILE: usize = 32 << 20;
/// A token id above this is not a CLIP tokenizer's (the real one ends at 49407).
const MAX_ID: u32 = 1 << 20;

/// CLIP's tokenizer with one vocabulary. A clone shares it.
#[derive(Clone)]
pub struct Tokenizer(Arc<Vocabulary>);

/// A prompt as one chunk for the text encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaddedIds {
    /// Start, tokens, end, and the end token again up to the asked length.
    pub ids: Vec<u32>,
    /// How many tokens of the prompt did not fit.
    pub truncated: usize,
}

/// A pair of ids to its rank (the pair learned first has 0) and to the id of the two joined.
type Merges = HashMap<(u32, u32), (u32, u32)>;

struct Vocabulary {
    /// The text of each id; empty where the vocabulary has no such id.
    tokens: Vec<String>,
    merges: Merges,
    /// The id of each byte inside a word, and at a word's end.
    bytes: [[u32; 256]; 2],
    start: u32,
    end: u32,
}

impl Tokenizer {
    /// The vocabulary of Stable Diffusion 1.x: 49408 ids, start 49406, end 49407. Built once per process.
    pub fn clip() -> Self {
        static CLIP: OnceLock<Tokenizer> = OnceLock::new();
        CLIP.get_or_init(|| {
            let letters = byte_letters();
            let mut tokens: Vec<String> = letters.iter().map(|&(_, c)| c.to_string()).collect();
            tokens.extend(letters.iter().map(|&(_, c)| format!("{c}{END_OF_WORD}")));
            tokens.extend(MERGES.lines().map(|line| line.replace(' ', "")));
            tokens.extend([START.to_string(), END.to_string()]);
            let ids: HashMap<&str, u32> = tokens.iter().zip(0..).map(|(t, i)| (t.as_str(), i)).collect();
            let last = tokens.len() as u32 - 1;
            let merges = MERGES.lines().zip(0..).filter_map(|(line, rank)| {
                let (a, b) = line.split_once(' ')?;
                Some(((*ids.get(a)?, *ids.get(b)?), (rank, rank + 512)))
            });
            let merges = merges.collect();
            let bytes = byte_ids(&ids, last);
            Self(Arc::new(Vocabulary { merges, bytes, start: last - 1, end: last, tokens }))
        })
        .clone()
    }

    /// The vocabulary of a diffusers folder: the texts of `tokenizer/vocab.json` and `tokenizer/merges.txt`.
    ///
    /// A byte that the vocabulary lacks becomes the end token, which is CLIP's unknown token. The caller compares
    /// [`Tokenizer::len`] with the rows of the embedding table.
    pub fn from_files(vocab_json: &str, merges_txt: &str) -> Result<Self> {
        let (vocab, file) = ("tokenizer/vocab.json", "tokenizer/merges.txt");
        for (name, text) in [(vocab, vocab_json), (file, merges_txt)] {
            if text.len() > MAX_FILE {
                return Err(Error::bad_file(name, format!("{} bytes are too many for a tokenizer", text.len())));
            }
        }
        let ids: HashMap<String, u32> = serde_json::from_str(vocab_json)
            .map_err(|e| Error::bad_file(vocab, format!("not an object of token to id: {}", escape(&e.to_string()))))?;
        let special = |token: &str| {
            ids.get(token).copied().ok_or_else(|| Error::bad_file(vocab, format!("has no {token} token")))
        };
        let (start, end) = (special(START)?, special(END)?);
        let ids: HashMap<&str, u32> = ids.iter().map(|(t, &i)| (t.as_str(), i)).collect();
        let merges = read_merges(merges_txt, &ids).map_err(|e| Error::bad_file(file, e))?;
        let tokens = token_texts(&ids).map_err(|e| Error::bad_file(vocab, e))?;
        Ok(Self(Arc::new(Vocabulary { merges, bytes: byte_ids(&ids, end), start, end, tokens })))
    }

    /// The id of `<|startoftext|>`.
    pub fn start(&self) -> u32 {
        self.0.start
    }

    /// The id of `<|endoftext|>`, which also pads and stands for what is unknown.
    pub fn end(&self) -> u32 {
        self.0.end
    }

    /// One more than the largest id: the rows that an embedding table must have.
    pub fn len(&self) -> usize {
        self.0.tokens.len()
    }

    /// Never: a vocabulary holds at least its start and end tokens.
    pub fn is_empty(&self) -> bool {
        self.0.tokens.is_empty()
    }

    /// The ids of `text`, without start and end. `<|startoftext|>` and `<|endoftext|>` in the text are those tokens.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut out = Vec::new();
        // Words repeat; each maps to where its ids already lie in `out`.
        let mut seen = HashMap::new();
        let mut from = 0;
        for (at, _) in text.match_indices("<|") {
            let Some((special, id)) =
                [(START, self.0.start), (END, self.0.end)].into_iter().find(|(s, _)| text[at..].starts_with(s))
            else {
                continue;
            };
            self.encode_plain(&text[from..at], &mut seen, &mut out);
            out.push(id);
            from = at + special.len();
        }
        self.encode_plain(&text[from..], &mut seen, &mut out);
        out
    }

    /// `text` as exactly `positions` ids (77 for SD 1.x): start, the tokens that fit, end, padding.
    pub fn encode_chunk(&self, text: &str, positions: usize) -> PaddedIds {
        let tokens = self.encode(text);
        let kept = tokens.len().min(positions.saturating_sub(2));
        let mut ids = Vec::with_capacity(positions);
        ids.push(self.0.start);
        ids.extend_from_slice(&tokens[..kept]);
        ids.resize(positions, self.0.end);
        PaddedIds { ids, truncated: tokens.len() - kept }
    }

    /// The text of some ids, for messages: words apart, what is no UTF-8 replaced, unknown ids left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for token in ids.iter().filter_map(|&id| self.0.tokens.get(id as usize)) {
            let (letters, tail) = match token.strip_suffix(END_OF_WORD) {
                Some(letters) => (letters, " "),
                None => (token.as_str(), ""),
            };
            for c in letters.chars() {
                match letter_byte(c) {
                    Some(byte) => bytes.push(byte),
                    None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            bytes.extend_from_slice(tail.as_bytes());
        }
        String::from_utf8_lossy(&bytes).trim().to_string()
    }

    /// Whether `word` is one token of this vocabulary, so that a model may have learned it as a whole.
    pub fn knows(&self, word: &str) -> bool {
        matches!(self.encode(word)[..], [id] if id != self.0.start && id != self.0.end)
    }

    /// Appends the ids of text that holds no special token.
    fn encode_plain(&self, text: &str, seen: &mut HashMap<String, Range<usize>>, out: &mut Vec<u32>) {
        let text = normalise(text);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            // A special token in capitals is none, but the published pattern still sets it apart from what follows.
            let whole = [START, END].into_iter().find(|s| rest.starts_with(s)).map(str::len);
            let (mut pieces, after) = rest.split_at(whole.unwrap_or_else(|| piece_length(rest)));
            rest = after;
            while !pieces.is_empty() {
                let (piece, after) = pieces.split_at(piece_length(pieces));
                pieces = after;
                if piece == " " {
                    continue;
                }
                match seen.get(piece) {
                    Some(range) => out.extend_from_within(range.clone()),
                    None => {
                        let from = out.len();
                        self.merge(piece.as_bytes(), out);
                        seen.insert(piece.to_string(), from..out.len());
                    }
                }
            }
        }
    }

    /// Appends the ids of one piece: the pair of lowest rank is joined first, of equal ranks the leftmost.
    ///
    /// A heap over a linked list, so that a word of n bytes costs n log n.
    fn merge(&self, piece: &[u8], out: &mut Vec<u32>) {
        let Vocabulary { merges, bytes, .. } = &*self.0;
        let n = piece.len();
        let mut ids: Vec<u32> =
            piece.iter().enumerate().map(|(i, &b)| bytes[usize::from(i + 1 == n)][b as usize]).collect();
        // `next[i]` is where the symbol after i begins, n at the end; a swallowed symbol has no next.
        let mut next: Vec<usize> = (1..=n).collect();
        let mut previous: Vec<usize> = (0..n).map(|i| i.wrapping_sub(1)).collect();
        const SWALLOWED: usize = usize::MAX;
        let mut heap: BinaryHeap<_> = (1..n)
            .filter_map(|i| merges.get(&(ids[i - 1], ids[i])).map(|&(rank, id)| Reverse((rank, i - 1, id))))
            .collect();
        while let Some(Reverse((_, left, joined))) = heap.pop() {
            let right = next[left];
            // An entry is stale when one of its two symbols has been joined to something else since.
            if right >= n || merges.get(&(ids[left], ids[right])).is_none_or(|&(_, id)| id != joined) {
                continue;
            }
            ids[left] = joined;
            next[left] = next[right];
            next[right] = SWALLOWED;
            if next[left] < n {
                let after = next[left];
                previous[after] = left;
                heap.extend(merges.get(&(joined, ids[after])).map(|&(rank, id)| Reverse((rank, left, id))));
            }
            if let Some(&before) = ids.get(previous[left]) {
                let pair = (before, joined);
                heap.extend(merges.get(&pair).map(|&(rank, id)| Reverse((rank, previous[left], id))));
            }
        }
        out.extend((0..n).filter(|&i| next[i] != SWALLOWED).map(|i| ids[i]));
    }
}

/// Each byte and the printable character that stands for it in the vocabulary, in the vocabulary's order: the visible
/// Latin-1 characters stand for themselves, the other bytes for the characters from U+0100 on.
fn byte_letters() -> Vec<(u8, char)> {
    let visible = |b: &u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let hidden = (0..=255u8).filter(|b| !visible(b)).zip('\u{100}'..);
    (0..=255u8).filter(visible).map(|b| (b, char::from(b))).chain(hidden).collect()
}

/// The inverse of [`byte_letters`].
fn letter_byte(c: char) -> Option<u8> {
    static BYTES: OnceLock<HashMap<char, u8>> = OnceLock::new();
    BYTES.get_or_init(|| byte_letters().into_iter().map(|(b, c)| (c, b)).collect()).get(&c).copied()
}

/// The id of each byte inside a word and at a word's end; `unknown` where the vocabulary has none.
fn byte_ids(ids: &HashMap<&str, u32>, unknown: u32) -> [[u32; 256]; 2] {
    let mut out = [[unknown; 256]; 2];
    for (byte, letter) in byte_letters() {
        for (table, tail) in out.iter_mut().zip(["", END_OF_WORD]) {
            table[byte as usize] = ids.get(format!("{letter}{tail}").as_str()).copied().unwrap_or(unknown);
        }
    }
    out
}

fn read_merges(text: &str, ids: &HashMap<&str, u32>) -> Result<Merges, String> {
    let mut merges = HashMap::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version") && !line.is_empty());
    for ((number, line), rank) in lines.zip(0u32..) {
        let wrong = |what: &str| format!("line {}: {what}: '{}'", number + 1, escape(line));
        let (a, b) = line
            .split_once(' ')
            .filter(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains(' '))
            .ok_or_else(|| wrong("not two pieces with one space between"))?;
        let id = |piece: &str| {
            ids.get(piece).copied().ok_or_else(|| wrong("a piece or the two joined are not in vocab.json"))
        };
        merges.insert((id(a)?, id(b)?), (rank, id(&format!("{a}{b}"))?));
    }
    Ok(merges)
}

fn token_texts(ids: &HashMap<&str, u32>) -> Result<Vec<String>, String> {
    let largest = ids.values().copied().max().unwrap_or(0);
    if largest >= MAX_ID {
        return Err(format!("token id {largest} is out of range: ids end below {MAX_ID}"));
    }
    let mut tokens = vec![String::new(); largest as usize + 1];
    for (&text, &id) in ids {
        // Two texts of one id are no fault of the prompt's; the smaller keeps the result independent of hashing.
        let slot = &mut tokens[id as usize];
        if slot.is_empty() || text < slot.as_str() {
            *slot = text.to_string();
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) {
        let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        let cases: Vec<serde_json::Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(cases.len() >= 8);
        let tokenizer = Tokenizer::clip();
        for case in &cases {
            let prompt = case["prompt"].as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(tokenizer.encode(prompt), ids, "{prompt:?}");
            if let Ok(ids77) = serde_json::from_value::<Vec<u32>>(case["ids77"].clone()) {
                let chunk = tokenizer.encode_chunk(prompt, 77);
                assert_eq!((chunk.ids, chunk.truncated), (ids77, ids.len().saturating_sub(75)), "{prompt:?}");
            }
        }
    }

    #[test]
    fn every_prompt_has_the_ids_of_transformers() {
        golden("tokens.json");
        golden("tokens_extra.json");
    }

    #[test]
    fn the_built_in_vocabulary_is_in_the_standard_order() {
        let t = Tokenizer::clip();
        assert_eq!((t.len(), t.start(), t.end()), (49408, 49406, 49407));
        assert_eq!((t.0.tokens[0].as_str(), t.0.tokens[320].as_str(), t.0.tokens[512].as_str()), ("!", "a</w>", "in"));
        assert_eq!(t.0.merges.len(), 48894);
    }

    #[test]
    fn decode_gives_the_words_back() {
        let t = Tokenizer::clip();
        assert_eq!(t.decode(&t.encode("Un gato  de Velázquez, 1960!")), "un gato de velázquez , 1 9 6 0 !");
        assert_eq!(t.decode(&[u32::MAX]), "");
        assert!(
            t.knows("cat") && !t.knows("antidisestablishmentarianism") && !t.knows("<|endoftext|>") && !t.knows("")
        );
    }

    #[test]
    fn a_chunk_is_as_long_as_asked() {
        let t = Tokenizer::clip();
        assert_eq!(t.encode_chunk("a cat", 4), PaddedIds { ids: vec![49406, 320, 2368, 49407], truncated: 0 });
        assert_eq!(t.encode_chunk("a cat", 3), PaddedIds { ids: vec![49406, 320, 49407], truncated: 1 });
        for positions in 0..3 {
            assert_eq!(t.encode_chunk("a cat", positions).ids.len(), positions);
        }
    }

    #[test]
    fn long_prompts_and_long_words_are_no_trouble() {
        let t = Tokenizer::clip();
        // A quadratic merge would need 10^10 steps here.
        assert!(t.encode(&"ab".repeat(100_000)).len() > 1000);
        assert_eq!(t.encode(&"a cat ".repeat(20_000)).len(), 40_000);
        assert_eq!(t.encode(&"<|endoftext|>".repeat(20_000)).len(), 20_000);
        assert!(t.encode(&"<|".repeat(50_000)).len() > 1000);
    }

    const VOCAB: &str = r#"{"a":0,"b":1,"b</w>":2,"ab</w>":3,"<|startoftext|>":4,"<|endoftext|>":5}"#;

    #[test]
    fn a_vocabulary_of_its_own_maps_unknown_pieces_to_the_end_token() {
        let t = Tokenizer::from_files(VOCAB, "#version: 0.2\na b</w>\n").unwrap();
        assert_eq!(t.encode("ab AB zab aa"), [3, 3, 5, 3, 0, 5]);
        assert_eq!(t.encode_chunk("ab", 5).ids, [4, 3, 5, 5, 5]);
        assert_eq!(t.len(), 6);
    }

    #[test]
    fn hostile_vocabularies_are_refused() {
        let huge = r#"{"<|startoftext|>":4294967295,"<|endoftext|>":5}"#;
        for (vocab, merges, why) in [
            ("[1]", "", "not an object"),
            ("{", "", "not an object"),
            (r#"{"a":-1}"#, "", "not an object"),
            (r#"{"a":0}"#, "", "no <|startoftext|>"),
            (huge, "", "out of range"),
            (VOCAB, "a", "line 1"),
            (VOCAB, "a b c", "line 1"),
            (VOCAB, "#version: 0.2\na b</w>\na x\u{1b}", "line 3"),
        ] {
            let error = Tokenizer::from_files(vocab, merges).err().expect(vocab).to_string();
            assert!(error.contains(why) && !error.contains('\u{1b}'), "{error}");
        }
    }
}
