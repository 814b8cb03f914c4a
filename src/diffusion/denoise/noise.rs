//! Seeds in, the noise that a sampler asks for out: one generator per image, so that a batch equals its single images.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::rng::brownian::BrownianTree;
use crate::rng::{NormalSource, RngKind};

/// Where a sampler's noise comes from. Vectors are `[n][c][h][w]` flat, n being the selected images.
pub trait Noise {
    /// The next fresh unit noise: first the start, then what the steps ask for.
    fn next(&mut self, out: &mut [f32]) -> Result<()>;

    /// Unit noise of one fixed Brownian path for the step from `sigma` to `sigma_next`.
    fn brownian(&mut self, sigma: f32, sigma_next: f32, out: &mut [f32]) -> Result<()>;

    /// Says, before the sampling, the range of levels of the whole schedule.
    fn range(&mut self, _sigma_min: f32, _sigma_max: f32) {}

    /// From now on only these images of the batch are asked for; the adaptive sampler takes them one at a time.
    fn select(&mut self, _images: Range<usize>) {}
}

/// A second seed that the first noise is turned towards (`--variation-seed`, `--variation-strength`).
#[derive(Clone, Copy, Debug)]
pub struct Variation {
    /// The second noise's seed for the first image; image i uses seed + i.
    pub seed: u64,
    /// 0 keeps the first noise, 1 is the second.
    pub strength: f32,
    /// Latent height and width: the webui's mix works along the height.
    pub size: (usize, usize),
}

struct Image {
    seed: u64,
    generator: Box<dyn NormalSource + Send>,
    tree: Option<BrownianTree>,
    second: Option<Box<dyn NormalSource + Send>>,
}

/// Noise from seeds, as the webui draws it.
pub struct ImageNoise {
    kind: RngKind,
    images: Vec<Image>,
    selected: Range<usize>,
    levels: (f32, f32),
    variation: Option<Variation>,
}

impl ImageNoise {
    /// One generator per seed; image i of the batch belongs to `seeds[i]`.
    pub fn new(kind: RngKind, seeds: &[u64]) -> Self {
        let image = |&seed: &u64| Image { seed, generator: kind.generator(seed), tree: None, second: None };
        let images: Vec<Image> = seeds.iter().map(image).collect();
        Self { kind, selected: 0..images.len(), images, levels: (0.0, 0.0), variation: None }
    }

    /// The same with the first noise mixed with another seed's. With a variation the webui keeps the seed for every
    /// image of a batch and counts the variation seed up: give equal `seeds` here.
    #[must_use]
    pub fn with_variation(mut self, variation: Variation) -> Self {
        for (i, image) in self.images.iter_mut().enumerate() {
            image.second = Some(self.kind.generator(variation.seed.wrapping_add(i as u64)));
        }
        self.variation = Some(variation);
        self
    }
}

/// Splits a vector into its images' parts.
fn parts(images: usize, out: &mut [f32]) -> Result<std::slice::ChunksExactMut<'_, f32>> {
    if images == 0 || out.is_empty() || !out.len().is_multiple_of(images) {
        return Err(Error::other(format!("{} values of noise do not divide into {images} images", out.len())));
    }
    Ok(out.chunks_exact_mut(out.len() / images))
}

impl Noise for ImageNoise {
    fn next(&mut self, out: &mut [f32]) -> Result<()> {
        let images = &mut self.images[self.selected.clone()];
        for (part, image) in parts(images.len(), out)?.zip(images) {
            image.generator.randn(part);
            // Only the start is mixed; the steps' noise comes from the first seed alone.
            if let (Some(mut second), Some(variation)) = (image.second.take(), self.variation) {
                let mut other = vec![0.0; part.len()];
                second.randn(&mut other);
                slerp(variation, part, &other);
            }
        }
        Ok(())
    }

    fn brownian(&mut self, sigma: f32, sigma_next: f32, out: &mut [f32]) -> Result<()> {
        let images = &mut self.images[self.selected.clone()];
        for (part, image) in parts(images.len(), out)?.zip(images) {
            let grow = || BrownianTree::new(self.kind, image.seed, self.levels.0, self.levels.1, part.len());
            image.tree.get_or_insert_with(grow).noise(sigma, sigma_next, part);
        }
        Ok(())
    }

    fn range(&mut self, sigma_min: f32, sigma_max: f32) {
        self.levels = (sigma_min, sigma_max);
        self.images.iter_mut().for_each(|image| image.tree = None);
    }

    fn select(&mut self, images: Range<usize>) {
        self.selected = images.start.min(self.images.len())..images.end.min(self.images.len());
    }
}

/// The webui's spherical mix of two noises, with its two quirks: the vectors run along the height (dimension 1 of
/// `[c, h, w]`), and where the two are nearly parallel a linear mix has its weights the wrong way round.
fn slerp(variation: Variation, x: &mut [f32], other: &[f32]) {
    let (h, w) = variation.size;
    let strength = f64::from(variation.strength);
    if h * w == 0 || !x.len().is_multiple_of(h * w) {
        return;
    }
    let columns = (0..x.len() / h).map(|i| i / w * h * w + i % w);
    let dots: Vec<(usize, f64)> = columns
        .map(|first| {
            let sum = |a: &[f32], b: &[f32]| -> f64 {
                (0..h).map(|y| f64::from(a[first + y * w]) * f64::from(b[first + y * w])).sum()
            };
            (first, sum(x, other) / (sum(x, x).sqrt() * sum(other, other).sqrt()))
        })
        .collect();
    let mean = dots.iter().map(|d| d.1).sum::<f64>() / dots.len() as f64;
    for (first, dot) in dots {
        let (a, b) = if mean > 0.9995 {
            (strength, 1.0 - strength)
        } else {
            let omega = dot.acos();
            (((1.0 - strength) * omega).sin() / omega.sin(), (strength * omega).sin() / omega.sin())
        };
        for i in (0..h).map(|y| first + y * w) {
            x[i] = (a * f64::from(x[i]) + b * f64::from(other[i])) as f32;
        }
    }
}

/// Given noise, in order, for comparisons with reference values: every request, Brownian or not, takes the next one.
pub struct FixedNoise {
    draws: std::vec::IntoIter<Vec<f32>>,
}

impl FixedNoise {
    /// `draws[0]` is the start unless the caller begins with its own latents.
    pub fn new(draws: Vec<Vec<f32>>) -> Self {
        Self { draws: draws.into_iter() }
    }
}

impl Noise for FixedNoise {
    fn next(&mut self, out: &mut [f32]) -> Result<()> {
        match self.draws.next() {
            Some(draw) if draw.len() == out.len() => out.copy_from_slice(&draw),
            Some(draw) => {
                return Err(Error::other(format!("given noise has {} values, not {}", draw.len(), out.len())));
            }
            None => return Err(Error::other("the sampler asks for more noise than was given")),
        }
        Ok(())
    }

    fn brownian(&mut self, _: f32, _: f32, out: &mut [f32]) -> Result<()> {
        self.next(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_its_single_images() {
        for kind in [RngKind::Nv, RngKind::Cpu] {
            let mut batch = ImageNoise::new(kind, &[5, 6, 7]);
            batch.range(0.03, 14.6);
            let (mut all, mut path) = (vec![0.0; 3 * 36], vec![0.0; 3 * 36]);
            batch.next(&mut all).unwrap();
            batch.next(&mut all).unwrap();
            batch.brownian(14.6, 2.0, &mut path).unwrap();
            for i in 0..3 {
                let mut single = ImageNoise::new(kind, &[5 + i as u64]);
                single.range(0.03, 14.6);
                let (mut one, mut own) = (vec![0.0; 36], vec![0.0; 36]);
                single.next(&mut one).unwrap();
                single.next(&mut one).unwrap();
                single.brownian(14.6, 2.0, &mut own).unwrap();
                assert_eq!(one, all[36 * i..36 * (i + 1)]);
                assert_eq!(own, path[36 * i..36 * (i + 1)]);
            }
            batch.select(1..2);
            assert!(batch.next(&mut all[..35]).is_ok() && ImageNoise::new(kind, &[]).next(&mut all).is_err());
        }
    }

    #[test]
    fn variations_turn_the_first_noise_only() {
        let plain = |seed| {
            let mut out = vec![0.0; 4 * 8 * 8];
            ImageNoise::new(RngKind::Nv, &[seed]).next(&mut out).unwrap();
            out
        };
        let mixed = |strength| {
            let mut noise = ImageNoise::new(RngKind::Nv, &[1]);
            noise = noise.with_variation(Variation { seed: 2, strength, size: (8, 8) });
            let mut out = vec![0.0; 4 * 8 * 8];
            noise.next(&mut out).unwrap();
            let first = out.clone();
            noise.next(&mut out).unwrap();
            (first, out)
        };
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&mixed(0.0).0, &plain(1)) && near(&mixed(1.0).0, &plain(2)));
        assert_eq!(mixed(0.3).1, mixed(0.8).1);
        // Equal seeds are parallel: the linear mix, weights swapped or not, gives the noise back.
        let mut same = plain(1);
        slerp(Variation { seed: 1, strength: 0.3, size: (8, 8) }, &mut same, &plain(1));
        assert!(near(&same, &plain(1)));
    }
}
