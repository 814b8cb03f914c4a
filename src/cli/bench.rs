//! `lienzo bench`: checks, then times kernels on the shapes of Stable Diffusion 1.x, or a stage of a full-size model.

mod own;

use super::DeviceArgs;
use super::terminal::{print, puts, say};
use clap::{ArgGroup, Args};
use lienzo::backend::Backend as _;
use lienzo::backend::cpu::Cpu;
use lienzo::bench::arch::architecture;
use lienzo::bench::ceiling::{Ceilings, fma_peak};
use lienzo::bench::explain;
use lienzo::bench::kernels::{self, BenchOptions};
use lienzo::bench::report::{self, CsvRow, Machine};
use lienzo::bench::stage::{self, TimedStage};
use lienzo::bench::wanted::Wanted;
use lienzo::dtype::Storage;
use lienzo::engine::devices::WeightType;
use lienzo::error::{Error, Result, escape};
use lienzo::files::{self, IfTaken};
use lienzo::graph::plan::Plan;
use lienzo::graph::target::{Caps, Target};
use lienzo::kernels::gpu::variants as gpu_variants;
use lienzo::kernels::{Case, cpu};
use lienzo::system;
use own::OwnArgs;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Without arguments: every kernel, within two minutes.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("whole").multiple(true)))]
pub struct BenchArgs {
    /// Only these cases, by a part of their names (conv2d, matmul/b2_64x64), their whole names, or patterns (*_77x77*)
    #[arg(conflicts_with = "arch")]
    filter: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Write an array of rows {name, device, median_s, runs_s, flops, bytes, error, ...}; - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write every sample; - is stdout, and the table then goes to stderr
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Let --json and --csv replace files that are there
    #[arg(long)]
    overwrite: bool,
    /// Also measure what is skipped for time
    #[arg(long)]
    all: bool,
    /// Print the cases and their variants, fastest first, instead of measuring them
    #[arg(long, conflicts_with = "arch")]
    list: bool,
    /// Only variants of this name: panels, flash. May be given more than once
    #[arg(long, value_name = "NAME", conflicts_with = "arch")]
    variant: Vec<String>,
    /// Leave out naive variants
    #[arg(long, conflicts_with = "arch")]
    quick: bool,
    /// Take so many samples of each variant, whatever time they take
    #[arg(long, value_name = "N", conflicts_with = "arch", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples: Option<u32>,
    /// Take samples of each variant for so many seconds at least
    #[arg(long, value_name = "SECONDS", conflicts_with = "arch", value_parser = seconds)]
    min_time: Option<Duration>,
    #[command(flatten)]
    own: OwnArgs,
    /// Time a stage of a model: sd15, sd21, sdxl, ssd-1b, sdxs, bk-sdm-tiny or taesd (full size, random weights), or
    /// embedded (the one in this program)
    #[arg(long, value_name = "ARCH", group = "whole")]
    arch: Option<String>,
    /// Which stage: step (a guided U-Net step), decode, encode (the VAE), text (all text encoders) or picture (text,
    /// one step without guidance, decode)
    #[arg(long, value_name = "STAGE", default_value = "step", requires = "whole")]
    stage: String,
    /// Picture width of --arch
    #[arg(short = 'W', long, value_name = "PIXELS", default_value_t = 512, requires = "whole")]
    width: usize,
    /// Picture height of --arch
    #[arg(short = 'H', long, value_name = "PIXELS", default_value_t = 512, requires = "whole")]
    height: usize,
    /// Timed runs of --arch, after one that warms up
    #[arg(long, value_name = "N", default_value_t = 3, requires = "arch")]
    runs: usize,
    /// With --arch: where the time goes, by kind of op and by step
    #[arg(long, requires = "arch")]
    profile: bool,
    /// Print what was chosen for a stage (of sd15) on this machine and why, instead of timing it
    #[arg(long, group = "whole", conflicts_with = "filter")]
    explain: bool,
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.parse().ok().filter(|s: &f64| (0.0..=86_400.0).contains(s));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "seconds are 0 to 86400".to_owned())
}

impl BenchArgs {
    /// Which kernels are measured.
    fn wanted(&self) -> Result<Wanted> {
        let own = self.own.cases(&self.filter)?;
        let wanted = if own.is_empty() { Wanted::new(&self.filter)? } else { Wanted::own(own) };
        Ok(wanted.variants(&self.variant)?.quick(self.quick))
    }

    /// How they are measured.
    fn options<'a>(&self, wanted: &'a Wanted, weights: Storage, caps: &'a Caps) -> BenchOptions<'a> {
        let samples = self.samples.map(|n| n as usize);
        BenchOptions { wanted, all: self.all, weights, caps, samples, min_time: self.min_time }
    }
}

/// The cases that would be measured, with the variants that run them, fastest first.
fn list(wanted: &Wanted, caps: &Caps) {
    for Case { name, op, x, w, .. } in wanted.cases() {
        let all: Vec<(&str, bool)> = match &caps.target {
            Target::Cpu(_) => cpu::variants(&op, &x, &w).iter().map(|v| (v.name, v.supported)).collect(),
            Target::Gpu(limits) => gpu_variants(&op, &x, &w, limits).iter().map(|v| (v.name, v.supported)).collect(),
        };
        let count = all.iter().filter(|(_, supported)| *supported).count();
        let listed = all.iter().rev().filter(|(name, supported)| *supported && wanted.variant(name, count));
        let names: Vec<&str> = listed.map(|(name, _)| *name).collect();
        puts!("{}/{name}: {}", op.name(), names.join(", "));
    }
}

/// Runs the command.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    if args.device.wants_gpu() {
        return gpu::run(args);
    }
    let cpu = args.device.cpu()?;
    let machine = Machine {
        device: cpu.name(),
        processor: system::processor_name().unwrap_or_else(|| std::env::consts::ARCH.into()),
        threads: cpu.workers().threads(),
        isa: cpu.caps().isa().to_string(),
    };
    let wanted = args.wanted()?;
    if args.list {
        list(&wanted, &cpu.caps());
        return Ok(ExitCode::SUCCESS);
    }
    let mut files = Files::new(args)?;
    if args.explain {
        return explain(args, &cpu).map(|()| ExitCode::SUCCESS);
    }
    let passed = match &args.arch {
        Some(arch) => run_stage(args, arch, &cpu, &machine, &mut files).map(|()| true),
        None => run_kernels(args, &wanted, &cpu, &machine, &mut files),
    }?;
    files.write(args)?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is written at the end.
struct Files {
    rows: Vec<Value>,
    csv: String,
    /// Whether stdout is one of the files: the table then goes to stderr.
    stdout: bool,
}

/// What stands for stdout among names of files.
const STDOUT: &str = "-";

/// Prints a line of the table.
macro_rules! table {
    ($files:expr, $($line:tt)*) => {
        if $files.stdout { say!($($line)*) } else { puts!($($line)*) }
    };
}

impl Files {
    /// Nothing yet. Minutes of measuring must not end in a file that cannot be written.
    fn new(args: &BenchArgs) -> Result<Self> {
        let named = || [&args.json, &args.csv].into_iter().flatten();
        for path in named().filter(|p| p.as_os_str() != STDOUT) {
            check_writable(path, args.overwrite)?;
        }
        let to_stdout = named().filter(|p| p.as_os_str() == STDOUT).count();
        if to_stdout > 1 {
            return Err(Error::usage("only one of --json and --csv can be - (stdout)"));
        }
        Ok(Self { rows: Vec::new(), csv: format!("{}\n", report::CSV_HEADER), stdout: to_stdout == 1 })
    }

    fn write(self, args: &BenchArgs) -> Result<()> {
        if let Some(path) = &args.json {
            let text = serde_json::to_string_pretty(&self.rows).map_err(|e| Error::other(e.to_string()))?;
            write(path, &format!("{text}\n"), args.overwrite)?;
        }
        args.csv.as_ref().map_or(Ok(()), |path| write(path, &self.csv, args.overwrite))
    }
}

fn check_writable(path: &Path, overwrite: bool) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() || !folder.is_dir() {
        let path = escape(&path.to_string_lossy());
        return Err(Error::usage(format!(
            "{path}: not a file in a folder that exists; create the folder or choose another name"
        )));
    }
    if path.exists() && !overwrite {
        let path = escape(&path.to_string_lossy());
        return Err(Error::usage(format!(
            "{path}: the file is there already; choose another name or give --overwrite"
        )));
    }
    Ok(())
}

/// Whole, or not at all: a reader never sees half a file.
fn write(path: &Path, text: &str, overwrite: bool) -> Result<()> {
    if path.as_os_str() == STDOUT {
        puts!("{}", text.trim_end());
        return Ok(());
    }
    let if_taken = if overwrite { IfTaken::Replace } else { IfTaken::Fail };
    files::write(path, text.as_bytes(), if_taken).map_err(|e| files::cannot_write(path, &e))
}

fn run_kernels(args: &BenchArgs, wanted: &Wanted, cpu: &Cpu, machine: &Machine, files: &mut Files) -> Result<bool> {
    let weights = args.device.weight_type.map_or(Storage::F16, WeightType::storage);
    let caps = cpu.caps();
    let options = args.options(wanted, weights, &caps);
    say!("measuring this machine's ceilings");
    let ceilings = Ceilings::measure(caps.isa(), cpu.workers());
    show_kernels(machine, &ceilings, files, &mut |tell| kernels::run(&options, &ceilings, cpu.workers(), tell))
}

/// Who hears what is measured.
type Tell<'a> = dyn FnMut(kernels::BenchEvent<'_>) + 'a;

/// Prints rows as they come, and keeps them for the files.
fn show_kernels(
    machine: &Machine,
    ceilings: &Ceilings,
    files: &mut Files,
    run: &mut dyn FnMut(&mut Tell<'_>) -> Result<bool>,
) -> Result<bool> {
    table!(files, "{}\n\n{}", machine.headline(ceilings), report::header());
    let mut skipped = Vec::new();
    let mut failures = Vec::new();
    let passed = run(&mut |event| match event {
        kernels::BenchEvent::Case(i, n, name) => say!("[{}/{n}] {name}", i + 1),
        kernels::BenchEvent::Skipped(name, estimate) => {
            skipped.push(format!("{name} (about {})", report::time(estimate.as_secs_f64())))
        }
        kernels::BenchEvent::Row(row) => {
            table!(files, "{}", report::line(row, machine, ceilings));
            files.rows.push(report::json_row(row, machine, ceilings));
            let csv = CsvRow {
                name: &row.name(),
                chosen: row.chosen,
                flops: row.cost.flops,
                bytes: row.cost.bytes,
                error: Some((row.error, row.bound)),
                encoding: None,
                fma_peak: row.fma_peak,
            };
            files.csv += &csv.lines(machine, &row.runs);
            failures.extend(row.failure.clone());
        }
    })?;
    table!(
        files,
        "\n* what a model runs. error = max|y - f64 reference| / rms. ceiling = share of the FMA peak, measured anew beside each run on a CPU, or of the bandwidth, whichever binds."
    );
    if !skipped.is_empty() {
        table!(files, "skipped for time (--all measures them):\n  {}", skipped.join("\n  "));
    }
    for failure in failures {
        say!("{failure}");
    }
    Ok(passed)
}

/// `--explain`: no weight is read, little is measured.
fn explain(args: &BenchArgs, cpu: &Cpu) -> Result<()> {
    print(explain::explain(cpu, &explained(args, &cpu.caps())?)?);
    Ok(())
}

/// The plan that `--explain` is about.
fn explained(args: &BenchArgs, caps: &Caps) -> Result<Plan> {
    let model = architecture(args.arch.as_deref().unwrap_or("sd15"))?;
    let (part, width, height) = (args.stage.parse()?, args.width, args.height);
    let request = stage::StageRequest { part, width, height, runs: 0, profile: false };
    let stages = stage::stages(&model, &request)?;
    let [stage] = stages[..] else {
        return Err(Error::usage(format!("--explain takes one program apart; {} is {}", request.part, stages.len())));
    };
    Plan::new(stage.graph(&model.networks)?, caps)
}

fn request(args: &BenchArgs) -> Result<stage::StageRequest> {
    let part: TimedStage = args.stage.parse()?;
    if args.runs == 0 || args.runs > 10_000 {
        return Err(Error::usage("--runs must be 1 to 10000"));
    }
    Ok(stage::StageRequest { part, width: args.width, height: args.height, runs: args.runs, profile: args.profile })
}

fn run_stage(args: &BenchArgs, arch: &str, cpu: &Cpu, machine: &Machine, files: &mut Files) -> Result<()> {
    let model = Arc::new(architecture(arch)?);
    let request = request(args)?;
    let part = request.part;
    let peak = || Ok(fma_peak(cpu.caps().isa(), cpu.workers()));
    let outcome = stage::run(cpu, &peak, &model, &request, &mut |text| say!("{part}: {text}"))?;
    show_stage(arch, &request, &outcome, machine, files);
    Ok(())
}

/// Prints a stage's result, and keeps it for the files.
fn show_stage(
    arch: &str,
    request: &stage::StageRequest,
    outcome: &stage::StageTimes,
    machine: &Machine,
    files: &mut Files,
) {
    let name = report::stage_name(arch, request);
    let (rate, peak) = (outcome.rate(), outcome.fma_peak);
    table!(files, "{} ({})", machine.device, machine.processor);
    table!(
        files,
        "{name}: {} +/- {} (median of {}), {:.1} GFLOP/s, {:.1}% of the FMA peak ({:.1} GFLOP/s)",
        report::time(outcome.median()),
        report::time(outcome.mad()),
        outcome.runs.len(),
        rate * 1e-9,
        100.0 * rate / peak,
        peak * 1e-9
    );
    let resident = outcome.peak_rss.map_or_else(|| "not known here".into(), system::format_bytes);
    table!(
        files,
        "peak resident memory {resident}, loaded in {}, output rms {:.4}",
        report::time(outcome.load),
        outcome.output_rms
    );
    if let Some(encoding) = &outcome.encoding {
        table!(files, "{}", report::encoding(encoding, &request.part.to_string()));
    }
    if let Some(profile) = &outcome.profile {
        table!(files, "{}", profile.table(peak).trim_end());
    }
    files.rows.push(report::json_stage(arch, request, outcome, machine));
    let csv = CsvRow {
        name: &name,
        chosen: true,
        flops: outcome.cost.flops,
        bytes: outcome.cost.bytes,
        error: None,
        encoding: outcome.encoding,
        fma_peak: peak,
    };
    files.csv += &csv.lines(machine, &outcome.runs);
}

#[cfg(not(feature = "gpu"))]
mod gpu {
    use super::{BenchArgs, ExitCode, Result};

    pub fn run(args: &BenchArgs) -> Result<ExitCode> {
        // Says what is available.
        args.device.engine(None).map(|_| ExitCode::SUCCESS)
    }
}

/// The same on a GPU.
#[cfg(feature = "gpu")]
mod gpu {
    use super::*;
    use lienzo::backend::gpu::check::Bench;
    use lienzo::backend::gpu::roofline::Roofline;
    use lienzo::bench::gpu;

    pub fn run(args: &BenchArgs) -> Result<ExitCode> {
        let backend = args.device.gpu_backend()?;
        let device = backend.device().clone();
        let storage = device.limits().storage.name();
        let machine = Machine {
            device: device.describe(),
            processor: format!("{} storage, timed by {}", storage, device.clock()),
            threads: 1,
            isa: storage.to_owned(),
        };
        let wanted = args.wanted()?;
        if args.list {
            list(&wanted, &backend.caps());
            return Ok(ExitCode::SUCCESS);
        }
        let mut files = Files::new(args)?;
        if args.explain {
            let plan = explained(args, &backend.caps())?;
            print(gpu::explain(&backend, &plan));
            return Ok(ExitCode::SUCCESS);
        }
        say!("measuring this device's ceilings");
        let roofline = Roofline::measure(&device)?;
        let passed = match &args.arch {
            Some(arch) => {
                let model = Arc::new(architecture(arch)?);
                let request = request(args)?;
                let peak = || Ok(roofline.fma);
                let part = request.part;
                let tell = &mut |text: &str| say!("{part}: {text}");
                let outcome = stage::run(&backend, &peak, &model, &request, tell)?;
                backend.notes().iter().for_each(|note| say!("note: {note}"));
                show_stage(arch, &request, &outcome, &machine, &mut files);
                true
            }
            None => {
                let caps = backend.caps();
                let options = args.options(&wanted, Storage::F16, &caps);
                let ceilings = gpu::ceilings(roofline);
                let bench = Bench::new(device);
                let run = &mut |tell: &mut Tell<'_>| gpu::run(&options, roofline, &bench, tell);
                show_kernels(&machine, &ceilings, &mut files, run)?
            }
        };
        files.write(args)?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
