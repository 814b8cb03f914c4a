//! A request goes in; which parts of the model it will visit, in which order, at which size and how often, comes out.
//!
//! The one place that knows: [`super::generate`] follows it (and a debug build says where it does not), memory and time
//! are estimated from it, and the engine decides from it what stays loaded. No weight is read.

use super::denoise::plan::Timetable;
use super::denoise::schedule::Schedule;
use super::preview::{PATCH, PreviewBy};
use super::prompt::Demand;
use super::{Conditioning, Request, Stages, Start, UnetCall, inpaint, outpaint};
use crate::checkpoint::Model;
use crate::engine::residency::Again;
use crate::error::Result;
use crate::graph::{Input, Output};
use crate::models::Networks;
use crate::models::part::{Part, StepShape};
use crate::models::tokenizer::Tokenizer;
use crate::tensor::Tensor;
use std::sync::Arc;

/// A part that is run, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Visit {
    /// The part, at its size.
    pub part: Part,
    /// How often it is run, at most.
    pub runs: usize,
}

/// What requests visit, one after the other in one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Itinerary {
    /// The different parts, in the order in which they first run.
    pub visits: Vec<Visit>,
    /// The parts of a refiner, the second model of a request, in the order in which they first run.
    pub refiner: Vec<Visit>,
    /// What alternates.
    pub again: Again,
    /// Bytes outside of all programs, at most.
    pub beside: u64,
}

impl Itinerary {
    /// Of one request.
    ///
    /// # Errors
    /// Usage: a prompt that cannot be read, or steps that cannot be taken.
    pub fn new(model: &Model, request: &Request, tokens: &Tokenizer) -> Result<Self> {
        let plan = Timetable::new(&Schedule::new(&model.schedule)?, &inpaint::settings(request, model))?;
        let evaluations = plan.evaluations().unwrap_or(request.sampling.steps);
        let timesteps = plan.times().map_or(1, <[f32]>::len).max(1);
        let demand = Demand::new(request, tokens, model)?;
        let windows = request.start.outpaint().map(|o| outpaint::windows(o, (request.width, request.height)));
        let painted = windows.unwrap_or(1);
        // How many pictures go together, and how often: windows come one at a time.
        let mut batches: Vec<(usize, usize)> = Vec::new();
        let mut pictures = 0;
        for batch in request.batches() {
            pictures += batch.len() * painted;
            let (samples, times) = if windows.is_some() { (1, batch.len() * painted) } else { (batch.len(), 1) };
            match batches.iter_mut().find(|(size, _)| *size == samples) {
                Some((_, sum)) => *sum += times,
                None => batches.push((samples, times)),
            }
        }
        let beside = demand.bytes(model, request.together(), timesteps) + pictures_beside(model, request);
        let mut itinerary = Self { beside, ..Self::default() };
        let mut visit = |part: Part, runs: usize| itinerary.add(Visit { part, runs });
        for encoder in 0..model.networks.text.len() {
            visit(Part::Text { encoder, chunks: 1, clip_skip: request.clip_skip }, demand.chunks(model));
        }
        let (h, w) = request.latent_size(model);
        let encodings = [request.picture().is_some(), inpaint::told(model)].into_iter().filter(|e| *e).count();
        if encodings > 0 {
            let times = if windows.is_some() { pictures } else { 1 };
            visit(Part::Encode { size: (1, request.height, request.width) }, encodings * times);
        }
        let calls = || batches.iter().flat_map(|batch| demand.calls.iter().map(move |call| (*batch, *call)));
        for ((samples, times), (contexts, tokens)) in calls() {
            visit(Part::Context { contexts: contexts * samples, tokens }, times);
        }
        visit(Part::Time { timesteps }, demand.ready * if windows.is_some() { pictures } else { 1 });
        for ((samples, times), (contexts, tokens)) in calls() {
            let contexts = contexts * samples;
            let shape = StepShape { samples, contexts, times: model.networks.times(contexts), h, w, tokens };
            visit(Part::Step(shape), evaluations * times);
        }
        if let Some(preview) = request.preview {
            let shown = evaluations / preview.every.max(1) * pictures;
            let side = |n: usize| if preview.by != PreviewBy::Colours { n } else { n.min(PATCH) };
            visit(Part::Decode { size: (1, side(h), side(w)) }, shown);
        }
        visit(Part::Decode { size: (1, h, w) }, pictures);
        itinerary.again = match windows {
            Some(_) if pictures > 1 => Again::Windows,
            _ if pictures > 1 || request.preview.is_some() => Again::Pictures,
            _ => Again::Nothing,
        };
        if let Some(refiner) = &request.refiner {
            let alone = Request { refiner: None, preview: None, ..refiner.request(request) };
            let second = Self::new(&refiner.model, &alone, &refiner.model.tokenizer()?)?;
            itinerary.beside += second.beside;
            let own =
                |p: &Part| matches!(p, Part::Text { .. } | Part::Context { .. } | Part::Time { .. } | Part::Step(_));
            itinerary.refiner = second.visits.into_iter().filter(|visit| own(&visit.part)).collect();
        }
        Ok(itinerary)
    }

    /// Of several requests, one after the other: the cells of a grid.
    ///
    /// # Errors
    /// As [`Itinerary::new`].
    pub fn of_all(model: &Model, requests: &[Request], tokens: &Tokenizer) -> Result<Self> {
        let mut all = Self::default();
        for request in requests {
            let one = Self::new(model, request, tokens)?;
            one.visits.into_iter().for_each(|visit| all.add(visit));
            one.refiner.into_iter().for_each(|visit| merge(&mut all.refiner, visit));
            all.again = all.again.max(one.again);
            all.beside = all.beside.max(one.beside);
        }
        if requests.len() > 1 {
            all.again = all.again.max(Again::Pictures);
        }
        Ok(all)
    }

    /// The different parts, in the order in which they first run.
    pub fn parts(&self) -> Vec<Part> {
        self.visits.iter().map(|visit| visit.part).collect()
    }

    fn add(&mut self, visit: Visit) {
        merge(&mut self.visits, visit);
    }

    fn has(&self, part: Part) -> bool {
        self.visits.iter().any(|visit| visit.part == part)
    }
}

fn merge(visits: &mut Vec<Visit>, visit: Visit) {
    match visits.iter_mut().find(|known| known.part == visit.part) {
        Some(known) => known.runs += visit.runs,
        None => visits.push(visit),
    }
}

/// Bytes of the pictures that a request holds, makes and is made of.
fn pictures_beside(model: &Model, request: &Request) -> u64 {
    let pixels = (request.width * request.height) as u64;
    let held = request.picture().map_or(0, |init| init.image.bytes());
    // Those that are encoded are f32 before.
    let encoded = if request.picture().is_some() || inpaint::told(model) { 12 * pixels } else { 0 };
    let more = match &request.start {
        Start::Masked(_, inpaint) => inpaint.bytes(),
        Start::Grown(outpaint) => (0, outpaint.bytes((request.width, request.height)).1),
        Start::Noise | Start::Picture(_) => (0, 0),
    };
    // Four planes, sharp and blurred, and what they add up to: what is laid under a mask.
    let filled =
        if request.start.inpaint().is_some_and(|i| i.fill != inpaint::Fill::Original) { 52 * pixels } else { 0 };
    3 * pixels + held + encoded.max(filled) + more.0 + more.1
}

/// Stages that tell when something is visited that the itinerary does not know: memory that nobody has counted.
pub(super) struct Followed<'a> {
    /// Who computes.
    pub(super) stages: &'a dyn Stages,
    /// What was announced.
    pub(super) itinerary: Itinerary,
}

impl Followed<'_> {
    fn visit(&self, part: Part) {
        debug_assert!(self.itinerary.has(part), "{part:?} is in no itinerary: {:?}", self.itinerary);
    }
}

impl Stages for Followed<'_> {
    fn model(&self) -> &Model {
        self.stages.model()
    }

    fn text(&self, encoder: usize, tokens: Tensor, clip_skip: usize) -> Result<Tensor> {
        self.visit(Part::Text { encoder, chunks: tokens.shape().b, clip_skip });
        self.stages.text(encoder, tokens, clip_skip)
    }

    fn unet(&self, shape: StepShape, told: Conditioning, times: Option<&[f32]>) -> Result<Box<dyn UnetCall + '_>> {
        self.visit(Part::Context { contexts: shape.contexts, tokens: shape.tokens });
        self.visit(Part::Step(shape));
        self.stages.unet(shape, told, times)
    }

    fn decode(&self, latents: Tensor) -> Result<Tensor> {
        let s = latents.shape();
        self.visit(Part::Decode { size: (s.b, s.h, s.w) });
        self.stages.decode(latents)
    }

    fn encode(&self, image: Tensor) -> Result<Tensor> {
        let s = image.shape();
        self.visit(Part::Encode { size: (s.b, s.h, s.w) });
        self.stages.encode(image)
    }

    fn with_model<'b>(&'b self, model: &'b Arc<Model>) -> Result<Box<dyn Stages + 'b>> {
        self.stages.with_model(model)
    }

    fn run(
        &self,
        part: Part,
        networks: Option<&Networks>,
        inputs: Vec<(Input, Tensor)>,
        outputs: &[Output],
    ) -> Result<Vec<Tensor>> {
        self.stages.run(part, networks, inputs, outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::denoise::plan::Settings;
    use crate::diffusion::denoise::samplers;
    use crate::diffusion::img2img::Init;
    use crate::diffusion::outpaint::{Outpaint, Sides};
    use crate::image::Image;
    use crate::image::resize::ResizeMode;

    fn of(change: impl FnOnce(Request) -> Request) -> Itinerary {
        let model = Model::embedded().unwrap();
        let sampling = Settings::new(samplers::find_named("euler").unwrap().sampler, 3);
        let request = Request::new(&model, "a red apple").unwrap();
        let request = change(Request { width: 64, height: 64, sampling, ..request });
        Itinerary::new(&model, &request, &model.tokenizer().unwrap()).unwrap()
    }

    fn runs(itinerary: &Itinerary, which: impl Fn(&Part) -> bool) -> Vec<usize> {
        itinerary.visits.iter().filter(|v| which(&v.part)).map(|v| v.runs).collect()
    }

    #[test]
    fn batches_have_their_sizes_and_pictures_are_decoded_singly() {
        let one = of(|r| r);
        assert_eq!(one.again, Again::Nothing);
        assert_eq!(runs(&one, |p| matches!(p, Part::Step(_))), [3]);
        let five = of(|r| Request { count: 5, batch_size: 2, ..r });
        assert_eq!(five.again, Again::Pictures);
        // Two batches of two, and one of one.
        assert_eq!(runs(&five, |p| matches!(p, Part::Step(s) if s.samples == 2)), [6]);
        assert_eq!(runs(&five, |p| matches!(p, Part::Step(s) if s.samples == 1)), [3]);
        assert_eq!(runs(&five, |p| matches!(p, Part::Decode { .. })), [5]);
        // Those that are there already are not made again.
        let rest = of(|r| Request { count: 5, skip: [0, 1, 2, 3].into(), ..r });
        assert_eq!((runs(&rest, |p| matches!(p, Part::Decode { .. })), rest.again), (vec![1], Again::Nothing));
    }

    #[test]
    fn every_window_of_a_growing_picture_is_counted() {
        let image = Image { width: 64, height: 64, rgb: vec![9; 64 * 64 * 3] };
        let picture = Init { image, size: (64, 64), hash: String::new(), mode: ResizeMode::default() };
        let sides = Sides::parse("left=32,right=64").unwrap();
        let grown = of(|r| Request { count: 2, start: Start::Grown(Arc::new(Outpaint { picture, sides })), ..r });
        assert_eq!(grown.again, Again::Windows);
        // Three strips, of one window each, for two pictures.
        for part in [Part::Decode { size: (1, 8, 8) }, Part::Encode { size: (1, 64, 64) }] {
            assert_eq!(runs(&grown, |p| p.kind() == part.kind()), [6], "{part:?}");
        }
        assert_eq!(runs(&grown, |p| matches!(p, Part::Step(_))), [18]);
    }
}
