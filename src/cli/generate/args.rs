//! The flags of `lienzo generate`, as clap reads them; an order comes out.

use super::super::device::DeviceArgs;
use super::super::flags::parsed;
use super::super::words::WordArgs;
use clap::Args;
use lienzo::diffusion::conditioning::{EmptyNegative, ToldCrop, ToldSize};
use lienzo::diffusion::denoise::samplers::{Named, find_named};
use lienzo::diffusion::denoise::sigmas::ScheduleKind;
use lienzo::diffusion::denoise::timesteps::Timesteps;
use lienzo::diffusion::inpaint::Fill;
use lienzo::diffusion::outpaint::Sides;
use lienzo::error::{Error, Result};
use lienzo::image::resize::ResizeMode;
use lienzo::job::adapters::AdapterWish;
use lienzo::job::axes::Axes;
use lienzo::job::dynamic;
use lienzo::job::fit::Allowed;
use lienzo::job::order::Order;
use lienzo::job::word::{Auto, ByteCount, Seed, Shown};
use lienzo::models::training::Prediction;
use lienzo::rng::RngKind;
use std::io::Read as _;
use std::path::PathBuf;

/// Flags follow stable-diffusion.cpp's names; those of the original scripts, of the webui and of diffusers are aliases.
#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub prompts: PromptFlags,
    #[command(flatten)]
    pub picture: PictureFlags,
    #[command(flatten)]
    pub begin: BeginFlags,
    #[command(flatten)]
    pub sampling: SamplingFlags,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub memory: MemoryFlags,
    #[command(flatten)]
    pub output: OutputFlags,
}

/// What to draw, and by which model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Prompt and model")]
pub struct PromptFlags {
    /// What to draw; {a|b} chooses one of its words for each picture. - reads prompts from stdin and @FILE from a file,
    /// one a line
    #[arg(value_name = "PROMPT", conflicts_with = "prompt_flag")]
    prompt: Option<String>,
    /// What to draw, as a flag
    #[arg(short = 'p', long = "prompt", value_name = "PROMPT", allow_hyphen_values = true)]
    prompt_flag: Option<String>,
    /// What to stay away from
    #[arg(short, long, value_name = "PROMPT", allow_hyphen_values = true)]
    negative_prompt: Option<String>,
    /// Folder of wildcards: a line of its fruit.txt is chosen for __fruit__ in a prompt
    #[arg(long, value_name = "DIR")]
    pub wildcard_dir: Option<PathBuf>,
    /// Folder of LoRAs and their kin, searched with its subfolders: <lora:NAME:0.8> in a prompt takes 0.8 of
    /// NAME.safetensors; may be given several times
    #[arg(long, value_name = "DIR", visible_alias = "lora-dir")]
    pub lora_model_dir: Vec<PathBuf>,
    /// A LoRA beside those in the prompt: a file or a name, and how much of it; may be given several times
    #[arg(long, value_name = "FILE[:WEIGHT]", value_parser = parsed::<AdapterWish>)]
    lora: Vec<AdapterWish>,
    #[command(flatten)]
    pub words: WordArgs,
    #[command(flatten)]
    pub model: super::super::ModelArgs,
    /// A second model for the last steps, such as SDXL's refiner
    #[arg(long, value_name = "FILE")]
    refiner: Option<PathBuf>,
    /// The share of the steps that are the first model's, 0 to 1 [default: 0.8]
    #[arg(long, value_name = "SHARE", requires = "refiner", visible_alias = "refiner-switch-at")]
    refiner_switch: Option<f32>,
    /// Repeat a picture with the settings in this PNG; flags that are given win. With several -m, the model is looked
    /// up among them
    #[arg(long, value_name = "PNG")]
    pub from_image: Option<PathBuf>,
    /// Go on without what cannot be honoured: settings of --from-image, <hypernet:...> in a prompt
    #[arg(long)]
    pub ignore_unsupported: bool,
}

/// Size, number and noise.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Picture")]
pub struct PictureFlags {
    /// Width in pixels, a multiple of 8 [default: the model's own size, 512 for SD 1.x]
    #[arg(short = 'W', long, value_name = "PIXELS", visible_alias = "W")]
    width: Option<usize>,
    /// Height in pixels, a multiple of 8 [default: the model's own size]
    #[arg(short = 'H', long, value_name = "PIXELS", visible_alias = "H")]
    height: Option<usize>,
    /// The first picture's seed, 0 to 2^64 - 1; picture i has seed + i [default: random, and printed]
    #[arg(short, long, value_name = "SEED", allow_negative_numbers = true, value_parser = parsed::<Seed>)]
    seed: Option<Seed>,
    /// A second seed: pictures that resemble the first seed's; picture i takes this seed + i [default: random]
    #[arg(long, value_name = "SEED", visible_alias = "subseed", requires = "variation_strength")]
    variation_seed: Option<u64>,
    /// How far towards the second seed's picture: 0 is the first seed's, 1 the second's
    #[arg(long, value_name = "SHARE", visible_alias = "subseed-strength", allow_negative_numbers = true)]
    variation_strength: Option<f32>,
    /// Noise generator: nv (as the webui on NVIDIA, and stable-diffusion.cpp) or cpu (torch's) [default: nv]
    #[arg(long, value_name = "KIND", value_parser = parsed::<RngKind>)]
    rng: Option<RngKind>,
    /// How many pictures; the original scripts' --n_samples times --n_iter is the same [default: 1]
    #[arg(short, long, value_name = "N", visible_alias = "num-images-per-prompt")]
    batch_count: Option<usize>,
    #[arg(long = "n_samples", hide = true, conflicts_with = "batch_count")]
    n_samples: Option<usize>,
    #[arg(long = "n_iter", hide = true, conflicts_with = "batch_count")]
    n_iter: Option<usize>,
    /// How many pictures are computed together: often faster, takes more memory, changes no picture [default: 1]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Make a picture for every combination and a contact sheet, for example "steps=10,20 x sampler=euler,heun"; up to
    /// three of steps, sampler, scheduler, cfg, seed, size, clip-skip, eta, strength, lora=a:0.5|a:1 and prompt=a cat|a
    /// dog. 5..30..5 are the numbers from 5 to 30 in steps of 5
    #[arg(long, value_name = "AXES", value_parser = parsed::<Axes>)]
    grid: Option<Axes>,
}

/// A picture to begin with, and a part of it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "From a picture")]
pub struct BeginFlags {
    /// Begin with this picture (PNG or JPEG) and change it as the prompt says
    #[arg(short = 'i', long, value_name = "FILE", visible_alias = "init_img")]
    init_img: Option<PathBuf>,
    /// How much of the picture given with -i may change: 0 hardly anything, 1 everything [default: 0.75]
    #[arg(
        long,
        value_name = "SHARE",
        requires = "init_img",
        visible_alias = "denoising-strength",
        allow_negative_numbers = true
    )]
    strength: Option<f32>,
    /// How the picture given with -i gets the size of -W and -H: just (stretched), crop (what sticks out is cut off) or
    /// fill (its edges are extended) [default: crop]
    #[arg(long, value_name = "MODE", requires = "init_img", value_parser = parsed::<ResizeMode>)]
    resize_mode: Option<ResizeMode>,
    /// Paint only a part of the picture given with -i anew: where this picture (PNG or JPEG) is white, or opaque if it
    /// has transparent parts. All else stays exactly as it is
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// Paint where the mask is black instead
    #[arg(long, requires = "mask")]
    mask_invert: bool,
    /// How softly the new part goes over into the old, in pixels, 0 to 64 [default: 4]
    #[arg(long, value_name = "PIXELS", requires = "mask")]
    mask_blur: Option<usize>,
    /// What the work begins with under the mask: original, fill (the colours around it), latent-noise or latent-nothing
    /// [default: original]
    #[arg(long, value_name = "KIND", requires = "mask", value_parser = parsed::<Fill>)]
    inpaint_fill: Option<Fill>,
    /// Work on the masked part alone, in the size of -W and -H, and put it back: keeps the size of a large photograph
    /// and gives small parts more detail
    #[arg(long, requires = "mask")]
    only_masked: bool,
    /// How much around the mask --only-masked looks at, in pixels of the picture [default: 32]
    #[arg(long, value_name = "PIXELS", requires = "only_masked")]
    only_masked_padding: Option<usize>,
    /// Let old and new mix along the mask's border while painting, not only at the end
    #[arg(long, requires = "mask")]
    soft_mask: bool,
    /// Paint beyond the edges of the picture given with -i: so many pixels on each side (left, right, up, down), for
    /// example left=128,right=64. With the small model in the binary, --cfg-scale is then 2 if it is not told
    #[arg(long, value_name = "SIDE=PIXELS,...", conflicts_with = "mask", value_parser = parsed::<Sides>)]
    outpaint: Option<Sides>,
}

/// How the picture comes out of the noise.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingFlags {
    /// Sampler steps, 1 to 1000 [default: the model's own, 20 for SD 1.x]
    #[arg(long, value_name = "N", visible_aliases = ["num-inference-steps", "ddim_steps"])]
    steps: Option<usize>,
    /// Guidance: higher follows the prompt more closely, too high burns; 1 is off [default: the model's own, 7.5 for SD
    /// 1.x]
    #[arg(
        long,
        value_name = "SCALE",
        visible_aliases = ["guidance-scale", "cfg", "scale"],
        allow_negative_numbers = true
    )]
    cfg_scale: Option<f32>,
    /// How far guidance's contrast is pulled back to the prompt's own, 0 to 1; 0.7 suits models with zero terminal SNR
    /// [default: 0]
    #[arg(long, value_name = "SHARE", visible_alias = "cfg-rescale")]
    guidance_rescale: Option<f32>,
    /// Sampler; `lienzo samplers` lists them [default: the model's own, euler_a for SD 1.x]
    #[arg(
        long,
        value_name = "NAME",
        visible_aliases = ["sampler", "sampling_method", "sampler-name"],
        value_parser = parsed::<Named>
    )]
    sampling_method: Option<Named>,
    /// Noise levels of the k-samplers: automatic, karras, exponential, ... [default: the sampler's own]
    #[arg(long, value_name = "NAME", visible_alias = "schedule", value_parser = parsed::<ScheduleKind>)]
    scheduler: Option<ScheduleKind>,
    /// Share of fresh noise, 0 to 1 [default: the sampler's own]
    #[arg(long, value_name = "ETA", visible_alias = "ddim_eta", allow_negative_numbers = true)]
    eta: Option<f32>,
    /// Timesteps of DDIM, PLMS, UniPC and TCD: auto, leading, linspace, trailing or webui; or one timestep for one step
    /// of any sampler [default: auto]
    #[arg(long, value_name = "RULE", value_parser = parsed::<Timesteps>)]
    timesteps: Option<Timesteps>,
    /// What the model predicts: auto (as the file says), eps, v or sample; the wrong one gives noise or grey
    /// [default: auto]
    #[arg(long, value_name = "KIND", value_parser = parsed::<Auto<Prediction>>)]
    prediction: Option<Auto<Prediction>>,
    /// Which hidden state of the text encoder, from the end [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    clip_skip: Option<i64>,
    /// SDXL: how large the model is told that the picture was, WIDTHxHEIGHT; smaller blurs [default: the picture's own]
    #[arg(long, value_name = "SIZE", value_parser = parsed::<ToldSize>)]
    original_size: Option<ToldSize>,
    /// SDXL: what the model is told was cut off above and to the left, in pixels [default: 0,0]
    #[arg(long, value_name = "TOP,LEFT", value_parser = parsed::<ToldCrop>)]
    crop: Option<ToldCrop>,
    /// SDXL: how large the model is told that the picture is to be [default: the picture's own]
    #[arg(long, value_name = "SIZE", value_parser = parsed::<ToldSize>)]
    target_size: Option<ToldSize>,
    /// SDXL: what no negative prompt is: zero (as in the webui) or encode (as in ComfyUI) [default: zero]
    #[arg(long, value_name = "KIND", value_parser = parsed::<EmptyNegative>)]
    empty_negative: Option<EmptyNegative>,
    #[arg(long, hide = true)]
    plms: bool,
}

/// What a job may take of the machine.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Device")]
pub struct MemoryFlags {
    /// Use no more memory than this, for example 2.4GB: the CPU then reads weights as it needs them, a GPU computes
    /// smaller batches or leaves the work to the CPU; what does not fit even so is refused
    #[arg(long, value_name = "SIZE", value_parser = parsed::<ByteCount>)]
    max_memory: Option<ByteCount>,
    /// Read the weights from the file as they are needed, at every step, instead of keeping them
    #[arg(long)]
    low_memory: bool,
    /// Start even if the memory will not do, or a grid has very many pictures
    #[arg(long)]
    pub force: bool,
    /// Print what would be computed, and how much memory it takes, and stop
    #[arg(long)]
    pub plan: bool,
}

/// Where pictures go.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputFlags {
    /// Output file, or - for stdout; %d, %03d, {index} and {seed} are replaced [default: output.png, or the next free
    /// number]
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// Output folder, as -o FOLDER/
    #[arg(long, visible_alias = "output-dir", value_name = "FOLDER", conflicts_with = "output")]
    outdir: Option<String>,
    /// Replace existing files
    #[arg(long)]
    pub overwrite: bool,
    /// Make only the pictures that are missing: after an interruption, the same command with --resume. A picture that
    /// had taken longer than 10 s (with --resume: any) goes on behind its last evaluation, to the same bytes
    #[arg(long, conflicts_with_all = ["disable_image_metadata", "plan"])]
    pub resume: bool,
    /// Show the picture while it is made, in NAME.preview.png: every=5 after each 5 evaluations; every=5,vae exactly,
    /// but slowly; every=5,taesd by the tiny VAE of --taesd; with ,keep each in a file of its own that stays
    #[arg(long, value_name = "every=N[,vae|,taesd][,keep]", value_parser = parsed::<Shown>)]
    preview: Option<Shown>,
    /// Make each picture so many times as large after it was drawn, as `lienzo upscale` does
    #[arg(long, value_name = "FACTOR", conflicts_with_all = ["resume", "grid"], allow_negative_numbers = true)]
    pub upscale: Option<f64>,
    /// The network for --upscale, .safetensors or .pth [default: the one in the binary]
    #[arg(long, value_name = "FILE", requires = "upscale")]
    pub upscale_model: Option<PathBuf>,
    /// Write no prompt and no settings into the PNG
    #[arg(long)]
    pub disable_image_metadata: bool,
    /// Say more
    #[arg(short, long)]
    pub verbose: bool,
    // stable-diffusion.cpp's: what else it can do has other commands here, or none.
    #[arg(short = 'M', long, hide = true, value_name = "MODE")]
    mode: Option<String>,
}

impl OutputFlags {
    /// What `-o` says.
    pub fn spec(&self) -> Option<String> {
        self.output.clone().or_else(|| self.outdir.as_ref().map(|dir| format!("{}/", dir.trim_end_matches('/'))))
    }
}

impl MemoryFlags {
    /// What a job may take.
    pub fn allowed(&self) -> Allowed {
        Allowed { max_memory: self.max_memory, low_memory: self.low_memory, force: self.force }
    }
}

impl PromptFlags {
    /// The prompts where there are several: those of `-` and `@FILE`, and one whose words are chosen for each picture.
    ///
    /// # Errors
    /// Usage: what keeps them from being read.
    pub fn several(&self) -> Result<Option<Vec<String>>> {
        let Some(prompt) = self.prompt.as_deref().or(self.prompt_flag.as_deref()) else { return Ok(None) };
        if prompt == "-" {
            let mut text = String::new();
            let read = std::io::stdin().lock().take(MAX_STDIN).read_to_string(&mut text);
            read.map_err(|e| Error::usage(format!("-p -: stdin cannot be read: {e}")))?;
            return dynamic::lines(&text).map(Some).map_err(|e| e.at("-p -"));
        }
        if let Some(path) = prompt.strip_prefix('@').filter(|path| !path.is_empty()) {
            let text = dynamic::read(std::path::Path::new(path)).map_err(|e| e.at("-p @FILE"))?;
            return dynamic::lines(&text).map(Some).map_err(|e| e.at(lienzo::error::escape(path)));
        }
        Ok(dynamic::is_dynamic(prompt, self.wildcard_dir.is_some()).then(|| vec![prompt.to_owned()]))
    }
}

/// Bytes of stdin at most.
const MAX_STDIN: u64 = 4 << 20;

impl GenerateArgs {
    /// Takes stable-diffusion.cpp's word for what this command does.
    ///
    /// # Errors
    /// Usage: another one.
    pub fn mode(&self) -> Result<()> {
        match self.output.mode.as_deref() {
            None | Some("img_gen" | "txt2img" | "img2img") => Ok(()),
            Some("convert") => Err(Error::usage("-M convert is a command of its own: lienzo convert IN OUT")),
            Some(other) => {
                let other = lienzo::error::escape(other);
                Err(Error::usage(format!("-M {other} is not here: `generate` makes pictures (img_gen)")))
            }
        }
    }

    /// The order that these flags give; what is not given stays open.
    ///
    /// # Errors
    /// Usage: flags that contradict each other.
    pub fn order(&self) -> Result<Order> {
        let (prompts, picture, begin, sampling) = (&self.prompts, &self.picture, &self.begin, &self.sampling);
        let set = |flag: bool| flag.then_some(true);
        Ok(Order {
            prompt: prompts.prompt.clone().or_else(|| prompts.prompt_flag.clone()),
            negative_prompt: prompts.negative_prompt.clone(),
            styles: prompts.words.style.clone(),
            // Which of several is decided by the picture that is repeated.
            model: prompts.model.model.first().cloned(),
            vae: prompts.model.vae.clone(),
            refiner: prompts.refiner.clone(),
            refiner_switch: prompts.refiner_switch,
            lora: prompts.lora.clone(),
            width: picture.width,
            height: picture.height,
            count: picture.count(),
            batch_size: picture.batch_size,
            seed: picture.seed,
            variation_seed: picture.variation_seed,
            variation_strength: picture.variation_strength,
            rng: picture.rng,
            grid: picture.grid.clone(),
            preview: self.output.preview,
            steps: sampling.steps,
            guidance: sampling.cfg_scale,
            guidance_rescale: sampling.guidance_rescale,
            sampler: sampling.sampler()?,
            schedule: sampling.scheduler,
            timesteps: sampling.timesteps,
            eta: sampling.eta,
            prediction: sampling.prediction,
            original_size: sampling.original_size,
            crop: sampling.crop,
            target_size: sampling.target_size,
            empty_negative: sampling.empty_negative,
            // stable-diffusion.cpp's own default is -1.
            clip_skip: sampling.clip_skip.and_then(|n| usize::try_from(n).ok()),
            init_image: begin.init_img.clone(),
            strength: begin.strength,
            resize_mode: begin.resize_mode,
            mask: begin.mask.clone(),
            mask_invert: set(begin.mask_invert),
            mask_blur: begin.mask_blur,
            soft_mask: set(begin.soft_mask),
            inpaint_fill: begin.inpaint_fill,
            only_masked: set(begin.only_masked),
            only_masked_padding: begin.only_masked_padding,
            outpaint: begin.outpaint,
            precision: self.device.precision,
            weight_type: self.device.weight_type,
        })
    }
}

impl PictureFlags {
    fn count(&self) -> Option<usize> {
        match (self.n_samples, self.n_iter) {
            (None, None) => self.batch_count,
            (a, b) => Some(a.unwrap_or(1).saturating_mul(b.unwrap_or(1))),
        }
    }
}

impl SamplingFlags {
    fn sampler(&self) -> Result<Option<Named>> {
        match (self.sampling_method, self.plms) {
            (named, false) => Ok(named),
            (None, true) => find_named("plms").map(Some),
            (Some(named), true) if named.sampler.name == "PLMS" => Ok(Some(named)),
            (Some(named), true) => {
                let name = named.sampler.name;
                Err(Error::usage(format!("--plms and --sampling-method {name} contradict each other: give one")))
            }
        }
    }
}
