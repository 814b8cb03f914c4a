//! Prompts to text embeddings, and the U-Net with them in it.

use super::bpe::Tokenizer;
use super::denoise::guided::Unet;
use super::denoise::run::At;
use super::unet::UnetShape;
use super::{Event, Listener, Request, Stages, UnetCall};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};
use crate::weights::{Model, decode_f32};

/// The embeddings of a request, each `[1, 1, tokens, width]`.
#[derive(Clone, Debug)]
pub struct Prompts {
    /// The negative prompt's; none where guidance is 1.
    pub uncond: Option<Tensor>,
    /// The prompt's.
    pub cond: Tensor,
}

/// Tokenizes and encodes a request's prompts. What does not fit into the encoder's positions is cut, saying so.
pub fn embed(stages: &dyn Stages, tokens: &Tokenizer, request: &Request, listen: &mut Listener<'_>) -> Result<Prompts> {
    let mut one = |text: &str, what: &str| {
        let chunk = tokens.encode_chunk(text, stages.model().clip.positions);
        if chunk.truncated > 0 {
            let room = stages.model().clip.positions.saturating_sub(2);
            let note = format!("{what} is cut after {room} tokens; the last {} are ignored", chunk.truncated);
            super::tell(listen, Event::Note(note))?;
        }
        encode(stages, &chunk.ids, request.clip_skip)
    };
    let uncond = if request.guided() { Some(one(&request.negative_prompt, "the negative prompt")?) } else { None };
    Ok(Prompts { uncond, cond: one(&request.prompt, "the prompt")? })
}

/// One chunk of ids to its embedding `[1, 1, positions, width]`.
pub fn encode(stages: &dyn Stages, ids: &[u32], clip_skip: usize) -> Result<Tensor> {
    stages.text(token_rows(stages.model(), ids)?, clip_skip)
}

/// Token plus position embedding of one chunk, looked up row by row: the table itself is never loaded.
fn token_rows(model: &Model, ids: &[u32]) -> Result<Tensor> {
    let (width, positions) = (model.clip.width, model.clip.positions);
    if ids.len() != positions {
        return Err(Error::other(format!("{} tokens given for a chunk of {positions}", ids.len())));
    }
    let mut rows = Vec::new();
    read(model, "text_encoder.embeddings.position_embedding.weight", 0, positions, &mut rows)?;
    let mut token = Vec::new();
    for (id, row) in ids.iter().zip(rows.chunks_exact_mut(width)) {
        let id = *id as usize;
        if id >= model.clip.vocab {
            let message = format!("token {id} is outside of the text encoder's vocabulary of {}", model.clip.vocab);
            return Err(Error::other(format!("{message}; the tokenizer belongs to another model")));
        }
        read(model, "text_encoder.embeddings.token_embedding.weight", id, 1, &mut token)?;
        row.iter_mut().zip(&token).for_each(|(r, t)| *r += t);
    }
    Tensor::new(Shape::tokens(1, positions, width), rows)
}

fn read(model: &Model, name: &str, first: usize, count: usize, out: &mut Vec<f32>) -> Result<()> {
    let info = model.source.info(name).ok_or_else(|| Error::other(format!("{}: {name} is missing", model.name)))?;
    let mut raw = Vec::new();
    model.source.read_rows(name, first, count, &mut raw)?;
    decode_f32(info.dtype, &raw, out);
    Ok(())
}

/// The U-Net as the sampler's guidance calls it: `[n][c][h][w]` in and out, prompts inside.
pub struct PromptedUnet<'a> {
    calls: Calls<'a>,
    /// Samples, height, width.
    size: (usize, usize, usize),
    channels: usize,
}

enum Calls<'a> {
    /// One call for both halves: all unconditional, then all conditional.
    Joint(Box<dyn UnetCall + 'a>),
    /// Prompts of different lengths.
    Apart { uncond: Box<dyn UnetCall + 'a>, cond: Box<dyn UnetCall + 'a> },
    /// Guidance 1.
    Cond(Box<dyn UnetCall + 'a>),
}

impl<'a> PromptedUnet<'a> {
    /// For `n` pictures of `h` x `w` latents that share the prompts.
    pub fn new(
        stages: &'a dyn Stages,
        prompts: &Prompts,
        (n, h, w): (usize, usize, usize),
        times: Option<&[f32]>,
    ) -> Result<Self> {
        let call = |context: &[&Tensor]| {
            let tokens = context[0].shape().w;
            let contexts = context.len() * n;
            let shape = UnetShape { samples: n, contexts, times: 1, h, w, tokens };
            let data = context.iter().flat_map(|t| t.data().repeat(n)).collect();
            stages.unet(shape, Tensor::new(Shape::tokens(contexts, tokens, context[0].shape().c), data)?, times)
        };
        let cond = &prompts.cond;
        let calls = match &prompts.uncond {
            None => Calls::Cond(call(&[cond])?),
            Some(uncond) if uncond.shape() == cond.shape() => Calls::Joint(call(&[uncond, cond])?),
            Some(uncond) => Calls::Apart { uncond: call(&[uncond])?, cond: call(&[cond])? },
        };
        Ok(Self { calls, size: (n, h, w), channels: stages.model().unet.in_channels })
    }
}

impl Unet for PromptedUnet<'_> {
    fn predict(&mut self, x: &[f32], at: At, uncond: Option<&mut [f32]>, conds: &mut [Vec<f32>]) -> Result<()> {
        let (n, h, w) = self.size;
        let latents = Tensor::from_nchw(Shape::new(n, h, w, self.channels), x)?;
        let time = &[at.t];
        let [cond] = conds else { return Err(Error::other("one prompt is embedded, and another number is asked for")) };
        match (&mut self.calls, uncond) {
            (Calls::Joint(call), Some(uncond)) => {
                let both = call.predict(&latents, time)?.to_nchw();
                let (first, second) = both.split_at(both.len() / 2);
                uncond.copy_from_slice(first);
                cond.copy_from_slice(second);
            }
            (Calls::Apart { uncond: a, cond: b }, Some(uncond)) => {
                uncond.copy_from_slice(&a.predict(&latents, time)?.to_nchw());
                cond.copy_from_slice(&b.predict(&latents, time)?.to_nchw());
            }
            (Calls::Cond(call), None) => cond.copy_from_slice(&call.predict(&latents, time)?.to_nchw()),
            _ => return Err(Error::other("guidance and prompts do not belong together")),
        }
        Ok(())
    }
}
