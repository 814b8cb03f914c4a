//! Prompts to text embeddings, and the U-Net with them in it.
//!
//! [`schedule`] splits a prompt at AND and resolves what changes over the steps, [`attention`] reads the weights,
//! [`chunks`] fills the encoder's 77 positions; [`embed`] runs the encoder once for each distinct chunk.

pub mod attention;
pub mod chunks;
mod demand;
pub mod embeddings;
pub mod read;
pub mod schedule;
mod unet;

pub use demand::Demand;
pub use unet::PromptedUnet;

use super::conditioning::{EmptyNegative, Told};
use super::{Event, Listener, Request, Stages, tell};
use crate::checkpoint::Model;
use crate::error::{Error, Result};
use crate::models::Networks;
use crate::models::part::{self, Part};
use crate::models::tokenizer::Tokenizer;
use crate::tensor::{Shape, Tensor};
use crate::weights::decode_f32;
use chunks::{Chunk, Lexicon, Token};
use embeddings::Embedding;
use read::Reading;
use std::collections::HashMap;

/// A request's prompts, embedded, and when which of them holds.
#[derive(Clone, Debug)]
pub struct Prompts {
    /// The distinct embeddings, each `[1, 1, tokens, width]`.
    embeddings: Vec<Tensor>,
    /// The pooled vector of each, where the model takes one.
    pooled: Vec<Vec<f32>>,
    /// The numbers that a model which takes them is told, where they do not follow from the picture.
    sizes: Option<Vec<f32>>,
    /// What it is told of a picture otherwise.
    told: Told,
    /// What a network that takes it is told of guidance.
    guidance: f32,
    /// The distinct sets of them that some step needs.
    contexts: Vec<Contexts>,
    /// The last step (from 1) of each span, and the number of its set.
    spans: Vec<(usize, usize)>,
    weights: Vec<f32>,
}

/// What one evaluation needs, as indices of embeddings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Contexts {
    uncond: Option<usize>,
    conds: Vec<usize>,
}

impl Contexts {
    fn all(&self) -> impl Iterator<Item = usize> {
        self.uncond.into_iter().chain(self.conds.iter().copied())
    }
}

impl Prompts {
    /// One prompt that never changes, and the negative one where there is guidance.
    pub fn plain(uncond: Option<Tensor>, cond: Tensor) -> Self {
        let contexts = Contexts { uncond: uncond.is_some().then_some(1), conds: vec![0] };
        let embeddings = std::iter::once(cond).chain(uncond).collect();
        let (contexts, spans, weights) = (vec![contexts], vec![(1, 0)], vec![1.0]);
        let (pooled, told) = (Vec::new(), Told::default());
        Self { embeddings, pooled, sizes: None, told, guidance: 1.0, contexts, spans, weights }
    }

    /// The same with the pooled vector of each text: of a plain one the prompt's first, then the negative one's.
    #[must_use]
    pub fn with_pooled(self, pooled: Vec<Vec<f32>>) -> Self {
        Self { pooled, ..self }
    }

    /// The same where a model that takes sizes is told others than the picture's own.
    #[must_use]
    pub fn with_sizes(self, sizes: Vec<f32>) -> Self {
        Self { sizes: Some(sizes), ..self }
    }

    /// The same where a network that takes it is told this guidance scale.
    #[must_use]
    pub fn with_guidance(self, guidance: f32) -> Self {
        Self { guidance, ..self }
    }

    /// The pooled vector of a text; nothing where the model takes none.
    fn pooled(&self, text: usize) -> &[f32] {
        self.pooled.get(text).map_or(&[], Vec::as_slice)
    }

    /// The same without the negative prompt, for guidance 1.
    #[must_use]
    pub fn without_negative(mut self) -> Self {
        self.contexts.iter_mut().for_each(|set| set.uncond = None);
        self
    }

    /// The weight of each prompt that AND joins; mostly one of 1.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The number of the set that holds at a step, from 0.
    fn at(&self, step: usize) -> usize {
        let found = self.spans.partition_point(|(until, _)| *until <= step);
        self.spans.get(found).or(self.spans.last()).map_or(0, |span| span.1)
    }

    /// Numbers the texts of both prompts in one row (the prompt's first) and finds the distinct sets over the steps.
    fn schedule(cond: &Reading, uncond: Option<&Reading>) -> (Vec<Contexts>, Vec<(usize, usize)>) {
        let branches = || cond.branches.iter().chain(uncond.iter().flat_map(|r| &r.branches));
        let mut ends: Vec<usize> = branches().flat_map(|b| b.spans.iter().map(|s| s.0)).collect();
        ends.sort_unstable();
        ends.dedup();
        let mut known: HashMap<Contexts, usize> = HashMap::new();
        let (mut sets, mut spans) = (Vec::new(), Vec::new());
        for until in ends {
            let set = Contexts {
                uncond: uncond.map(|r| cond.texts.len() + r.branches.first().map_or(0, |b| b.at(until))),
                conds: cond.branches.iter().map(|b| b.at(until)).collect(),
            };
            let number = *known.entry(set).or_insert_with_key(|set| {
                sets.push(set.clone());
                sets.len() - 1
            });
            spans.push((until, number));
        }
        (sets, spans)
    }
}

/// Reads and encodes a request's prompts. What is longer than the most chunks is cut, saying so.
///
/// # Errors
/// Usage: what [`read::read`] refuses.
pub fn embed(stages: &dyn Stages, tokens: &Tokenizer, request: &Request, listen: &mut Listener<'_>) -> Result<Prompts> {
    let positions = stages.model().networks.positions();
    let lexicon = Lexicon { tokens, embeddings: &request.embeddings, positions };
    let (cond, uncond) = readings(request, &stages.model().networks, lexicon)?;
    let weights = cond.branches.iter().map(|b| b.weight).collect();
    let negative = uncond.as_ref().and_then(|read| read.note("the negative prompt", positions));
    for note in cond.note("the prompt", positions).into_iter().chain(negative) {
        tell(listen, Event::Note(note))?;
    }
    if uncond.is_none() && !request.negative_prompt.trim().is_empty() {
        let note = "the negative prompt is not used: at guidance 1 only the prompt's half is computed";
        tell(listen, Event::Note(note.into()))?;
    }
    let mut encoder = Encoder { stages, lexicon, clip_skip: request.clip_skip, known: HashMap::new() };
    let texts = cond.texts.iter().chain(uncond.iter().flat_map(|r| &r.texts));
    let (mut embeddings, mut pooled) = (Vec::new(), Vec::new());
    for text in texts {
        embeddings.push(encoder.encode(&text.chunks)?);
        pooled.push(encoder.pooled(&text.chunks)?);
    }
    let zero = request.told.empty_negative == EmptyNegative::Zero;
    if stages.model().networks.added().is_some() && request.negative_prompt.trim().is_empty() && zero {
        for n in cond.texts.len()..embeddings.len() {
            embeddings[n].data_mut().fill(0.0);
            pooled[n].fill(0.0);
        }
    }
    let (contexts, spans) = Prompts::schedule(&cond, uncond.as_ref());
    let (guidance, told) = (request.guidance, request.told);
    Ok(Prompts { embeddings, pooled, sizes: None, told, guidance, contexts, spans, weights })
}

/// A request's prompt and, where it is needed, its negative prompt.
fn readings(request: &Request, networks: &Networks, lexicon: Lexicon<'_>) -> Result<(Reading, Option<Reading>)> {
    let steps = request.sampling.steps;
    let cond = read::read(&request.prompt, false, steps, lexicon).map_err(|e| e.at("prompt"))?;
    // Branches add up as differences from the unconditional answer, so they need it even at guidance 1.
    let alone = cond.branches.len() == 1 && cond.branches.iter().all(|b| b.weight == 1.0);
    // A network that is told the guidance scale answers for both at once.
    let told = networks.guidance().is_some() && !request.sampling.sampler.both_halves;
    if (!request.guided() || told) && alone {
        return Ok((cond, None));
    }
    let uncond = read::read(&request.negative_prompt, true, steps, lexicon).map_err(|e| e.at("negative prompt"))?;
    Ok((cond, Some(uncond)))
}

/// Runs the text encoder, once for each distinct chunk.
struct Encoder<'a> {
    stages: &'a dyn Stages,
    lexicon: Lexicon<'a>,
    clip_skip: usize,
    /// By encoder and chunk.
    known: HashMap<(usize, Vec<Token>), Tensor>,
}

impl Encoder<'_> {
    /// Chunks, each encoded alone, side by side: `[1, 1, chunks 77, width]`, the encoders' channels beside each other.
    fn encode(&mut self, chunks: &[Chunk]) -> Result<Tensor> {
        let positions = self.lexicon.positions;
        let encoders = self.stages.model().networks.text.len();
        let mut all = Vec::new();
        for chunk in chunks {
            let hidden = (0..encoders).map(|n| self.hidden(n, chunk)).collect::<Result<Vec<Tensor>>>()?;
            for position in 0..positions {
                for one in &hidden {
                    let width = one.shape().c;
                    all.extend_from_slice(&one.data()[position * width..(position + 1) * width]);
                }
            }
        }
        let width = self.stages.model().networks.text_width();
        Tensor::new(Shape::tokens(1, chunks.len() * positions, width), all)
    }

    /// One chunk by one encoder, with its weights.
    fn hidden(&mut self, encoder: usize, chunk: &Chunk) -> Result<Tensor> {
        let padded = self.padded(encoder, chunk)?;
        let key = (encoder, padded);
        if !self.known.contains_key(&key) {
            let rows = token_rows(self.stages.model(), encoder, &key.1, self.lexicon.embeddings)?;
            self.known.insert(key.clone(), self.stages.text(encoder, rows, self.clip_skip)?);
        }
        let mut hidden = self.known[&key].clone();
        if let Some(weights) = chunk.weights(self.lexicon.positions) {
            emphasise(&mut hidden, &weights);
        }
        Ok(hidden)
    }

    fn padded(&self, encoder: usize, chunk: &Chunk) -> Result<Vec<Token>> {
        let Lexicon { tokens, positions, .. } = self.lexicon;
        let padding = self.stages.model().networks.encoder(encoder)?.padding.id(tokens.end());
        Ok(chunk.padded(tokens, positions, padding))
    }

    /// The first chunk's pooled vector by the last encoder, where the model takes one: its first end token's row.
    fn pooled(&mut self, chunks: &[Chunk]) -> Result<Vec<f32>> {
        let model = self.stages.model();
        let Some((added, first)) = model.networks.added().zip(chunks.first()) else { return Ok(Vec::new()) };
        let encoder = model.networks.text.len().saturating_sub(1);
        let padded = self.padded(encoder, first)?;
        let end = Token::Id(self.lexicon.tokens.end());
        let row = padded.iter().position(|token| *token == end).unwrap_or(padded.len().saturating_sub(1));
        let rows = token_rows(model, encoder, &padded, self.lexicon.embeddings)?;
        let part = Part::Text { encoder, chunks: 1, clip_skip: self.clip_skip };
        let pooled = self.stages.run(part, None, vec![(part::text::TOKENS, rows)], &[part::text::POOLED])?;
        let pooled = pooled.first().and_then(|t| t.data().get(row * added.pooled..(row + 1) * added.pooled));
        Ok(pooled.ok_or_else(|| Error::other("the text encoder gave no pooled vector"))?.to_vec())
    }
}

/// One chunk of ids to its embedding `[1, 1, positions, width]`.
pub fn encode(stages: &dyn Stages, ids: &[u32], clip_skip: usize) -> Result<Tensor> {
    let tokens: Vec<Token> = ids.iter().copied().map(Token::Id).collect();
    stages.text(0, token_rows(stages.model(), 0, &tokens, &[])?, clip_skip)
}

/// Multiplies each token's vector by its weight, then all by what brings the mean of the whole chunk back to where it
/// was (the webui's "Original" emphasis).
fn emphasise(hidden: &mut Tensor, weights: &[f32]) {
    let mean = |t: &Tensor| t.data().iter().map(|v| f64::from(*v)).sum::<f64>() / t.shape().len().max(1) as f64;
    let width = hidden.shape().c.max(1);
    let before = mean(hidden);
    for (row, weight) in hidden.data_mut().chunks_exact_mut(width).zip(weights) {
        row.iter_mut().for_each(|v| *v *= weight);
    }
    let ratio = (before / mean(hidden)) as f32;
    // A mean of zero has no scale to go back to.
    if ratio.is_finite() {
        hidden.data_mut().iter_mut().for_each(|v| *v *= ratio);
    }
}

/// Token plus position embedding of one chunk for one of the text encoders, looked up row by row: the table itself is
/// never loaded.
pub fn token_rows(model: &Model, encoder: usize, tokens: &[Token], embeddings: &[Embedding]) -> Result<Tensor> {
    let clip = model.networks.encoder(encoder)?;
    let table = |what: &str| format!("{}.embeddings.{what}_embedding.weight", crate::models::text::root(encoder));
    let (positions_table, tokens_table) = (table("position"), table("token"));
    let (width, positions) = (clip.width, clip.positions);
    // An embedding has the vectors of all text encoders side by side.
    let before: usize = model.networks.text[..encoder].iter().map(|t| t.width).sum();
    if tokens.len() != positions {
        return Err(Error::other(format!("{} tokens given for a chunk of {positions}", tokens.len())));
    }
    let mut rows = Vec::new();
    read_rows(model, &positions_table, 0, positions, &mut rows)?;
    let mut token = Vec::new();
    for (which, out) in tokens.iter().zip(rows.chunks_exact_mut(width)) {
        match *which {
            Token::Id(id) if id as usize >= clip.vocab => {
                let message = format!("token {id} is outside of the text encoder's vocabulary of {}", clip.vocab);
                return Err(Error::other(format!("{message}; the tokenizer belongs to another model")));
            }
            Token::Id(id) => {
                read_rows(model, &tokens_table, id as usize, 1, &mut token)?;
            }
            Token::Vector { embedding, row } => {
                token.clear();
                let from = |e: &Embedding| row * e.width + before;
                let values = embeddings.get(embedding).and_then(|e| e.values.get(from(e)..from(e) + width));
                token.extend_from_slice(values.ok_or_else(|| Error::other("an embedding has no such vector"))?);
            }
        }
        out.iter_mut().zip(&token).for_each(|(r, t)| *r += t);
    }
    Tensor::new(Shape::tokens(1, positions, width), rows)
}

/// Where the first end token of a chunk stands: the largest id is the end's.
pub fn end_of(ids: &[u32]) -> usize {
    let end = ids.iter().max();
    ids.iter().position(|id| Some(id) == end).unwrap_or(0)
}

fn read_rows(model: &Model, name: &str, first: usize, count: usize, out: &mut Vec<f32>) -> Result<()> {
    let info = model.source.info(name).ok_or_else(|| Error::other(format!("{}: {name} is missing", model.name)))?;
    let mut raw = Vec::new();
    model.source.read_rows(name, first, count, &mut raw)?;
    decode_f32(info.dtype, &raw, out);
    Ok(())
}

#[cfg(test)]
mod tests;
