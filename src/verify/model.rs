//! The checks of the network's parts: text encoder, U-Net, autoencoder, and whole pictures.

use super::reference::Values;
use super::{Bench, error};
use crate::diffusion::denoise::guided::Guided;
use crate::diffusion::denoise::noise::FixedNoise;
use crate::diffusion::denoise::plan::{Settings, Timetable};
use crate::diffusion::denoise::run::{Progress, sample};
use crate::diffusion::denoise::samplers;
use crate::diffusion::denoise::schedule::Schedule;
use crate::diffusion::prompt::{PromptedUnet, Prompts};
use crate::diffusion::{self};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};
use std::ops::ControlFlow;

impl Bench<'_> {
    /// `text.*`, `unet.*`, `unet9.*`, `vae.*`, `taesd.*`, `guidance.*`.
    pub(super) fn model_part(&self, name: &str) -> Result<f64> {
        let want = &self.reference.get(name)?.data;
        let last = name.rsplit_once('.').map_or("", |(_, last)| last);
        match (name.split('.').next().unwrap_or(""), last) {
            ("text", _) => self.encoders(name),
            ("taesd", _) => self.tiny(name),
            ("guidance", _) => self.guidance(name),
            ("vae", "decoded") => {
                let latents = self.reference.get("vae.latents")?;
                let kind = self.stages.model().networks.latents();
                let scaled = Values { data: kind.to_autoencoder(&latents.data), ..latents.clone() };
                error(&self.stages.decode(nhwc(&scaled)?)?.to_nchw(), want)
            }
            ("vae", _) => {
                let moments = self.stages.encode(nhwc(self.reference.get("vae.image")?)?)?;
                let c = moments.shape().c / 2;
                let first = if last == "mean" { 0 } else { c };
                error(&columns(&moments, first, c)?.to_nchw(), want)
            }
            _ => self.predicted(name),
        }
    }

    /// The contexts of the guided loops.
    pub(super) fn prompts(&self) -> Result<Prompts> {
        let get = |name| tokens(self.reference.get(name)?);
        let mut prompts = Prompts::plain(Some(get("loop.uncond")?), get("loop.cond")?);
        if self.stages.model().networks.added().is_some() {
            let pooled = ["loop.cond_pooled", "loop.uncond_pooled"].map(|name| self.reference.get(name));
            let pooled = pooled.into_iter().map(|values| Ok(values?.data.clone())).collect::<Result<_>>()?;
            prompts = prompts.with_pooled(pooled).with_sizes(self.reference.get("loop.time_ids")?.data.clone());
        }
        Ok(prompts)
    }

    /// [`Bench::prompts`] with nothing at all as the negative one, neither tokens nor a pooled vector.
    pub(super) fn prompts_without_words(&self) -> Result<Prompts> {
        let (uncond, cond) = (self.reference.get("loop.uncond")?, tokens(self.reference.get("loop.cond")?)?);
        let nothing = Values { shape: uncond.shape.clone(), data: vec![0.0; uncond.data.len()] };
        let pooled = self.reference.get("loop.cond_pooled")?.data.clone();
        let none = vec![0.0; pooled.len()];
        let sizes = self.reference.get("loop.time_ids")?.data.clone();
        Ok(Prompts::plain(Some(tokens(&nothing)?), cond).with_pooled(vec![pooled, none]).with_sizes(sizes))
    }

    /// Runs a sampler's plan, guided, from `noise`, over `init`.
    pub(super) fn guided(&self, plan: &Timetable, cfg: f32, noise: &Values, init: Option<&[f32]>) -> Result<Vec<f32>> {
        let &[n, _, h, w] = noise.shape.as_slice() else {
            return Err(Error::other(format!("noise of shape {:?} is not a batch of latents", noise.shape)));
        };
        let prompts = self.prompts()?;
        let mut unet = PromptedUnet::new(self.stages, &prompts, (n, h, w), plan.times())?;
        let mut guided = Guided::new(&mut unet, self.stages.model().schedule.prediction, cfg);
        let mut source = FixedNoise::new(vec![noise.data.clone()]);
        let mut heard = |_: &Progress<'_>| ControlFlow::Continue(());
        sample(plan, (n, noise.data.len() / n.max(1)), init, &mut source, &mut guided, &mut heard)
    }

    /// `txt2img.*` and `img2img.*`.
    pub(super) fn picture(&self, name: &str) -> Result<f64> {
        let (kind, part) = name.split_once('.').unwrap_or((name, ""));
        let noise = self.reference.get(&format!("{kind}.noise"))?;
        let schedule = Schedule::new(&self.stages.model().schedule)?;
        let ddim = samplers::find("ddim")?;
        let want = &self.reference.get(name)?.data;
        if kind == "img2img" {
            let settings = Settings { strength: Some(0.6), ..Settings::new(ddim, 10) };
            let moments = self.stages.encode(nhwc(self.reference.get("img2img.image")?)?)?;
            let kind = self.stages.model().networks.latents();
            let init = kind.to_sampler(&columns(&moments, 0, kind.channels)?.to_nchw());
            let latents = self.guided(&Timetable::new(&schedule, &settings)?, 7.5, noise, Some(&init))?;
            return error(&latents, want);
        }
        let latents = self.guided(&Timetable::new(&schedule, &Settings::new(ddim, 6))?, 7.5, noise, None)?;
        if part == "latents" {
            return error(&latents, want);
        }
        let image = diffusion::decode(self.stages, (noise.shape[2], noise.shape[3]), &latents)?;
        let pixels = image.width * image.height;
        if want.len() != 3 * pixels {
            return Err(Error::other(format!(
                "{}x{} drawn, {} values expected",
                image.width,
                image.height,
                want.len()
            )));
        }
        let level = |i: usize| (f32::from(image.rgb[i % pixels * 3 + i / pixels]) - want[i]).abs();
        Ok((0..want.len()).map(level).fold(0.0f32, f32::max).into())
    }
}

/// torch's `[b, c, h, w]` to a tensor.
pub(super) fn nhwc(v: &Values) -> Result<Tensor> {
    match *v.shape.as_slice() {
        [b, c, h, w] => Tensor::from_nchw(Shape::new(b, h, w, c), &v.data),
        _ => Err(Error::other(format!("a tensor of shape {:?} is not [b, c, h, w]", v.shape))),
    }
}

/// torch's `[b, tokens, width]` to a tensor.
pub(super) fn tokens(v: &Values) -> Result<Tensor> {
    match *v.shape.as_slice() {
        [b, t, c] => Tensor::new(Shape::tokens(b, t, c), v.data.clone()),
        _ => Err(Error::other(format!("a tensor of shape {:?} is not [b, tokens, width]", v.shape))),
    }
}

/// Channels `first .. first + count`.
pub(super) fn columns(t: &Tensor, first: usize, count: usize) -> Result<Tensor> {
    let s = t.shape();
    let data = t.data().chunks_exact(s.c).flat_map(|row| &row[first..first + count]).copied().collect();
    Tensor::new(s.with_c(count), data)
}
