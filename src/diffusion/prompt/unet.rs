//! Embedded prompts go in, the U-Net as the sampler's guidance calls it comes out: `[n][c][h][w]` in and out.

use super::{Contexts, Prompts};
use crate::diffusion::denoise::guided::Unet;
use crate::diffusion::denoise::guided::embedded_guidance;
use crate::diffusion::denoise::run::At;
use crate::diffusion::{Conditioning, Stages, UnetCall};
use crate::error::{Error, Result};
use crate::models::part::StepShape;
use crate::models::unet::{AddedEmbedding, UnetInputs, size_embedding};
use crate::tensor::{Shape, Tensor};
use std::collections::HashMap;
use std::ops::Range;

/// Sets of prompts whose keys and values are kept; a prompt that alternates between more computes them anew.
pub(super) const KEPT: usize = 16;
/// Contexts of one call: guidance needs two, and more would need the memory of more.
const TOGETHER: usize = 2;

/// The U-Net with prompts inside, which may be others at every step.
pub struct PromptedUnet<'a> {
    stages: &'a dyn Stages,
    prompts: &'a Prompts,
    /// Samples, height, width.
    size: (usize, usize, usize),
    times: Option<Vec<f32>>,
    inputs: UnetInputs,
    /// What a network that was distilled to take it is told of guidance.
    guidance: f32,
    calls: HashMap<usize, Vec<Call<'a>>>,
}

/// One program with one or two prompts set: all unconditional, then all conditional.
struct Call<'a> {
    call: Box<dyn UnetCall + 'a>,
    /// The outputs in order: 0 is the unconditional one if there is one, then come the branches.
    outputs: Vec<usize>,
}

impl<'a> PromptedUnet<'a> {
    /// For `n` pictures of `h` x `w` latents that share the prompts. What the first step needs is made ready.
    pub fn new(
        stages: &'a dyn Stages,
        prompts: &'a Prompts,
        size: (usize, usize, usize),
        times: Option<&[f32]>,
    ) -> Result<Self> {
        let (times, inputs) = (times.map(<[f32]>::to_vec), UnetInputs::default());
        let mut unet = Self { stages, prompts, size, times, inputs, guidance: prompts.guidance, calls: HashMap::new() };
        unet.prepare(prompts.at(0))?;
        Ok(unet)
    }

    /// With what else the model is told.
    #[must_use]
    pub fn with_inputs(mut self, inputs: UnetInputs) -> Self {
        self.inputs = inputs;
        self
    }

    /// The latents as the model takes them: those of an inpainting model have mask and masked picture behind them.
    fn latents(&self, x: &[f32]) -> Result<Tensor> {
        let ((n, h, w), channels) = (self.size, self.stages.model().networks.in_channels());
        let shape = Shape::new(n, h, w, channels);
        let Some(masked) = &self.inputs.masked else { return Tensor::from_nchw(shape, x) };
        let own = x.len() / n.max(1);
        let more = (channels * h * w).saturating_sub(own);
        if more == 0 || masked.len() != more && masked.len() != n * more {
            let have = masked.len();
            return Err(Error::other(format!("{have} values of a masked picture for a model of {channels} channels")));
        }
        let pictures = x.chunks_exact(own.max(1)).zip(masked.chunks_exact(more).cycle());
        let all: Vec<f32> = pictures.flat_map(|(x, masked)| x.iter().chain(masked)).copied().collect();
        Tensor::from_nchw(shape, &all)
    }

    fn prepare(&mut self, number: usize) -> Result<()> {
        if self.calls.contains_key(&number) {
            return Ok(());
        }
        if self.calls.len() >= KEPT {
            self.calls.clear();
        }
        let contexts = self.prompts.contexts.get(number).ok_or_else(|| Error::other("no prompt for this step"))?;
        let calls = self.calls_for(contexts)?;
        self.calls.insert(number, calls);
        Ok(())
    }

    fn calls_for(&self, contexts: &Contexts) -> Result<Vec<Call<'a>>> {
        let all: Vec<&Tensor> = contexts.all().map(|i| &self.prompts.embeddings[i]).collect();
        let tokens: Vec<usize> = all.iter().map(|t| t.shape().w).collect();
        // The unconditional one, if there is one, comes first.
        let negative = |n: usize| n == 0 && contexts.uncond.is_some();
        let pooled = contexts.all().enumerate().map(|(n, i)| (self.prompts.pooled(i), negative(n)));
        let pooled: Vec<(&[f32], bool)> = pooled.collect();
        let made = |group: Range<usize>| {
            Ok(Call { call: self.call(&all[group.clone()], &pooled[group.clone()])?, outputs: group.collect() })
        };
        groups(&tokens).into_iter().map(made).collect()
    }

    fn call(&self, group: &[&Tensor], pooled: &[(&[f32], bool)]) -> Result<Box<dyn UnetCall + 'a>> {
        let ((n, h, w), one) = (self.size, group[0].shape());
        let contexts = group.len() * n;
        let networks = &self.stages.model().networks;
        let shape = StepShape { samples: n, contexts, times: networks.times(contexts), h, w, tokens: one.w };
        let data = group.iter().flat_map(|t| t.data().repeat(n)).collect();
        let context = Tensor::new(Shape::tokens(contexts, one.w, one.c), data)?;
        let mut added = Vec::new();
        if let Some(kind) = networks.added() {
            for (pooled, negative) in pooled {
                let sizes = self.sizes(kind, networks.factor(), *negative);
                let row: Vec<f32> = pooled.iter().chain(&sizes).copied().collect();
                added.extend(row.repeat(n));
            }
        }
        let guidance = networks.guidance().map_or_else(Vec::new, |width| embedded_guidance(self.guidance, width));
        self.stages.unet(shape, Conditioning { context, added, guidance }, self.times.as_deref())
    }

    /// The sinusoids of the numbers that are told of a picture.
    fn sizes(&self, kind: AddedEmbedding, factor: usize, negative: bool) -> Vec<f32> {
        let picture = (self.size.1 * factor, self.size.2 * factor);
        let told = &self.prompts.sizes;
        let numbers = told.clone().unwrap_or_else(|| self.prompts.told.numbers(kind, picture, negative));
        numbers.into_iter().flat_map(|x| size_embedding(x, kind.each)).collect()
    }
}

/// The calls that texts of so many tokens take: neighbours of one length share one.
pub(super) fn groups(tokens: &[usize]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (i, len) in tokens.iter().enumerate() {
        match groups.last_mut() {
            Some(last) if last.len() < TOGETHER && tokens[last.start] == *len => last.end += 1,
            _ => groups.push(i..i + 1),
        }
    }
    groups
}

impl Unet for PromptedUnet<'_> {
    fn predict(&mut self, x: &[f32], at: At, uncond: Option<&mut [f32]>, conds: &mut [Vec<f32>]) -> Result<()> {
        let number = self.prompts.at(at.step);
        self.prepare(number)?;
        let latents = self.latents(x)?;
        let mut outputs: Vec<&mut [f32]> = uncond.into_iter().chain(conds.iter_mut().map(Vec::as_mut_slice)).collect();
        let calls = self.calls.get_mut(&number).ok_or_else(|| Error::other("no prompt for this step"))?;
        if outputs.len() != calls.iter().map(|c| c.outputs.len()).sum::<usize>() {
            return Err(Error::other("guidance and prompts do not belong together"));
        }
        for call in calls {
            let all = call.call.predict(&latents, &[at.t])?.to_nchw();
            for (part, output) in all.chunks_exact(all.len() / call.outputs.len()).zip(&call.outputs) {
                outputs[*output].copy_from_slice(part);
            }
        }
        Ok(())
    }
}
