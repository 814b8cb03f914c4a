//! `lienzo samplers`: every sampler and schedule, with the names that other programs use.

use super::terminal::print;
use lienzo::diffusion::denoise::samplers::{Calls, Family, SAMPLERS};
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
        // These know no noise levels that could be scheduled, and LCM has the ones that its models were distilled on.
        let own = s.family != Family::Sigma || s.distilled;
        let schedule = if own { "its own" } else { s.schedule.name() };
        let line = format!("{:<20} {calls:>15}  {schedule:<12} {}", s.name, s.aliases.join(", "));
        out.push_str(&format!("{}\n", line.trim_end()));
    }
    out.push_str(
        "\nCase, spaces, dashes and underscores do not matter, nor a k_ in front or Scheduler at the end; pp is ++. So \
         k_euler_a,\neuler-a and EULER A are one, and dpmpp_2m, DPM++2M and DPMSolverMultistepScheduler are one. A schedule \
         may follow: DPM++ 2M\nKarras.\n\n",
    );
    out.push_str(&format!("{:<20} also called\n", "schedule"));
    for kind in ScheduleKind::all() {
        let line = format!("{:<20} {}", kind.name(), kind.aliases().join(", "));
        out.push_str(&format!("{}\n", line.trim_end()));
    }
    print(&out);
    Ok(ExitCode::SUCCESS)
}
