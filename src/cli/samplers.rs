//! `lienzo samplers`: every sampler and schedule, with the names that other programs use.

use super::generate::print_all;
use lienzo::diffusion::denoise::samplers::{Calls, SAMPLERS};
use lienzo::diffusion::denoise::sigmas::ScheduleKind;
use lienzo::error::Result;
use std::process::ExitCode;

/// Runs the command.
pub fn run() -> Result<ExitCode> {
    let mut out = format!("{:<20} {:>15}  {:<12} also called\n", "sampler", "U-Net calls", "schedule");
    for s in SAMPLERS {
        let calls = match s.calls {
            Calls::One => "1 a step",
            Calls::OneMore => "1 a step, + 1",
            Calls::Two => "2 a step",
            Calls::Varies => "as needed",
        };
        let line = format!("{:<20} {calls:>15}  {:<12} {}\n", s.name, s.schedule.name(), s.aliases.join(", "));
        out.push_str(&line);
    }
    let kinds: Vec<&str> = ScheduleKind::all().map(ScheduleKind::name).collect();
    out.push_str(&format!("\nschedules: {}\n", kinds.join(", ")));
    print_all(&out)?;
    Ok(ExitCode::SUCCESS)
}
