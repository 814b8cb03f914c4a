//! (soon)
use clap::Args;
use lienzo::error::Result;
use std::process::ExitCode;
/// x
#[derive(Args, Debug)]
pub struct BenchArgs {}
/// x
pub fn run(_: &BenchArgs) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
