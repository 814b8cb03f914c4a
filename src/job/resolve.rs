//! An order and a model go in; the request, with the model's own defaults where nothing was asked for, comes out.

use super::inpainting::begin;
use super::note::{Field, Objection, Phrase, phrase};
use super::order::Order;
use super::picture::Shelf;
use super::word::{Auto, Seed};
use crate::checkpoint::Model;
use crate::diffusion::Request;
use crate::diffusion::conditioning::Told;
use crate::diffusion::denoise::plan::Settings;
use crate::diffusion::denoise::samplers::{self, Family};
use crate::diffusion::denoise::sigmas::ScheduleKind;
use crate::diffusion::denoise::timesteps::Timesteps;
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The strength of img2img where none is asked for.
const STRENGTH: f32 = 0.75;

/// The request of an order, with its prompts in their styles, for this model. `notes` gets what was changed on the way.
///
/// # Errors
/// What keeps its pictures from being read, and what this model cannot do with them.
pub fn resolve(
    order: &Order,
    (prompt, negative_prompt): (String, String),
    model: &Model,
    shelf: &dyn Shelf,
    notes: &mut Vec<Phrase>,
) -> Result<Request, Objection> {
    let own = &model.defaults;
    let start = begin(order, model, shelf, notes)?;
    let init = start.start.init();
    let (width, height) = start.size.or(init.map(|i| (i.image.width, i.image.height))).unzip();
    let side = |asked: Option<usize>, init: Option<usize>| init.or(asked).unwrap_or(own.size);
    let picture = start.start.picture().is_some();
    Ok(Request {
        prompt,
        negative_prompt,
        width: side(order.width, width),
        height: side(order.height, height),
        guidance: order.guidance.or(start.guidance).unwrap_or(own.guidance),
        guidance_rescale: order.guidance_rescale.unwrap_or(0.0),
        clip_skip: order.clip_skip.unwrap_or(1),
        sampling: sampling(order, model, picture.then(|| start.strength.unwrap_or(STRENGTH)))?,
        seed: order.seed.unwrap_or(Seed::Random).drawn(),
        count: order.count(),
        rng: order.rng.unwrap_or_default(),
        embeddings: Arc::default(),
        adapters: Arc::default(),
        written: None,
        batch_size: order.batch_size.unwrap_or(1),
        variation: variation(order),
        start: start.start,
        prediction: order.prediction.and_then(Auto::told),
        preview: order.preview.map(|shown| shown.preview),
        told: told(order, model),
        // Who opens models gives it one.
        refiner: None,
        skip: BTreeSet::new(),
        known: BTreeMap::new(),
    })
}

/// What the model is told beside the prompt; one that takes nothing is told nothing.
fn told(order: &Order, model: &Model) -> Told {
    if model.networks.added().is_none() {
        return Told::default();
    }
    Told {
        original: order.original_size,
        crop: order.crop,
        target: order.target_size,
        empty_negative: order.empty_negative.unwrap_or_default(),
    }
}

/// The second seed and its share. At strength 0 the webui leaves the second seed out, and counts the first one up.
fn variation(order: &Order) -> Option<(u64, f32)> {
    let strength = order.variation_strength.filter(|strength| *strength != 0.0)?;
    Some((order.variation_seed.unwrap_or_else(|| Seed::Random.drawn()), strength))
}

fn sampling(order: &Order, model: &Model, strength: Option<f32>) -> Result<Settings, Objection> {
    let own = &model.defaults;
    let named = match order.sampler {
        Some(named) => named,
        None => samplers::find_named(&own.sampler)?,
    };
    // The timetable that the model was made for holds for other samplers too, but for those that have their own.
    let own_schedule = samplers::find_named(&own.sampler)?.schedule.filter(|_| !named.sampler.distilled);
    Ok(Settings {
        schedule: order.schedule.or(named.schedule).or(own_schedule).unwrap_or_default(),
        eta: order.eta,
        timesteps: order.timesteps.or(named.timesteps).unwrap_or_default(),
        strength: strength.map(|usual| order.strength.unwrap_or(usual)),
        ..Settings::new(named.sampler, order.steps.unwrap_or(own.steps))
    })
}

/// What was chosen for a model from a file, where it was left open: size, steps, sampler, guidance.
pub fn chosen(order: &Order, request: &Request, model: &Model) -> Vec<Phrase> {
    let open = [order.steps.is_none(), order.sampler.is_none(), order.guidance.is_none()].contains(&true);
    if model.path.is_none() || !open {
        return Vec::new();
    }
    let s = &request.sampling;
    let schedule = if s.schedule == ScheduleKind::Automatic { s.sampler.schedule } else { s.schedule };
    let levels = if s.sampler.family == Family::Sigma { format!(" ({})", schedule.name()) } else { String::new() };
    let guidance = match request.guidance {
        1.0 => "no guidance".into(),
        g => format!("guidance {g}"),
    };
    let (w, h, name) = (request.width, request.height, crate::error::escape(&model.name));
    let steps = if s.steps == 1 { "1 step".into() } else { format!("{} steps", s.steps) };
    let taken = model.evidence.kind.map(|kind| format!(", taken for {kind} by its name")).unwrap_or_default();
    vec![format!("{name}{taken}: {w}x{h}, {steps} of {}{levels}, {guidance}", s.sampler.name).into()]
}

/// What an asker should know of a request before waiting for it.
pub fn remarks(order: &Order, request: &Request, model: &Model) -> Vec<Phrase> {
    let mut out = ignored(order, request);
    out.extend(untold(order, request, model));
    out.extend(super::adapters::unsuited(request).into_iter().map(Phrase::from));
    if request.start.outpaint().is_some() && request.batch_size > 1 {
        out.push(phrase![Field::BatchSize, " is ignored: outpainting takes one picture at a time"]);
    }
    let own = model.defaults.size;
    let (w, h) = (request.width, request.height);
    let far = |side: usize| side * 2 <= own || side >= 2 * own;
    if far(w) || far(h) {
        let why =
            format!("is far from the {own}x{own} that the model was trained on; expect repeated or broken shapes");
        out.push(format!("{w}x{h} {why}").into());
    } else if own >= 512 && ![w, h].iter().all(|side| side.is_multiple_of(64)) {
        out.push(format!("{w}x{h} is not a multiple of 64; the model draws best on such sizes").into());
    }
    out
}

/// What the model is not told, though it was asked for.
fn untold(order: &Order, request: &Request, model: &Model) -> Vec<Phrase> {
    let mut out = Vec::new();
    let asked = [
        (Field::OriginalSize, order.original_size.is_some()),
        (Field::Crop, order.crop.is_some()),
        (Field::TargetSize, order.target_size.is_some()),
    ];
    let numbers = model.networks.added().map(|added| added.numbers);
    for (field, _) in asked.into_iter().filter(|(_, asked)| *asked) {
        match numbers {
            None => out.push(phrase![field, " is ignored: only models of the SDXL family are told sizes"]),
            Some(5) if field == Field::TargetSize => {
                out.push(phrase![field, " is ignored: a refiner is told an aesthetic score instead"]);
            }
            Some(_) => {}
        }
    }
    if order.empty_negative.is_some() {
        let why = match (numbers, request.negative_prompt.trim()) {
            (None, _) => " is ignored: only models of the SDXL family know another empty prompt than the encoded one",
            (Some(_), "") => return out,
            (Some(_), _) => " is ignored: the negative prompt is not empty",
        };
        out.push(phrase![Field::EmptyNegative, why]);
    }
    out
}

/// What the chosen sampler pays no attention to.
fn ignored(order: &Order, request: &Request) -> Vec<Phrase> {
    let sampler = request.sampling.sampler;
    let name = sampler.name;
    let levels = sampler.family == Family::Sigma;
    let mut out = Vec::new();
    if !levels && order.schedule.is_some_and(|kind| kind != ScheduleKind::Automatic) {
        out.push(phrase![Field::Schedule, format!(" is ignored: {name} takes its steps from "), Field::Timesteps]);
    }
    if levels && order.timesteps.is_some_and(|t| t != Timesteps::Auto && !t.counts_for_levels()) {
        out.push(phrase![Field::Timesteps, format!(" is ignored: {name} takes its steps from "), Field::Schedule]);
    }
    if order.eta.is_some() && !sampler.takes_eta() {
        out.push(phrase![Field::Eta, format!(" is ignored: {name} adds no noise that it could scale")]);
    }
    if request.batch_size > 1 && sampler.adaptive() {
        out.push(phrase![Field::BatchSize, format!(" is ignored: {name} takes one picture at a time")]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::SIZES;
    use crate::image::Image;
    use crate::image::mask::Mask;
    use crate::job::picture::Found;
    use crate::job::word::Word;
    use std::path::Path;

    /// One picture and one mask, whatever they are called.
    struct Shelved((usize, usize), (usize, usize));

    impl Shelf for Shelved {
        fn picture(&self, _: &Path) -> Result<Found<Image>> {
            let (width, height) = self.0;
            Ok(Found { pixels: Image { width, height, rgb: vec![77; width * height * 3] }, hash: "0123456789".into() })
        }

        fn mask(&self, _: &Path) -> Result<Found<Mask>> {
            Ok(Found { pixels: Mask::filled(self.1.0, self.1.1, 255), hash: "abcdef0123".into() })
        }

        fn texts(&self, _: &Path) -> Result<crate::image::Texts> {
            Ok(Vec::new())
        }

        fn hash(&self, name: &Path) -> Result<String> {
            self.picture(name).map(|found| found.hash)
        }
    }

    fn resolved(order: &Order, shelf: &Shelved) -> Result<(Request, Vec<Phrase>), Objection> {
        let model = Model::embedded().unwrap();
        let mut notes = Vec::new();
        let prompts = (order.prompt.clone().unwrap_or_default(), String::new());
        let request = resolve(order, prompts, &model, shelf, &mut notes)?;
        request.check(&model)?;
        notes.extend(remarks(order, &request, &model));
        Ok((request, notes))
    }

    #[test]
    fn what_is_not_asked_for_is_the_models_own() {
        let (request, notes) = resolved(&Order::default(), &Shelved((1, 1), (1, 1))).unwrap();
        let own = Model::embedded().unwrap().defaults;
        assert_eq!((request.width, request.height, request.guidance), (own.size, own.size, own.guidance));
        assert_eq!((request.sampling.steps, request.sampling.sampler.name), (own.steps, "DDIM"));
        assert!(notes.is_empty() && request.sampling.strength.is_none());
    }

    #[test]
    fn the_samplers_of_distilled_models_are_known_and_bring_their_timetables() {
        for (name, schedule) in [
            ("euler trailing", Some(ScheduleKind::Trailing)),
            ("euler_a trailing", Some(ScheduleKind::Trailing)),
            ("lcm lcm", Some(ScheduleKind::Lcm)),
            ("ddim_trailing", None),
        ] {
            let named = samplers::find_named(name).unwrap();
            assert_eq!(named.schedule, schedule, "{name}");
            assert_eq!(named.timesteps.is_some(), schedule.is_none(), "{name}");
        }
    }

    #[test]
    fn a_sampler_brings_its_schedule_unless_another_is_asked_for() {
        let karras = Order { sampler: Word::parse("dpm++2m karras").ok(), ..Order::default() };
        let other = Order { schedule: Some(ScheduleKind::Simple), ..karras.clone() };
        let schedule = |order: &Order| resolved(order, &Shelved((1, 1), (1, 1))).unwrap().0.sampling.schedule;
        assert_eq!((schedule(&karras), schedule(&other)), (ScheduleKind::Karras, ScheduleKind::Simple));
    }

    #[test]
    fn what_a_sampler_pays_no_attention_to_is_told_by_its_field() {
        let order = Order {
            sampler: Word::parse("unipc").ok(),
            schedule: Some(ScheduleKind::Karras),
            eta: Some(0.5),
            ..Order::default()
        };
        let (_, notes) = resolved(&order, &Shelved((1, 1), (1, 1))).unwrap();
        let fields: Vec<Vec<Field>> = notes.iter().map(|n| n.fields().collect()).collect();
        assert_eq!(fields, [vec![Field::Schedule, Field::Timesteps], vec![Field::Eta]]);
    }

    #[test]
    fn a_picture_and_a_mask_come_from_the_shelf() {
        let order = Order { init_image: Some("a".into()), ..Order::default() };
        let (request, _) = resolved(&order, &Shelved((70, 64), (1, 1))).unwrap();
        assert_eq!((request.width, request.height, request.sampling.strength), (72, 64, Some(STRENGTH)));
        assert_eq!(request.picture().unwrap().hash, "0123456789");
        let masked = Order { mask: Some("m".into()), ..order.clone() };
        let (request, notes) = resolved(&masked, &Shelved((64, 64), (128, 128))).unwrap();
        assert_eq!(request.start.inpaint().unwrap().settings.hash, "abcdef0123");
        assert!(notes[0].to_string().contains("the mask is resized"));
        let skewed = resolved(&masked, &Shelved((64, 64), (128, 64))).unwrap_err();
        assert!(skewed.to_string().contains("in other proportions"));
        let inverted = Order { mask_invert: Some(true), ..masked };
        let fault = resolved(&inverted, &Shelved((64, 64), (64, 64))).unwrap_err();
        assert!(fault.to_string().contains("nothing to repaint: the mask is all white"), "{fault}");
        let grown = Order { outpaint: Word::parse("left=2000").ok(), ..order };
        let fault = resolved(&grown, &Shelved((64, 64), (1, 1))).unwrap_err().to_string();
        assert!(fault.contains("would become 2064x64") && fault.contains(&SIZES.1.to_string()), "{fault}");
    }
}
