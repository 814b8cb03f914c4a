//! Everything that a user can ask of one job goes in here, typed and still without a model; whether it can be done at
//! all comes out.
//!
//! What was not asked for is `None`: a picture's own settings may fill it ([`super::recipe`]), then the model's
//! ([`super::resolve`]).

use super::adapters::AdapterWish;
use super::axes::Axes;
use super::note::{Field, Objection, phrase};
use super::word::{self, Auto, Seed, Shown};
use crate::diffusion::SIZES;
use crate::diffusion::conditioning::{EmptyNegative, ToldCrop, ToldSize};
use crate::diffusion::denoise::samplers::Named;
use crate::diffusion::denoise::sigmas::ScheduleKind;
use crate::diffusion::denoise::timesteps::Timesteps;
use crate::diffusion::inpaint::Fill;
use crate::diffusion::outpaint::Sides;
use crate::engine::devices::{NumberKind, WeightType};
use crate::image::resize::ResizeMode;
use crate::models::training::Prediction;
use crate::rng::RngKind;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is asked of one job. As JSON each choice is its word, such as `"karras"`.
///
/// Pictures and models are named in the asker's own terms: paths on a command line, names of uploads on a server; only
/// who resolves the order ([`super::picture::Shelf`]) looks them up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Order {
    /// What to draw.
    pub prompt: Option<String>,
    /// What to stay away from.
    pub negative_prompt: Option<String>,
    /// Styles that the prompts are put into, one after the other.
    pub styles: Vec<String>,
    /// The model; without one, that in the binary.
    pub model: Option<PathBuf>,
    /// A VAE in the place of the model's.
    pub vae: Option<PathBuf>,
    /// A second model for the last steps.
    pub refiner: Option<PathBuf>,
    /// The share of the steps that are the first model's, 0 to 1.
    pub refiner_switch: Option<f32>,
    /// Adapters beside those that tags in the prompt name.
    pub lora: Vec<AdapterWish>,

    /// Pixels, a multiple of 8.
    pub width: Option<usize>,
    /// Pixels, a multiple of 8.
    pub height: Option<usize>,
    /// How many pictures.
    pub count: Option<usize>,
    /// How many are computed together.
    pub batch_size: Option<usize>,
    /// The first picture's seed; picture i has seed + i.
    pub seed: Option<Seed>,
    /// A second seed; picture i has it + i, and all have the first.
    pub variation_seed: Option<u64>,
    /// How far towards the second seed's picture, 0 to 1.
    pub variation_strength: Option<f32>,
    /// Where noise comes from.
    #[serde(with = "word")]
    pub rng: Option<RngKind>,
    /// A picture for every combination.
    #[serde(with = "word")]
    pub grid: Option<Axes>,
    /// What is shown on the way.
    #[serde(with = "word")]
    pub preview: Option<Shown>,

    /// Sampler steps, 1 to 1000.
    pub steps: Option<usize>,
    /// How strongly the picture follows the prompt, 0 to 30; 1 is off.
    pub guidance: Option<f32>,
    /// How far the guided prediction's contrast is pulled back to the prompt's own, 0 to 1.
    pub guidance_rescale: Option<f32>,
    /// The sampler; its name may bring a schedule, `DPM++ 2M Karras`.
    #[serde(with = "word")]
    pub sampler: Option<Named>,
    /// Noise levels of the k-samplers.
    #[serde(with = "word")]
    pub schedule: Option<ScheduleKind>,
    /// Timesteps of the others.
    #[serde(with = "word")]
    pub timesteps: Option<Timesteps>,
    /// The share of fresh noise.
    pub eta: Option<f32>,
    /// What the network predicts.
    #[serde(with = "word")]
    pub prediction: Option<Auto<Prediction>>,
    /// Which hidden state of the text encoder, from the end.
    pub clip_skip: Option<usize>,
    /// How large a model of the SDXL family is told that the picture was, `1024x1024`.
    #[serde(with = "word")]
    pub original_size: Option<ToldSize>,
    /// What it is told was cut off, `TOP,LEFT`.
    #[serde(with = "word")]
    pub crop: Option<ToldCrop>,
    /// How large it is told that the picture is to be.
    #[serde(with = "word")]
    pub target_size: Option<ToldSize>,
    /// What an empty negative prompt is to it.
    #[serde(with = "word")]
    pub empty_negative: Option<EmptyNegative>,

    /// The picture to begin with.
    pub init_image: Option<PathBuf>,
    /// How much of it may change, 0 to 1.
    pub strength: Option<f32>,
    /// How it gets its size.
    #[serde(with = "word")]
    pub resize_mode: Option<ResizeMode>,
    /// Where it is painted anew.
    pub mask: Option<PathBuf>,
    /// Where the mask is black instead.
    pub mask_invert: Option<bool>,
    /// How softly new goes over into old, 0 to 64 pixels.
    pub mask_blur: Option<usize>,
    /// Whether latents mix along the mask's border.
    pub soft_mask: Option<bool>,
    /// What is under the mask at the start.
    #[serde(with = "word")]
    pub inpaint_fill: Option<Fill>,
    /// The masked part alone is worked on.
    pub only_masked: Option<bool>,
    /// How much around it is looked at, in pixels.
    pub only_masked_padding: Option<usize>,
    /// How far each side grows.
    #[serde(with = "word")]
    pub outpaint: Option<Sides>,

    /// The numbers that a device computes with.
    #[serde(with = "word")]
    pub precision: Option<NumberKind>,
    /// How weights are kept.
    #[serde(with = "word")]
    pub weight_type: Option<WeightType>,
}

/// Pixels of a mask's blur at most.
const MAX_BLUR: usize = 64;
/// Pictures of one job at most: their names alone are looked up one by one.
const MAX_COUNT: usize = 1_000_000;
/// Pictures computed together at most.
const MAX_BATCH: usize = 64;

impl Order {
    /// How many pictures of each request.
    pub fn count(&self) -> usize {
        self.count.unwrap_or(1)
    }

    /// Refuses what no model could do, before one is opened and before a picture is decoded. What depends on the model,
    /// [`crate::diffusion::Request::check`] refuses.
    ///
    /// # Errors
    /// Usage: the field, and what is possible.
    pub fn check(&self) -> Result<(), Objection> {
        if self.count == Some(0) {
            return Err(Objection::usage("0 pictures asked for: use at least 1".into()));
        }
        if let Some(count) = self.count.filter(|n| *n > MAX_COUNT) {
            return Err(Objection::usage(format!("{count} pictures asked for: use 1 to {MAX_COUNT}").into()));
        }
        if self.grid.is_some() && self.count() != 1 {
            return Err(Objection::usage(phrase![
                Field::Grid,
                " makes one picture for each combination: use seed=1,2,3 in it instead of ",
                Field::Count
            ]));
        }
        if let Some(steps) = self.steps.filter(|n| !(1..=1000).contains(n)) {
            return Err(Objection::usage(format!("{steps} steps: use 1 to 1000").into()));
        }
        if let Some(size) = self.batch_size.filter(|n| !(1..=MAX_BATCH).contains(n)) {
            return Err(Objection::usage(format!("batch size {size} is out of range: use 1 to {MAX_BATCH}").into()));
        }
        if self.clip_skip == Some(0) {
            return Err(Objection::usage("clip skip 0 is out of range: use 1 or more".into()));
        }
        self.shares()?;
        self.sizes()?;
        self.pictures()
    }

    /// Numbers between bounds.
    fn shares(&self) -> Result<(), Objection> {
        let bounded = |name: &str, value: Option<f32>, most: f32| match value {
            Some(v) if !(0.0..=most).contains(&v) => {
                Err(Objection::usage(format!("{name} {v} is out of range: use 0 to {most}").into()))
            }
            _ => Ok(()),
        };
        bounded("guidance", self.guidance, 30.0)?;
        bounded("guidance rescale", self.guidance_rescale, 1.0)?;
        bounded("refiner switch", self.refiner_switch, 1.0)?;
        bounded("variation strength", self.variation_strength, 1.0)?;
        match self.strength.filter(|s| !(0.0..=1.0).contains(s)) {
            Some(strength) => Err(Objection::usage(format!("strength {strength}: use 0 to 1").into())),
            None => Ok(()),
        }
    }

    /// Sizes, where no picture decides them.
    fn sizes(&self) -> Result<(), Objection> {
        let (least, most) = SIZES;
        let masked = self.only_masked == Some(true) && self.mask.is_some();
        if masked {
            let step = |side: Option<usize>| side.is_none_or(|s| s.is_multiple_of(8) && (least..=most).contains(&s));
            if !step(self.width) || !step(self.height) {
                let side = |side: Option<usize>| side.map_or_else(|| "the model's own".into(), |s| s.to_string());
                let (w, h) = (side(self.width), side(self.height));
                return Err(Objection::usage(phrase![
                    Field::OnlyMasked,
                    format!(" cannot work in {w} by {h} pixels: "),
                    Field::Width,
                    " and ",
                    Field::Height,
                    format!(" are multiples of 8 from {least} to {most}")
                ]));
            }
        }
        // A picture that is begun with may have any size.
        if self.init_image.is_some() {
            return Ok(());
        }
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if let Some(side) = side {
                crate::diffusion::possible_side(name, side, 8)?;
            }
        }
        Ok(())
    }

    /// A picture, and what belongs to one.
    fn pictures(&self) -> Result<(), Objection> {
        if self.mask.is_some() && self.outpaint.is_some() {
            return Err(Objection::usage(phrase![
                Field::Mask,
                " and ",
                Field::Outpaint,
                " exclude each other: give one"
            ]));
        }
        if self.init_image.is_none() && self.mask.is_some() {
            return Err(Objection::usage(phrase![
                Field::Mask,
                " needs the picture that it belongs to: give that with ",
                Field::InitImage
            ]));
        }
        if self.init_image.is_none() && self.outpaint.is_some() {
            return Err(Objection::usage(phrase![
                Field::Outpaint,
                " needs a picture to go on from: give that with ",
                Field::InitImage
            ]));
        }
        if let Some(blur) = self.mask_blur.filter(|blur| *blur > MAX_BLUR) {
            return Err(Objection::usage(phrase![
                Field::MaskBlur,
                format!(" {blur} is out of range: use 0 to {MAX_BLUR}")
            ]));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::word::Word;

    fn full() -> Order {
        Order {
            prompt: Some("a red apple".into()),
            styles: vec!["photo".into()],
            model: Some("a.safetensors".into()),
            lora: vec![Word::parse("x:0.5:1:lbw=MIDD").unwrap()],
            width: Some(512),
            seed: Some(Seed::Fixed(u64::MAX)),
            rng: Some(RngKind::Cpu),
            grid: Some(Axes::parse("steps=10,20 x sampler=euler,DPM++ 2M Karras").unwrap()),
            preview: Some(Word::parse("every=3,vae").unwrap()),
            guidance: Some(7.25),
            guidance_rescale: Some(0.7),
            sampler: Some(Word::parse("dpmpp_2m_sde karras").unwrap()),
            schedule: Some(ScheduleKind::Exponential),
            timesteps: Some(Timesteps::Webui),
            prediction: Some(Auto::Told(Prediction::V)),
            original_size: "2048x1024".parse().ok(),
            crop: "8,16".parse().ok(),
            target_size: "512x512".parse().ok(),
            empty_negative: Some(EmptyNegative::Encode),
            init_image: Some("b.png".into()),
            resize_mode: Some(ResizeMode::Fill),
            mask_invert: Some(true),
            inpaint_fill: Some(Fill::LatentNoise),
            outpaint: Some(Word::parse("left=8").unwrap()),
            precision: Some(NumberKind::Bf16),
            weight_type: Some(WeightType::F32),
            ..Order::default()
        }
    }

    #[test]
    fn an_order_goes_through_json_and_back() {
        let order = full();
        let text = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order, "{text}");
        for word in ["\"DPM++ 2M SDE Karras\"", "\"Exponential\"", "\"every=3,vae\"", "18446744073709551615"] {
            assert!(text.contains(word), "no {word} in {text}");
        }
        // What was not asked for stays open.
        assert_eq!(serde_json::from_str::<Order>("{\"prompt\": \"x\"}").unwrap().steps, None);
        assert_eq!(serde_json::from_str::<Order>("{\"sampler\": null}").unwrap(), Order::default());
    }

    #[test]
    fn a_word_or_a_field_that_nobody_knows_is_refused_by_name() {
        for (json, word) in [
            ("{\"stepz\": 3}", "stepz"),
            ("{\"sampler\": \"eulr\"}", "Euler"),
            ("{\"schedule\": \"karas\"}", "Karras"),
            ("{\"rng\": \"dice\"}", "nv"),
        ] {
            let error = serde_json::from_str::<Order>(json).unwrap_err().to_string();
            assert!(error.contains(word), "{json}: {error}");
        }
    }

    #[test]
    fn what_no_model_can_do_is_refused_without_one() {
        let wrong: [(Order, &str); 15] = [
            (Order { steps: Some(0), ..Order::default() }, "0 steps: use 1 to 1000"),
            (Order { count: Some(0), ..Order::default() }, "0 pictures"),
            (
                Order { count: Some(1_000_000_000), ..Order::default() },
                "1000000000 pictures asked for: use 1 to 1000000",
            ),
            (
                Order { count: Some(2), grid: Axes::parse("seed=1,2").ok(), ..Order::default() },
                "grid makes one picture",
            ),
            (Order { width: Some(100), ..Order::default() }, "the nearest are 96 and 104"),
            (Order { height: Some(4096), ..Order::default() }, "the nearest is 2048"),
            (Order { guidance: Some(99.0), ..Order::default() }, "guidance 99 is out of range: use 0 to 30"),
            (Order { guidance: Some(f32::NAN), ..Order::default() }, "guidance NaN"),
            (Order { variation_strength: Some(2.0), ..Order::default() }, "variation strength 2"),
            (Order { strength: Some(-1.0), ..Order::default() }, "strength -1: use 0 to 1"),
            (Order { batch_size: Some(65), ..Order::default() }, "batch size 65"),
            (Order { clip_skip: Some(0), ..Order::default() }, "clip skip 0"),
            (Order { mask: Some("m.png".into()), ..Order::default() }, "mask needs the picture"),
            (Order { outpaint: Sides::parse("left=8").ok(), ..Order::default() }, "outpaint needs a picture"),
            (Order { mask_blur: Some(65), ..Order::default() }, "mask blur 65 is out of range"),
        ];
        for (order, why) in wrong {
            let fault = order.check().unwrap_err().to_string();
            assert!(fault.contains(why), "{fault}");
        }
        let picture = Order { init_image: Some("a.png".into()), ..Order::default() };
        assert!(Order { width: Some(100), ..picture.clone() }.check().is_ok());
        let only = Order { mask: Some("m.png".into()), only_masked: Some(true), width: Some(100), ..picture };
        assert!(only.check().unwrap_err().to_string().contains("only masked cannot work in 100 by"));
        assert!(full().check().is_ok());
    }
}
