//! `lienzo inspect`: what a checkpoint, the embedded model, an adapter or a picture contains.

use super::terminal::print;
use clap::Args;
use lienzo::checkpoint::adapter::AdapterFile;
use lienzo::checkpoint::{self, Grounds, Model, arch, model_hash};
use lienzo::error::{Error, Result};
use lienzo::image::PictureLimits;
use lienzo::image::read::Picture;
use lienzo::job::hints::Vocabulary;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

/// What to look at.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// A checkpoint (.safetensors, .ckpt, diffusers folder) or a PNG
    #[arg(value_name = "FILE", required_unless_present = "embedded")]
    file: Option<PathBuf>,
    /// The model in the binary
    #[arg(long, conflicts_with = "file")]
    embedded: bool,
    /// With --embedded: only the words that it was trained on
    #[arg(long, requires = "embedded", conflicts_with = "tensors")]
    words: bool,
    /// List every tensor with its shape and type
    #[arg(long)]
    tensors: bool,
    /// Leave out the sha256, which takes a while for a large file
    #[arg(long)]
    no_hash: bool,
    #[arg(long, hide = true)]
    hash: bool,
}

/// Runs the command.
pub fn run(args: &InspectArgs) -> Result<ExitCode> {
    if let Some(path) = args.file.as_deref().filter(|p| is_png(p)) {
        return inspect_png(path);
    }
    if args.words {
        print(Vocabulary::embedded()?.list());
        return Ok(ExitCode::SUCCESS);
    }
    let model = match args.file.as_deref().map(|path| (path, checkpoint::open(path))) {
        Some((_, Ok(model))) => model,
        // Names alone do not tell: a checkpoint goes first.
        Some((path, Err(_))) if path.is_file() && AdapterFile::is_one(path) => {
            print(AdapterFile::open(path)?.describe()?);
            return Ok(ExitCode::SUCCESS);
        }
        Some((_, Err(e))) => return Err(e),
        None => Model::embedded()?,
    };
    let mut out = checkpoint::describe(&model);
    out.push_str(&overrides(&model));
    if args.embedded {
        out.push_str(ATTRIBUTION);
    }
    if args.tensors {
        for (name, _) in arch::required_of(&model) {
            if let Some(info) = model.source.info(&name) {
                let stored = model.source.stored(&name).map_or("", |s| s.name);
                out.push_str(&format!("{stored} {:?} {name}\n", info.shape));
            }
        }
    }
    if args.hash || !args.no_hash {
        out.push_str(&hashes(&model)?);
    }
    print(&out);
    Ok(ExitCode::SUCCESS)
}

/// Which flags override what was guessed; nothing where nothing was.
fn overrides(model: &Model) -> String {
    let mut flags = Vec::new();
    if matches!(model.evidence.prediction, Grounds::Name | Grounds::Family) && model.path.is_some() {
        let asks = if model.can_be_asked() { "; `generate` asks the network" } else { "" };
        flags.push(format!("--prediction eps|v|sample overrides the prediction{asks}"));
    }
    if model.evidence.kind.is_some() {
        flags.push("-W -H --steps --cfg-scale --sampling-method override the defaults".into());
    }
    flags.iter().map(|line| format!("{:<12} {line}\n", "guessed")).collect()
}

/// The sha256, and the short hashes by which the webui's metadata name a model.
fn hashes(model: &Model) -> Result<String> {
    let sha256 = model_hash(model, &AtomicBool::new(false))?;
    let short = sha256.get(..10).unwrap_or(&sha256);
    let mut out = format!("{:<12} {sha256}\n{:<12} {short}", "sha256", "short hash");
    if let Some(path) = &model.path {
        out.push_str(&format!(" (before webui 1.0: {})", checkpoint::legacy_hash(path)?));
    }
    out.push('\n');
    if sha256 == checkpoint::PUBLISHED_SD_V1_4 {
        out.push_str(&format!("{:<12} this is sd-v1-4.ckpt, bit for bit as CompVis published it\n", ""));
    }
    Ok(out)
}

const ATTRIBUTION: &str = "\
draws small pictures of 62 things in 7 colors, on 12 backgrounds, in 3 sizes, 4 places, up to 4 at once, or two different
ones, each in a color of its own; `lienzo inspect --embedded --words` lists them
trained on Microsoft Fluent Emoji (MIT, Copyright (c) Microsoft Corporation), names from Unicode CLDR (Unicode License v3)
through emojibase-data (MIT); see NOTICE
";

/// A PNG by its first bytes, or what comes out of a pipe: no checkpoint can be read from one.
fn is_png(path: &Path) -> bool {
    use std::io::Read as _;
    let Ok(kind) = std::fs::metadata(path) else { return false };
    if !kind.is_file() {
        return !kind.is_dir();
    }
    let mut magic = [0; 8];
    let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x89PNG\r\n\x1a\n"
}

fn inspect_png(path: &Path) -> Result<ExitCode> {
    let Picture { image, texts, notes, format, .. } = Picture::read(path, PictureLimits::default())?;
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    let mut out = format!("{format}, {}x{}\n", image.width, image.height);
    match texts.iter().find(|(key, _)| key == "parameters") {
        // The picture's own text, line by line, so that its line breaks stay and nothing else drives the terminal.
        Some((_, text)) => text.lines().for_each(|line| {
            out.push_str(&escape_line(line));
            out.push('\n');
        }),
        None => {
            return Err(Error::bad_file(
                path,
                "holds no 'parameters' text; it was not written by a Stable Diffusion program",
            ));
        }
    }
    print(&out);
    Ok(ExitCode::SUCCESS)
}

/// Control characters escaped, without the cut that errors make.
fn escape_line(line: &str) -> String {
    let pieces: Vec<char> = line.chars().collect();
    pieces.chunks(150).map(|c| lienzo::error::escape(&c.iter().collect::<String>())).collect()
}
