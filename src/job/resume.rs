//! A job that was interrupted goes in, the pictures that need not be made again come out.

use super::metadata::Metadata;
use super::order::Order;
use super::unfinished::Left;
use super::word::Seed;
use crate::diffusion::Request;
use crate::image::parameters::Parameters;
use crate::image::{PARAMETERS, PictureLimits, read_png};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The seed in a picture's file name: the one that differs from picture to picture.
pub fn name_seed(request: &Request, index: usize) -> u64 {
    let (seed, variation) = request.seeds(index);
    variation.unwrap_or(seed)
}

/// Where no seed was asked for, the interrupted job drew its own: takes it from a picture that it finished or began.
/// `candidates` are files that may be picture `index`; `is` tells whether one is, with this seed. Seeds count up from
/// picture to picture, but in a grid, whose pictures have one.
pub fn adopt_seed(
    order: &mut Order,
    count: usize,
    candidates: &dyn Fn(usize) -> Vec<PathBuf>,
    is: &dyn Fn(&Path, usize, u64) -> bool,
) {
    if matches!(order.seed, Some(Seed::Fixed(_))) || order.variation_strength.is_some() {
        return;
    }
    let seed_of = |index: usize, path: &Path| {
        let text = text_of(path).or_else(|| Left::parameters_of(path))?;
        let seed: u64 = Parameters::parse(&text).get("Seed")?.parse().ok()?;
        let before = if order.grid.is_some() { 0 } else { index as u64 };
        is(path, index, seed).then(|| seed.wrapping_sub(before))
    };
    let found = (0..count).find_map(|index| candidates(index).iter().find_map(|path| seed_of(index, path)));
    if let Some(seed) = found {
        order.seed = Some(Seed::Fixed(seed));
    }
}

/// Each request with the number of its first picture, where one draws after the other.
pub fn numbered<'r>(requests: impl IntoIterator<Item = &'r Request>) -> impl Iterator<Item = (usize, &'r Request)> {
    requests.into_iter().scan(0, |next, request| {
        let first = *next;
        *next += request.count;
        Some((first, request))
    })
}

/// Has requests skip the pictures whose files hold the parameters that they would be made with now. Gives their number,
/// and the files that hold other parameters. `path` is of a picture by its number, over all requests, and its seed.
pub fn finished(
    path: &dyn Fn(usize, u64) -> PathBuf,
    requests: &mut [Request],
    metadata: &mut Metadata<'_>,
) -> (usize, Vec<PathBuf>) {
    let (mut number, mut made, mut strange) = (0, 0, Vec::new());
    for request in requests {
        let mut skip = BTreeSet::new();
        for index in 0..request.count {
            let path = path(number + index, name_seed(request, index));
            if path.symlink_metadata().is_err() {
                continue;
            }
            if text_of(&path).is_some_and(|text| metadata.fits(&text, request, index).unwrap_or(false)) {
                skip.insert(index);
            } else {
                strange.push(path);
            }
        }
        number += request.count;
        made += skip.len();
        request.skip = skip;
    }
    (made, strange)
}

fn text_of(path: &Path) -> Option<String> {
    let (_, texts) = read_png(path, PictureLimits::default()).ok()?;
    texts.into_iter().find(|(key, _)| key == PARAMETERS).map(|(_, text)| text)
}
