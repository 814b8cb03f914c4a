//! The `parameters` text of a picture: the request in the webui's words.

use super::adapters::adapter_hashes;
use crate::checkpoint::{Model, cached_model_hash, cached_vae_hash};
use crate::diffusion::Request;
use crate::diffusion::conditioning::EmptyNegative;
use crate::diffusion::denoise::sigmas::ScheduleKind;
use crate::diffusion::denoise::timesteps::Timesteps;
use crate::diffusion::inpaint::Fill;
use crate::engine::{Engine, Numerics};
use crate::error::{Error, Result};
use crate::image::parameters::Parameters;
use crate::image::resize::ResizeMode;
use crate::models::training::Prediction;
use crate::rng::RngKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

/// The first ten digits of the files' sha256.
struct Hashes {
    model: String,
    vae: Option<String>,
    refiner: Option<String>,
}

/// What is known before the picture is; the files' hashes are computed beside the sampling. The engine is asked for its
/// arithmetic when a text is written: a device may have been given up meanwhile.
pub struct Metadata<'e> {
    model_name: String,
    vae_name: Option<String>,
    hashes: Option<JoinHandle<Result<Hashes>>>,
    known: Option<Hashes>,
    exact_weights: bool,
    engine: &'e Engine,
}

impl<'e> Metadata<'e> {
    /// Begins hashing the model, the file that its VAE was replaced by and the refiner, in the background.
    /// `exact_weights`: they are kept as the file has them.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        model: &Arc<Model>,
        (vae, refiner): (Option<&Path>, Option<&Arc<Model>>),
        exact_weights: bool,
        engine: &'e Engine,
        cancel: Arc<AtomicBool>,
    ) -> Result<Self> {
        let name = |p: &Path| p.file_name().map(|s| s.to_string_lossy().into_owned());
        let vae_name = vae.and_then(name);
        let (own, vae, refiner) = (model.clone(), vae.map(Path::to_path_buf), refiner.cloned());
        let short = |hash: String| hash.chars().take(10).collect();
        let work = move || {
            let vae = vae.map(|path| cached_vae_hash(&path, &cancel).map(short)).transpose()?;
            let refiner = refiner.map(|model| cached_model_hash(&model, &cancel).map(short)).transpose()?;
            Ok(Hashes { refiner, model: cached_model_hash(&own, &cancel).map(short)?, vae })
        };
        let hashes = std::thread::Builder::new().name("hash".into()).spawn(work);
        let hashes = hashes.map_err(|e| Error::other(format!("no thread can be started to hash the model: {e}")))?;
        Ok(Self { model_name: model.name.clone(), vae_name, hashes: Some(hashes), known: None, exact_weights, engine })
    }

    /// Whether a text is to be had without waiting for the files' hashes.
    pub fn is_ready(&self) -> bool {
        self.hashes.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The text for picture `index`, which has just been made.
    ///
    /// # Errors
    /// The model's file cannot be read any more.
    pub fn text(&mut self, request: &Request, index: usize) -> Result<String> {
        self.text_of(request, index, self.engine.numerics())
    }

    /// Whether this is what picture `index` would say of itself, whichever of the engine's devices makes it.
    ///
    /// # Errors
    /// As [`Metadata::text`].
    pub fn fits(&mut self, text: &str, request: &Request, index: usize) -> Result<bool> {
        for numerics in self.engine.possible_numerics() {
            if self.text_of(request, index, numerics)? == text {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn text_of(&mut self, request: &Request, index: usize, numerics: Numerics) -> Result<String> {
        if let Some(hashes) = self.hashes.take() {
            let joined = hashes.join().map_err(|_| Error::other("computing the model's hash failed"))?;
            self.known = Some(joined?);
        }
        let mut entries: Vec<(String, String)> = Vec::new();
        let mut put = |key: &str, value: String| entries.push((key.into(), value));
        let s = &request.sampling;
        put("Steps", s.steps.to_string());
        put("Sampler", s.sampler.name.to_string());
        put("Schedule type", schedule_label(request));
        put("CFG scale", request.guidance.to_string());
        if request.guidance_rescale != 0.0 {
            put("CFG rescale", request.guidance_rescale.to_string());
        }
        let (seed, variation_seed) = request.seeds(index);
        put("Seed", seed.to_string());
        let (width, height) = request.picture().map_or((request.width, request.height), |init| init.size);
        let (width, height) = request.start.outpaint().map_or((width, height), |o| o.sides.grown((width, height)));
        put("Size", format!("{width}x{height}"));
        if let Some(known) = &self.known {
            put("Model hash", known.model.clone());
        }
        put("Model", self.model_name.clone());
        if let Some(hash) = self.known.as_ref().and_then(|known| known.vae.clone()) {
            put("VAE hash", hash);
        }
        if let Some((refiner, hash)) = request.refiner.as_ref().zip(self.known.as_ref().map(|k| k.refiner.as_deref())) {
            put("Refiner", format!("{} [{}]", refiner.model.name, hash.unwrap_or_default()));
            put("Refiner switch at", refiner.switch.to_string());
        }
        if let Some(vae) = &self.vae_name {
            put("VAE", vae.clone());
        }
        if let (Some(seed), Some((_, strength))) = (variation_seed, request.variation) {
            put("Variation seed", seed.to_string());
            put("Variation seed strength", strength.to_string());
        }
        if let Some(strength) = s.strength {
            put("Denoising strength", strength.to_string());
        }
        if request.clip_skip > 1 {
            put("Clip skip", request.clip_skip.to_string());
        }
        if let Some(init) = request.picture() {
            put("Init image hash", init.hash.clone());
            if init.mode != ResizeMode::default() {
                put("Resize mode", init.mode.name().into());
            }
        }
        put("RNG", if request.rng == RngKind::Nv { "NV".into() } else { "CPU".into() });
        if let Some(hashes) = embedding_hashes(request) {
            put("TI hashes", hashes);
        }
        if let Some(hashes) = adapter_hashes(request)? {
            put("Lora hashes", hashes);
        }
        if let Some(eta) = s.eta {
            put("Eta", eta.to_string());
        }
        match s.timesteps {
            Timesteps::Auto => {}
            Timesteps::Spaced(spacing) => put("Timesteps", format!("{spacing:?}").to_lowercase()),
            Timesteps::Webui => put("Timesteps", "webui".into()),
            Timesteps::Only(t) => put("Timesteps", t.to_string()),
        }
        match request.prediction {
            None => {}
            Some(Prediction::V) => put("Prediction", "v".into()),
            Some(Prediction::Sample) => put("Prediction", "sample".into()),
            Some(_) => put("Prediction", "eps".into()),
        }
        told(request, &mut put);
        inpainting(request, &mut put);
        if self.exact_weights {
            put("Weight type", "f32".into());
        }
        arithmetic(numerics, &mut put);
        put("Version", format!("Lienzo v{}", env!("CARGO_PKG_VERSION")));
        let prompt = request.written.clone().unwrap_or_else(|| request.prompt.clone());
        let parameters = Parameters { prompt, negative_prompt: request.negative_prompt.clone(), entries };
        Ok(parameters.to_text())
    }
}

/// What changes a picture's last bits, where it is not f32 on the CPU.
fn arithmetic(numerics: Numerics, put: &mut impl FnMut(&str, String)) {
    if let Some(precision) = numerics.precision.name() {
        put("Precision", precision.into());
    }
    match (numerics.after, numerics.device) {
        (None, None) => {}
        (None, Some(device)) => put("Device", device.into()),
        (Some(first), then) => put("Device", format!("{first}, then {}", then.unwrap_or("cpu"))),
    }
    if numerics.tensor_cores {
        put("Tensor cores", "True".into());
    }
}

/// What a model of the SDXL family was told, where it is not what follows from the picture.
fn told(request: &Request, put: &mut impl FnMut(&str, String)) {
    let told = &request.told;
    if let Some(size) = told.original {
        put("Original size", size.to_string());
    }
    if let Some(crop) = told.crop {
        put("Crop", crop.to_string());
    }
    if let Some(size) = told.target {
        put("Target size", size.to_string());
    }
    if told.empty_negative != EmptyNegative::default() && request.negative_prompt.trim().is_empty() {
        put("Empty negative", told.empty_negative.to_string());
    }
}

/// The webui's words for a mask, and our own for what it has none for.
fn inpainting(request: &Request, put: &mut impl FnMut(&str, String)) {
    if let Some(outpaint) = request.start.outpaint() {
        put("Outpaint", outpaint.sides.to_string());
    }
    let Some(inpaint) = request.start.inpaint() else { return };
    let settings = &inpaint.settings;
    put("Mask blur", settings.blur.to_string());
    if let Some(padding) = settings.only_masked {
        put("Inpaint area", "Only masked".into());
        put("Masked area padding", padding.to_string());
    }
    if inpaint.fill != Fill::default() {
        put("Masked content", inpaint.fill.name().into());
    }
    if settings.invert {
        put("Mask mode", "Inpaint not masked".into());
    }
    if inpaint.soft {
        put("Soft mask", "True".into());
    }
    put("Mask hash", settings.hash.clone());
}

/// `name: hash` of each embedding that the prompts name; none without any.
pub fn embedding_hashes(request: &Request) -> Option<String> {
    let all: Vec<String> = request.embeddings.iter().map(|e| format!("{}: {}", e.name, e.hash)).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// The webui prints a sampler's default schedule by name, and `Automatic` for samplers whose default is uniform.
fn schedule_label(request: &Request) -> String {
    let (asked, own) = (request.sampling.schedule, request.sampling.sampler.schedule);
    let kind = if asked == ScheduleKind::Automatic && own != ScheduleKind::Uniform { own } else { asked };
    kind.name().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::backend::{Backend, Memory, Program};
    use crate::dtype::Storage;
    use crate::graph::plan::Plan;
    use crate::graph::target::Caps;
    use crate::job::order::Order;
    use crate::job::picture::Files;
    use crate::job::resolve::resolve;
    use crate::simd::Isa;
    use std::sync::atomic::Ordering;

    /// A CPU under the name of a GPU, which uses tensor cores once it has loaded something.
    struct Card(Cpu, AtomicBool);

    impl Backend for Card {
        fn name(&self) -> String {
            "Card 1, Vulkan, maker 1.2".into()
        }

        fn caps(&self) -> Caps {
            self.0.caps()
        }

        fn memory(&self, plan: &Plan, model: &Model) -> Memory {
            self.0.memory(plan, model)
        }

        fn numerics(&self) -> Numerics {
            let tensor_cores = self.1.load(Ordering::Relaxed);
            let precision = crate::dtype::Precision { storage: Storage::F16, ..Default::default() };
            Numerics { device: Some("gpu"), precision, tensor_cores, after: None }
        }

        fn load(&self, plan: Arc<Plan>, model: &Arc<Model>) -> Result<Box<dyn Program>> {
            self.1.store(true, Ordering::Relaxed);
            self.0.load(plan, model)
        }
    }

    fn cpu() -> Cpu {
        Cpu::new(1, Isa::best(), Storage::F16).unwrap()
    }

    /// One picture of the embedded model, and what it says of itself.
    fn started<'e>(model: &Arc<Model>, engine: &'e Engine) -> Metadata<'e> {
        Metadata::start(model, (None, None), false, engine, Arc::default()).unwrap()
    }

    #[test]
    fn a_picture_says_which_device_made_it() {
        let engine = Engine::new(Arc::new(Card(cpu(), AtomicBool::new(false)))).or(Arc::new(cpu()));
        let model = Arc::new(Model::embedded().unwrap());
        let mut metadata = started(&model, &engine);
        let prompts = ("a red apple".into(), String::new());
        let request = resolve(&Order::default(), prompts, &model, &Files, &mut Vec::new()).unwrap();
        let says = |metadata: &mut Metadata<'_>, key: &str| {
            let text = metadata.text(&request, 0).unwrap();
            Parameters::parse(&text).get(key).map(str::to_owned)
        };
        assert_eq!(says(&mut metadata, "Device").as_deref(), Some("gpu"));
        assert_eq!(
            (says(&mut metadata, "Precision").as_deref(), says(&mut metadata, "Tensor cores")),
            (Some("f16"), None)
        );
        // It computes something.
        let cancel = AtomicBool::new(false);
        let tokens = crate::tensor::Tensor::zeros(crate::tensor::Shape::tokens(
            1,
            model.networks.positions(),
            model.networks.text_width(),
        ));
        crate::diffusion::Stages::text(&engine.session(&model, &cancel), 0, tokens, 1).unwrap();
        assert_eq!(says(&mut metadata, "Tensor cores").as_deref(), Some("True"));
        let before = metadata.text(&request, 0).unwrap();
        // It is lost.
        assert!(engine.give_up(&engine.backend(), "lost"));
        assert_eq!(says(&mut metadata, "Device").as_deref(), Some("gpu, then cpu"));
        assert_eq!((says(&mut metadata, "Precision"), says(&mut metadata, "Tensor cores")), (None, None));
        let after = metadata.text(&request, 0).unwrap();
        assert!(metadata.fits(&after, &request, 0).unwrap());
        // The same command again, before anything is lost, knows both for its own, and nobody else's.
        let engine = Engine::new(Arc::new(Card(cpu(), AtomicBool::new(false)))).or(Arc::new(cpu()));
        let mut metadata = started(&model, &engine);
        assert!(metadata.fits(&before, &request, 0).unwrap() && metadata.fits(&after, &request, 0).unwrap());
        assert!(!metadata.fits(&after.replace("Steps: ", "Steps: 1"), &request, 0).unwrap());
    }

    #[test]
    fn a_device_that_was_given_up_before_it_did_anything_is_not_named() {
        let engine = Engine::new(Arc::new(Card(cpu(), AtomicBool::new(false)))).or(Arc::new(cpu()));
        assert!(engine.give_up(&engine.backend(), "refused"));
        assert_eq!(engine.numerics(), Numerics::default());
        // The last one stays.
        assert!(!engine.give_up(&engine.backend(), "refused"));
    }
}
