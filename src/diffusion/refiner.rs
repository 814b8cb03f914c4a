//! Two networks go in, the one that the sampler asks comes out: the second, a refiner, takes over for the last steps.
//!
//! Latents and noise levels go on as they are; only who answers changes (SDXL's refiner knows low noise levels alone).
//! The prompts are embedded for both, each by its own text encoders.

use super::denoise::guided::Unet;
use super::denoise::run::At;
use super::prompt::embeddings::Embedding;
use super::prompt::{PromptedUnet, Prompts};
use super::{Request, Stages};
use crate::checkpoint::Model;
use crate::error::{Error, Result, escape};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A second model for the last steps.
#[derive(Clone)]
pub struct Refiner {
    /// The model: a network that predicts, and its text encoders.
    pub model: Arc<Model>,
    /// The share of the steps that the first network takes.
    pub switch: f32,
}

impl Refiner {
    /// Where it takes over if nobody says (the webui's and diffusers' examples).
    pub const SWITCH: f32 = 0.8;

    /// The first step, from 0, that is its own.
    pub fn first(&self, steps: usize) -> usize {
        (f64::from(self.switch) * steps as f64).round() as usize
    }

    /// Refuses a model whose latents are not the first one's.
    ///
    /// # Errors
    /// Usage: what does not fit. Bad file: it has no network that predicts.
    pub fn check(&self, base: &Model, request: &Request) -> Result<()> {
        if !(0.0..=1.0).contains(&self.switch) {
            return Err(Error::of_option("refiner_switch", format!("{} is out of range: use 0 to 1", self.switch)));
        }
        if request.start.outpaint().is_some() {
            return Err(Error::of_option("refiner", "outpainting is done by one model: leave the refiner out"));
        }
        let (name, predictor) = (escape(&self.model.name), self.model.networks.predictor()?);
        let (own, latents) = (predictor.latents(), base.networks.latents());
        let scale = (base.networks.family_scale(), own.scale);
        if predictor.in_channels() != latents.channels || scale.0 != scale.1 {
            let why = format!(
                "{name} works on latents of {} channels in and scale {}, the model on {} and {}: a refiner is of the \
                 model's own family",
                predictor.in_channels(),
                scale.1,
                latents.channels,
                scale.0
            );
            return Err(Error::of_option("refiner", why));
        }
        Ok(())
    }

    /// The request as its own text encoders are to read it: of embeddings for several encoders, the last one's vectors.
    pub(super) fn request(&self, request: &Request) -> Request {
        let width = self.model.networks.text_width();
        let own = |e: &Embedding| {
            let rows = e.values.chunks_exact(e.width.max(1)).filter(|row| row.len() >= width);
            Embedding { values: rows.flat_map(|row| row[row.len() - width..].to_vec()).collect(), width, ..e.clone() }
        };
        Request { embeddings: Arc::new(request.embeddings.iter().map(own).collect()), ..request.clone() }
    }
}

impl fmt::Debug for Refiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.model.name, self.switch)
    }
}

/// Who takes over, with its prompts, and at which step.
#[derive(Clone, Copy)]
pub(super) struct Successor<'a> {
    pub stages: &'a dyn Stages,
    pub prompts: &'a Prompts,
    pub first: usize,
}

/// The network of a run: the first one's, and from some step on its successor's.
pub(super) struct Relay<'a> {
    unet: PromptedUnet<'a>,
    successor: Option<Successor<'a>>,
    /// The successor's, once it was needed: until then nothing of it is loaded.
    second: Option<PromptedUnet<'a>>,
    size: (usize, usize, usize),
    times: Option<Vec<f32>>,
}

impl<'a> Relay<'a> {
    /// For pictures of this number and these latents.
    pub fn new(
        unet: PromptedUnet<'a>,
        successor: Option<Successor<'a>>,
        size: (usize, usize, usize),
        times: Option<&[f32]>,
    ) -> Self {
        Self { unet, successor, second: None, size, times: times.map(<[f32]>::to_vec) }
    }
}

impl Unet for Relay<'_> {
    fn predict(&mut self, x: &[f32], at: At, uncond: Option<&mut [f32]>, conds: &mut [Vec<f32>]) -> Result<()> {
        let Some(next) = self.successor.filter(|next| at.step >= next.first) else {
            return self.unet.predict(x, at, uncond, conds);
        };
        let second = match &mut self.second {
            Some(second) => second,
            none => none.insert(PromptedUnet::new(next.stages, next.prompts, self.size, self.times.as_deref())?),
        };
        second.predict(x, at, uncond, conds)
    }

    fn select(&mut self, images: Range<usize>) {
        self.unet.select(images.clone());
        if let Some(second) = &mut self.second {
            second.select(images);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fifth_of_the_steps_is_the_refiners() {
        let refiner = |switch| Refiner { model: Arc::new(Model::embedded().unwrap()), switch };
        let first = |switch, steps| refiner(switch).first(steps);
        assert_eq!([first(0.8, 20), first(0.8, 30), first(0.8, 1), first(0.0, 9), first(1.0, 9)], [16, 24, 1, 0, 9]);
    }

    #[test]
    fn another_familys_latents_are_refused() {
        let model = Model::embedded().unwrap();
        let request = Request::new(&model, "x").unwrap();
        let fits = Refiner { model: Arc::new(Model::embedded().unwrap()), switch: 0.8 };
        assert!(fits.check(&model, &request).is_ok());
        let nothing = model.with_networks(crate::models::Networks::default());
        let error = Refiner { model: Arc::new(nothing), switch: 0.8 }.check(&model, &request).unwrap_err().to_string();
        assert!(error.contains("no network that predicts"), "{error}");
        let mut networks = model.networks.clone();
        if let Some(crate::models::Predictor::Unet(unet)) = &mut networks.predictor {
            unet.in_channels = 9;
        }
        let other = Refiner { model: Arc::new(model.with_networks(networks)), switch: 0.8 };
        assert!(other.check(&model, &request).unwrap_err().to_string().contains("9 channels in"));
        assert!(Refiner { switch: 1.5, ..fits }.check(&model, &request).is_err());
    }
}
