//! Fields and remedies of a job go in, the flags that a user types for them come out; and what is typed becomes a
//! choice.

use lienzo::error::Error;
use lienzo::job::note::{Field, Objection, Phrase};
use lienzo::job::word::Word;

/// For clap: a choice by its word.
pub fn parsed<T: Word>(text: &str) -> Result<T, Error> {
    T::parse(text)
}

/// The flag of a field.
pub fn flag(field: Field) -> &'static str {
    match field {
        Field::Prompt => "-p",
        Field::Model => "-m",
        Field::Vae => "--vae",
        Field::Refiner => "--refiner",
        Field::Width => "-W",
        Field::Height => "-H",
        Field::Steps => "--steps",
        Field::Guidance => "--cfg-scale",
        Field::Sampler => "--sampling-method",
        Field::Schedule => "--scheduler",
        Field::Timesteps => "--timesteps",
        Field::Eta => "--eta",
        Field::ClipSkip => "--clip-skip",
        Field::Prediction => "--prediction",
        Field::OriginalSize => "--original-size",
        Field::Crop => "--crop",
        Field::TargetSize => "--target-size",
        Field::EmptyNegative => "--empty-negative",
        Field::Seed => "-s",
        Field::Count => "-b",
        Field::BatchSize => "--batch-size",
        Field::VariationStrength => "--variation-strength",
        Field::InitImage => "-i",
        Field::Strength => "--strength",
        Field::Mask => "--mask",
        Field::MaskInvert => "--mask-invert",
        Field::MaskBlur => "--mask-blur",
        Field::OnlyMasked => "--only-masked",
        Field::OnlyMaskedPadding => "--only-masked-padding",
        Field::Outpaint => "--outpaint",
        Field::Grid => "--grid",
        Field::Style => "--style",
        Field::Precision => "--precision",
        Field::Device => "--device",
        Field::MaxMemory => "--max-memory",
        Field::LowMemory => "--low-memory",
        Field::Force => "--force",
        Field::IgnoreUnsupported => "--ignore-unsupported",
    }
}

fn name(field: Field) -> String {
    flag(field).to_owned()
}

/// A job's sentence, with flags for fields.
pub fn told(phrase: &Phrase) -> String {
    phrase.told(&name)
}

/// A job's error, with flags for fields.
pub fn error(fault: Objection) -> Error {
    fault.told(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_field_has_a_flag_that_exists() {
        let all = [
            Field::Prompt,
            Field::Model,
            Field::Vae,
            Field::Refiner,
            Field::Width,
            Field::Height,
            Field::Steps,
            Field::Guidance,
            Field::Sampler,
            Field::Schedule,
            Field::Timesteps,
            Field::Eta,
            Field::ClipSkip,
            Field::Prediction,
            Field::OriginalSize,
            Field::Crop,
            Field::TargetSize,
            Field::EmptyNegative,
            Field::Seed,
            Field::Count,
            Field::BatchSize,
            Field::VariationStrength,
            Field::InitImage,
            Field::Strength,
            Field::Mask,
            Field::MaskInvert,
            Field::MaskBlur,
            Field::OnlyMasked,
            Field::OnlyMaskedPadding,
            Field::Outpaint,
            Field::Grid,
            Field::Style,
            Field::Precision,
            Field::Device,
            Field::MaxMemory,
            Field::LowMemory,
            Field::Force,
            Field::IgnoreUnsupported,
        ];
        let command = crate::cli::Cli::command();
        let generate = command.find_subcommand("generate").unwrap();
        for field in all {
            let flag = flag(field);
            let known = generate.get_arguments().any(|arg| {
                let short = arg.get_short().is_some_and(|short| flag == format!("-{short}"));
                short || arg.get_long().is_some_and(|long| flag == format!("--{long}"))
            });
            assert!(known, "{field:?} is no {flag}");
        }
    }
}
