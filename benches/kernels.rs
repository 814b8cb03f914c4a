//! `cargo bench [-- FILTER]`: the same checked and timed rows as `lienzo bench [FILTER]`, from the same case tables.

use lienzo::backend::Backend as _;
use lienzo::backend::cpu::Cpu;
use lienzo::bench::ceiling::Ceilings;
use lienzo::bench::kernels::{BenchEvent, BenchOptions, run};
use lienzo::bench::report::{Machine, header, line};
use lienzo::bench::wanted::Wanted;
use lienzo::dtype::Storage;
use lienzo::error::Result;
use lienzo::graph::target::Caps;
use lienzo::simd::Isa;
use lienzo::{Kind, system};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Cargo passes --bench; what is not a flag is a filter.
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    match measure(&filters) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::from(if *e.kind() == Kind::Usage { 2 } else { 1 })
        }
    }
}

fn measure(filters: &[String]) -> Result<bool> {
    let cpu = Cpu::new(system::physical_cores(), Isa::from_env()?, Storage::F16)?;
    let isa = cpu.caps().isa();
    let processor = system::processor_name().unwrap_or_default();
    let machine = Machine { device: cpu.name(), processor, threads: cpu.workers().threads(), isa: isa.to_string() };
    let ceilings = Ceilings::measure(isa, cpu.workers());
    println!("{}\n\n{}", machine.headline(&ceilings), header());
    let caps = Caps::cpu(isa);
    let wanted = Wanted::new(filters)?;
    let options =
        BenchOptions { wanted: &wanted, all: false, weights: Storage::F16, caps: &caps, samples: None, min_time: None };
    run(&options, &ceilings, cpu.workers(), &mut |event| match event {
        BenchEvent::Row(row) => println!("{}", line(row, &machine, &ceilings)),
        BenchEvent::Skipped(name, _) => println!("skipped for time: {name}"),
        BenchEvent::Case(..) => {}
    })
}
