//! `lienzo devices`: what pictures can be made on.

use super::generate::print_all;
use clap::Args;
use lienzo::error::Result;
use lienzo::simd::Isa;
use lienzo::system::{self, format_bytes};
use std::process::ExitCode;

/// No flags yet.
#[derive(Args, Debug)]
pub struct DevicesArgs {}

/// Runs the command.
pub fn run(_: &DevicesArgs) -> Result<ExitCode> {
    let sets: Vec<String> = Isa::available().iter().map(Isa::to_string).collect();
    let memory = system::memory_limit().map_or("unknown".into(), format_bytes);
    print_all(&format!(
        "cpu  {}, {} threads, memory {memory}, instruction sets {} (used: {})\n",
        system::processor_name().unwrap_or_else(|| std::env::consts::ARCH.into()),
        system::physical_cores(),
        sets.join(", "),
        Isa::from_env()?,
    ))?;
    Ok(ExitCode::SUCCESS)
}
