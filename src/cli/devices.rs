//! `lienzo devices`: what pictures can be made on, and how fast each is at best.

use super::terminal::{print, puts};
use clap::Args;
use lienzo::error::Result;
use lienzo::simd::Isa;
use lienzo::system::{self, format_bytes};
use std::process::ExitCode;

/// What to list.
#[derive(Args, Debug)]
pub struct DevicesArgs {
    /// Do not measure: names, limits and features only
    #[arg(long)]
    quick: bool,
}

/// Runs the command.
pub fn run(args: &DevicesArgs) -> Result<ExitCode> {
    let sets: Vec<String> = Isa::available().iter().map(Isa::to_string).collect();
    let memory = system::memory_limit().map_or("unknown".into(), format_bytes);
    print(format!(
        "cpu    {}, {} threads, memory {memory}, instruction sets {} (used: {})\n",
        system::processor_name().unwrap_or_else(|| std::env::consts::ARCH.into()),
        system::physical_cores(),
        sets.join(", "),
        Isa::from_env()?,
    ));
    gpus(args.quick)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(not(feature = "gpu"))]
fn gpus(_: bool) -> Result<()> {
    print("built without the feature gpu\n");
    Ok(())
}

/// One adapter a paragraph: what it is, what it allows, what it reaches.
#[cfg(feature = "gpu")]
fn gpus(quick: bool) -> Result<()> {
    use lienzo::backend::gpu::check::Bench;
    use lienzo::backend::gpu::roofline::Roofline;
    use lienzo::backend::gpu::tensor_cores::Verdict;
    use lienzo::backend::gpu::{Device, Options, adapters};
    use lienzo::dtype::{Precision, Storage};
    use lienzo::error::escape;

    let all = adapters();
    if all.is_empty() {
        print("no GPU found; on Linux its driver needs Vulkan support (vulkaninfo shows whether it has)\n");
        return Ok(());
    }
    for (i, adapter) in all.iter().enumerate() {
        let (name, kind, interface) = (escape(adapter.name()), adapter.kind(), adapter.interface());
        puts!("gpu:{i}  {name}, {kind}, {interface}, driver {}", escape(&adapter.driver()));
        puts!("       {}", adapter.abilities());
        for fault in adapter.faults() {
            puts!("       known fault: {} off: {} ({})", fault.off, fault.why, fault.source);
        }
        if quick {
            continue;
        }
        // A device that cannot be used is news, not the end of the list.
        let precision = Precision { storage: Storage::F16, ..Precision::default() };
        let options = Options { precision, ..Options::default() };
        let opened = Device::open(adapter, options);
        let measured = opened.and_then(|d| Roofline::measure(&d).map(|r| (d, r)));
        let (device, r) = match measured {
            Ok(measured) => measured,
            Err(e) => {
                puts!("       not usable: {e}");
                continue;
            }
        };
        puts!("       measured: copy {:.1} GB/s, FMA {:.1} GFLOP/s", r.copy * 1e-9, r.fma * 1e-9);
        if let Some(coop) = device.limits().coop {
            let verdict =
                Verdict::of(&Bench::new(device), coop).map_or_else(|e| format!("not used: {e}"), |v| v.to_string());
            puts!("       tensor cores {verdict}");
        }
    }
    Ok(())
}
