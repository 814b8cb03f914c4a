//! `lienzo convert`: any checkpoint that can be opened to one clean .safetensors file.

use super::terminal::{ProgressLine, cancel_on_ctrl_c, puts, say};
use clap::Args;
use lienzo::checkpoint::{self, Model, arch};
use lienzo::dtype::Dtype;
use lienzo::error::{Error, Result, escape};
use lienzo::system::format_bytes;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

/// What to convert, and into what.
#[derive(Args, Debug)]
pub struct ConvertArgs {
    /// The checkpoint to read: .ckpt, .safetensors or a diffusers folder
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The new file, ending in .safetensors; it must not exist yet
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// How numbers are stored: f16 (half the size) or f32 [default: f16 if the input is all f16, else f32]
    #[arg(long = "type", value_name = "TYPE")]
    dtype: Option<String>,
    /// Put this VAE into the new file instead of the checkpoint's own
    #[arg(long, value_name = "FILE")]
    vae: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ConvertArgs) -> Result<ExitCode> {
    let asked = args.dtype.as_deref().map(parse_type).transpose()?;
    check_output(&args.output)?;
    let alone = args.vae.is_none() && checkpoint::is_autoencoder(&args.input);
    let mut model = if alone { checkpoint::open_autoencoder(&args.input)? } else { checkpoint::open(&args.input)? };
    if let Some(vae) = &args.vae {
        model = checkpoint::open_with_vae(model, vae)?;
    }
    let dtype = asked.unwrap_or_else(|| own_type(&model));
    let cancel = cancel_on_ctrl_c("tensor");
    let mut progress = ProgressLine::new();
    let mut begun = false;
    let result = checkpoint::save_safetensors_with(&model, &args.output, dtype, &mut |done, all| {
        if !begun {
            progress.begin("convert", all);
            begun = true;
        }
        progress.at(done);
        if cancel.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    progress.abandon();
    result?;
    let size = std::fs::metadata(&args.output).map_or(0, |m| m.len());
    say!("{} written as {}", format_bytes(size), dtype.name());
    puts!("{}", args.output.display());
    Ok(ExitCode::SUCCESS)
}

fn parse_type(name: &str) -> Result<Dtype> {
    match name.to_ascii_lowercase().as_str() {
        "f16" | "fp16" => Ok(Dtype::F16),
        "f32" | "fp32" => Ok(Dtype::F32),
        _ => Err(Error::usage(format!("--type {} is not known; use f16 or f32", escape(name)))),
    }
}

/// A name that says what will be in the file, in a folder that is there: found out before gigabytes are read.
fn check_output(path: &Path) -> Result<()> {
    let shown = escape(&path.to_string_lossy());
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if !extension.eq_ignore_ascii_case("safetensors") {
        return Err(Error::usage(format!("{shown}: only safetensors is written; end the name in .safetensors")));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let folder = escape(&folder.to_string_lossy());
        return Err(Error::usage(format!("{shown}: the folder '{folder}' does not exist; create it first")));
    }
    Ok(())
}

/// The type that loses nothing.
fn own_type(model: &Model) -> Dtype {
    let halves = |(name, _): &(String, Vec<usize>)| model.source.info(name).is_none_or(|i| i.dtype == Dtype::F16);
    if arch::required_of(model).iter().all(halves) { Dtype::F16 } else { Dtype::F32 }
}
