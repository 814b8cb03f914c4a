//! `lienzo devices`: what pictures can be made on, and how fast each is at best.

use super::generate::print_all;
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
    print_all(&format!(
        "cpu    {}, {} threads, memory {memory}, instruction sets {} (used: {})\n",
        system::processor_name().unwrap_or_else(|| std::env::consts::ARCH.into()),
        system::physical_cores(),
        sets.join(", "),
        Isa::from_env()?,
    ))?;
    gpus(args.quick)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(not(feature = "gpu"))]
fn gpus(_: bool) -> Result<()> {
    print_all("built without the feature gpu\n")
}

/// One adapter a paragraph: what it is, what it allows, what it reaches.
#[cfg(feature = "gpu")]
fn gpus(quick: bool) -> Result<()> {
    use lienzo::backend::gpu::check::Bench;
    use lienzo::backend::gpu::roofline::Roofline;
    use lienzo::backend::gpu::tensor_cores::Verdict;
    use lienzo::backend::gpu::{Device, Options, adapters};
    use lienzo::error::escape;
    use lienzo::kernels::gpu::Storage;

    let all = adapters();
    if all.is_empty() {
        return print_all("no GPU found; on Linux its driver needs Vulkan support (vulkaninfo shows whether it has)\n");
    }
    for (i, adapter) in all.iter().enumerate() {
        let (name, kind, interface) = (escape(adapter.name()), adapter.kind(), adapter.interface());
        print_all(&format!("gpu:{i}  {name}, {kind}, {interface}, driver {}\n", escape(&adapter.driver())))?;
        print_all(&format!("       {}\n", adapter.abilities()))?;
        for fault in adapter.faults() {
            print_all(&format!("       known fault: {} off: {} ({})\n", fault.off, fault.why, fault.source))?;
        }
        if quick {
            continue;
        }
        // A device that cannot be used is news, not the end of the list.
        let options = Options { storage: Storage::F16, ..Options::default() };
        let opened = Device::open(adapter, options);
        let measured = opened.and_then(|d| Roofline::measure(&d).map(|r| (d, r)));
        let (device, r) = match measured {
            Ok(measured) => measured,
            Err(e) => {
                print_all(&format!("       not usable: {e}\n"))?;
                continue;
            }
        };
        print_all(&format!("       measured: copy {:.1} GB/s, FMA {:.1} GFLOP/s\n", r.copy * 1e-9, r.fma * 1e-9))?;
        if let Some(coop) = device.limits().coop {
            let verdict =
                Verdict::of(&Bench::new(device), coop).map_or_else(|e| format!("not used: {e}"), |v| v.to_string());
            print_all(&format!("       tensor cores {verdict}\n"))?;
        }
    }
    Ok(())
}
