//! What is computed, in the order of the data: prompt, tokens, embedding, denoising, pixels.
//!
//! [`generate`] is the whole story. It names no device: the six plans are run by whoever implements [`Stages`].

pub mod answers;
pub mod conditioning;
pub mod denoise;
pub mod img2img;
pub mod inpaint;
pub mod interpolate;
pub mod itinerary;
pub mod outpaint;
pub mod preview;
pub mod prompt;
pub mod refiner;
mod request;
pub mod tiles;
pub mod upscale;

pub use request::{Event, Listener, Phase, Request, SIZES, Start, possible_side};

use crate::checkpoint::Model;
use crate::error::{Error, Kind, Result};
use crate::graph::{Input, Output};
use crate::image::Image;
use crate::models::Networks;
use crate::models::part::{Part, StepShape};
use crate::models::tokenizer::Tokenizer;
use crate::models::training::Prediction;
use crate::tensor::{Shape, Tensor};
use answers::{Heard, Remembering};
use denoise::guided::Guided;
use denoise::noise::{ImageNoise, Variation};
use denoise::plan::Timetable;
use denoise::run::Progress;
use denoise::schedule::Schedule;
use denoise::watch::Watch;
use inpaint::{Kept, Painting};
use itinerary::{Followed, Itinerary};
use preview::Previewer;
use prompt::{PromptedUnet, Prompts};
use refiner::{Relay, Successor};
use std::cell::RefCell;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// The model's six plans, on whatever device: what the story needs of the engine.
pub trait Stages {
    /// The model.
    fn model(&self) -> &Model;

    /// Token rows `[chunks, 1, 77, width]` of one of the text encoders to its hidden states.
    fn text(&self, encoder: usize, tokens: Tensor, clip_skip: usize) -> Result<Tensor>;

    /// The U-Net for these sizes with a prompt set. `times` are the timesteps that will
    /// be asked for, if they are known.
    fn unet(&self, shape: StepShape, told: Conditioning, times: Option<&[f32]>) -> Result<Box<dyn UnetCall + '_>>;

    /// Latents `[b, h, w, 4]`, already divided by the scaling factor, to pixels in [-1, 1].
    fn decode(&self, latents: Tensor) -> Result<Tensor>;

    /// Pixels `[b, h, w, 3]` in [-1, 1] to the moments of the latents, not scaled.
    fn encode(&self, image: Tensor) -> Result<Tensor>;

    /// The same plans of another model, which takes over from this one: the two are not at work at the same time.
    ///
    /// # Errors
    /// What runs one model's story alone has no other.
    fn with_model<'b>(&'b self, model: &'b Arc<Model>) -> Result<Box<dyn Stages + 'b>> {
        let _ = model;
        Err(Error::other("several models are run by a session on an engine"))
    }

    /// One run of any part, for comparisons: with the model's own networks, or with others over the same tensors.
    ///
    /// # Errors
    /// What runs the story alone has no such way.
    fn run(
        &self,
        part: Part,
        networks: Option<&Networks>,
        inputs: Vec<(Input, Tensor)>,
        outputs: &[Output],
    ) -> Result<Vec<Tensor>> {
        let _ = (part, networks, inputs, outputs);
        Err(Error::other("single parts are run by a session on an engine"))
    }
}

/// What the network that predicts is told of a prompt.
#[derive(Clone, Debug)]
pub struct Conditioning {
    /// `[contexts, 1, tokens, width]`: the hidden states of all text encoders side by side.
    pub context: Tensor,
    /// What is embedded beside a timestep, one row a context: pooled text and sizes. Nothing where the model takes
    /// none.
    pub added: Vec<f32>,
    /// The embedding of a guidance scale, the same for all contexts. Nothing where the model takes none.
    pub guidance: Vec<f32>,
}

/// The U-Net with a prompt in it.
pub trait UnetCall {
    /// `latents [samples, h, w, c]` and one timestep, or one for each context, to `[contexts, h, w, 4]`.
    fn predict(&mut self, latents: &Tensor, times: &[f32]) -> Result<Tensor>;
}

/// A request to pictures: prompt, tokens, embedding, then for each picture noise, latents, pixels.
pub fn generate(stages: &dyn Stages, tokens: &Tokenizer, request: &Request, listen: &mut Listener<'_>) -> Result<()> {
    request.check(stages.model())?;
    let followed;
    let stages = if cfg!(debug_assertions) {
        followed = Followed { stages, itinerary: Itinerary::new(stages.model(), request, tokens)? };
        &followed
    } else {
        stages
    };
    tell(listen, Event::Stage { phase: Phase::Text, image: 0, units: Some(1) })?;
    let prompts = prompt::embed(stages, tokens, request, listen)?;
    if let Some(outpaint) = request.start.outpaint() {
        return outpaint::generate(stages, &prompts, request, outpaint, listen);
    }
    let Some(refiner) = &request.refiner else { return pictures(stages, &prompts, None, request, listen) };
    let second = stages.with_model(&refiner.model)?;
    // What there is to note of the prompts has been said.
    let own = refiner.request(request);
    let mut quiet = |event: Event| if let Event::Note(_) = event { ControlFlow::Continue(()) } else { listen(event) };
    let own = prompt::embed(second.as_ref(), &refiner.model.tokenizer()?, &own, &mut quiet)?;
    let first = refiner.first(request.sampling.steps);
    let successor = Successor { stages: second.as_ref(), prompts: &own, first };
    pictures(stages, &prompts, Some(successor), request, listen)
}

/// Embedded prompts to pictures; one that grows is painted by this window for window.
fn pictures(
    stages: &dyn Stages,
    prompts: &Prompts,
    successor: Option<Successor<'_>>,
    request: &Request,
    listen: &mut Listener<'_>,
) -> Result<()> {
    let model = stages.model();
    let plan = Timetable::new(&Schedule::new(&model.schedule)?, &inpaint::settings(request, model))?;
    let size = request.latent_size(model);
    if request.start.init().is_some() || inpaint::told(model) {
        tell(listen, Event::Stage { phase: Phase::Encode, image: 0, units: Some(1) })?;
    }
    let prepared = Painting::new(stages, request)?;
    let mut work = Work {
        request,
        plan: &plan,
        prompts,
        successor,
        prepared: &prepared,
        size,
        prediction: request.prediction.unwrap_or(model.schedule.prediction),
        previewer: request.preview.map(|p| Previewer::new(stages, p, size)),
        unet: None,
        // Of a picture that is there already, what is kept hides what the network makes of the rest.
        watch: matches!(request.start, Start::Noise | Start::Picture(_)).then(Watch::default),
    };
    for batch in request.batches() {
        tell(listen, Event::Stage { phase: Phase::Denoise, image: batch.start, units: plan.evaluations() })?;
        let latents = work.denoise(stages, &batch, listen)?;
        for (index, latents) in batch.clone().zip(latents.chunks_exact(latents.len() / batch.len())) {
            tell(listen, Event::Stage { phase: Phase::Decode, image: index, units: Some(1) })?;
            let image = request.finished(decode(stages, size, latents)?);
            tell(listen, Event::Picture { index, seed: request.seeds(index).0, image })?;
        }
    }
    Ok(())
}

/// What all batches of a request share.
struct Work<'a> {
    request: &'a Request,
    plan: &'a Timetable,
    prompts: &'a Prompts,
    successor: Option<Successor<'a>>,
    prepared: &'a Painting,
    /// Height and width of the latents.
    size: (usize, usize),
    prediction: Prediction,
    previewer: Option<Previewer<'a>>,
    /// The U-Net for so many pictures at a time.
    unet: Option<(usize, Relay<'a>)>,
    /// Who notices a network that predicts something else than it is taken to.
    watch: Option<Watch>,
}

impl<'a> Work<'a> {
    /// The final latents of some pictures, `[n][c][h][w]`.
    fn denoise(&mut self, stages: &'a dyn Stages, batch: &Range<usize>, listen: &mut Listener<'_>) -> Result<Vec<f32>> {
        let (request, plan, (h, w), n) = (self.request, self.plan, self.size, batch.len());
        let unet = match &mut self.unet {
            Some((size, unet)) if *size == n => unet,
            other => {
                let new = PromptedUnet::new(stages, self.prompts, (n, h, w), plan.times())?;
                let new = new.with_inputs(self.prepared.inputs.clone());
                &mut other.insert((n, Relay::new(new, self.successor, (n, h, w), plan.times()))).1
            }
        };
        let weights = self.prompts.weights().to_vec();
        let told = stages.model().networks.guidance().is_some();
        let guidance = if told { 1.0 } else { request.guidance };
        let mut guided = Guided::new(unet, self.prediction, guidance).with_branches(weights);
        guided = guided.with_rescale(request.guidance_rescale);
        // What is known of an interrupted run is not asked again.
        let answers = RefCell::new(Heard::default());
        let known = batch.clone().map(|i| request.known.get(&i).cloned().unwrap_or_default()).collect();
        let mut guided = Remembering::new(&mut guided, known, &answers);
        let (previewer, watch) = (&mut self.previewer, &mut self.watch);
        let mut heard = |p: &Progress<'_>| {
            let Heard { answers, known } = answers.take();
            for (image, answer) in answers {
                listen(Event::Answer { index: batch.start + image, answer })?;
            }
            if let Some(doubt) = watch.as_mut().and_then(|watch| watch.hear(p)) {
                listen(Event::Doubt(doubt))?;
            }
            if let Some(previewer) = previewer
                && !known
                && previewer.show(p, batch.start, &mut |event| listen(request.finished_event(event))).is_break()
            {
                return ControlFlow::Break(());
            }
            listen(Event::Done(p.at.evaluation + 1))
        };
        let len = stages.model().networks.latents().channels * h * w;
        let start = self.prepared.start(n, &mut noise(request, batch, self.size))?;
        let mask = self.prepared.mixed_mask(n);
        let kept = start.as_deref().zip(mask.as_deref()).map(|(init, mask)| Kept { init, mask });
        let mut noise = noise(request, batch, self.size);
        inpaint::sample(plan, (n, len), start.as_deref(), kept, &mut noise, &mut guided, &mut heard)
    }
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
    let kind = stages.model().networks.latents();
    let latents = Tensor::from_nchw(Shape::new(1, h, w, kind.channels), &kind.to_autoencoder(latents))?;
    Image::from_decoded(&stages.decode(latents)?, 0)
}

fn tell(listen: &mut Listener<'_>, event: Event) -> Result<()> {
    if listen(event).is_break() { Err(Error::new(Kind::Cancelled, "stopped on request")) } else { Ok(()) }
}
