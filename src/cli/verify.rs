//! `lienzo verify`: is this machine computing what diffusers computes? One line a check.

use super::flags::parsed;
use super::terminal::{puts, say};
use super::{DeviceArgs, ModelArgs};
use clap::Args;
use lienzo::checkpoint::{self, Model};
use lienzo::engine::Engine;
use lienzo::engine::devices::{WeightType, Where};
use lienzo::error::{Error, Result};
use lienzo::job::word::Auto;
use lienzo::models::training::Prediction;
use lienzo::verify::adapters::AdapterChecks;
use lienzo::verify::lockstep::lockstep as compare;
use lienzo::verify::reference::Reference;
use lienzo::verify::{Check, Status, VerifyOptions, upscalers, verify};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Without arguments: the embedded model against its embedded reference.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Tensors that take the place of the model's, in a file of their own; may be given more than once
    #[arg(long, value_name = "FILE", requires = "model")]
    overlay: Vec<PathBuf>,
    /// What the model predicts: auto (as the file says), eps, v or sample [default: auto]
    #[arg(long, value_name = "KIND", value_parser = parsed::<Auto<Prediction>>)]
    prediction: Option<Auto<Prediction>>,
    /// Folder with reference.safetensors, samplers.json and tokens.json
    #[arg(long, value_name = "FOLDER")]
    reference: Option<PathBuf>,
    /// Compare adapters instead: a folder with reference_adapters.safetensors, adapters.json and their files
    #[arg(long, value_name = "FOLDER", requires = "model", conflicts_with_all = ["reference", "lockstep", "upscalers"])]
    adapters: Option<PathBuf>,
    /// With --adapters: the inpainting model of the same family
    #[arg(long, value_name = "FILE", requires = "adapters")]
    inpaint_model: Option<PathBuf>,
    /// Folder of upscalers with reference_adapters.safetensors or check.safetensors: the networks, resizings and tiles
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["reference", "model", "overlay", "prediction"])]
    upscalers: Option<PathBuf>,
    /// Only these checks and what is below them: unet,loop.euler
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Replace every limit
    #[arg(long, value_name = "T")]
    tolerance: Option<f64>,
    /// Print a JSON array of {name, error, limit, status}
    #[arg(long)]
    json: bool,
    /// Run every step of every plan on the device and on the CPU, and say which differ
    #[arg(long, conflicts_with_all = ["reference", "upscalers", "only", "tolerance", "json"])]
    lockstep: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the command.
pub fn run(args: &VerifyArgs) -> Result<ExitCode> {
    if args.tolerance.is_some_and(|t| t.is_nan() || t < 0.0) {
        return Err(Error::usage("--tolerance must be 0 or more"));
    }
    if args.lockstep {
        return lockstep(args);
    }
    if let Some(folder) = &args.adapters {
        return adapters(args, folder);
    }
    if args.reference.is_none() && !args.model.model.is_empty() {
        return Err(Error::usage("--model needs --reference FOLDER: the built-in values belong to the embedded model"));
    }
    let engine = args.device.engine(None)?;
    let precision = engine.backend().numerics().precision;
    let options = VerifyOptions { only: args.only.clone(), tolerance: args.tolerance, precision };
    reported(args, &engine, |report| match &args.upscalers {
        Some(folder) => upscalers(&engine, folder, &options, report),
        None => of_model(args, &engine, &options, report),
    })
}

/// Checks of adapters. Merged weights are kept as f32, as the reference keeps them, unless something else is asked for.
fn adapters(args: &VerifyArgs, folder: &Path) -> Result<ExitCode> {
    let weight_type = args.device.weight_type.or(Some(WeightType::F32));
    let engine = DeviceArgs { weight_type, ..args.device.clone() }.engine(None)?;
    let model = Arc::new(opened(args)?);
    let inpainting = args.inpaint_model.as_deref().map(checkpoint::open).transpose()?.map(Arc::new);
    let checks = AdapterChecks::open(&engine, &model, inpainting.as_ref(), folder)?;
    let precision = engine.backend().numerics().precision;
    let options = VerifyOptions { only: args.only.clone(), tolerance: args.tolerance, precision };
    reported(args, &engine, |report| checks.verify(&options, report))
}

/// Prints what is reported as it comes, or all of it as JSON; then how many passed.
fn reported(
    args: &VerifyArgs,
    engine: &Engine,
    run: impl FnOnce(&mut dyn FnMut(&Check)) -> Result<()>,
) -> Result<ExitCode> {
    let mut checks: Vec<Check> = Vec::new();
    run(&mut |check| {
        if !args.json {
            puts!("{}", line(check));
        }
        checks.push(check.clone());
    })?;
    let count = |status| checks.iter().filter(|c| c.status == status).count();
    let failed = count(Status::Fail);
    if args.json {
        let text = serde_json::to_string_pretty(&checks).map_err(|e| Error::other(e.to_string()))?;
        puts!("{text}");
    } else {
        let left = count(Status::Unknown) + count(Status::Absent);
        puts!("{} passed, {failed} failed, {left} not compared, on {}", count(Status::Pass), engine.backend().name());
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a model and its sampling compute.
fn of_model(args: &VerifyArgs, engine: &Engine, options: &VerifyOptions, tell: &mut dyn FnMut(&Check)) -> Result<()> {
    let model = Arc::new(opened(args)?);
    let reference = match &args.reference {
        Some(folder) => Reference::open(folder)?,
        None => Reference::embedded()?,
    };
    let tokens = model.tokenizer()?;
    let cancel = AtomicBool::new(false);
    let session = engine.session(&model, &cancel);
    verify(&session, &tokens, &reference, options, tell)
}

/// The model that the flags name: whole, or an autoencoder alone.
fn opened(args: &VerifyArgs) -> Result<Model> {
    let mut model = match args.model.one()? {
        Some(path) if checkpoint::is_autoencoder(path) => args.model.with_parts(checkpoint::open_autoencoder(path)?)?,
        Some(path) => args.model.over(checkpoint::open_over(path, &args.overlay)?)?,
        None => args.model.open()?,
    };
    if let Some(told) = args.prediction.and_then(Auto::told) {
        model.schedule.prediction = told;
    }
    Ok(model)
}

/// Prints the steps over their limit, and for each kernel its worst.
fn lockstep(args: &VerifyArgs) -> Result<ExitCode> {
    if !args.device.wants_gpu() {
        return Err(Error::usage(
            "--lockstep compares a GPU with the CPU: add --device gpu (`lienzo devices` lists them)",
        ));
    }
    let engine = args.device.engine(None)?;
    let cpu = DeviceArgs { device: Where::Cpu, precision: None, ..args.device.clone() }.cpu()?;
    let model = Arc::new(opened(args)?);
    let (mut steps, mut failed) = (0, 0);
    let mut worst: BTreeMap<String, (f64, String)> = BTreeMap::new();
    let device = engine.backend();
    compare(device.as_ref(), &cpu, &model, &mut |c| {
        steps += 1;
        if !c.passed() {
            failed += 1;
            puts!("{:<72} {:<24} error {:.2e}  limit {:.0e}  fail", c.name, c.kernel, c.error, c.limit);
        }
        let entry = worst.entry(c.kernel.clone()).or_default();
        if c.error >= entry.0 {
            *entry = (c.error, c.name.clone());
        }
    })?;
    for (kernel, (error, name)) in &worst {
        puts!("{kernel:<32} worst {error:.2e}  at {name}");
    }
    device.notes().iter().for_each(|note| say!("note: {note}"));
    puts!("{} steps agree, {failed} differ, {} and the CPU", steps - failed, device.name());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(check: &Check) -> String {
    let status = format!("{:?}", check.status).to_lowercase();
    // Names and notes can come from a file.
    let name = lienzo::error::escape(&check.name);
    match (check.error, &check.note) {
        (Some(error), _) => format!("{name:<32} error {error:.2e}  limit {:.0e}  {status}", check.limit),
        (None, Some(note)) => format!("{name:<32} {status}: {}", lienzo::error::escape(note)),
        (None, None) => format!("{name:<32} {status}"),
    }
}
