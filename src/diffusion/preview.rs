//! Unfinished latents go in, a picture that tells what will become of them comes out.
//!
//! Mostly that is a linear map from latents to colours, one pixel for each 8 x 8 of the picture, which costs nothing.
//! The map is fitted to the model's own VAE: of the latents that are shown a small part is decoded, and colours of its
//! pixels are a linear function of the latents, in the sense of least squares over all that was decoded so far.

use super::denoise::run::Progress;
use super::{Event, Listener, Stages};
use crate::error::Result;
use crate::image::Image;
use crate::image::resize::{ResizeMode, fit};
use crate::tensor::{Shape, Tensor};
use std::ops::ControlFlow;

/// What the user wants to see on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preview {
    /// After so many evaluations each.
    pub every: usize,
    /// By whom.
    pub by: PreviewBy,
}

/// Who makes a preview.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PreviewBy {
    /// A linear map from latents to colours: it costs nothing.
    #[default]
    Colours,
    /// The VAE: the true picture, at the price of a decode.
    Vae,
    /// The VAE where it is a tiny one, and the price small; no other is asked.
    Tiny,
}

/// Sides of the part that is decoded, in latents.
pub const PATCH: usize = 16;

/// Makes previews of latents `[c, h, w]`.
pub struct Previewer<'a> {
    stages: &'a dyn Stages,
    preview: Preview,
    size: (usize, usize),
    fit: Fit,
}

impl<'a> Previewer<'a> {
    /// For latents of this height and width.
    pub fn new(stages: &'a dyn Stages, preview: Preview, size: (usize, usize)) -> Self {
        Self { stages, preview, size, fit: Fit::new(stages.model().networks.latents().channels) }
    }

    /// Tells `listen` the previews that are due; `first` is the number of the batch's first picture. A preview that
    /// cannot be made is left out: it must not cost the picture.
    pub fn show(&mut self, progress: &Progress<'_>, first: usize, listen: &mut Listener<'_>) -> ControlFlow<()> {
        let done = progress.at.evaluation + 1;
        if !done.is_multiple_of(self.preview.every.max(1)) || progress.evaluations == Some(done) {
            return ControlFlow::Continue(());
        }
        let latents = progress.denoised();
        let len = self.stages.model().networks.latents().channels * self.size.0 * self.size.1;
        for (i, latents) in latents.chunks_exact(len.max(1)).enumerate() {
            let image = match self.picture(latents) {
                Ok(image) => image,
                Err(e) if *e.kind() == crate::Kind::Cancelled => return ControlFlow::Break(()),
                Err(_) => continue,
            };
            listen(Event::Preview { index: first + progress.images.start + i, done, image })?;
        }
        ControlFlow::Continue(())
    }

    fn picture(&mut self, latents: &[f32]) -> Result<Image> {
        if self.preview.by != PreviewBy::Colours {
            return super::decode(self.stages, self.size, latents);
        }
        let (h, w) = self.size;
        let patch = (h.min(PATCH), w.min(PATCH));
        let corner = ((h - patch.0) / 2, (w - patch.1) / 2);
        let cut: Vec<f32> = latents
            .chunks_exact(w)
            .enumerate()
            .filter(|(row, _)| (corner.0..corner.0 + patch.0).contains(&(row % h)))
            .flat_map(|(_, row)| &row[corner.1..corner.1 + patch.1])
            .copied()
            .collect();
        let colours = self.decode_small(patch, &cut)?;
        self.fit.add(&cut, &colours);
        let factor = self.stages.model().networks.factor();
        Ok(fit(&self.fit.picture(latents, self.size), (w * factor, h * factor), ResizeMode::Just))
    }

    /// Latents to one colour each, -1 to 1: the mean of the pixels that they become.
    fn decode_small(&self, (h, w): (usize, usize), latents: &[f32]) -> Result<Vec<[f64; 3]>> {
        let networks = &self.stages.model().networks;
        let (kind, factor) = (networks.latents(), networks.factor());
        let latents = Tensor::from_nchw(Shape::new(1, h, w, kind.channels), &kind.to_autoencoder(latents))?;
        let pixels = self.stages.decode(latents)?;
        let mut means = vec![[0.0; 3]; h * w];
        for (i, pixel) in pixels.data().chunks_exact(3).enumerate() {
            let (y, x) = (i / (w * factor), i % (w * factor));
            for (mean, v) in means[y / factor * w + x / factor].iter_mut().zip(pixel) {
                *mean += f64::from(v.clamp(-1.0, 1.0)) / (factor * factor) as f64;
            }
        }
        Ok(means)
    }
}

/// A least-squares fit of colours to latents and a constant, by its normal equations.
struct Fit {
    channels: usize,
    /// Sums of products of the regressors with each other and with the colours, row by row: `(c + 1) x (c + 1 + 3)`.
    sums: Vec<f64>,
}

impl Fit {
    fn new(channels: usize) -> Self {
        Self { channels, sums: vec![0.0; (channels + 1) * (channels + 4)] }
    }

    /// Adds points: latents `[c][n]`, colours `[n]`.
    fn add(&mut self, latents: &[f32], colours: &[[f64; 3]]) {
        let (c, n) = (self.channels, colours.len());
        for (p, colour) in colours.iter().enumerate() {
            let mut row: Vec<f64> = (0..c).map(|i| f64::from(latents[i * n + p])).collect();
            row.push(1.0);
            row.extend(colour);
            if !row.iter().all(|v| v.is_finite()) {
                continue;
            }
            for i in 0..=c {
                self.sums[i * (c + 4)..][..c + 4].iter_mut().zip(&row).for_each(|(s, v)| *s += row[i] * v);
            }
        }
    }

    /// The factors, `[c + 1][3]`. A little is added to the diagonal, so that there is always one solution.
    fn solve(&self) -> Vec<[f64; 3]> {
        let (n, width) = (self.channels + 1, self.channels + 4);
        let mut m = self.sums.clone();
        let trace: f64 = (0..n).map(|i| m[i * width + i]).sum();
        (0..n).for_each(|i| m[i * width + i] += 1e-6 * trace + 1e-12);
        for i in 0..n {
            let pivot: Vec<f64> = m[i * width..][..width].iter().map(|v| v / m[i * width + i]).collect();
            for (j, row) in m.chunks_exact_mut(width).enumerate() {
                if i == j {
                    row.copy_from_slice(&pivot);
                } else {
                    let factor = row[i];
                    row.iter_mut().zip(&pivot).for_each(|(v, p)| *v -= factor * p);
                }
            }
        }
        m.chunks_exact(width).map(|row| [row[n], row[n + 1], row[n + 2]]).collect()
    }

    /// Latents `[c, h, w]` to a picture of `w` x `h` pixels.
    fn picture(&self, latents: &[f32], (h, w): (usize, usize)) -> Image {
        let factors = self.solve();
        let mut rgb = Vec::with_capacity(h * w * 3);
        for p in 0..h * w {
            let mut sums = factors[self.channels];
            for (c, factor) in factors[..self.channels].iter().enumerate() {
                let latent = f64::from(latents[c * h * w + p]);
                sums.iter_mut().zip(factor).for_each(|(sum, f)| *sum += f * latent);
            }
            rgb.extend(sums.map(|sum| ((sum / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8));
        }
        Image { width: w, height: h, rgb }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_vae_is_found_exactly() {
        let (h, w) = (4, 5);
        let latents: Vec<f32> = (0..4 * h * w).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
        let colour = |p: usize, k: usize| {
            0.1 + (0..4).map(|c| 0.05 * (c + k) as f64 * f64::from(latents[c * h * w + p])).sum::<f64>()
        };
        let colours: Vec<[f64; 3]> = (0..h * w).map(|p| [colour(p, 0), colour(p, 1), colour(p, 2)]).collect();
        let mut fit = Fit::new(4);
        fit.add(&latents, &colours);
        let image = fit.picture(&latents, (h, w));
        for (p, pixel) in image.rgb.chunks_exact(3).enumerate() {
            for (k, v) in pixel.iter().enumerate() {
                let want = ((colours[p][k] / 2.0 + 0.5) * 255.0).round();
                assert!((f64::from(*v) - want).abs() <= 1.0, "{v} for {want}");
            }
        }
    }

    #[test]
    fn nothing_known_is_grey_and_never_fails() {
        let mut fit = Fit::new(4);
        assert!(fit.picture(&[0.5; 8], (1, 2)).rgb.iter().all(|v| *v == 128));
        fit.add(&[f32::NAN; 4], &[[0.0; 3]]);
        fit.add(&[1.0; 4], &[[0.5, 0.0, -0.5]]);
        let rgb = fit.picture(&[1.0; 4], (1, 1)).rgb;
        assert!(rgb[0] > 185 && rgb[1].abs_diff(128) < 3 && rgb[2] < 70, "{rgb:?}");
    }
}
