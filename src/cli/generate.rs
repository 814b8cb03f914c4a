//! `lienzo generate`: flags to a request, events to progress and files.

mod inpaint;
mod memory;
pub use memory::print_all;
#[cfg(all(test, feature = "gpu"))]
pub use memory::tests::memory_work;
pub mod metadata;
mod recipe;
mod request;
mod resume;

use super::grid::{self, Grid, axes::Axes};
use super::progress::Progress;
use super::words::WordArgs;
use super::{DeviceArgs, ModelArgs};
use clap::Args;
use lienzo::diffusion::{Event, Request};
use lienzo::error::{Error, Result};
use lienzo::image::{Image, png_bytes};
use lienzo::output::{OutputPlan, write_png};
use metadata::Metadata;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Flags follow stable-diffusion.cpp's names; those of the original scripts are hidden aliases.
#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    /// What to draw
    #[arg(value_name = "PROMPT", conflicts_with = "prompt_flag")]
    prompt: Option<String>,
    /// What to draw, as a flag
    #[arg(short = 'p', long = "prompt", value_name = "PROMPT", allow_hyphen_values = true)]
    prompt_flag: Option<String>,
    /// What to stay away from
    #[arg(short, long, value_name = "PROMPT", allow_hyphen_values = true)]
    negative_prompt: Option<String>,
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
    /// Sampler steps, 1 to 1000 [default: the model's own, 20 for SD 1.x]
    #[arg(long, value_name = "N", alias = "ddim_steps")]
    steps: Option<usize>,
    /// Guidance: higher follows the prompt more closely, too high burns; 1 is off
    /// [default: the model's own, 7.5 for SD 1.x]
    #[arg(long, value_name = "SCALE", alias = "scale", allow_negative_numbers = true)]
    cfg_scale: Option<f32>,
    /// Begin with this picture (PNG or JPEG) and change it as the prompt says
    #[arg(short = 'i', long, value_name = "FILE", alias = "init_img")]
    init_img: Option<PathBuf>,
    /// How much of the picture given with -i may change: 0 hardly anything, 1 everything [default: 0.75]
    #[arg(long, value_name = "SHARE", requires = "init_img", allow_negative_numbers = true)]
    strength: Option<f32>,
    /// How the picture given with -i gets the size of -W and -H: just (stretched), crop (what sticks out is cut off) or
    /// fill (its edges are extended) [default: crop]
    #[arg(long, value_name = "MODE", requires = "init_img")]
    resize_mode: Option<String>,
    #[command(flatten)]
    inpaint: inpaint::InpaintArgs,
    /// Sampler; `lienzo samplers` lists them [default: the model's own, euler_a for SD 1.x]
    #[arg(long, value_name = "NAME", alias = "sampler")]
    sampling_method: Option<String>,
    /// Noise levels of the k-samplers: automatic, karras, exponential, ... [default: the sampler's own]
    #[arg(long, value_name = "NAME")]
    scheduler: Option<String>,
    /// Share of fresh noise, 0 to 1 [default: the sampler's own]
    #[arg(long, value_name = "ETA", alias = "ddim_eta", allow_negative_numbers = true)]
    eta: Option<f32>,
    /// Timesteps of DDIM, PLMS and UniPC: auto, leading, linspace, trailing or webui [default: auto]
    #[arg(long, value_name = "RULE")]
    timesteps: Option<String>,
    /// What the model predicts: auto (as the file says), eps, v or sample; the wrong one gives noise or grey [default: auto]
    #[arg(long, value_name = "KIND")]
    prediction: Option<String>,
    /// Which hidden state of the text encoder, from the end [default: 1]
    #[arg(long, value_name = "N")]
    clip_skip: Option<usize>,
    /// The first picture's seed; picture i has seed + i [default: random, and printed]
    #[arg(short, long, value_name = "SEED", allow_negative_numbers = true)]
    seed: Option<i64>,
    /// A second seed: pictures that resemble the first seed's; picture i takes this seed + i [default: random]
    #[arg(long, value_name = "SEED", requires = "variation_strength")]
    variation_seed: Option<u64>,
    /// How far towards the second seed's picture: 0 is the first seed's, 1 the second's
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    variation_strength: Option<f32>,
    /// Noise generator: nv (as the webui on NVIDIA, and stable-diffusion.cpp) or cpu (torch's) [default: nv]
    #[arg(long, value_name = "KIND")]
    rng: Option<String>,
    /// How many pictures
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    batch_count: usize,
    /// How many pictures are computed together: often faster, takes more memory, changes no picture
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch_size: usize,
    /// Repeat a picture with the settings in this PNG; flags that are given win. With several -m, the model is looked
    /// up among them
    #[arg(long, value_name = "PNG")]
    from_image: Option<PathBuf>,
    /// With --from-image: go on without the settings that cannot be honoured
    #[arg(long, requires = "from_image")]
    ignore_unsupported: bool,
    /// Show the picture while it is made, in NAME.preview.png: every=5 after each 5 evaluations; every=5,vae exactly,
    /// but slowly; with ,keep each in a file of its own that stays
    #[arg(long, value_name = "every=N[,vae][,keep]")]
    preview: Option<String>,
    /// Make a picture for every combination and a contact sheet, for example "steps=10,20 x sampler=euler,heun"; up to
    /// three of steps, sampler, scheduler, cfg, seed, size, clip-skip, eta, strength and prompt=a red cat|a dog
    #[arg(long, value_name = "AXES", conflicts_with_all = ["resume", "preview"])]
    grid: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Output file; %d, %03d, {index} and {seed} are replaced [default: output.png, or the next free number]
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// Replace existing files
    #[arg(long)]
    overwrite: bool,
    /// Make only the pictures that are missing: after an interruption, the same command with --resume
    #[arg(long, conflicts_with_all = ["disable_image_metadata", "plan"])]
    resume: bool,
    /// Print what would be computed, and how much memory it takes, and stop
    #[arg(long)]
    plan: bool,
    /// Refuse to start if more memory is needed, for example 2.4GB; on a GPU, use no more of its memory: first smaller
    /// batches, then the CPU
    #[arg(long, value_name = "SIZE")]
    max_memory: Option<String>,
    /// Read the weights from the file as they are needed, at every step, instead of keeping them
    #[arg(long)]
    low_memory: bool,
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
    #[arg(long = "n_samples", hide = true, conflicts_with = "batch_count")]
    n_samples: Option<usize>,
    #[arg(long = "n_iter", hide = true, conflicts_with = "batch_count")]
    n_iter: Option<usize>,
}

/// Runs the command.
pub fn run(given: &GenerateArgs) -> Result<ExitCode> {
    if given.words.list()? {
        return Ok(ExitCode::SUCCESS);
    }
    let begun = Instant::now();
    let cancel = cancel_on_ctrl_c("step");
    let mut args = given.clone();
    let embeddings = recipe::apply(&mut args, &cancel)?;
    // Everything that can be refused without the model is refused first.
    let axes = args.grid.as_deref().map(|spec| Axes::parse(spec, args.force)).transpose()?;
    if axes.is_some() && args.count() != 1 {
        return Err(Error::usage("--grid makes one picture for each combination: use seed=1,2,3 in it instead of -b"));
    }
    let count = axes.as_ref().map_or(args.count(), Axes::cells);
    let words = args.words.open()?;
    let typed = match axes.as_ref().and_then(Axes::prompt) {
        Some(prompt) => prompt.to_string(),
        None => args.prompt()?,
    };
    let prompts = words.apply(&typed, args.negative_prompt.as_deref().unwrap_or(""));
    let overwrite = args.overwrite || args.resume;
    let mut output =
        if args.plan { None } else { Some(OutputPlan::new(args.output_spec().as_deref(), count, overwrite)?) };
    if let Some(output) = output.as_ref().filter(|_| args.resume) {
        resume::adopt_seed(&mut args, output, count);
    }
    let args = &args;
    let threads = args.device.threads()?;
    let model = Arc::new(args.model.open()?);
    let base = args.request(&model, prompts, args.count())?;
    let mut requests = match &axes {
        Some(axes) => axes.requests(&base, &|prompt| words.apply(prompt, "").0)?,
        None => vec![base],
    };
    args.words.embed(&model, &mut requests)?;
    let largest = requests.iter().max_by_key(|r| r.width * r.height);
    let mut request = largest.cloned().ok_or_else(|| Error::other("nothing to draw"))?;
    recipe::check_embeddings(args, embeddings, metadata::embedding_hashes(&request))?;
    request.check(&model)?;
    match &output {
        Some(output) if axes.is_some() => grid::check(&requests, output, &model, args.overwrite)?,
        Some(output) => output.check_seeds(resume::name_seed(&request, 0), count)?,
        None => {}
    }
    let tokenizer = model.tokenizer()?;
    let engine = args.device.engine(Some(&|engine| memory::work(engine, &model, &requests, &tokenizer)))?;
    if let Some(size) = memory::fit(&engine, &model, &requests, &tokenizer, args)? {
        requests.iter_mut().chain([&mut request]).for_each(|r| r.batch_size = size);
    }
    let needs = memory::Needs::new(&engine, &model, &requests, &tokenizer)?;
    let keep = memory::check(&needs, args)?;
    if args.plan {
        memory::print_plan(&needs, args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(output) = &mut output else { return Ok(ExitCode::SUCCESS) };
    request::notes(&model, &request, args, threads);
    request::hints(&model, &typed, &request)?;
    let mut metadata = Metadata::start(&model, args, &engine, cancel.clone());
    if args.resume {
        request.skip = resume::finished(output, &request, &mut metadata, args.overwrite)?;
        output.set_overwrite(args.overwrite);
        eprintln!("{} of {count} pictures are there already", request.skip.len());
        if request.skip.len() == count {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let session = engine.session(&model, &cancel).keeping(keep).within(memory::budget(args)?);
    if let Some(axes) = &axes {
        let grid = Grid { axes, requests: &requests, output, metadata, overwrite: args.overwrite };
        grid.run(&session, &tokenizer)?;
        eprintln!("{count} pictures, total {:.2} s", begun.elapsed().as_secs_f64());
        return Ok(ExitCode::SUCCESS);
    }
    let previews = BTreeSet::new();
    let mut writer = Writer { progress: Progress::new(), output, metadata, request: &request, previews, error: None };
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

/// The first Ctrl-C sets the flag, which ends the run cleanly; the second ends the process at once.
pub fn cancel_on_ctrl_c(unit: &'static str) -> Arc<AtomicBool> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = cancel.clone();
    let handler = move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this {unit}; press Ctrl-C again to stop at once");
    };
    if let Err(e) = ctrlc::set_handler(handler) {
        eprintln!("note: Ctrl-C will stop at once ({e})");
    }
    cancel
}

/// Turns events into progress lines and files.
struct Writer<'a> {
    progress: Progress,
    output: &'a OutputPlan,
    metadata: Metadata<'a>,
    request: &'a Request,
    /// Previews that are on the disk, by the picture's number.
    previews: BTreeSet<usize>,
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
            Event::Preview { index, done, image } => self.preview(index, done, &image),
            Event::Picture { index, image, .. } => {
                self.progress.end();
                if let Err(e) = self.write(index, &image) {
                    self.error = Some(e);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Writes a preview; one that cannot be written costs a note, not the picture.
    fn preview(&mut self, index: usize, done: usize, image: &Image) {
        let keep = self.request.preview.is_some_and(|p| p.keep);
        let mut path = self.preview_path(index);
        if keep {
            path.set_extension("");
            path.set_extension(format!("preview-{done:03}.png"));
        }
        match png_bytes(image, None).and_then(|bytes| write_png(&path, &bytes, true)) {
            Ok(_) if keep => {}
            Ok(_) => drop(self.previews.insert(index)),
            Err(e) => eprintln!("note: preview: {e}"),
        }
    }

    fn preview_path(&self, index: usize) -> PathBuf {
        self.output.path(index, resume::name_seed(self.request, index)).with_extension("preview.png")
    }

    fn write(&mut self, index: usize, image: &Image) -> Result<()> {
        let text = self.metadata.text(self.request, index)?;
        let seed = resume::name_seed(self.request, index);
        let path = self.output.write(index, seed, &png_bytes(image, text.as_deref())?)?;
        if self.previews.remove(&index) {
            // The picture itself is there now; a preview that stays behind does no harm.
            let _ = std::fs::remove_file(self.preview_path(index));
        }
        // The only thing on stdout: what a script wants to know.
        print_all(&format!("{}\n", path.display()))
    }
}
