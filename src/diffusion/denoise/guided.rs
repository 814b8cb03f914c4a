//! A raw U-Net in, the guided model that the samplers call out: input scaling, prediction types and guidance.

use std::ops::Range;

use super::run::{At, Denoiser};
use crate::error::{Error, Result};
use crate::models::training::Prediction;

/// The network as it is: scaled latents and a timestep in, raw predictions out.
pub trait Unet {
    /// One evaluation of `x`, `[n][c][h][w]` flat, n being the selected images.
    ///
    /// `uncond` is absent where guidance does not need it. `conds` has one output for each prompt of an AND, mostly
    /// one. All outputs are as long as `x`.
    fn predict(&mut self, x: &[f32], at: At, uncond: Option<&mut [f32]>, conds: &mut [Vec<f32>]) -> Result<()>;

    /// From now on `x` holds only these images of the batch.
    fn select(&mut self, _images: Range<usize>) {}
}

/// Classifier-free guidance around a U-Net: `uncond + sum of weight scale (cond - uncond)`, in this order of operations
/// for every value alone, so that a batch equals its single images.
pub struct Guided<'a> {
    unet: &'a mut dyn Unet,
    prediction: Prediction,
    scale: f32,
    weights: Vec<f32>,
    scaled: Vec<f32>,
    uncond: Vec<f32>,
    conds: Vec<Vec<f32>>,
}

impl<'a> Guided<'a> {
    /// One prompt with this guidance scale; 1 leaves the unconditional half out.
    pub fn new(unet: &'a mut dyn Unet, prediction: Prediction, scale: f32) -> Self {
        let (scaled, uncond, conds) = (Vec::new(), Vec::new(), Vec::new());
        Self { unet, prediction, scale, weights: vec![1.0], scaled, uncond, conds }
    }

    /// Several prompts joined by AND, each with its weight.
    #[must_use]
    pub fn with_branches(mut self, weights: Vec<f32>) -> Self {
        self.weights = weights;
        self
    }

    /// The guided raw prediction for `self.scaled`.
    fn predict(&mut self, at: At, out: &mut [f32]) -> Result<()> {
        if self.weights.is_empty() {
            return Err(Error::other("guidance without a prompt"));
        }
        self.conds.resize_with(self.weights.len(), Vec::new);
        self.conds.iter_mut().for_each(|c| c.resize(out.len(), 0.0));
        if self.scale == 1.0 && self.weights == [1.0] {
            self.unet.predict(&self.scaled, at, None, &mut self.conds)?;
            out.copy_from_slice(&self.conds[0]);
            return Ok(());
        }
        self.uncond.resize(out.len(), 0.0);
        self.unet.predict(&self.scaled, at, Some(&mut self.uncond), &mut self.conds)?;
        out.copy_from_slice(&self.uncond);
        for (cond, weight) in self.conds.iter().zip(&self.weights) {
            let gain = weight * self.scale;
            for ((o, c), u) in out.iter_mut().zip(cond).zip(&self.uncond) {
                *o += gain * (c - u);
            }
        }
        Ok(())
    }
}

impl Denoiser for Guided<'_> {
    fn denoised(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        let sigma = f64::from(at.sigma);
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        self.scaled.clear();
        self.scaled.extend(x.iter().map(|v| (f64::from(*v) * alpha) as f32));
        self.predict(at, out)?;
        // k-diffusion, `external.py`: D = kept x + gain prediction.
        let (kept, gain) = match self.prediction {
            Prediction::Epsilon => (1.0, -sigma),
            Prediction::V => (alpha * alpha, -sigma * alpha),
            Prediction::Sample => (0.0, 1.0),
        };
        out.iter_mut().zip(x).for_each(|(o, x)| *o = (kept * f64::from(*x) + gain * f64::from(*o)) as f32);
        Ok(())
    }

    fn epsilon(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.scaled.clear();
        self.scaled.extend_from_slice(x);
        self.predict(at, out)?;
        let sigma = f64::from(at.sigma);
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        let (kept, gain) = match self.prediction {
            Prediction::Epsilon => return Ok(()),
            Prediction::V => (sigma * alpha, alpha),
            // At sigma 0 there is no noise to tell.
            Prediction::Sample if sigma == 0.0 => (0.0, 0.0),
            Prediction::Sample => (1.0 / (sigma * alpha), -1.0 / sigma),
        };
        out.iter_mut().zip(x).for_each(|(o, x)| *o = (kept * f64::from(*x) + gain * f64::from(*o)) as f32);
        Ok(())
    }

    fn select(&mut self, images: Range<usize>) {
        self.unet.select(images);
    }
}

/// Inpainting with a model that knows nothing of it: `mask` 1 is painted anew, 0 keeps `init`.
///
/// k-samplers blend the clean estimate after each evaluation, timestep samplers the latents before, as the webui does.
/// The caller blends the final latents once more with [`Masked::blend`].
pub struct Masked<'a> {
    inner: &'a mut dyn Denoiser,
    init: &'a [f32],
    mask: &'a [f32],
    selected: Option<(usize, usize)>,
    images: usize,
}

impl<'a> Masked<'a> {
    /// `init` and `mask` are as long as the latents of all `images`, `[images][c][h][w]` flat.
    pub fn new(inner: &'a mut dyn Denoiser, init: &'a [f32], mask: &'a [f32], images: usize) -> Result<Self> {
        if init.len() != mask.len() || images == 0 || !init.len().is_multiple_of(images) {
            let (a, b) = (init.len(), mask.len());
            return Err(Error::other(format!("{a} latents, {b} mask values and {images} images do not fit together")));
        }
        Ok(Self { inner, init, mask, selected: None, images })
    }

    /// `x mask + init (1 - mask)`.
    pub fn blend(&self, x: &mut [f32]) {
        let (from, to) = self.selected.unwrap_or((0, self.init.len()));
        let (init, mask) = (&self.init[from..to], &self.mask[from..to]);
        x.iter_mut().zip(init).zip(mask).for_each(|((x, i), m)| *x = *x * m + i * (1.0 - m));
    }
}

impl Denoiser for Masked<'_> {
    fn denoised(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.inner.denoised(x, at, out)?;
        self.blend(out);
        Ok(())
    }

    fn epsilon(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        let mut blended = x.to_vec();
        self.blend(&mut blended);
        self.inner.epsilon(&blended, at, out)
    }

    fn select(&mut self, images: Range<usize>) {
        let len = self.init.len() / self.images;
        self.selected = Some((images.start.min(self.images) * len, images.end.min(self.images) * len));
        self.inner.select(images);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Predicts perfectly for one known clean value and noise.
    struct Oracle {
        clean: f32,
        noise: f32,
        prediction: Prediction,
        halves: Vec<bool>,
    }

    impl Unet for Oracle {
        fn predict(&mut self, x: &[f32], at: At, uncond: Option<&mut [f32]>, conds: &mut [Vec<f32>]) -> Result<()> {
            let alpha = 1.0 / (at.sigma * at.sigma + 1.0).sqrt();
            let sigma = at.sigma * alpha;
            assert!((x[0] - (alpha * self.clean + sigma * self.noise)).abs() < 1e-5);
            let value = match self.prediction {
                Prediction::Epsilon => self.noise,
                Prediction::V => alpha * self.noise - sigma * self.clean,
                Prediction::Sample => self.clean,
            };
            self.halves.push(uncond.is_some());
            conds[0].fill(value);
            if let Some(uncond) = uncond {
                uncond.fill(value);
            }
            Ok(())
        }
    }

    #[test]
    fn all_predictions_mean_the_same() {
        let (clean, noise, sigma) = (0.7f32, -1.3f32, 2.5f32);
        let at = At { step: 0, evaluation: 0, t: 500.0, sigma };
        for prediction in [Prediction::Epsilon, Prediction::V, Prediction::Sample] {
            let mut unet = Oracle { clean, noise, prediction, halves: Vec::new() };
            let mut guided = Guided::new(&mut unet, prediction, 1.0);
            let mut out = [0.0];
            guided.denoised(&[clean + sigma * noise], at, &mut out).unwrap();
            assert!((out[0] - clean).abs() < 1e-5, "{prediction:?}");
            let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
            guided.scale = 7.5;
            guided.epsilon(&[alpha * (clean + sigma * noise)], at, &mut out).unwrap();
            assert!((out[0] - noise).abs() < 1e-5, "{prediction:?}");
            assert_eq!(unet.halves, [false, true]);
        }
    }

    struct Branches;

    impl Unet for Branches {
        fn predict(&mut self, _: &[f32], _: At, uncond: Option<&mut [f32]>, conds: &mut [Vec<f32>]) -> Result<()> {
            uncond.unwrap().fill(1.0);
            conds.iter_mut().enumerate().for_each(|(i, c)| c.fill(2.0 + i as f32));
            Ok(())
        }
    }

    #[test]
    fn branches_add_up() {
        let mut unet = Branches;
        let mut guided = Guided::new(&mut unet, Prediction::Epsilon, 2.0).with_branches(vec![1.0, 0.5]);
        let mut out = [0.0];
        guided.epsilon(&[0.0], At { step: 0, evaluation: 0, t: 1.0, sigma: 1.0 }, &mut out).unwrap();
        assert_eq!(out, [1.0 + 2.0 * 1.0 + 1.0 * 2.0]);
    }
}
