//! A command that was interrupted goes in, the pictures that need not be made again come out.

use super::GenerateArgs;
use super::metadata::Metadata;
use lienzo::diffusion::Request;
use lienzo::error::{Error, Result, escape};
use lienzo::image::parameters::Parameters;
use lienzo::image::{Limits, PARAMETERS, read_png};
use lienzo::output::OutputPlan;
use std::collections::BTreeSet;
use std::path::Path;

/// The seed in a picture's file name: the one that differs from picture to picture.
pub fn name_seed(request: &Request, index: usize) -> u64 {
    let (seed, variation) = request.seeds(index);
    variation.unwrap_or(seed)
}

/// Without `-s`, the interrupted command drew its seed: takes it from a picture that it finished.
pub fn adopt_seed(args: &mut GenerateArgs, output: &OutputPlan, count: usize) {
    if args.seed.is_some_and(|seed| seed >= 0) || args.variation_strength.is_some() {
        return;
    }
    args.seed = (0..count).find_map(|index| {
        let text = text_of(&output.path(index, 0))?;
        let seed: i64 = Parameters::parse(&text).get("Seed")?.parse().ok()?;
        seed.checked_sub(i64::try_from(index).ok()?)
    });
}

/// The pictures whose files hold the parameters that they would be made with now.
///
/// # Errors
/// Usage: a file is there that holds others, which only `--overwrite` replaces.
pub fn finished(
    output: &OutputPlan,
    request: &Request,
    metadata: &mut Metadata<'_>,
    overwrite: bool,
) -> Result<BTreeSet<usize>> {
    let mut out = BTreeSet::new();
    for index in 0..request.count {
        let path = output.path(index, name_seed(request, index));
        if path.symlink_metadata().is_err() {
            continue;
        }
        if text_of(&path).is_some_and(|text| metadata.fits(&text, request, index).unwrap_or(false)) {
            out.insert(index);
        } else if !overwrite {
            let name = escape(&path.to_string_lossy());
            return Err(Error::usage(format!(
                "--resume: '{name}' is there, but was not made by this command; give the same flags as before, \
                 another -o, or --overwrite"
            )));
        }
    }
    Ok(out)
}

fn text_of(path: &Path) -> Option<String> {
    let (_, texts) = read_png(path, Limits::default()).ok()?;
    texts.into_iter().find(|(key, _)| key == PARAMETERS).map(|(_, text)| text)
}
