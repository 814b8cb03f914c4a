//! A request goes in, how much its prompts need comes out: known from their tokens alone, before anything is encoded.

use super::chunks::Lexicon;
use super::unet::{KEPT, groups};
use super::{Prompts, readings};
use crate::checkpoint::Model;
use crate::diffusion::Request;
use crate::error::Result;
use crate::models::tokenizer::Tokenizer;
use std::collections::BTreeSet;

/// What prompts need of the U-Net and of memory, for one picture at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Contexts and tokens of each kind of call that some step makes.
    pub calls: BTreeSet<(usize, usize)>,
    /// Calls that are kept ready at the same time, at most.
    pub ready: usize,
    /// Tokens of all contexts of those calls: each has keys and values in every cross-attention.
    pub ready_tokens: usize,
    /// Tokens of all distinct texts: each is a row of an embedding.
    pub text_tokens: usize,
}

impl Demand {
    /// Reads the prompts as the work itself will.
    ///
    /// # Errors
    /// Usage: a prompt that cannot be read.
    pub fn new(request: &Request, tokens: &Tokenizer, model: &Model) -> Result<Self> {
        let positions = model.networks.positions();
        let lexicon = Lexicon { tokens, embeddings: &request.embeddings, positions };
        let (cond, uncond) = readings(request, &model.networks, lexicon)?;
        let texts = cond.texts.iter().chain(uncond.iter().flat_map(|r| &r.texts));
        let lengths: Vec<usize> = texts.map(|t| t.chunks.len() * positions).collect();
        let mut demand = Self { text_tokens: lengths.iter().sum(), ..Self::default() };
        // Calls and tokens of each set of texts that some steps have.
        let mut sets = Vec::new();
        for contexts in Prompts::schedule(&cond, uncond.as_ref()).0 {
            let tokens: Vec<usize> = contexts.all().map(|i| lengths[i]).collect();
            let calls: Vec<(usize, usize)> = groups(&tokens).into_iter().map(|g| (g.len(), tokens[g.start])).collect();
            sets.push((tokens.iter().sum::<usize>(), calls.len()));
            demand.calls.extend(calls);
        }
        sets.sort_unstable_by(|a, b| b.cmp(a));
        for (tokens, calls) in sets.into_iter().take(KEPT) {
            demand.ready_tokens += tokens;
            demand.ready += calls;
        }
        Ok(demand)
    }

    /// Runs of a text encoder, at most: one for each chunk.
    pub fn chunks(&self, model: &Model) -> usize {
        self.text_tokens / model.networks.positions().max(1)
    }

    /// Bytes that are held outside of all programs for `samples` pictures at a time and `timesteps` different ones:
    /// keys and values, time rows, and the embeddings with what they were put together from.
    pub fn bytes(&self, model: &Model, samples: usize, timesteps: usize) -> u64 {
        let columns: usize = model.networks.keys_values().iter().sum();
        let values = self.ready_tokens * samples * columns
            + self.ready * timesteps * model.networks.row_width()
            + 2 * self.text_tokens * model.networks.text_width();
        4 * values as u64
    }
}
