//! How much memory a request takes, known from shapes alone: refused before a weight is read.

use super::GenerateArgs;
use lienzo::diffusion::Request;
use lienzo::diffusion::denoise::plan::Plan as Sampling;
use lienzo::diffusion::denoise::schedule::Schedule;
use lienzo::diffusion::inpaint::told;
use lienzo::diffusion::preview::PATCH;
use lienzo::diffusion::unet::UnetShape;
use lienzo::engine::{Engine, Stage};
use lienzo::error::{Error, Kind, Result};
use lienzo::graph::plan::Plan;
use lienzo::system::{self, format_bytes};
use lienzo::weights::Model;
use std::sync::Arc;

/// What the process needs beside weights and activations: code, threads, read buffers.
const BASE: u64 = 100_000_000;

/// The plans of a request, in the order in which they run.
fn plans(engine: &Engine, model: &Model, request: &Request) -> Result<Vec<Plan>> {
    let (h, w) = request.latent_size(model);
    let samples = request.together();
    let contexts = if request.guided() { 2 * samples } else { samples };
    let tokens = model.clip.positions;
    let times = Sampling::new(&Schedule::new(&model.schedule)?, &request.sampling)?;
    let timesteps = times.times().map_or(1, <[f32]>::len).max(1);
    let mut stages = vec![
        Stage::Text { chunks: 1, clip_skip: request.clip_skip },
        Stage::Context { contexts, tokens },
        Stage::Time { timesteps },
        Stage::Step(UnetShape { samples, contexts, times: 1, h, w, tokens }),
        Stage::Decode { size: (1, h, w) },
    ];
    if request.picture().is_some() || told(model) {
        stages.push(Stage::Encode { size: (1, request.height, request.width) });
    }
    if request.preview.is_some_and(|p| !p.vae) && h.max(w) > PATCH {
        stages.push(Stage::Decode { size: (1, h.min(PATCH), w.min(PATCH)) });
    }
    stages.into_iter().map(|stage| engine.plan(model, stage)).collect()
}

/// All programs of a request stay loaded, so their memory adds up.
fn need(plans: &[Plan], panel_bytes: u64) -> u64 {
    BASE + plans.iter().map(|p| p.weight_bytes(panel_bytes) + p.activation_bytes()).sum::<u64>()
}

/// Refuses what the machine, its container or `--max-memory` cannot hold; short free memory is only a warning.
pub fn check(engine: &Engine, model: &Arc<Model>, request: &Request, args: &GenerateArgs) -> Result<()> {
    let panel_bytes = if args.device.weight_type.eq_ignore_ascii_case("f32") { 4 } else { 2 };
    let need = need(&plans(engine, model, request)?, panel_bytes);
    let asked = args.max_memory.as_deref().map(parse_size).transpose()?;
    let (have, whose) = match (asked, system::memory_limit()) {
        (Some(asked), Some(limit)) if asked > limit => (limit, "this machine (or container) has"),
        (Some(asked), _) => (asked, "--max-memory allows"),
        (None, Some(limit)) => (limit, "this machine (or container) has"),
        (None, None) => return Ok(()),
    };
    let numbers = format!("{} needed, {whose} {}", format_bytes(need), format_bytes(have));
    if need > have && !args.force {
        let message = format!(
            "not enough memory: {numbers}; try a smaller -W, -H or --batch-size, or --force to start all the same"
        );
        return Err(Error::new(Kind::TooBig { need, have }, message));
    }
    if need > have {
        eprintln!("note: {numbers}; going on because of --force");
    } else if let Some(free) = system::available_memory().filter(|free| need > *free) {
        eprintln!("note: {} needed, {} free just now; it may become slow", format_bytes(need), format_bytes(free));
    }
    Ok(())
}

/// `--plan`: every step of every plan, then the sum.
pub fn print_plan(engine: &Engine, model: &Model, request: &Request) -> Result<()> {
    let plans = plans(engine, model, request)?;
    let mut out = String::new();
    for plan in &plans {
        out.push_str(&plan.table());
        out.push('\n');
    }
    out.push_str(&format!("peak memory, weights as f16: {}\n", format_bytes(need(&plans, 2))));
    print_all(&out)
}

/// Prints to stdout; a reader that went away (`| head`) is not an error.
pub fn print_all(text: &str) -> Result<()> {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::other(format!("could not print: {e}"))),
        _ => Ok(()),
    }
}

/// `2.4GB`, `800 MB`, `3GiB` or plain bytes.
fn parse_size(text: &str) -> Result<u64> {
    let wrong = || Error::usage(format!("--max-memory {text} is not a size; write 2.4GB, 800MB or 2GiB"));
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let factor: f64 = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" | "k" => 1e3,
        "mb" | "m" => 1e6,
        "gb" | "g" => 1e9,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return Err(wrong()),
    };
    let value: f64 = digits.parse().map_err(|_| wrong())?;
    if value.is_finite() && value > 0.0 { Ok((value * factor) as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("2.4GB", 2_400_000_000), ("800 mb", 800_000_000), ("1GiB", 1 << 30), ("77", 77)] {
            assert_eq!(parse_size(text).ok(), Some(bytes), "{text}");
        }
        for text in ["", "GB", "-1GB", "2 potatoes", "nan"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
