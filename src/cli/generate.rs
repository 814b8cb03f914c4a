//! `lienzo generate`: flags to a request, events to progress and files.

mod memory;
pub use memory::print_all;
pub mod metadata;

use super::grid::{self, Grid, axes::Axes};
use super::progress::Progress;
use super::words::WordArgs;
use super::{DeviceArgs, ModelArgs};
use clap::Args;
use lienzo::diffusion::bpe::Tokenizer;
use lienzo::diffusion::denoise::plan::Settings;
use lienzo::diffusion::denoise::samplers;
use lienzo::diffusion::denoise::sigmas::ScheduleKind;
use lienzo::diffusion::denoise::timesteps::Timesteps;
use lienzo::diffusion::{Event, Request};
use lienzo::engine::Engine;
use lienzo::error::{Error, Result};
use lienzo::image::png_bytes;
use lienzo::output::OutputPlan;
use lienzo::rng::RngKind;
use lienzo::weights::Model;
use metadata::Metadata;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Flags follow stable-diffusion.cpp's names; those of the original scripts are hidden aliases.
#[derive(Args, Debug)]
pub struct GenerateArgs {
    /// What to draw
    #[arg(value_name = "PROMPT", conflicts_with = "prompt_flag")]
    prompt: Option<String>,
    /// What to draw, as a flag
    #[arg(short = 'p', long = "prompt", value_name = "PROMPT", allow_hyphen_values = true)]
    prompt_flag: Option<String>,
    /// What to stay away from
    #[arg(
        short,
        long,
        value_name = "PROMPT",
        allow_hyphen_values = true,
        default_value = "",
        hide_default_value = true
    )]
    negative_prompt: String,
    #[command(flatten)]
    words: WordArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Width in pixels, a multiple of 8 [default: the model's own size, 512 for SD 1.x]
    #[arg(short = 'W', long, value_name = "PIXELS", alias = "W")]
    width: Option<usize>,
    /// Height in pixels, a multiple of 8 [default: the model's own size]
    #[arg(short = 'H', long, value_name = "PIXELS", alias = "H")]
    height: Option<usize>,
    /// Sampler steps, 1 to 1000 [default: 20]
    #[arg(long, value_name = "N", alias = "ddim_steps")]
    steps: Option<usize>,
    /// Guidance: higher follows the prompt more closely, too high burns; 1 is off [default: 7.5]
    #[arg(long, value_name = "SCALE", alias = "scale", allow_negative_numbers = true)]
    cfg_scale: Option<f32>,
    /// Sampler; `lienzo samplers` lists them [default: euler_a]
    #[arg(long, value_name = "NAME", alias = "sampler")]
    sampling_method: Option<String>,
    /// Noise levels of the k-samplers: automatic, karras, exponential, ...
    #[arg(long, value_name = "NAME", default_value = "automatic")]
    scheduler: String,
    /// Share of fresh noise, 0 to 1 [default: the sampler's own]
    #[arg(long, value_name = "ETA", alias = "ddim_eta", allow_negative_numbers = true)]
    eta: Option<f32>,
    /// Timesteps of DDIM, PLMS and UniPC: auto, leading, linspace, trailing or webui
    #[arg(long, value_name = "RULE", default_value = "auto")]
    timesteps: String,
    /// Which hidden state of the text encoder, from the end
    #[arg(long, value_name = "N", default_value_t = 1)]
    clip_skip: usize,
    /// The first picture's seed; picture i has seed + i [default: random, and printed]
    #[arg(short, long, value_name = "SEED", allow_negative_numbers = true)]
    seed: Option<i64>,
    /// Noise generator: nv (as the webui on NVIDIA, and stable-diffusion.cpp) or cpu (torch's)
    #[arg(long, value_name = "KIND", default_value = "nv")]
    rng: String,
    /// How many pictures
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    batch_count: usize,
    /// Make a picture for every combination and a contact sheet, for example "steps=10,20 x sampler=euler,heun"; up to
    /// three of steps, sampler, scheduler, cfg, seed, size, clip-skip, eta and prompt=a red cat|a dog
    #[arg(long, value_name = "AXES")]
    grid: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Output file; %d, %03d, {index} and {seed} are replaced [default: output.png, or the next free number]
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// Replace existing files
    #[arg(long)]
    overwrite: bool,
    /// Print what would be computed, and how much memory it takes, and stop
    #[arg(long)]
    plan: bool,
    /// Refuse to start if more memory is needed, for example 2.4GB
    #[arg(long, value_name = "SIZE")]
    max_memory: Option<String>,
    /// Start even if the memory will not do, or a grid has very many pictures
    #[arg(long)]
    force: bool,
    /// Write no prompt and no settings into the PNG
    #[arg(long)]
    disable_image_metadata: bool,
    /// Say more
    #[arg(short, long)]
    verbose: bool,

    #[arg(long, hide = true)]
    plms: bool,
    #[arg(long = "outdir", hide = true, conflicts_with = "output")]
    outdir: Option<String>,
    #[arg(long = "n_samples", hide = true)]
    n_samples: Option<usize>,
    #[arg(long = "n_iter", hide = true)]
    n_iter: Option<usize>,
}

/// Runs the command.
pub fn run(args: &GenerateArgs) -> Result<ExitCode> {
    if args.words.list()? {
        return Ok(ExitCode::SUCCESS);
    }
    let begun = Instant::now();
    let cancel = cancel_on_ctrl_c();
    // Everything that can be refused without the model is refused first.
    let axes = args.grid.as_deref().map(|spec| Axes::parse(spec, args.force)).transpose()?;
    if axes.is_some() && args.count() != 1 {
        return Err(Error::usage("--grid makes one picture for each combination: use seed=1,2,3 in it instead of -b"));
    }
    let count = axes.as_ref().map_or(args.count(), Axes::cells);
    let words = args.words.open()?;
    let (prompt, negative) = words.apply(&args.prompt(axes.as_ref())?, &args.negative_prompt);
    let output =
        if args.plan { None } else { Some(OutputPlan::new(args.output_spec().as_deref(), count, args.overwrite)?) };
    let cpu = args.device.cpu()?;
    let threads = cpu.workers().threads();
    let model = Arc::new(args.model.open()?);
    let base = args.request(&model, (prompt, negative), args.count())?;
    let mut requests = match &axes {
        Some(axes) => axes.requests(&base, &|prompt| words.apply(prompt, "").0)?,
        None => vec![base],
    };
    args.words.embed(&model, &mut requests)?;
    let largest = requests.iter().max_by_key(|r| r.width * r.height);
    let request = largest.cloned().ok_or_else(|| Error::other("nothing to draw"))?;
    request.check(&model)?;
    match &output {
        Some(output) if axes.is_some() => grid::check(&requests, output, &model, args.overwrite)?,
        Some(output) => output.check_seeds(request.seed, count)?,
        None => {}
    }
    let engine = Engine::new(Arc::new(cpu));
    memory::check(&engine, &model, &request, args)?;
    if args.plan {
        memory::print_plan(&engine, &model, &request)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(output) = output else { return Ok(ExitCode::SUCCESS) };
    notes(&model, &request, args, threads);
    let metadata = Metadata::start(&model, args, cancel.clone());
    let tokenizer = tokenizer(&model)?;
    let session = engine.session(&model, &cancel);
    if let Some(axes) = &axes {
        let grid = Grid { axes, requests: &requests, output, metadata, overwrite: args.overwrite };
        grid.run(&session, &tokenizer)?;
        eprintln!("{count} pictures, total {:.2} s", begun.elapsed().as_secs_f64());
        return Ok(ExitCode::SUCCESS);
    }
    let mut writer = Writer { progress: Progress::new(), output, metadata, request: &request, error: None };
    let result = lienzo::diffusion::generate(&session, &tokenizer, &request, &mut |event| writer.hear(event));
    writer.progress.abandon();
    match writer.error.take() {
        // The listener stopped the work because of this.
        Some(e) => Err(e),
        None => result,
    }?;
    eprintln!("seed {}, total {:.2} s", request.seed, begun.elapsed().as_secs_f64());
    if let Some(peak) = lienzo::system::peak_resident().filter(|_| args.verbose) {
        eprintln!("peak memory {}", lienzo::system::format_bytes(peak));
    }
    Ok(ExitCode::SUCCESS)
}

/// The model's own tokenizer, or CLIP's.
pub fn tokenizer(model: &Model) -> Result<Tokenizer> {
    match &model.tokenizer {
        Some(files) => Tokenizer::from_files(&files.vocab, &files.merges),
        None => Ok(Tokenizer::clip()),
    }
}

impl GenerateArgs {
    fn count(&self) -> usize {
        match (self.n_samples, self.n_iter) {
            (None, None) => self.batch_count,
            (a, b) => a.unwrap_or(1).saturating_mul(b.unwrap_or(1)),
        }
    }

    fn prompt(&self, axes: Option<&Axes>) -> Result<String> {
        let given = self.prompt.as_deref().or(self.prompt_flag.as_deref());
        given
            .or_else(|| axes?.prompt())
            .map(str::to_string)
            .ok_or_else(|| Error::usage("no prompt given; try: lienzo generate \"a red apple on a blue background\""))
    }

    fn output_spec(&self) -> Option<String> {
        self.output.clone().or_else(|| self.outdir.as_ref().map(|dir| format!("{}/", dir.trim_end_matches('/'))))
    }

    fn request(&self, model: &Model, (prompt, negative_prompt): (String, String), count: usize) -> Result<Request> {
        let own = &model.defaults;
        let sampler = match &self.sampling_method {
            Some(name) => name,
            None if self.plms => "plms",
            None => &own.sampler,
        };
        let sampling = Settings {
            schedule: ScheduleKind::parse(&self.scheduler)?,
            eta: self.eta,
            timesteps: Timesteps::parse(&self.timesteps)?,
            ..Settings::new(samplers::find(sampler)?, self.steps.unwrap_or(own.steps))
        };
        Ok(Request {
            prompt,
            negative_prompt,
            width: self.width.unwrap_or(own.size),
            height: self.height.unwrap_or(own.size),
            guidance: self.cfg_scale.unwrap_or(own.guidance),
            clip_skip: self.clip_skip,
            sampling,
            seed: match self.seed {
                Some(seed) if seed >= 0 => seed.unsigned_abs(),
                _ => random_seed(),
            },
            count,
            rng: RngKind::parse(&self.rng)?,
            embeddings: Arc::default(),
        })
    }
}

/// A seed in the webui's range, 0 to 4294967293.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    // The standard library keys its hash maps from the system's random source.
    RandomState::new().hash_one(0u8) % 4_294_967_294
}

/// What the user should know before waiting.
fn notes(model: &Model, request: &Request, args: &GenerateArgs, threads: usize) {
    if args.model.model.is_none() && args.verbose {
        eprintln!("no -m: using the small model in the binary");
    }
    if args.verbose {
        eprintln!("{threads} threads, {}, model {}", lienzo::simd::Isa::best(), lienzo::error::escape(&model.name));
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

/// The first Ctrl-C sets the flag, which ends the run cleanly; the second ends the process at once.
fn cancel_on_ctrl_c() -> Arc<AtomicBool> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = cancel.clone();
    let handler = move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step; press Ctrl-C again to stop at once");
    };
    if let Err(e) = ctrlc::set_handler(handler) {
        eprintln!("note: Ctrl-C will stop at once ({e})");
    }
    cancel
}

/// Turns events into progress lines and files.
struct Writer<'a> {
    progress: Progress,
    output: OutputPlan,
    metadata: Metadata,
    request: &'a Request,
    /// Why the listener stopped the work.
    error: Option<Error>,
}

impl Writer<'_> {
    fn hear(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Note(note) => eprintln!("note: {note}"),
            Event::Stage { name, image, units } => {
                let several = self.request.count > 1 && name != "text";
                let which = if several { format!(" {}/{}", image + 1, self.request.count) } else { String::new() };
                self.progress.begin(&format!("{name}{which}"), units.unwrap_or(0));
            }
            Event::Done(units) => self.progress.at(units),
            Event::Picture { index, seed, image } => {
                self.progress.end();
                if let Err(e) = self.write(index, seed, &image) {
                    self.error = Some(e);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn write(&mut self, index: usize, seed: u64, image: &lienzo::image::Image) -> Result<()> {
        let text = self.metadata.text(self.request, seed)?;
        let path = self.output.write(index, seed, &png_bytes(image, text.as_deref())?)?;
        // The only thing on stdout: what a script wants to know.
        print_all(&format!("{}\n", path.display()))
    }
}
