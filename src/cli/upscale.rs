//! `lienzo upscale`: pictures and folders of them in, larger ones out.

use super::DeviceArgs;
use super::flags::parsed;
use super::terminal::{ProgressLine, cancel_on_ctrl_c, puts, say};
use clap::Args;
use lienzo::checkpoint::{self, Model};
use lienzo::engine::Engine;
use lienzo::error::{Error, Kind, Result, escape};
use lienzo::files::{self, IfTaken};
use lienzo::image::raster::Raster;
use lienzo::image::{PARAMETERS, PictureLimits};
use lienzo::job::upscale::{UpscaleOrder, UpscalePlan, enlarge, metadata};
use lienzo::job::word::ByteCount;
use lienzo::system::format_bytes;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The largest file that is read.
const MAX_BYTES: u64 = 512 << 20;

/// What becomes larger, and how.
#[derive(Args, Debug)]
pub struct UpscaleArgs {
    /// Pictures (PNG, JPEG), or folders of them
    #[arg(value_name = "PICTURE", required = true)]
    pictures: Vec<PathBuf>,
    /// The new file; for several pictures a folder [default: NAME-x4.png beside each]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// How many times as long each side becomes [default: the network's own factor, 4 for the one in the binary]
    #[arg(short, long, value_name = "FACTOR", allow_negative_numbers = true)]
    scale: Option<f64>,
    /// A network in a file of its own, .safetensors or .pth: Compact (realesr-general-x4v3, ...) or ESRGAN
    /// (RealESRGAN_x4plus, 4x-UltraSharp, ...) [default: realesr-animevideov3, in the binary]
    #[arg(long, value_name = "FILE")]
    upscale_model: Option<PathBuf>,
    /// Compute tiles of this many pixels a side [default: as large as memory allows]
    #[arg(long, value_name = "N")]
    tile: Option<usize>,
    /// Memory that may be used: 500M, 2G [default: three quarters of what is free]
    #[arg(long, value_name = "BYTES", value_parser = parsed::<ByteCount>)]
    max_memory: Option<ByteCount>,
    /// Replace files that are there
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Leave out pictures whose larger one is there already
    #[arg(long)]
    resume: bool,
    /// Say sizes, passes, tiles and memory, and stop
    #[arg(long)]
    plan: bool,
    /// Write no metadata
    #[arg(long)]
    disable_image_metadata: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One picture's way.
struct Task {
    from: PathBuf,
    to: PathBuf,
}

/// Runs the command. What one picture lacks keeps no other from being made.
pub fn run(args: &UpscaleArgs) -> Result<ExitCode> {
    let order = UpscaleOrder { scale: args.scale, tile: args.tile, max_memory: args.max_memory };
    order.check()?;
    let model = Arc::new(match &args.upscale_model {
        Some(path) => checkpoint::open_upscaler(path)?,
        None => Model::embedded_upscaler()?,
    });
    let tasks = tasks(args, &model)?;
    let engine = args.device.engine(None)?;
    let cancel = cancel_on_ctrl_c("tile");
    let (mut failed, mut made) = (0, 0);
    for task in &tasks {
        match one(args, &order, &engine, &model, task, &cancel) {
            Ok(true) => made += 1,
            Ok(false) => {}
            Err(e) if *e.kind() == Kind::Cancelled => return Err(e),
            // The only one's error is the command's own.
            Err(e) if tasks.len() == 1 => return Err(e),
            Err(e) => {
                say!("lienzo: {}", super::remedy::worded(&e));
                failed += 1;
            }
        }
    }
    if tasks.len() > 1 && !args.plan {
        say!(
            "{made} of {} pictures made{}",
            tasks.len(),
            if failed > 0 { format!(", {failed} failed") } else { String::new() }
        );
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every picture with the name of its larger one: known, and refused, before any is computed.
fn tasks(args: &UpscaleArgs, model: &Model) -> Result<Vec<Task>> {
    let mut pictures = Vec::new();
    for path in &args.pictures {
        if path.is_dir() { pictures.extend(inside(path)?) } else { pictures.push(path.clone()) }
    }
    if pictures.is_empty() {
        return Err(Error::usage("there is no PNG and no JPEG in what was given"));
    }
    let many = pictures.len() > 1 || args.pictures.iter().any(|p| p.is_dir());
    let folder = args.output.as_deref().filter(|out| many || out.is_dir());
    if let Some(folder) = folder.filter(|_| !args.plan) {
        std::fs::create_dir_all(folder).map_err(|e| files::cannot_write(folder, &e))?;
    }
    let own = model.networks.upscaler()?.scale() as f64;
    let suffix = format!("-x{}", args.scale.unwrap_or(own));
    let named = |from: PathBuf| {
        let mut name = from.file_stem().unwrap_or_default().to_owned();
        name.push(&suffix);
        name.push(".png");
        let to = match (&args.output, folder) {
            (_, Some(folder)) => folder.join(name),
            (Some(file), None) => file.clone(),
            (None, None) => from.with_file_name(name),
        };
        Task { from, to }
    };
    let tasks: Vec<Task> = pictures.into_iter().map(named).collect();
    for (n, task) in tasks.iter().enumerate() {
        let shown = escape(&task.to.to_string_lossy());
        if let Some(other) = tasks[..n].iter().find(|other| other.to == task.to) {
            let (a, b) = (escape(&other.from.to_string_lossy()), escape(&task.from.to_string_lossy()));
            return Err(Error::usage(format!("{a} and {b} would both become {shown}; rename one")));
        }
        if task.to.exists() && !args.overwrite && !args.resume && !args.plan {
            return Err(Error::usage(format!("{shown} exists; give --overwrite, --resume or another -o")));
        }
    }
    Ok(tasks)
}

/// The pictures of a folder by name; what else is there is told.
fn inside(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::bad_file(folder, format!("cannot be read: {e}")))?;
    let mut all: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|p| p.is_file()).collect();
    all.sort();
    let is_picture = |path: &PathBuf| {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        matches!(ending.as_str(), "png" | "jpg" | "jpeg")
    };
    let (pictures, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(is_picture);
    if !rest.is_empty() {
        say!("note: {} files in {} are no PNG or JPEG by name and are left out", rest.len(), folder.display());
    }
    Ok(pictures)
}

/// Makes one picture larger; false where it is there already, or only its plan was asked for.
fn one(
    args: &UpscaleArgs,
    order: &UpscaleOrder,
    engine: &Engine,
    model: &Arc<Model>,
    task: &Task,
    cancel: &AtomicBool,
) -> Result<bool> {
    let shown = escape(&task.from.to_string_lossy());
    if args.resume && task.to.exists() {
        say!("{shown}: there already");
        return Ok(false);
    }
    let picture = Raster::of_bytes(&files::read(&task.from, MAX_BYTES)?, &task.from, PictureLimits::default())?;
    let from = (picture.width, picture.height);
    let plan = order.plan(engine, model, from, picture.sixteen).map_err(|e| e.at(&shown))?;
    if args.plan {
        puts!("{}", about(&shown, from, &plan));
        return Ok(false);
    }
    let mut progress = ProgressLine::new();
    let mut total = 0;
    let large = enlarge(engine, model, &picture, &plan, cancel, &mut |done, all| {
        if done == 1 || all != total {
            progress.begin(&shown, all);
            total = all;
        }
        progress.at(done);
        if cancel.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if large.is_err() {
        progress.abandon()
    } else {
        progress.end()
    }
    let large = large?;
    let before = picture.texts.iter().find(|(keyword, _)| keyword == PARAMETERS).map(|(_, text)| text.as_str());
    let text = metadata(before, model, from, plan.size);
    let bytes = large.png_bytes((!args.disable_image_metadata).then_some(text.as_str()))?;
    let if_taken = if args.overwrite { IfTaken::Replace } else { IfTaken::Fail };
    files::write(&task.to, &bytes, if_taken).map_err(|e| files::cannot_write(&task.to, &e))?;
    puts!("{}", task.to.display());
    Ok(true)
}

fn about(shown: &str, (w, h): (usize, usize), plan: &UpscalePlan) -> String {
    let UpscalePlan { tiling, passes, size, peak } = plan;
    let (side, margin) = (tiling.side, tiling.margin);
    let peak = format_bytes(*peak);
    let passes = if *passes == 1 { "one pass".into() } else { format!("{passes} passes") };
    format!(
        "{shown}: {w}x{h} to {}x{}, {passes}, tiles of {side} and {margin} around them, {peak} in memory",
        size.0, size.1
    )
}
