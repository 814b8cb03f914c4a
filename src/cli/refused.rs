//! A command line that clap refuses goes in; why, with a tip that helps, comes out.
//!
//! clap's own tips know every alias, and so lead from `--hr-scale` to the `--scale` of guidance.

use super::terminal::line;
use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::process::ExitCode;

/// What other programs have and this one has not, by the words that their flags begin with.
const ABSENT: [(&[&str], &str); 5] = [
    (
        &["hires", "hr-", "enable-hr"],
        "there is no second pass yet; draw, then begin with the picture: -i PICTURE -W 1024 -H 1024 --strength 0.3",
    ),
    (&["control", "canny"], "ControlNet is not here yet"),
    (&["upscale"], "use --upscale FACTOR (and --upscale-model FILE)"),
    (&["taesd", "tae"], "small decoders are not here yet"),
    (&["vae-tiling", "tiling"], "there is no tiling; --low-memory and --max-memory save memory"),
];

/// Flags that `-h` shows; `--help` shows all.
const COMMON: [&str; 18] = [
    "prompt",
    "negative_prompt",
    "style",
    "model",
    "from_image",
    "width",
    "height",
    "seed",
    "batch_count",
    "init_img",
    "strength",
    "mask",
    "outpaint",
    "steps",
    "cfg_scale",
    "sampling_method",
    "device",
    "output",
];

/// The command with a short `-h`.
pub fn short_help(command: Command) -> Command {
    command.mut_subcommand("generate", |generate| {
        generate
            .mut_args(|arg| if COMMON.contains(&arg.get_id().as_str()) { arg } else { arg.hide_short_help(true) })
            .after_help("lienzo generate --help shows all flags")
            .after_long_help("")
    })
}

/// Prints what clap says, with a tip of our own; help and the version are no errors.
pub fn print(mut error: clap::Error, command: &Command) -> ExitCode {
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    if !error.use_stderr() {
        super::terminal::print(error.render());
        return super::terminal::ended(code);
    }
    let tip = if error.kind() == ErrorKind::UnknownArgument { tip(&mut error, command) } else { None };
    let text = error.render().to_string();
    // What was typed must not drive the terminal.
    let harmless: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    let (first, rest) = harmless.split_once('\n').unwrap_or((&harmless, ""));
    match tip {
        Some(tip) => line(format_args!("{first}\n\n  tip: {tip}\n{}", rest.trim_end())),
        None => line(harmless.trim_end()),
    }
    code
}

/// What to say to an argument that nobody knows; clap's own guesses are taken out.
fn tip(error: &mut clap::Error, command: &Command) -> Option<String> {
    error.remove(ContextKind::SuggestedArg);
    error.remove(ContextKind::Suggested);
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidArg) else { return None };
    let Some(long) = wrong.strip_prefix("--") else {
        let words = !wrong.starts_with('-');
        return words.then(|| "a prompt of several words needs quotes: lienzo generate \"a red apple\"".to_owned());
    };
    let name = long.split('=').next().unwrap_or(long).replace('_', "-");
    if let Some((_, why)) = ABSENT.iter().find(|(begin, _)| begin.iter().any(|b| name.starts_with(b))) {
        return Some((*why).to_owned());
    }
    let asked = std::env::args().nth(1).unwrap_or_default();
    let known = command.find_subcommand(asked)?.get_arguments().filter(|arg| !arg.is_hide_set());
    nearest(&name, known)
}

/// The flag of nearly this name.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a clap::Arg>) -> Option<String> {
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    let mut best: Option<(usize, String)> = None;
    for arg in known {
        let Some(long) = arg.get_long() else { continue };
        let names = std::iter::once(long).chain(arg.get_visible_aliases().unwrap_or_default());
        let far = names.map(|n| strsim::damerau_levenshtein(name, &n.replace('_', "-"))).min().unwrap_or(usize::MAX);
        if far <= allowed && best.as_ref().is_none_or(|(b, _)| far < *b) {
            best = Some((far, format!("a similar argument exists: '--{long}'")));
        }
    }
    best.map(|(_, tip)| tip)
}
