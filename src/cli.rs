//! The command line: what can be asked, and how errors become exit codes.

pub mod bench;
pub mod convert;
pub mod device;
pub mod devices;
mod flags;
pub mod generate;
pub mod grid;
pub mod inspect;
mod output;
pub mod prompt;
mod refused;
pub mod remedy;
pub mod samplers;
#[cfg(feature = "serve")]
pub mod serve;
mod terminal;
pub mod upscale;
pub mod verify;
pub mod words;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use device::DeviceArgs;
use lienzo::checkpoint::Model;
use lienzo::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use terminal::say;

/// Stable Diffusion with every kernel written by hand: a prompt becomes a picture, on any GPU or CPU.
#[derive(Parser)]
#[command(name = "lienzo", version, after_help = "Try:  lienzo generate \"a red apple on a blue background\"")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make pictures from a prompt
    Generate(Box<generate::GenerateArgs>),
    /// Make pictures larger
    Upscale(upscale::UpscaleArgs),
    /// Show how a prompt is read: tokens, weights, chunks, what changes over the steps
    Prompt(prompt::PromptArgs),
    /// Check, then time kernels (conv2d, attention, ...) or a whole model (--arch sd15)
    Bench(Box<bench::BenchArgs>),
    /// Compare this machine's results with reference values
    Verify(verify::VerifyArgs),
    /// List the devices that pictures can be made on
    Devices(devices::DevicesArgs),
    /// Say what a checkpoint (or the embedded model, or a picture) contains
    Inspect(inspect::InspectArgs),
    /// Write any checkpoint as one clean .safetensors file
    Convert(convert::ConvertArgs),
    /// List samplers and schedules with their names elsewhere
    Samplers,
    /// Serve a page for the browser, and the APIs that other programs speak
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeArgs>),
}

/// A model file or folder; without one, the model inside the binary.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// Checkpoint: .safetensors, .ckpt or a diffusers folder [default: the small model in the binary]
    #[arg(short, long, value_name = "FILE", visible_alias = "ckpt")]
    pub model: Vec<PathBuf>,
    /// Replace the model's VAE by this one
    #[arg(long, value_name = "FILE")]
    pub vae: Option<PathBuf>,
    /// Replace the model's VAE by this tiny one (TAESD), a twentieth of the work
    #[arg(long, value_name = "FILE", alias = "tae", conflicts_with = "vae")]
    pub taesd: Option<PathBuf>,
    /// Replace the model's U-Net by this one
    #[arg(long, value_name = "FILE", alias = "diffusion-model")]
    pub unet: Option<PathBuf>,
    /// Replace the model's text encoder of the same width by this one
    #[arg(long, value_name = "FILE")]
    pub text_encoder: Vec<PathBuf>,
}

impl ModelArgs {
    /// The one file of `-m`, if there is any.
    pub fn one(&self) -> Result<Option<&Path>> {
        match self.model.as_slice() {
            [] => Ok(None),
            [path] => Ok(Some(path)),
            [..] => {
                let message = "-m is given more than once: only `generate --from-image` chooses among several models";
                Err(Error::usage(message))
            }
        }
    }

    /// Reads headers and configurations; no weight yet.
    pub fn open(&self) -> Result<Model> {
        self.with_parts(open_model(self.one()?, self.vae.as_deref())?)
    }

    /// A model with all the parts that are given in files of their own.
    pub fn over(&self, model: Model) -> Result<Model> {
        self.with_parts(match &self.vae {
            Some(path) => lienzo::checkpoint::open_with_vae(model, path)?,
            None => model,
        })
    }

    /// The model with the parts that are given in files of their own, but for the VAE.
    pub fn with_parts(&self, mut model: Model) -> Result<Model> {
        if let Some(path) = &self.unet {
            model = lienzo::checkpoint::open_with_unet(model, path)?;
        }
        for path in &self.text_encoder {
            model = lienzo::checkpoint::open_with_text_encoder(model, path)?;
        }
        match &self.taesd {
            Some(path) => lienzo::checkpoint::open_with_vae(model, path),
            None => Ok(model),
        }
    }
}

/// A model, or that in the binary, and the VAE that replaces its own.
fn open_model(file: Option<&Path>, vae: Option<&Path>) -> Result<Model> {
    let model = match file {
        Some(path) => lienzo::checkpoint::open(path)?,
        None => Model::embedded()?,
    };
    match vae {
        Some(path) => lienzo::checkpoint::open_with_vae(model, path),
        None => Ok(model),
    }
}

/// Parses the arguments, runs the command, prints an error as one line.
pub fn main() -> ExitCode {
    let mut command = refused::short_help(Cli::command());
    let read = command.try_get_matches_from_mut(std::env::args_os()).and_then(|m| Cli::from_arg_matches(&m));
    let cli = match read {
        Ok(cli) => cli,
        Err(e) => return refused::print(e, &command),
    };
    let result = match cli.command {
        Command::Generate(args) => generate::run(&args),
        Command::Upscale(args) => upscale::run(&args),
        Command::Prompt(args) => prompt::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Samplers => samplers::run(),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(&args),
    };
    match result {
        Ok(code) => terminal::ended(code),
        Err(e) => {
            say!("lienzo: {}", remedy::worded(&e));
            ExitCode::from(remedy::exit_code(&e))
        }
    }
}
