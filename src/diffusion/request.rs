//! Everything that decides a picture, what is possible, and what is told while it is made.

use super::answers::{Answer, Answers};
use super::conditioning::Told;
use super::denoise::plan::Settings;
use super::denoise::samplers::find_named;
use super::denoise::watch::Suspicion;
use super::img2img::Init;
use super::inpaint::Inpaint;
use super::outpaint::Outpaint;
use super::preview::{Preview, PreviewBy};
use super::prompt::embeddings::Embedding;
use super::refiner::Refiner;
use crate::checkpoint::Model;
use crate::checkpoint::adapter::AdapterUse;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::models::Autoencoder;
use crate::models::text::TextConfig;
use crate::models::training::Prediction;
use crate::rng::RngKind;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

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
    /// How far the guided prediction's contrast is pulled back to the prompt's own, 0 to 1 (CFG rescale).
    pub guidance_rescale: f32,
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
    /// What it begins with; `sampling.strength` is set where that is a picture.
    pub start: Start,
    /// What the U-Net predicts, where the model's own word is not to be trusted.
    pub prediction: Option<Prediction>,
    /// What a model of the SDXL family is told of the picture's size, and of an empty negative prompt.
    pub told: Told,
    /// A second model that takes over for the last steps.
    pub refiner: Option<Refiner>,
    /// Which pictures are shown while they are made.
    pub preview: Option<Preview>,
    /// Pictures that are there already and are not made again, by number from 0.
    pub skip: BTreeSet<usize>,
    /// What the network has answered in an interrupted run of this very request, by the picture's number: it goes on
    /// behind that.
    pub known: BTreeMap<usize, Answers>,
    /// Textual inversion embeddings that the prompts may name.
    pub embeddings: Arc<Vec<Embedding>>,
    /// Adapters, in the order in which they apply.
    pub adapters: Arc<Vec<AdapterUse>>,
    /// The prompt as metadata tell it, where that is another one: with the tags that named the adapters.
    pub written: Option<String>,
}

/// What a request begins with. Pictures are shared: a request that is cloned for another size or seed owns no copy.
#[derive(Clone, Debug, Default)]
pub enum Start {
    /// Nothing but noise.
    #[default]
    Noise,
    /// img2img: a picture of the request's size.
    Picture(Arc<Init>),
    /// Inpainting: a picture, and which part of it is painted anew.
    Masked(Arc<Init>, Arc<Inpaint>),
    /// Outpainting: a picture that grows; the request's size is that of the windows that are painted.
    Grown(Arc<Outpaint>),
}

impl Start {
    /// The picture that is encoded, as it is.
    pub fn init(&self) -> Option<&Init> {
        match self {
            Self::Picture(init) | Self::Masked(init, _) => Some(init),
            Self::Noise | Self::Grown(_) => None,
        }
    }

    /// Which part is painted anew.
    pub fn inpaint(&self) -> Option<&Inpaint> {
        if let Self::Masked(_, inpaint) = self { Some(inpaint) } else { None }
    }

    /// What grows.
    pub fn outpaint(&self) -> Option<&Outpaint> {
        if let Self::Grown(outpaint) = self { Some(outpaint) } else { None }
    }

    /// The picture that the work begins with, and what the result is made of.
    pub fn picture(&self) -> Option<&Init> {
        self.outpaint().map(|o| &o.picture).or(self.init())
    }
}

/// What is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Prompts to embeddings.
    Text,
    /// A picture to latents.
    Encode,
    /// Noise to latents, evaluation by evaluation.
    Denoise,
    /// Latents to a picture.
    Decode,
}

impl Phase {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Encode => "encode",
            Self::Denoise => "denoise",
            Self::Decode => "decode",
        }
    }
}

/// What happens while a request is worked on.
#[derive(Debug)]
pub enum Event {
    /// Something the user should know.
    Note(String),
    /// The network may predict something else than it is taken to: what it is can be told.
    Doubt(Suspicion),
    /// A phase begins.
    Stage {
        /// Which.
        phase: Phase,
        /// Which picture, from 0.
        image: usize,
        /// Units of work: evaluations of the U-Net, or 1. None where nobody knows.
        units: Option<usize>,
    },
    /// So many units of the stage are done.
    Done(usize),
    /// What the guided network has answered for one picture, of a known answer too: who keeps them all can have an
    /// interrupted request go on ([`Request::known`]).
    Answer {
        /// The picture's number, from 0.
        index: usize,
        /// The answer.
        answer: Answer,
    },
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

/// Refuses a side that no picture can have, or that is no multiple of `step`, with those next to it.
pub fn possible_side(name: &str, side: usize, step: usize) -> Result<()> {
    let (least, most) = SIZES;
    if side.is_multiple_of(step) && (least..=most).contains(&side) {
        return Ok(());
    }
    let below = (side / step * step).clamp(least, most);
    let above = (below + step).clamp(least, most);
    let near = if below == above { format!("is {below}") } else { format!("are {below} and {above}") };
    let rule = format!("sizes are multiples of {step} from {least} to {most}");
    Err(Error::usage(format!("{name} {side} is not possible: {rule}; the nearest {near}")))
}

impl Request {
    /// One picture from a prompt, with the model's own size, steps, guidance and sampler, and seed 0.
    ///
    /// # Errors
    /// The model's file names a sampler that nobody knows.
    pub fn new(model: &Model, prompt: impl Into<String>) -> Result<Self> {
        let own = &model.defaults;
        let named = find_named(&own.sampler)?;
        let sampling = Settings {
            schedule: named.schedule.unwrap_or_default(),
            timesteps: named.timesteps.unwrap_or_default(),
            ..Settings::new(named.sampler, own.steps)
        };
        Ok(Self {
            prompt: prompt.into(),
            negative_prompt: String::new(),
            width: own.size,
            height: own.size,
            guidance: own.guidance,
            guidance_rescale: 0.0,
            clip_skip: 1,
            sampling,
            seed: 0,
            count: 1,
            rng: RngKind::Nv,
            embeddings: Arc::default(),
            adapters: Arc::default(),
            written: None,
            batch_size: 1,
            variation: None,
            start: Start::Noise,
            prediction: None,
            told: Told::default(),
            refiner: None,
            preview: None,
            skip: BTreeSet::new(),
            known: BTreeMap::new(),
        })
    }

    /// Refuses what cannot be drawn, naming what can.
    pub fn check(&self, model: &Model) -> Result<()> {
        let step = model.networks.factor().max(8);
        possible_side("width", self.width, step)?;
        possible_side("height", self.height, step)?;
        if !(0.0..=30.0).contains(&self.guidance) {
            return Err(Error::usage(format!("guidance {} is out of range: use 0 to 30", self.guidance)));
        }
        let layers = model.networks.text.iter().map(TextConfig::most_clip_skip).min().unwrap_or(1);
        if !(1..=layers).contains(&self.clip_skip) {
            return Err(Error::usage(format!("clip skip {} is out of range: use 1 to {layers}", self.clip_skip)));
        }
        if !(0.0..=1.0).contains(&self.guidance_rescale) {
            return Err(Error::usage(format!(
                "guidance rescale {} is out of range: use 0 to 1",
                self.guidance_rescale
            )));
        }
        let tiny = matches!(model.networks.autoencoder, Some(Autoencoder::Tiny(_)));
        if !tiny && self.preview.is_some_and(|preview| preview.by == PreviewBy::Tiny) {
            let why = "taesd asks for previews by a tiny autoencoder, and the model has none: give it one (taesd), or ask \
                       for previews by its VAE (vae) or by its colours alone";
            return Err(Error::of_option("preview", why));
        }
        if let Some(refiner) = &self.refiner {
            refiner.check(model, self)?;
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
        if let Some(init) = self.start.init().filter(|i| (i.image.width, i.image.height) != (self.width, self.height)) {
            return Err(Error::other(format!("{:?} to begin a picture of {}x{}", init.image, self.width, self.height)));
        }
        if self.start.picture().is_some() != self.sampling.strength.is_some() {
            return Err(Error::usage("a picture to begin with and a strength belong together: give both, or neither"));
        }
        Ok(())
    }

    /// Height and width of the latents.
    pub fn latent_size(&self, model: &Model) -> (usize, usize) {
        (self.height / model.networks.factor(), self.width / model.networks.factor())
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
    pub(super) fn batches(&self) -> Vec<Range<usize>> {
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
        self.start.picture()
    }

    /// A decoded picture as the user gets it: without what was added to its edges, laid into the original.
    pub(super) fn finished(&self, mut image: Image) -> Image {
        if let Some(init) = self.start.init() {
            image = init.cropped(image);
        }
        match self.start.inpaint() {
            Some(inpaint) => inpaint.finished(image),
            None => image,
        }
    }

    /// The same for what listeners see on the way.
    pub(super) fn finished_event(&self, event: Event) -> Event {
        match event {
            Event::Preview { index, done, image } => Event::Preview { index, done, image: self.finished(image) },
            other => other,
        }
    }

    /// Whether the unconditional half is computed.
    pub fn guided(&self) -> bool {
        self.guidance != 1.0 || self.sampling.sampler.both_halves
    }
}
