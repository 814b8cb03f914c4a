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
    rescale: f32,
    weights: Vec<f32>,
    /// How many images a call holds.
    images: usize,
    scaled: Vec<f32>,
    uncond: Vec<f32>,
    conds: Vec<Vec<f32>>,
}

impl<'a> Guided<'a> {
    /// One prompt with this guidance scale; 1 leaves the unconditional half out.
    pub fn new(unet: &'a mut dyn Unet, prediction: Prediction, scale: f32) -> Self {
        let (scaled, uncond, conds) = (Vec::new(), Vec::new(), Vec::new());
        Self { unet, prediction, scale, rescale: 0.0, weights: vec![1.0], images: 1, scaled, uncond, conds }
    }

    /// Several prompts joined by AND, each with its weight.
    #[must_use]
    pub fn with_branches(mut self, weights: Vec<f32>) -> Self {
        self.weights = weights;
        self
    }

    /// Pulls the guided prediction's contrast this far towards that of the prompt's own (Lin et al. 2023, section 3.4):
    /// 0 leaves it as it is, 0.7 is usual for models with zero terminal SNR. On the raw prediction, as in diffusers.
    #[must_use]
    pub fn with_rescale(mut self, share: f32) -> Self {
        self.rescale = share;
        self
    }

    /// The guided raw prediction for `self.scaled`; the unconditional one stays in `self.uncond` if there is one, and
    /// `both` sees to it that there is.
    fn predict(&mut self, at: At, out: &mut [f32], both: bool) -> Result<()> {
        if self.weights.is_empty() {
            return Err(Error::other("guidance without a prompt"));
        }
        if self.prediction == Prediction::Flow {
            return Err(Error::usage(
                "the model predicts a flow (rectified flow), for which no sampler here has a schedule; take a model that \
                 predicts noise, velocity or the clean sample",
            ));
        }
        self.conds.resize_with(self.weights.len(), Vec::new);
        self.conds.iter_mut().for_each(|c| c.resize(out.len(), 0.0));
        if !both && self.scale == 1.0 && self.weights == [1.0] {
            self.unet.predict(&self.scaled, at, None, &mut self.conds)?;
            out.copy_from_slice(&self.conds[0]);
            return Ok(());
        }
        self.uncond.resize(out.len(), 0.0);
        self.unet.predict(&self.scaled, at, Some(&mut self.uncond), &mut self.conds)?;
        self.mix(self.scale, out);
        if self.rescale > 0.0 {
            let mut plain = vec![0.0; out.len()];
            match self.weights.as_slice() {
                [1.0] => plain.copy_from_slice(&self.conds[0]),
                _ => self.mix(1.0, &mut plain),
            }
            self.match_contrast(&plain, out);
        }
        Ok(())
    }

    fn mix(&self, scale: f32, out: &mut [f32]) {
        out.copy_from_slice(&self.uncond);
        for (cond, weight) in self.conds.iter().zip(&self.weights) {
            let gain = weight * scale;
            for ((o, c), u) in out.iter_mut().zip(cond).zip(&self.uncond) {
                *o += gain * (c - u);
            }
        }
    }

    /// `phi m std(plain) / std(m) + (1 - phi) m`, for every image alone.
    fn match_contrast(&self, plain: &[f32], out: &mut [f32]) {
        let phi = f64::from(self.rescale);
        let len = (out.len() / self.images.max(1)).max(1);
        for (plain, out) in plain.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
            let own = deviation(out);
            // What has no contrast has none to give away.
            if own > 0.0 {
                let factor = phi * deviation(plain) / own + (1.0 - phi);
                out.iter_mut().for_each(|v| *v = (f64::from(*v) * factor) as f32);
            }
        }
    }

    fn scale_in(&mut self, x: &[f32], alpha: f64) {
        self.scaled.clear();
        self.scaled.extend(x.iter().map(|v| (f64::from(*v) * alpha) as f32));
    }
}

/// The standard deviation, unbiased (n - 1), as torch computes it.
fn deviation(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let squares = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
    (squares / (n - 1.0).max(1.0)).sqrt()
}

/// sqrt(abar) and sqrt(1 - abar) of a noise level, which may be infinite.
fn shares(sigma: f32) -> (f64, f64) {
    let sigma = f64::from(sigma);
    if sigma.is_infinite() {
        return (0.0, 1.0);
    }
    let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
    (alpha, sigma * alpha)
}

/// `out = kept x + gain out`, in f64.
fn convert(out: &mut [f32], x: &[f32], (kept, gain): (f64, f64)) {
    out.iter_mut().zip(x).for_each(|(o, x)| *o = (kept * f64::from(*x) + gain * f64::from(*o)) as f32);
}

/// k-diffusion, `external.py`: what of x and of the raw prediction the clean estimate is made of, at a noise level.
fn clean_of(prediction: Prediction, sigma: f64, alpha: f64) -> (f64, f64) {
    match prediction {
        Prediction::Epsilon => (1.0, -sigma),
        Prediction::V => (alpha * alpha, -sigma * alpha),
        Prediction::Sample | Prediction::Flow => (0.0, 1.0),
    }
}

impl Denoiser for Guided<'_> {
    fn denoised(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        let (alpha, _) = shares(at.sigma);
        self.scale_in(x, alpha);
        self.predict(at, out, false)?;
        convert(out, x, clean_of(self.prediction, f64::from(at.sigma), alpha));
        Ok(())
    }

    fn denoised_apart(&mut self, x: &[f32], at: At, out: &mut [f32], uncond: &mut [f32]) -> Result<()> {
        let (alpha, _) = shares(at.sigma);
        self.scale_in(x, alpha);
        self.predict(at, out, true)?;
        let factors = clean_of(self.prediction, f64::from(at.sigma), alpha);
        uncond.copy_from_slice(&self.uncond);
        convert(uncond, x, factors);
        convert(out, x, factors);
        Ok(())
    }

    fn epsilon(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.scaled.clear();
        self.scaled.extend_from_slice(x);
        self.predict(at, out, false)?;
        let sigma = f64::from(at.sigma);
        let (alpha, noise) = shares(at.sigma);
        let factors = match self.prediction {
            Prediction::Epsilon => return Ok(()),
            Prediction::V => (noise, alpha),
            // At sigma 0 there is no noise to tell.
            Prediction::Sample | Prediction::Flow if sigma == 0.0 => (0.0, 0.0),
            Prediction::Sample | Prediction::Flow => (1.0 / noise, -1.0 / sigma),
        };
        convert(out, x, factors);
        Ok(())
    }

    fn noise_and_clean(&mut self, x: &[f32], at: At, noise: &mut [f32], clean: &mut [f32]) -> Result<()> {
        self.scaled.clear();
        self.scaled.extend_from_slice(x);
        self.predict(at, clean, false)?;
        noise.copy_from_slice(clean);
        let (a, b) = shares(at.sigma);
        let (to_noise, to_clean) = match self.prediction {
            Prediction::Epsilon if a == 0.0 => {
                return Err(Error::usage(
                    "a schedule without signal at its end (zero terminal SNR) needs a model that predicts velocity or the \
                     clean sample: noise alone says nothing there",
                ));
            }
            Prediction::Epsilon => ((0.0, 1.0), (1.0 / a, -b / a)),
            Prediction::V => ((b, a), (a, -b)),
            Prediction::Sample | Prediction::Flow if b == 0.0 => ((0.0, 0.0), (0.0, 1.0)),
            Prediction::Sample | Prediction::Flow => ((1.0 / b, -a / b), (0.0, 1.0)),
        };
        convert(noise, x, to_noise);
        convert(clean, x, to_clean);
        Ok(())
    }

    fn select(&mut self, images: Range<usize>) {
        self.images = images.len();
        self.unet.select(images);
    }
}

/// What a network with a guidance embedding is told of a guidance scale (`time_cond_proj`, latent consistency models):
/// sines, then cosines of `w = guidance - 1` at `width / 2` frequencies (diffusers' `get_guidance_scale_embedding`).
///
/// One conditional call is all such a network needs.
pub fn embedded_guidance(guidance: f32, width: usize) -> Vec<f32> {
    let half = width / 2;
    let step = (10_000f64.ln() / (half.max(2) - 1) as f64) as f32;
    let w = (guidance - 1.0) * 1000.0;
    // In f32, as torch: the products go up to thousands of radians.
    let angles: Vec<f32> = (0..half).map(|i| w * f64::from(i as f32 * -step).exp() as f32).collect();
    let sines = angles.iter().map(|a| f64::from(*a).sin() as f32);
    let cosines = angles.iter().map(|a| f64::from(*a).cos() as f32);
    sines.chain(cosines).chain((2 * half..width).map(|_| 0.0)).collect()
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

    fn denoised_apart(&mut self, x: &[f32], at: At, out: &mut [f32], uncond: &mut [f32]) -> Result<()> {
        self.inner.denoised_apart(x, at, out, uncond)?;
        self.blend(out);
        self.blend(uncond);
        Ok(())
    }

    fn epsilon(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        let mut blended = x.to_vec();
        self.blend(&mut blended);
        self.inner.epsilon(&blended, at, out)
    }

    fn noise_and_clean(&mut self, x: &[f32], at: At, noise: &mut [f32], clean: &mut [f32]) -> Result<()> {
        let mut blended = x.to_vec();
        self.blend(&mut blended);
        self.inner.noise_and_clean(&blended, at, noise, clean)
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
                Prediction::Flow => self.noise - self.clean,
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
            let mut second = [0.0];
            guided.scale = 1.0;
            guided.noise_and_clean(&[alpha * (clean + sigma * noise)], at, &mut out, &mut second).unwrap();
            assert!((out[0] - noise).abs() < 1e-5 && (second[0] - clean).abs() < 1e-5, "{prediction:?}");
            guided.denoised_apart(&[clean + sigma * noise], at, &mut out, &mut second).unwrap();
            assert!((out[0] - clean).abs() < 1e-5 && (second[0] - clean).abs() < 1e-5, "{prediction:?}");
            // Guidance 1 is one call, but for samplers that ask for both halves.
            assert_eq!(unet.halves, [false, true, false, true]);
        }
    }

    #[test]
    fn a_flow_is_refused_and_noise_alone_at_no_signal_too() {
        let at = At { step: 0, evaluation: 0, t: 999.0, sigma: f32::INFINITY };
        let (mut a, mut b) = ([0.0], [0.0]);
        let mut unet = Given(vec![0.0], vec![-0.25]);
        for (prediction, word) in [(Prediction::Flow, "flow"), (Prediction::Epsilon, "zero terminal SNR")] {
            let error = Guided::new(&mut unet, prediction, 1.0).noise_and_clean(&[0.5], at, &mut a, &mut b);
            assert!(error.unwrap_err().to_string().contains(word));
        }
        // Velocity says all there: it is minus the clean sample, and x is the noise.
        Guided::new(&mut unet, Prediction::V, 1.0).noise_and_clean(&[0.5], at, &mut a, &mut b).unwrap();
        assert_eq!((a, b), ([0.5], [0.25]));
    }

    /// Answers with given values, whatever it is asked.
    struct Given(Vec<f32>, Vec<f32>);

    impl Unet for Given {
        fn predict(&mut self, _: &[f32], _: At, uncond: Option<&mut [f32]>, conds: &mut [Vec<f32>]) -> Result<()> {
            if let Some(uncond) = uncond {
                uncond.copy_from_slice(&self.0);
            }
            conds[0].copy_from_slice(&self.1);
            Ok(())
        }
    }

    /// By hand: m = u + 3 (c - u) = [7, -2] and [4, 0]; std(c) / std(m) = (3 / 9) and (1.5 / 4), of two values each.
    #[test]
    fn guidance_rescale_matches_each_images_contrast() {
        let mut unet = Given(vec![1.0, 1.0, -0.5, 0.75], vec![3.0, 0.0, 1.0, 0.5]);
        let mut guided = Guided::new(&mut unet, Prediction::Epsilon, 3.0).with_rescale(0.5);
        guided.select(0..2);
        let mut out = [0.0; 4];
        guided.epsilon(&[0.0; 4], At { step: 0, evaluation: 0, t: 1.0, sigma: 1.0 }, &mut out).unwrap();
        let (first, second) = (0.5 * 3.0 / 9.0 + 0.5, 0.5 * 0.5 / 4.0 + 0.5);
        for (o, want) in out.iter().zip([7.0 * first, -2.0 * first, 4.0 * second, 0.0]) {
            assert!((o - want).abs() < 1e-6, "{out:?}");
        }
    }

    #[test]
    fn the_embedding_of_a_guidance_scale() {
        // diffusers 0.42.1, `guidance.7.5` of the tiny LCM: w = 7.5, places 0, 1, 64, 127, 128, 192 and 255.
        let vector = embedded_guidance(8.5, 256);
        assert_eq!(vector.len(), 256);
        #[rustfmt::skip]
        let want = [
            (0, -0.851_235_87), (1, 0.842_131_2), (64, -0.072_437_55), (127, 0.681_638_7), (128, -0.524_783_25),
            (192, -0.997_372_9), (255, 0.731_688_9),
        ];
        for (place, value) in want {
            assert!((vector[place] - value).abs() < 1e-4, "{place}: {} is not {value}", vector[place]);
        }
        assert!(embedded_guidance(1.0, 256).iter().enumerate().all(|(i, v)| *v == if i < 128 { 0.0 } else { 1.0 }));
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
