//! Flags and a model go in, the request and what the user should know about it come out.

use super::GenerateArgs;
use crate::cli::vocabulary;
use lienzo::checkpoint::Model;
use lienzo::diffusion::denoise::plan::Settings;
use lienzo::diffusion::denoise::samplers::{self, Family};
use lienzo::diffusion::denoise::sigmas::ScheduleKind;
use lienzo::diffusion::denoise::timesteps::Timesteps;
use lienzo::diffusion::img2img::Init;
use lienzo::diffusion::preview::Preview;
use lienzo::diffusion::{Request, SIZES};
use lienzo::error::{Error, Result, escape};
use lienzo::image::read::read_picture;
use lienzo::image::resize::ResizeMode;
use lienzo::image::{Image, Limits};
use lienzo::models::training::Prediction;
use lienzo::rng::RngKind;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The strength without `--strength`.
const STRENGTH: f32 = 0.75;

impl GenerateArgs {
    pub(super) fn count(&self) -> usize {
        match (self.n_samples, self.n_iter) {
            (None, None) => self.batch_count,
            (a, b) => a.unwrap_or(1).saturating_mul(b.unwrap_or(1)),
        }
    }

    pub(super) fn prompt(&self) -> Result<String> {
        let given = self.prompt.as_ref().or(self.prompt_flag.as_ref());
        given
            .cloned()
            .ok_or_else(|| Error::usage("no prompt given; try: lienzo generate \"a red apple on a blue background\""))
    }

    pub(super) fn output_spec(&self) -> Option<String> {
        self.output.clone().or_else(|| self.outdir.as_ref().map(|dir| format!("{}/", dir.trim_end_matches('/'))))
    }

    pub(super) fn request(
        &self,
        model: &Model,
        (prompt, negative_prompt): (String, String),
        count: usize,
    ) -> Result<Request> {
        let own = &model.defaults;
        let start = self.start(model)?;
        let init = start.init;
        let (width, height) = start.size.or(init.as_ref().map(|i| (i.image.width, i.image.height))).unzip();
        let side = |asked: Option<usize>, init: Option<usize>| init.or(asked).unwrap_or(own.size);
        let picture = init.is_some() || start.outpaint.is_some();
        Ok(Request {
            prompt,
            negative_prompt,
            width: side(self.width, width),
            height: side(self.height, height),
            guidance: self.cfg_scale.or(start.guidance).unwrap_or(own.guidance),
            clip_skip: self.clip_skip.unwrap_or(1),
            sampling: self.sampling(model, picture.then(|| start.strength.unwrap_or(STRENGTH)))?,
            seed: match self.seed {
                Some(seed) if seed >= 0 => seed.unsigned_abs(),
                _ => random_seed(),
            },
            count,
            rng: RngKind::parse(self.rng.as_deref().unwrap_or("nv"))?,
            embeddings: Arc::default(),
            batch_size: self.batch_size,
            // At strength 0 the webui leaves the second seed out, and counts the first one up.
            variation: self
                .variation_strength
                .filter(|strength| *strength != 0.0)
                .map(|strength| (self.variation_seed.unwrap_or_else(random_seed), strength)),
            init,
            inpaint: start.inpaint,
            outpaint: start.outpaint,
            prediction: self.prediction.as_deref().map_or(Ok(None), parse_prediction)?,
            preview: self.preview.as_deref().map(parse_preview).transpose()?,
            skip: BTreeSet::new(),
        })
    }

    fn sampling(&self, model: &Model, strength: Option<f32>) -> Result<Settings> {
        let own = &model.defaults;
        let sampler = match &self.sampling_method {
            Some(name) => name,
            None if self.plms => "plms",
            None => &own.sampler,
        };
        let named = samplers::find_named(sampler)?;
        if self.plms && named.sampler.name != "PLMS" {
            let message =
                format!("--plms and --sampling-method {} contradict each other: give one", named.sampler.name);
            return Err(Error::usage(message));
        }
        let schedule = self.scheduler.as_deref().map(ScheduleKind::parse).transpose()?;
        let timesteps = self.timesteps.as_deref().map(Timesteps::parse).transpose()?;
        Ok(Settings {
            schedule: schedule.or(named.schedule).unwrap_or_default(),
            eta: self.eta,
            timesteps: timesteps.or(named.timesteps).unwrap_or_default(),
            strength: strength.map(|usual| self.strength.unwrap_or(usual)),
            ..Settings::new(named.sampler, self.steps.unwrap_or(own.steps))
        })
    }

    /// Reads the picture of `-i`.
    pub(super) fn init(&self) -> Result<Option<Init>> {
        let Some(path) = &self.init_img else { return Ok(None) };
        let (picture, _) = read_picture(path, Limits::default())?;
        self.fitted(&picture).map(Some)
    }

    /// The picture of `-i` in the size of `-W` and `-H`.
    pub(super) fn fitted(&self, picture: &Image) -> Result<Init> {
        let mode = self.resize_mode.as_deref().map_or(Ok(ResizeMode::default()), ResizeMode::parse)?;
        if let Some(strength) = self.strength.filter(|s| !(0.0..=1.0).contains(s)) {
            return Err(Error::usage(format!("strength {strength}: use 0 to 1")));
        }
        let name = self.init_img.as_deref().map(shown).unwrap_or_default();
        Init::new(picture, (self.width, self.height), mode, self.picture_hash()?, SIZES).map_err(|e| e.at(name))
    }
}

pub(super) fn shown(path: &std::path::Path) -> String {
    escape(&path.to_string_lossy())
}

fn parse_prediction(name: &str) -> Result<Option<Prediction>> {
    match name.to_ascii_lowercase().as_str() {
        "auto" => Ok(None),
        "eps" | "epsilon" => Ok(Some(Prediction::Epsilon)),
        "v" | "v_prediction" | "v-prediction" => Ok(Some(Prediction::V)),
        "sample" | "x0" => Ok(Some(Prediction::Sample)),
        _ => Err(Error::usage(format!("--prediction {} is not known; use auto, eps, v or sample", escape(name)))),
    }
}

/// `every=5`, `every=5,vae`, `5`.
fn parse_preview(text: &str) -> Result<Preview> {
    let wrong = || Error::usage(format!("--preview {}: write every=5, every=5,vae or every=5,vae,keep", escape(text)));
    let mut words = text.split(',');
    let every = words.next().map_or("", |first| first.strip_prefix("every=").unwrap_or(first));
    let every = every.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
    let mut preview = Preview { every, vae: false, keep: false };
    for word in words {
        match word {
            "vae" => preview.vae = true,
            "keep" => preview.keep = true,
            _ => return Err(wrong()),
        }
    }
    Ok(preview)
}

/// A seed in the webui's range, 0 to 4294967293.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    // The standard library keys its hash maps from the system's random source.
    RandomState::new().hash_one(0u8) % 4_294_967_294
}

/// What the user should know before waiting.
pub(super) fn notes(model: &Model, request: &Request, args: &GenerateArgs, threads: usize) {
    if args.model.model.is_empty() && args.verbose {
        eprintln!("no -m: using the small model in the binary");
    }
    if args.verbose {
        eprintln!("{threads} threads, {}, model {}", lienzo::simd::Isa::best(), escape(&model.name));
    }
    ignored(request, args);
    if let Some((seed, strength)) = request.variation.filter(|_| args.variation_seed.is_none()) {
        eprintln!("variation seed {seed}, strength {strength}");
    }
    if request.outpaint.is_some() && request.batch_size > 1 {
        eprintln!("note: --batch-size is ignored: outpainting takes one picture at a time");
    }
    let own = model.defaults.size;
    let far = |side: usize| side * 2 <= own || side >= 2 * own;
    if far(request.width) || far(request.height) {
        let (w, h) = (request.width, request.height);
        eprintln!(
            "note: {w}x{h} is far from the {own}x{own} that the model was trained on; expect repeated or broken shapes"
        );
    } else if own >= 512 && (![request.width, request.height].iter().all(|side| side.is_multiple_of(64))) {
        eprintln!(
            "note: {}x{} is not a multiple of 64; SD 1.x draws best on such sizes",
            request.width, request.height
        );
    }
}

/// What the embedded model does not know of the prompt as it was typed, before styles.
pub(super) fn hints(model: &Model, typed: &str, request: &Request) -> Result<()> {
    if model.path.is_none() {
        let embeddings: Vec<&str> = request.embeddings.iter().map(|e| e.name.as_str()).collect();
        vocabulary::hints(typed, &embeddings)?.iter().for_each(|hint| eprintln!("note: {hint}"));
    }
    Ok(())
}

/// Flags that the chosen sampler pays no attention to.
fn ignored(request: &Request, args: &GenerateArgs) {
    let sampler = request.sampling.sampler;
    let name = sampler.name;
    let levels = sampler.family == Family::Sigma;
    if !levels
        && args.scheduler.as_deref().is_some_and(|s| ScheduleKind::parse(s).is_ok_and(|k| k != ScheduleKind::Automatic))
    {
        eprintln!("note: --scheduler is ignored: {name} takes its steps from --timesteps");
    }
    if levels
        && args
            .timesteps
            .as_deref()
            .is_some_and(|t| Timesteps::parse(t).is_ok_and(|t| t != Timesteps::Auto && !t.counts_for_levels()))
    {
        eprintln!("note: --timesteps is ignored: {name} takes its steps from --scheduler");
    }
    if args.eta.is_some() && !sampler.takes_eta() {
        eprintln!("note: --eta is ignored: {name} adds no noise that it could scale");
    }
    if request.batch_size > 1 && sampler.adaptive() {
        eprintln!("note: --batch-size is ignored: {name} takes one picture at a time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_are_read() {
        assert_eq!(parse_preview("every=5").ok(), Some(Preview { every: 5, vae: false, keep: false }));
        assert_eq!(parse_preview("7,vae").ok(), Some(Preview { every: 7, vae: true, keep: false }));
        assert_eq!(parse_preview("every=2,keep,vae").ok(), Some(Preview { every: 2, vae: true, keep: true }));
        for text in ["", "every=0", "every=x", "every=5,full", "-1"] {
            assert!(parse_preview(text).is_err(), "{text}");
        }
        assert_eq!(parse_prediction("V").ok(), Some(Some(Prediction::V)));
        assert!(parse_prediction("x").is_err());
    }
}
