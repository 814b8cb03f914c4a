//! Reference values in, one line per comparison out: is this machine computing what diffusers computes?
//!
//! A check is named after the reference tensor that it compares. Its error is `max|y - ref| / rms(ref)`; tokens are
//! compared exactly, 8-bit pictures may differ by one level. Everything is computed by
//! the functions that `generate` calls.

pub mod adapters;
pub mod diffusers;
mod family;
mod inpaint;
pub mod lockstep;
mod model;
pub mod reference;
mod sampling;
mod upscalers;

pub use upscalers::upscalers;

use crate::diffusion::Stages;
use crate::dtype::{Precision, Products, Storage};
use crate::error::{Error, Result};
use crate::models::tokenizer::Tokenizer;
use crate::models::{Autoencoder, Networks};
use reference::Reference;
use serde::Serialize;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Within the limit.
    Pass,
    /// Outside of the limit, or it could not be computed.
    Fail,
    /// The file has a name that verify does not know.
    Unknown,
    /// The model lacks the part: a file without an autoencoder decodes nothing.
    Absent,
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The reference tensor's name, or the table's.
    pub name: String,
    /// `max|y - ref| / rms(ref)`; levels for pictures, differing tokens for tokens. None where nothing was computed.
    pub error: Option<f64>,
    /// The largest error that passes.
    pub limit: f64,
    /// What became of it.
    pub status: Status,
    /// Why it failed without an error figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Which checks run, and how strictly.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Dot-separated names: each selects itself and everything below it. Empty selects all.
    pub only: Vec<String>,
    /// Replaces every limit.
    pub tolerance: Option<f64>,
    /// Limits of what the model computes are those of its storage or of its products.
    pub precision: Precision,
}

impl VerifyOptions {
    fn limit(&self, f32: f64) -> f64 {
        let wider: &[(f64, f64)] = match self.precision {
            Precision { products: Products::Bf16, .. } => &limit::BF16,
            Precision { storage: Storage::F16, .. } => &limit::F16,
            _ => &[],
        };
        let wider = wider.iter().find(|(own, _)| *own == f32).map(|(_, limit)| *limit);
        self.tolerance.or(wider).unwrap_or(f32)
    }

    fn selects(&self, name: &str) -> bool {
        let below =
            |only: &String| name.strip_prefix(only.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('.'));
        self.only.is_empty() || self.only.iter().any(below)
    }
}

/// A comparison that can be made.
enum Job {
    /// Part of the model or of the sampling; the name says which.
    Compute(f64),
    Tokens(usize),
    Unknown,
    /// Of this part, which the model lacks.
    Absent(&'static str),
}

/// Limits, for f32 arithmetic; with f16 storage those of `F16`, with bf16 products those of `BF16`.
///
/// Each of TEXT, UNET and LOOP is about ten times the largest healthy error of all backends (scalar, AVX2, AVX-512, a
/// GPU in f32), measured on a tiny model with every kind of block, on one of SD 2 and on the embedded one.
mod limit {
    /// Weights with adapters merged into them, in f32: 2.6e-6.
    pub const MERGED: f64 = 1e-5;
    /// Hidden states: 2.5e-6.
    pub const TEXT: f64 = 2e-5;
    /// One call of the U-Net: 7.1e-6, with SD 2's 1.3e-5 (3.3e-6 with the embedded model). A matmul with one column
    /// that is 0.1% off gives 7e-5 and more.
    pub const UNET: f64 = 5e-5;
    /// The autoencoder, 2.8e-5; and networks that are told sizes, whose sines of large angles f32 rounds.
    pub const MODEL: f64 = 1e-4;
    /// Whole loops: 1.7e-5, inpainting 2.7e-5.
    pub const LOOP: f64 = 3e-4;
    /// Loops of networks that are told sizes, or that begin at sigma 4096, where f32 cancels.
    pub const LONG: f64 = 2e-3;
    pub const NOISE: f64 = 2e-6;
    pub const SAMPLER: f64 = 1e-5;
    /// Sines of angles of thousands of radians, which f32 rounds by 5e-4: with torch's own order of operations or
    /// another.
    pub const ANGLES: f64 = 1e-3;
    /// One level of 255.
    pub const PICTURE: f64 = 1.0;
    /// The same in bf16, which keeps 8 bits of the 24. Measured on a tiny model: U-Net 2.1e-2, decoder 5.6e-2, loops
    /// 6.6e-2, 3 levels.
    pub const BF16: [(f64, f64); 6] =
        [(TEXT, 1e-1), (UNET, 1e-1), (MODEL, 1e-1), (LOOP, 2e-1), (LONG, 2e-1), (PICTURE, 12.0)];
    /// With values stored as f16, 11 bits; the text encoder keeps f32. Measured on a tiny model: U-Net 6.4e-3, decoder
    /// 1.8e-2, loops 1.3e-2, inpainting 2.1e-2, 1 level.
    pub const F16: [(f64, f64); 5] = [(UNET, 3e-2), (MODEL, 3e-2), (LOOP, 2e-1), (LONG, 1.0), (PICTURE, 4.0)];
}

/// What the checks are computed with.
pub(crate) struct Bench<'a> {
    stages: &'a dyn Stages,
    tokens: &'a Tokenizer,
    reference: &'a Reference,
}

/// Runs every selected check and reports it; an `only` that selects nothing is a usage error.
pub fn verify(
    stages: &dyn Stages,
    tokens: &Tokenizer,
    reference: &Reference,
    options: &VerifyOptions,
    report: &mut dyn FnMut(&Check),
) -> Result<()> {
    // Files of one piece bring no vocabulary: where it was cut, the usual one has other numbers.
    let vocab = stages.model().networks.text.first().map_or(usize::MAX, |t| t.vocab);
    let known = (tokens.end() as usize) < vocab;
    let networks = &stages.model().networks;
    let jobs: Vec<(String, Job)> = jobs(reference, networks.in_channels() == 9)
        .into_iter()
        .map(|(name, job)| match absent(&name, networks) {
            Some(part) if !matches!(job, Job::Unknown) => (name, Job::Absent(part)),
            _ => (name, job),
        })
        .filter(|(_, job)| known || !matches!(job, Job::Tokens(_)))
        .filter(|(name, _)| options.selects(name))
        .collect();
    if jobs.is_empty() {
        let only = crate::error::escape(&options.only.join(","));
        return Err(Error::of_option("only", format!("{only} selects no check of this reference and model")));
    }
    let bench = Bench { stages, tokens, reference };
    for (name, job) in jobs {
        report(&bench.check(name, &job, options)?);
    }
    Ok(())
}

/// What became of a comparison with this limit.
///
/// # Errors
/// It was cancelled.
fn compared(name: String, limit: f64, computed: Result<f64>) -> Result<Check> {
    match computed {
        Ok(error) => {
            // A NaN is not within any limit.
            let status = if error <= limit { Status::Pass } else { Status::Fail };
            Ok(Check { name, error: Some(error), limit, status, note: None })
        }
        Err(e) if *e.kind() == crate::Kind::Cancelled => Err(e),
        Err(e) => Ok(Check { name, error: None, limit, status: Status::Fail, note: Some(e.to_string()) }),
    }
}

/// The part that a check needs and these networks lack.
fn absent(name: &str, networks: &Networks) -> Option<&'static str> {
    let autoencoder = networks.autoencoder.as_ref();
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["vae", "mean" | "logvar"] | ["taesd", "encoded" | "raw_encoded"] | ["img2img", ..]
            if !autoencoder.is_some_and(Autoencoder::encodes) =>
        {
            Some("encoder of its VAE")
        }
        ["vae" | "taesd", ..] | ["loop", _, "image"] | ["txt2img", "image_u8"] if autoencoder.is_none() => Some("VAE"),
        ["text" | "unet" | "unet9" | "loop" | "txt2img" | "img2img" | "inpaint" | "inpaint9", ..]
            if networks.predictor.is_none() =>
        {
            Some("U-Net")
        }
        _ => None,
    }
}

impl Bench<'_> {
    fn check(&self, name: String, job: &Job, options: &VerifyOptions) -> Result<Check> {
        let (limit, computed) = match job {
            Job::Compute(limit) => (options.limit(*limit), self.compute(&name)),
            Job::Tokens(i) => (0.0, self.tokens(*i)),
            Job::Unknown => {
                return Ok(Check { name, error: None, limit: 0.0, status: Status::Unknown, note: None });
            }
            Job::Absent(part) => {
                let note = Some(format!("the model has no {part}"));
                return Ok(Check { name, error: None, limit: 0.0, status: Status::Absent, note });
            }
        };
        compared(name, limit, computed)
    }

    fn compute(&self, name: &str) -> Result<f64> {
        let family = name.split('.').next().unwrap_or("");
        match family {
            "text" | "unet" | "unet9" | "vae" | "taesd" | "guidance" => self.model_part(name),
            "txt2img" | "img2img" => self.picture(name),
            "inpaint" | "inpaint9" => self.inpainting(name),
            _ => self.sampling(name),
        }
    }

    fn tokens(&self, i: usize) -> Result<f64> {
        let case = &self.reference.tokens[i];
        let mut padded = self.tokens.encode_chunk(&case.prompt, case.ids77.len());
        let end = self.tokens.end();
        if let Some(text) = self.stages.model().networks.text.first() {
            let behind = padded.ids.iter().position(|id| *id == end).map_or(padded.ids.len(), |n| n + 1);
            padded.ids[behind..].fill(text.padding.id(end));
        }
        let bare = self.tokens.encode(&case.prompt);
        let differ = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a != b).count() + a.len().abs_diff(b.len());
        Ok((differ(&padded.ids, &case.ids77) + differ(&bare, &case.ids)) as f64)
    }
}

/// Every check that a reference asks for, in the order of the data. Those of another kind of model are left out.
fn jobs(reference: &Reference, nine_channels: bool) -> Vec<(String, Job)> {
    let mut jobs: Vec<(String, Job)> =
        (0..reference.tokens.len()).map(|i| (format!("tokens.{i}"), Job::Tokens(i))).collect();
    for name in reference.names() {
        if let Some(job) = job(name, nine_channels) {
            // Sines of large angles lie in the way of networks that are told sizes.
            let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
            let told = |name: &str| reference.get(name).is_ok();
            let job = match job {
                Job::Compute(limit::UNET) if told(&format!("{stem}.time_ids")) => Job::Compute(limit::MODEL),
                Job::Compute(limit::LOOP) if told("loop.time_ids") => Job::Compute(limit::LONG),
                job => job,
            };
            jobs.push((name.to_owned(), job));
        }
        let loop_name = name.strip_prefix("loop.").and_then(|n| n.strip_suffix(".latents")).filter(|_| !nine_channels);
        if let Some((l, given)) = loop_name.and_then(|l| Some((l, reference.loops.get(l)?))) {
            jobs.push((format!("loop.{l}.timesteps"), Job::Compute(limit::SAMPLER)));
            jobs.push((format!("loop.{l}.init_noise_sigma"), Job::Compute(limit::SAMPLER)));
            if !given.sigmas.is_empty() {
                jobs.push((format!("loop.{l}.sigmas"), Job::Compute(limit::SAMPLER)));
            }
        }
    }
    jobs.extend(reference.tables.keys().map(|name| (format!("table.{name}"), Job::Compute(limit::SAMPLER))));
    jobs
}

/// The check that a tensor of the file stands for; none if it is an input of others or belongs to another model.
fn job(name: &str, nine_channels: bool) -> Option<Job> {
    let parts: Vec<&str> = name.split('.').collect();
    let own = |for_nine: bool, job: Job| (for_nine == nine_channels).then_some(job);
    match parts.as_slice() {
        ["text", _, "ids" | "ids_2"] => None,
        ["unet" | "unet9", .., "sample" | "timestep" | "context" | "context154"] => None,
        ["unet" | "unet9", .., "pooled" | "time_ids" | "timestep_cond"] => None,
        ["taesd", "latents" | "image"] => None,
        ["loop", "uncond_pooled" | "cond_pooled" | "time_ids"] | ["loop", _, "step_noise"] => None,
        ["text", _, "penultimate" | "penultimate_2" | "context" | "context_one_earlier" | "pooled"] => {
            Some(Job::Compute(limit::MODEL))
        }
        ["taesd", "decoded" | "raw_decoded" | "encoded" | "raw_encoded"] => Some(Job::Compute(limit::MODEL)),
        ["guidance", ..] => Some(Job::Compute(limit::ANGLES)),
        ["unet", _, "vector"] => own(false, Job::Compute(limit::MODEL)),
        ["unet", _, "output_no_guidance"] => own(false, Job::Compute(limit::MODEL)),
        ["unet", _, heads] if heads.starts_with("output_heads_") => own(false, Job::Compute(limit::MODEL)),
        ["vae", "latents" | "image"] | ["loop", "uncond" | "cond"] | ["loop", _, "noise"] => None,
        ["k", "mean" | "noise"] | ["k", _, "x0"] => None,
        ["txt2img" | "img2img", "noise" | "image"] | ["inpaint", "init" | "noise" | "mask"] => None,
        ["text", _, "last_hidden_state" | "clip_skip_2"] => Some(Job::Compute(limit::TEXT)),
        ["vae", "decoded" | "mean" | "logvar"] => Some(Job::Compute(limit::MODEL)),
        ["unet", _, "output" | "output154"] => own(false, Job::Compute(limit::UNET)),
        ["unet9", "output"] | ["unet9", _, "output"] => own(true, Job::Compute(limit::UNET)),
        ["loop", "zsnr_euler", "first" | "latents"] => own(false, Job::Compute(limit::LONG)),
        ["loop", _, "first" | "latents" | "image"] => own(false, Job::Compute(limit::LOOP)),
        ["txt2img" | "img2img", "latents"] => own(false, Job::Compute(limit::LOOP)),
        ["txt2img", "image_u8"] => own(false, Job::Compute(limit::PICTURE)),
        ["inpaint", "latents"] => own(false, Job::Compute(limit::LOOP)),
        ["inpaint9", "latents"] => own(true, Job::Compute(limit::LOOP)),
        ["randn", _, _] => Some(Job::Compute(limit::NOISE)),
        ["brownian", _] | ["k", ..] | ["zsnr", "alphas_cumprod"] => Some(Job::Compute(limit::SAMPLER)),
        _ => Some(Job::Unknown),
    }
}

/// `max|y - ref| / rms(ref)`. An all-zero reference is compared absolutely; a NaN gives NaN.
pub(crate) fn error(y: &[f32], reference: &[f32]) -> Result<f64> {
    if y.len() != reference.len() {
        return Err(Error::other(format!("{} values computed where the reference has {}", y.len(), reference.len())));
    }
    let rms = (reference.iter().map(|r| f64::from(*r).powi(2)).sum::<f64>() / reference.len().max(1) as f64).sqrt();
    let scale = if rms > 0.0 { rms } else { 1.0 };
    let mut worst = 0.0;
    for (y, r) in y.iter().zip(reference) {
        let e = (f64::from(*y) - f64::from(*r)).abs() / scale;
        if e.is_nan() {
            return Ok(f64::NAN);
        }
        worst = f64::max(worst, e);
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_selects_by_whole_parts() {
        let only = |s: &str| VerifyOptions { only: vec![s.into()], ..VerifyOptions::default() };
        assert!(only("unet").selects("unet.cfg.output") && !only("unet").selects("unet9.output"));
        assert!(only("loop.euler").selects("loop.euler.latents"));
        assert!(!only("loop.euler").selects("loop.euler_karras.latents"));
    }

    #[test]
    fn a_nan_never_passes() {
        assert!(error(&[1.0, f32::NAN], &[1.0, 1.0]).is_ok_and(f64::is_nan));
        assert_eq!(error(&[3.0, 0.0], &[1.0, 1.0]).ok(), Some(2.0));
        assert!(error(&[1.0], &[1.0, 1.0]).is_err());
    }
}
