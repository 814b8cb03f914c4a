//! A plan, a start, noise and a denoiser in, final latents out: the loop that every sampler runs in.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use super::noise::Noise;
use super::plan::Timetable;
use super::timesteps::Point;
use crate::error::{Error, Kind, Remedy, Result};

/// Where an evaluation of the U-Net happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At {
    /// Index of the sampler's step, from 0 (for prompts that change on the way). All evaluations of a step share it;
    /// where the sampler groups evaluations as it needs, each counts as one of the steps that were asked for.
    pub step: usize,
    /// Index of the evaluation, from 0.
    pub evaluation: usize,
    /// The timestep that the U-Net is told, possibly fractional.
    pub t: f32,
    /// The noise level sqrt((1 - abar) / abar); infinite where there is no signal (zero terminal SNR).
    pub sigma: f32,
}

/// The guided model as the samplers see it. `x` and `out` are `[n][c][h][w]` flat.
///
/// Whatever changes the model's answer (inpainting, say) is another `Denoiser` around the first.
pub trait Denoiser {
    /// k-diffusion's `D(x, sigma)`: the clean latents, from `x = clean + sigma noise`.
    fn denoised(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()>;

    /// The same, and in `uncond` the clean latents as the model sees them without the prompt (CFG++). A denoiser
    /// without guidance knows of no difference.
    fn denoised_apart(&mut self, x: &[f32], at: At, out: &mut [f32], uncond: &mut [f32]) -> Result<()> {
        self.denoised(x, at, out)?;
        uncond.copy_from_slice(out);
        Ok(())
    }

    /// The noise in `x = sqrt(abar) clean + sqrt(1 - abar) noise` (DDIM, PLMS, UniPC).
    fn epsilon(&mut self, x: &[f32], at: At, out: &mut [f32]) -> Result<()>;

    /// Both, of the same x. From the noise alone no clean latents follow where there is no signal (an infinite
    /// `sigma`).
    fn noise_and_clean(&mut self, x: &[f32], at: At, noise: &mut [f32], clean: &mut [f32]) -> Result<()> {
        self.epsilon(x, at, noise)?;
        let sigma = f64::from(at.sigma);
        let scale = (sigma * sigma + 1.0).sqrt();
        for ((c, x), n) in clean.iter_mut().zip(x).zip(noise.iter()) {
            *c = (f64::from(*x) * scale - sigma * f64::from(*n)) as f32;
        }
        Ok(())
    }

    /// From now on `x` holds only these images of the batch.
    fn select(&mut self, _images: Range<usize>) {}
}

/// What the caller hears after each evaluation.
pub struct Progress<'a> {
    /// Where it happened; `at.evaluation + 1` evaluations are done.
    pub at: At,
    /// How many there will be, all images of an adaptive run apart: `None` where nobody knows.
    pub evaluations: Option<usize>,
    /// The images of the batch that are being computed.
    pub images: Range<usize>,
    estimate: Estimate<'a>,
}

enum Estimate<'a> {
    Clean(&'a [f32]),
    Noise { x: &'a [f32], epsilon: &'a [f32], alpha_bar: f64 },
}

impl Progress<'_> {
    /// The model's present guess of the final latents, `[n][c][h][w]` flat: what a preview
    /// shows. Costs nothing unless called.
    pub fn denoised(&self) -> Cow<'_, [f32]> {
        match self.estimate {
            Estimate::Clean(d) => Cow::Borrowed(d),
            Estimate::Noise { x, epsilon, alpha_bar } => {
                let (noise, scale) = ((1.0 - alpha_bar).sqrt(), 1.0 / alpha_bar.sqrt());
                let clean = |(x, e): (&f32, &f32)| ((f64::from(*x) - noise * f64::from(*e)) * scale) as f32;
                Cow::Owned(x.iter().zip(epsilon).map(clean).collect())
            }
        }
    }
}

/// The caller's ear: `Break` stops the sampling with a `Cancelled` error.
pub type EvaluationListener<'a> = dyn FnMut(&Progress<'_>) -> ControlFlow<()> + 'a;

/// A sampler's view of its run.
pub(crate) struct Run<'a> {
    pub plan: &'a Timetable,
    denoiser: &'a mut dyn Denoiser,
    noise: &'a mut dyn Noise,
    listener: &'a mut EvaluationListener<'a>,
    images: Range<usize>,
    step: usize,
    evaluation: usize,
}

impl Run<'_> {
    /// The clean latents at noise level `sigma`, of `x` in variance-exploding scale.
    pub fn denoise(&mut self, x: &[f32], sigma: f64, out: &mut [f32]) -> Result<()> {
        self.denoise_then(x, sigma, out, |_, _| {})
    }

    /// The same with something done to the estimate, at the timestep that was asked, before anybody hears of it.
    pub fn denoise_then(
        &mut self,
        x: &[f32],
        sigma: f64,
        out: &mut [f32],
        then: impl FnOnce(f32, &mut [f32]),
    ) -> Result<()> {
        let at = self.level(sigma);
        self.denoiser.denoised(x, at, out)?;
        then(at.t, out);
        self.tell(at, Estimate::Clean(out))
    }

    /// The clean latents, and what they would be without the prompt.
    pub fn denoise_apart(&mut self, x: &[f32], sigma: f64, out: &mut [f32], uncond: &mut [f32]) -> Result<()> {
        let at = self.level(sigma);
        self.denoiser.denoised_apart(x, at, out, uncond)?;
        self.tell(at, Estimate::Clean(out))
    }

    /// The noise in `x`, in variance-preserving scale, at `point`.
    pub fn epsilon(&mut self, x: &[f32], point: Point, out: &mut [f32]) -> Result<()> {
        let at = self.at(point.t, point.sigma() as f32);
        self.denoiser.epsilon(x, at, out)?;
        self.tell(at, Estimate::Noise { x, epsilon: out, alpha_bar: point.alpha_bar })
    }

    /// Noise and clean latents of `x` in variance-preserving scale, at `point`, where there may be no signal.
    pub fn noise_and_clean(&mut self, x: &[f32], point: Point, noise: &mut [f32], clean: &mut [f32]) -> Result<()> {
        let at = self.at(point.t, point.sigma() as f32);
        self.denoiser.noise_and_clean(x, at, noise, clean)?;
        self.tell(at, Estimate::Clean(clean))
    }

    fn level(&self, sigma: f64) -> At {
        let sigma = sigma as f32;
        self.at(self.plan.time_of(sigma), sigma)
    }

    fn at(&self, t: f32, sigma: f32) -> At {
        let step = if self.plan.sampler().grouped { self.evaluation } else { self.step };
        At { step, evaluation: self.evaluation, t, sigma }
    }

    fn tell(&mut self, at: At, estimate: Estimate<'_>) -> Result<()> {
        self.evaluation += 1;
        let evaluations = self.plan.evaluations();
        let progress = Progress { at, evaluations, images: self.images.clone(), estimate };
        if (self.listener)(&progress).is_break() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Adds `scale` times fresh noise; draws none where it would not be seen.
    pub fn add_noise(&mut self, x: &mut [f32], scale: f64) -> Result<()> {
        if scale == 0.0 {
            return Ok(());
        }
        let mut noise = vec![0.0; x.len()];
        self.noise.next(&mut noise)?;
        combine(x, 1.0, &[(scale, &noise)]);
        Ok(())
    }

    /// Adds `scale` times the Brownian path's noise from `sigma` to `next`.
    pub fn add_brownian(&mut self, x: &mut [f32], (sigma, next): (f32, f32), scale: f64) -> Result<()> {
        if scale == 0.0 {
            return Ok(());
        }
        let mut noise = vec![0.0; x.len()];
        self.noise.brownian(sigma, next, &mut noise)?;
        combine(x, 1.0, &[(scale, &noise)]);
        Ok(())
    }

    /// Ends a step; latents with a NaN or an infinity end the run.
    pub fn end_step(&mut self, x: &[f32]) -> Result<()> {
        self.step += 1;
        if x.iter().all(|v| v.is_finite()) {
            return Ok(());
        }
        let stage = format!("step {}", self.step);
        let error =
            Error::new(Kind::NonFinite { stage: stage.clone() }, "the latents hold a NaN or an infinity").at(stage);
        Err([Remedy::F32, Remedy::LowerGuidance, Remedy::OtherSampler].into_iter().fold(error, Error::try_this))
    }
}

/// `x = a x + sum of c v`, in f64 and in the order written.
pub(super) fn combine(x: &mut [f32], a: f64, terms: &[(f64, &[f32])]) {
    for (i, value) in x.iter_mut().enumerate() {
        let mut sum = a * f64::from(*value);
        for (c, v) in terms {
            sum += c * f64::from(v[i]);
        }
        *value = sum as f32;
    }
}

/// Runs the plan's sampler on `x` (already scaled to the first noise level) and leaves the final latents there.
///
/// `images` is the batch size, of which `x` is `[images][c][h][w]`. The adaptive sampler takes one image after the
/// other, because its step size follows from all it sees; so a batch always equals its single images.
pub fn run(
    plan: &Timetable,
    x: &mut [f32],
    images: usize,
    noise: &mut dyn Noise,
    denoiser: &mut dyn Denoiser,
    listener: &mut EvaluationListener<'_>,
) -> Result<()> {
    if images == 0 || x.is_empty() || !x.len().is_multiple_of(images) {
        return Err(Error::other(format!("{} latents do not divide into {images} images", x.len())));
    }
    let (sigma_min, sigma_max) = plan.levels();
    noise.range(sigma_min, sigma_max);
    let each = if plan.sampler().adaptive() { 1 } else { images };
    let len = x.len() / images;
    for first in (0..images).step_by(each) {
        let selected = first..first + each;
        noise.select(selected.clone());
        denoiser.select(selected.clone());
        let part = &mut x[first * len..(first + each) * len];
        let mut run = Run {
            plan,
            denoiser: &mut *denoiser,
            noise: &mut *noise,
            listener: &mut |p| listener(p),
            images: selected,
            step: 0,
            evaluation: 0,
        };
        (plan.method)(&mut run, part)?;
    }
    noise.select(0..images);
    denoiser.select(0..images);
    Ok(())
}

/// The whole of it: draws the start from `noise`, mixes it with the image's latents if there is one, and runs the plan.
///
/// `init` is the latents of img2img, `[images][c][h][w]` like the result, whose length is `images * len`.
pub fn sample(
    plan: &Timetable,
    (images, len): (usize, usize),
    init: Option<&[f32]>,
    noise: &mut dyn Noise,
    denoiser: &mut dyn Denoiser,
    listener: &mut EvaluationListener<'_>,
) -> Result<Vec<f32>> {
    let mut x = vec![0.0; images * len];
    noise.next(&mut x)?;
    plan.start(&mut x, init)?;
    run(plan, &mut x, images, noise, denoiser, listener)?;
    Ok(x)
}
