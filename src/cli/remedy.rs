//! An error goes in, what the terminal shows and the exit code come out: the only place where remedies become flags.

use lienzo::error::{Error, Kind, Remedy};

/// The error as one line, with flags.
pub fn worded(error: &Error) -> String {
    error.worded(flag, in_flags)
}

/// 1 failed, 2 wrong usage, 130 interrupted.
pub fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        Kind::Usage => 2,
        Kind::Cancelled => 130,
        _ => 1,
    }
}

/// The flag of an option.
fn flag(option: &'static str) -> String {
    match option {
        "embeddings" => "--embd-dir".into(),
        "output" => "-o".into(),
        name => format!("--{}", name.replace('_', "-")),
    }
}

/// What to do, in flags.
pub fn in_flags(remedy: Remedy) -> String {
    let text = match remedy {
        Remedy::Size { width, height } => return format!("try -W {width} -H {height}"),
        Remedy::Cpu => "use --device cpu",
        Remedy::FewerThreads => "try a smaller -t",
        Remedy::LowMemory => "try --low-memory",
        Remedy::F32 => "try --precision f32",
        Remedy::F32Weights => "use --type f32",
        Remedy::OtherVae => "try another VAE (--vae)",
        Remedy::LowerGuidance => "try a lower --cfg-scale",
        Remedy::OtherSampler => "try another --sampling-method",
        Remedy::MoreStrength => "raise --strength or --steps",
        Remedy::OtherName => "choose another -o",
        Remedy::Overwrite => "give --overwrite",
        Remedy::ListStyles => "see --style list",
        Remedy::Prediction => "say which with --prediction eps, v or sample",
        Remedy::SmallerSize | Remedy::NewDriver => return remedy.in_words(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_flag_exists() {
        let command = super::super::Cli::command();
        let generate = command.find_subcommand("generate").unwrap();
        let known = |word: &str| {
            let long = |a: &clap::Arg| word.strip_prefix("--").is_some_and(|w| a.get_long() == Some(w));
            let short = |a: &clap::Arg| {
                word.strip_prefix('-').is_some_and(|w| a.get_short().map(String::from).as_deref() == Some(w))
            };
            generate.get_arguments().any(|a| long(a) || short(a))
        };
        let all = [
            Remedy::SmallerSize,
            Remedy::Size { width: 8, height: 8 },
            Remedy::Cpu,
            Remedy::NewDriver,
            Remedy::FewerThreads,
            Remedy::LowMemory,
            Remedy::F32,
            Remedy::F32Weights,
            Remedy::OtherVae,
            Remedy::LowerGuidance,
            Remedy::OtherSampler,
            Remedy::MoreStrength,
            Remedy::OtherName,
            Remedy::Overwrite,
            Remedy::ListStyles,
            Remedy::Prediction,
        ];
        let mut text: String = all.into_iter().map(|r| in_flags(r) + " ").collect();
        text += &["inpaint_fill", "outpaint", "style", "styles", "embeddings", "output"].map(flag).join(" ");
        let flags: Vec<&str> = text.split([' ', '(', ')']).filter(|w| w.starts_with('-')).collect();
        assert!(flags.len() > 15, "{flags:?}");
        for flag in flags {
            assert!(known(flag), "{flag}");
        }
    }

    #[test]
    fn the_terminal_gets_flags_and_codes() {
        let error = Error::of_option("inpaint_fill", "'x' is not known").try_this(Remedy::Cpu);
        assert_eq!(worded(&error), "--inpaint-fill: 'x' is not known; use --device cpu");
        let codes = [error, Error::cancelled(), Error::other("x")].map(|e| exit_code(&e));
        assert_eq!(codes, [2, 130, 1]);
    }
}
