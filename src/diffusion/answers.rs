//! What a network answered in an interrupted run goes in; the run goes on behind the last answer, to the same bytes.
//!
//! A sampler follows from its noise, which a seed makes again, and from what it is answered. So nothing of its own
//! state has to be kept: given the answers once more it comes to the same place within milliseconds, whichever sampler
//! it is.

use super::denoise::run::{At, Denoiser};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// What the guided network answered at one evaluation, of one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The timestep that it was asked at.
    pub t: f32,
    /// Latents `[c][h][w]`; twice as many where the sampler asks for two.
    pub values: Vec<f32>,
}

/// The answers of one picture, in order. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    all: Arc<Vec<Answer>>,
    from: usize,
}

impl Answers {
    /// All of them.
    pub fn new(all: Vec<Answer>) -> Self {
        Self { all: Arc::new(all), from: 0 }
    }

    /// Those that come after the first `n`: of the next window of a picture that grows.
    #[must_use]
    pub(super) fn behind(&self, n: usize) -> Self {
        Self { all: self.all.clone(), from: self.from + n }
    }

    fn get(&self, n: usize) -> Option<&Answer> {
        self.all.get(self.from.checked_add(n)?)
    }
}

/// What was answered since it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Pictures of the batch, and their answers.
    pub answers: Vec<(usize, Answer)>,
    /// Whether they were known before.
    pub known: bool,
}

/// A denoiser that is not asked what is known already.
pub(super) struct Remembering<'a> {
    inner: &'a mut dyn Denoiser,
    /// For each picture of the batch.
    known: Vec<Answers>,
    /// Answers that each picture has had.
    had: Vec<usize>,
    selected: Range<usize>,
    heard: &'a RefCell<Heard>,
}

impl<'a> Remembering<'a> {
    /// For a batch of as many pictures as there are lists of what is known.
    pub fn new(inner: &'a mut dyn Denoiser, known: Vec<Answers>, heard: &'a RefCell<Heard>) -> Self {
        Self { inner, had: vec![0; known.len()], selected: 0..known.len(), known, heard }
    }

    /// The known answers, if there are some for all pictures that are computed together.
    fn recall(&self, at: At, outs: &mut [&mut [f32]]) -> bool {
        let len = outs[0].len() / self.selected.len().max(1);
        let all: Option<Vec<&Answer>> = self.selected.clone().map(|i| self.known[i].get(self.had[i])).collect();
        let fits = |a: &&Answer| a.t.to_bits() == at.t.to_bits() && a.values.len() == len * outs.len();
        let Some(all) = all.filter(|all| len > 0 && all.iter().all(fits)) else { return false };
        for (n, out) in outs.iter_mut().enumerate() {
            for (part, answer) in out.chunks_exact_mut(len).zip(&all) {
                part.copy_from_slice(&answer.values[n * len..][..len]);
            }
        }
        true
    }

    /// Answers through what is known, or through `ask`.
    fn answer(
        &mut self,
        at: At,
        outs: &mut [&mut [f32]],
        ask: impl FnOnce(&mut dyn Denoiser, &mut [&mut [f32]]) -> Result<()>,
    ) -> Result<()> {
        let known = self.recall(at, outs);
        if !known {
            ask(self.inner, outs)?;
        }
        let len = (outs[0].len() / self.selected.len().max(1)).max(1);
        let mut heard = self.heard.borrow_mut();
        heard.known = known;
        for (place, image) in self.selected.clone().enumerate() {
            self.had[image] += 1;
            let values = outs.iter().flat_map(|out| &out[place * len..][..len]).copied().collect();
            heard.answers.push((image, Answer { t: at.t, values }));
        }
        Ok(())
    }
}

impl Denoiser for Remembering<'_> {
    fn denoised(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.answer(at, &mut [out], |inner, outs| inner.denoised(x, at, outs[0]))
    }

    fn denoised_apart(&mut self, x: &[f32], at: At, out: &mut [f32], uncond: &mut [f32]) -> Result<()> {
        self.answer(at, &mut [out, uncond], |inner, outs| {
            let [out, uncond] = outs else { return Ok(()) };
            inner.denoised_apart(x, at, out, uncond)
        })
    }

    fn epsilon(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.answer(at, &mut [out], |inner, outs| inner.epsilon(x, at, outs[0]))
    }

    fn noise_and_clean(&mut self, x: &[f32], at: At, noise: &mut [f32], clean: &mut [f32]) -> Result<()> {
        self.answer(at, &mut [noise, clean], |inner, outs| {
            let [noise, clean] = outs else { return Ok(()) };
            inner.noise_and_clean(x, at, noise, clean)
        })
    }

    fn select(&mut self, images: Range<usize>) {
        let most = self.known.len();
        self.selected = images.start.min(most)..images.end.min(most);
        self.inner.select(images);
    }
}
