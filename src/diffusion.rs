//! What is computed, in the order of the data: prompt, tokens, embedding, denoising, pixels.
//!
//! [`generate`] is the whole story. It names no device: the six plans are run by whoever implements [`Stages`].

pub mod bpe;
pub mod clip;
pub mod denoise;
pub mod img2img;
pub mod inpaint;
pub mod outpaint;
pub mod preview;
pub mod prompt;
pub mod unet;
pub mod vae;

use crate::error::{Error, Kind, Result};
use crate::image::Image;
use crate::rng::RngKind;
use crate::tensor::{Shape, Tensor};
use crate::weights::Model;
use bpe::Tokenizer;
use denoise::guided::Guided;
use denoise::noise::{ImageNoise, Variation};
use denoise::plan::{Plan, Settings};
use denoise::run::Progress;
use denoise::schedule::{Prediction, Schedule};
use img2img::Init;
use inpaint::{Inpaint, Kept, Prepared};
use outpaint::Outpaint;
use preview::{Preview, Previewer};
use prompt::PromptedUnet;
use prompt::embeddings::Embedding;
use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use unet::UnetShape;

/// The model's six plans, on whatever device: what the story needs of the engine.
pub trait Stages {
    /// The model.
    fn model(&self) -> &Model;

    /// What users should know of the weights loaded since this was last called.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Token rows `[chunks, 1, 77, width]` to hidden states.
    fn text(&self, tokens: Tensor, clip_skip: usize) -> Result<Tensor>;

    /// The U-Net for these sizes with `context [contexts, 1, tokens, width]` set. `times` are the timesteps that will be
    /// asked for, if they are known.
    fn unet(&self, shape: UnetShape, context: Tensor, times: Option<&[f32]>) -> Result<Box<dyn UnetCall + '_>>;

    /// Latents `[b, h, w, 4]`, already divided by the scaling factor, to pixels in [-1, 1].
    fn decode(&self, latents: Tensor) -> Result<Tensor>;

    /// Pixels `[b, h, w, 3]` in [-1, 1] to the moments of the latents, not scaled.
    fn encode(&self, image: Tensor) -> Result<Tensor>;
}

/// The U-Net with a prompt in it.
pub trait UnetCall {
    /// `latents [samples, h, w, c]` and one timestep, or one for each context, to `[contexts, h, w, 4]`.
    fn predict(&mut self, latents: &Tensor, times: &[f32]) -> Result<Tensor>;
}

/// Everything that decides a picture.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to draw.
    pub prompt: String,
    /// What to stay away from.
    pub negative_prompt: String,
    /// Pixels, a multiple of 8.
    pub width: usize,
    /// Pixels, a multiple of 8.
    pub height: usize,
    /// How strongly the picture follows the prompt; 1 does without the negative prompt.
    pub guidance: f32,
    /// Which hidden state of the text encoder, from the end; 1 is the last.
    pub clip_skip: usize,
    /// Sampler, schedule, steps.
    pub sampling: Settings,
    /// The first picture's seed; picture i has seed + i.
    pub seed: u64,
    /// How many pictures.
    pub count: usize,
    /// Which generator the noise comes from.
    pub rng: RngKind,
    /// How many pictures go through the U-Net together; a picture does not depend on it.
    pub batch_size: usize,
    /// A second seed and how far the noise is turned towards its noise. All pictures then have the same seed, and
    /// picture i has this second seed + i, as in the webui.
    pub variation: Option<(u64, f32)>,
    /// img2img: the picture to begin with, for which `sampling.strength` is set.
    pub init: Option<Init>,
    /// Inpainting: which part of that picture is painted anew.
    pub inpaint: Option<Inpaint>,
    /// Outpainting: the picture that grows; width and height are those of the windows that are painted.
    pub outpaint: Option<Outpaint>,
    /// What the U-Net predicts, where the model's own word is not to be trusted.
    pub prediction: Option<Prediction>,
    /// Which pictures are shown while they are made.
    pub preview: Option<Preview>,
    /// Pictures that are there already and are not made again, by number from 0.
    pub skip: BTreeSet<usize>,
    /// Textual inversion embeddings that the prompts may name.
    pub embeddings: Arc<Vec<Embedding>>,
}

/// What happens while a request is worked on.
#[derive(Debug)]
pub enum Event {
    /// Something the user should know.
    Note(String),
    /// A stage begins: `text`, `denoise`, `decode`.
    Stage {
        /// Its name.
        name: &'static str,
        /// Which picture, from 0.
        image: usize,
        /// Units of work: evaluations of the U-Net, or 1. None where nobody knows.
        units: Option<usize>,
    },
    /// So many units of the stage are done.
    Done(usize),
    /// What an unfinished picture looks like.
    Preview {
        /// The picture's number, from 0.
        index: usize,
        /// A small or a full picture.
        image: Image,
        /// Evaluations done so far.
        done: usize,
    },
    /// A finished picture.
    Picture {
        /// Its number, from 0.
        index: usize,
        /// The seed that makes it alone.
        seed: u64,
        /// The pixels.
        image: Image,
    },
}

/// Who listens; `Break` stops the work with a `Cancelled` error.
pub type Listener<'a> = dyn FnMut(Event) -> ControlFlow<()> + 'a;

/// Smallest and largest side of a picture, in pixels.
pub const SIZES: (usize, usize) = (64, 2048);

impl Request {
    /// One picture from a prompt, without anything that can be left out: guidance 7.5, seed 0.
    pub fn new(prompt: impl Into<String>, (width, height): (usize, usize), sampling: Settings) -> Self {
        Self {
            prompt: prompt.into(),
            negative_prompt: String::new(),
            width,
            height,
            guidance: 7.5,
            clip_skip: 1,
            sampling,
            seed: 0,
            count: 1,
            rng: RngKind::Nv,
            embeddings: Arc::default(),
            batch_size: 1,
            variation: None,
            init: None,
            inpaint: None,
            outpaint: None,
            prediction: None,
            preview: None,
            skip: BTreeSet::new(),
        }
    }

    /// Refuses what cannot be drawn, naming what can.
    pub fn check(&self, model: &Model) -> Result<()> {
        let step = model.vae.factor().max(8);
        let (least, most) = SIZES;
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if !side.is_multiple_of(step) || !(least..=most).contains(&side) {
                let below = (side / step * step).clamp(least, most);
                let above = (below + step).clamp(least, most);
                let near = if below == above { format!("{below}") } else { format!("{below} and {above}") };
                let rule = format!("sizes are multiples of {step} from {least} to {most}");
                return Err(Error::usage(format!("{name} {side} is not possible: {rule}; the nearest are {near}")));
            }
        }
        if !(0.0..=30.0).contains(&self.guidance) {
            return Err(Error::usage(format!("guidance {} is out of range: use 0 to 30", self.guidance)));
        }
        if !(1..=model.clip.layers).contains(&self.clip_skip) {
            let layers = model.clip.layers;
            return Err(Error::usage(format!("clip skip {} is out of range: use 1 to {layers}", self.clip_skip)));
        }
        if self.count == 0 {
            return Err(Error::usage("0 pictures asked for: use at least 1"));
        }
        if !(1..=64).contains(&self.batch_size) {
            return Err(Error::usage(format!("batch size {} is out of range: use 1 to 64", self.batch_size)));
        }
        if let Some((_, strength)) = self.variation.filter(|(_, strength)| !(0.0..=1.0).contains(strength)) {
            return Err(Error::usage(format!("variation strength {strength} is out of range: use 0 to 1")));
        }
        if let Some(init) = self.init.as_ref().filter(|i| (i.image.width, i.image.height) != (self.width, self.height))
        {
            return Err(Error::other(format!("{:?} to begin a picture of {}x{}", init.image, self.width, self.height)));
        }
        Ok(())
    }

    /// Height and width of the latents.
    pub fn latent_size(&self, model: &Model) -> (usize, usize) {
        (self.height / model.vae.factor(), self.width / model.vae.factor())
    }

    /// The seed of picture `index`, and its second seed.
    pub fn seeds(&self, index: usize) -> (u64, Option<u64>) {
        match self.variation {
            Some((second, _)) => (self.seed, Some(second.wrapping_add(index as u64))),
            None => (self.seed.wrapping_add(index as u64), None),
        }
    }

    /// How many pictures go through the U-Net together: an adaptive sampler takes one at a time.
    pub fn together(&self) -> usize {
        if self.sampling.sampler.adaptive() { 1 } else { self.batch_size.min(self.count).max(1) }
    }

    /// The batches, by the pictures' numbers. Those to be skipped are in none.
    fn batches(&self) -> Vec<Range<usize>> {
        let mut out: Vec<Range<usize>> = Vec::new();
        for index in (0..self.count).filter(|i| !self.skip.contains(i)) {
            match out.last_mut() {
                Some(last) if last.end == index && last.len() < self.together() => last.end += 1,
                _ => out.push(index..index + 1),
            }
        }
        out
    }

    /// The picture that the work begins with, and what the result is made of.
    pub fn picture(&self) -> Option<&Init> {
        self.outpaint.as_ref().map(|o| &o.picture).or(self.init.as_ref())
    }

    /// A decoded picture as the user gets it: without what was added to its edges, laid into the original.
    fn finished(&self, mut image: Image) -> Image {
        if let Some(init) = &self.init {
            image = init.cropped(image);
        }
        match &self.inpaint {
            Some(inpaint) => inpaint.finished(image),
            None => image,
        }
    }

    /// The same for what listeners see on the way.
    fn finished_event(&self, event: Event) -> Event {
        match event {
            Event::Preview { index, done, image } => Event::Preview { index, done, image: self.finished(image) },
            other => other,
        }
    }

    /// Whether the unconditional half is computed.
    pub fn guided(&self) -> bool {
        self.guidance != 1.0
    }
}

/// A request to pictures: prompt, tokens, embedding, then for each picture noise, latents, pixels.
pub fn generate(stages: &dyn Stages, tokens: &Tokenizer, request: &Request, listen: &mut Listener<'_>) -> Result<()> {
    let model = stages.model();
    request.check(model)?;
    if let Some(outpaint) = &request.outpaint {
        return outpaint::generate(stages, tokens, request, outpaint, listen);
    }
    let schedule = Schedule::new(&model.schedule)?;
    let plan = Plan::new(&schedule, &inpaint::settings(request, model))?;

    tell(listen, Event::Stage { name: "text", image: 0, units: Some(1) })?;
    let prompts = prompt::embed(stages, tokens, request, listen)?;
    tell_notes(stages, listen)?;
    let (h, w) = request.latent_size(model);
    if request.init.is_some() || inpaint::told(model) {
        tell(listen, Event::Stage { name: "encode", image: 0, units: Some(1) })?;
    }
    let prepared = Prepared::new(stages, request)?;
    let prediction = request.prediction.unwrap_or(model.schedule.prediction);
    let mut previewer = request.preview.map(|p| Previewer::new(stages, p, (h, w)));
    let mut unet: Option<(usize, PromptedUnet<'_>)> = None;

    for batch in request.batches() {
        let n = batch.len();
        let unet = match &mut unet {
            Some((size, unet)) if *size == n => unet,
            other => {
                let new = PromptedUnet::new(stages, &prompts, (n, h, w), plan.times())?;
                &mut other.insert((n, new.with_inputs(prepared.inputs.clone()))).1
            }
        };
        tell(listen, Event::Stage { name: "denoise", image: batch.start, units: plan.evaluations() })?;
        let mut noise = noise(request, &batch, (h, w));
        let mut guided = Guided::new(unet, prediction, request.guidance).with_branches(prompts.weights().to_vec());
        let mut heard = |p: &Progress<'_>| {
            if let Some(previewer) = &mut previewer
                && previewer.show(p, batch.start, &mut |event| listen(request.finished_event(event))).is_break()
            {
                return ControlFlow::Break(());
            }
            listen(Event::Done(p.at.evaluation + 1))
        };
        let len = model.unet.out_channels * h * w;
        let start = prepared.start(n, &mut self::noise(request, &batch, (h, w)))?;
        let mask = prepared.mixed_mask(n);
        let kept = start.as_deref().zip(mask.as_deref()).map(|(init, mask)| Kept { init, mask });
        let latents = inpaint::sample(&plan, (n, len), start.as_deref(), kept, &mut noise, &mut guided, &mut heard)?;

        for (index, latents) in batch.zip(latents.chunks_exact(len)) {
            tell(listen, Event::Stage { name: "decode", image: index, units: Some(1) })?;
            let image = request.finished(decode(stages, (h, w), latents)?);
            tell_notes(stages, listen)?;
            tell(listen, Event::Picture { index, seed: request.seeds(index).0, image })?;
        }
    }
    Ok(())
}

/// The generators of a batch's pictures.
fn noise(request: &Request, batch: &Range<usize>, size: (usize, usize)) -> ImageNoise {
    let seeds: Vec<u64> = batch.clone().map(|i| request.seeds(i).0).collect();
    let noise = ImageNoise::new(request.rng, &seeds);
    match request.variation {
        Some((_, strength)) => {
            let seed = request.seeds(batch.start).1.unwrap_or_default();
            noise.with_variation(Variation { seed, strength, size })
        }
        None => noise,
    }
}

/// Latents `[c, h, w]` as the sampler left them, to a picture; one that is not finite or has no content is an error.
pub fn decode(stages: &dyn Stages, (h, w): (usize, usize), latents: &[f32]) -> Result<Image> {
    let vae = &stages.model().vae;
    let scaled: Vec<f32> = latents.iter().map(|v| v / vae.scaling).collect();
    let latents = Tensor::from_nchw(Shape::new(1, h, w, vae.latent_channels), &scaled)?;
    Image::from_decoded(&stages.decode(latents)?, 0)
}

fn tell_notes(stages: &dyn Stages, listen: &mut Listener<'_>) -> Result<()> {
    stages.notes().into_iter().try_for_each(|note| tell(listen, Event::Note(note)))
}

fn tell(listen: &mut Listener<'_>, event: Event) -> Result<()> {
    if listen(event).is_break() { Err(Error::new(Kind::Cancelled, "stopped on request")) } else { Ok(()) }
}
