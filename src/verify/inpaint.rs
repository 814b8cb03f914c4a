//! The checks of inpainting: `inpaint.latents` with a model that knows nothing of masks,
//! `inpaint9.latents` with one that does.

use super::{Bench, error};
use crate::diffusion::denoise::guided::Guided;
use crate::diffusion::denoise::noise::FixedNoise;
use crate::diffusion::denoise::plan::Timetable;
use crate::diffusion::denoise::run::Progress;
use crate::diffusion::denoise::samplers;
use crate::diffusion::inpaint::{Kept, sample};
use crate::diffusion::prompt::PromptedUnet;
use crate::error::{Error, Result};
use crate::models::unet::UnetInputs;
use std::ops::ControlFlow;

/// The guidance of the reference loops.
const GUIDANCE: f32 = 7.5;

impl Bench<'_> {
    /// Euler along the discrete table: from `init + noise sigma_0` and blended, or from `noise sigma_0` and told.
    pub(super) fn inpainting(&self, name: &str) -> Result<f64> {
        let get = |part: &str| self.reference.get(&format!("inpaint.{part}"));
        let (init, noise, mask) = (get("init")?, get("noise")?, get("mask")?);
        let &[n, c, h, w] = noise.shape.as_slice() else {
            return Err(Error::other(format!("noise of shape {:?} is not a batch of latents", noise.shape)));
        };
        if mask.data.len() != n * h * w || init.data.len() != noise.data.len() {
            return Err(Error::other("init, noise and mask do not belong together"));
        }
        let plan = Timetable::on_sigmas(&self.schedule()?, samplers::find("euler")?, self.table("discrete")?, None)?;
        let masks: Vec<f32> = mask.data.chunks_exact(h * w).flat_map(|m| m.repeat(c)).collect();
        let told = name.starts_with("inpaint9");
        let pictures = init.data.chunks_exact(c * h * w).zip(mask.data.chunks_exact(h * w));
        let beside = |(init, mask): (&[f32], &[f32])| {
            let masked = init.iter().zip(mask.iter().cycle()).map(|(i, m)| i * (1.0 - m));
            mask.iter().copied().chain(masked).collect::<Vec<f32>>()
        };
        let inputs = UnetInputs { masked: told.then(|| pictures.flat_map(beside).collect()) };
        let prompts = self.prompts()?;
        let mut unet = PromptedUnet::new(self.stages, &prompts, (n, h, w), plan.times())?.with_inputs(inputs);
        let mut guided = Guided::new(&mut unet, self.stages.model().schedule.prediction, GUIDANCE);
        let start = (!told).then_some(init.data.as_slice());
        let kept = start.map(|init| Kept { init, mask: &masks });
        let mut source = FixedNoise::new(vec![noise.data.clone()]);
        let mut heard = |_: &Progress<'_>| ControlFlow::Continue(());
        let latents = sample(&plan, (n, c * h * w), start, kept, &mut source, &mut guided, &mut heard)?;
        error(&latents, &self.reference.get(name)?.data)
    }
}
