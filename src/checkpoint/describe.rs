//! A model to the text that `lienzo inspect` prints.

use super::Model;
use super::arch::{required_of, three};
use crate::error::escape;
use crate::models::text::MlpActivation;
use crate::models::training::Prediction;
use crate::models::unet::UnetConfig;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A summary of a few lines: format, architecture, sizes, types, schedule, tokenizer. Ends with a newline.
pub fn describe(model: &Model) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{key:<12} {value}");
    };
    line("name", escape(&model.name));
    line("path", model.path.as_ref().map_or("in the binary".into(), |p| escape(&p.to_string_lossy())));
    line("format", model.source.about());
    let (Ok((c, u, v)), networks) = (three(&model.networks), &model.networks) else { return out };
    let task = if networks.inpaints() { "inpainting" } else { "text to image" };
    line("kind", format!("{task} ({}-channel U-Net)", networks.in_channels()));
    let activation = match c.activation {
        MlpActivation::QuickGelu => "quick GELU",
        MlpActivation::Gelu => "GELU",
    };
    line(
        "text",
        format!(
            "{} layers, {} channels, {} heads, MLP {}, {activation}, {} positions, {} tokens",
            c.layers, c.width, c.heads, c.mlp_width, c.positions, c.vocab
        ),
    );
    line("U-Net", unet(u));
    line(
        "VAE",
        format!(
            "levels {}, {} blocks per level, {} groups, {} latent channels, {} pixels per latent, scaling {}",
            list(v.channels.iter()),
            v.blocks,
            v.groups,
            v.latent_channels,
            v.factor(),
            v.scaling
        ),
    );
    line("schedule", schedule(model));
    let tokenizer = if model.tokenizer.is_some() { "the model's own" } else { "built in (OpenAI CLIP's)" };
    line("tokenizer", tokenizer.into());
    let d = &model.defaults;
    let settings = format!("{0}x{0}, {1} steps, guidance {2}, {3}", d.size, d.steps, d.guidance, escape(&d.sampler));
    line("defaults", settings);
    for (part, what) in [("text_encoder.", "text"), ("unet.", "U-Net"), ("vae.", "VAE"), ("", "all")] {
        line(&format!("size {what}"), sizes(model, part));
    }
    out
}

fn list<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|i| i.to_string()).collect::<Vec<_>>().join("/")
}

fn unet(u: &UnetConfig) -> String {
    format!(
        "levels {}, {} blocks per level, heads {}, attention {}, text of {} channels, {} groups",
        list(u.levels.iter().map(|l| l.channels)),
        u.blocks,
        list(u.levels.iter().map(|l| l.heads)),
        list(u.levels.iter().map(|l| if l.attention { "yes" } else { "no" })),
        u.context_width,
        u.groups
    )
}

fn schedule(model: &Model) -> String {
    let s = &model.schedule;
    let predicts = match s.prediction {
        Prediction::Epsilon => "epsilon",
        Prediction::V => "v",
        Prediction::Sample => "sample",
        Prediction::Flow => "flow",
    };
    let kind = if s.scaled_linear { "scaled linear" } else { "linear" };
    let snr = if s.zero_snr.is_some() { ", zero terminal SNR" } else { "" };
    format!("predicts {predicts}, betas {} to {} {kind}, {} timesteps{snr}", s.beta_start, s.beta_end, s.train_steps)
}

/// Tensors, parameters and bytes below a prefix, and of which types.
fn sizes(model: &Model, prefix: &str) -> String {
    let (mut count, mut parameters, mut bytes, mut types) = (0, 0, 0, BTreeMap::new());
    for (name, _) in required_of(model).iter().filter(|(name, _)| name.starts_with(prefix)) {
        let Some(info) = model.source.info(name) else { continue };
        count += 1;
        parameters += info.len();
        let stored = model.source.stored(name);
        bytes += stored.map_or(0, |s| s.bytes);
        *types.entry(stored.map_or("", |s| s.name)).or_insert(0) += 1;
    }
    let types = match &types.iter().collect::<Vec<_>>()[..] {
        [(one, _)] => (**one).to_owned(),
        several => several.iter().map(|(t, n)| format!("{n} {t}")).collect::<Vec<_>>().join(" + "),
    };
    format!("{count} tensors, {parameters} parameters, {:.1} MB, {types}", bytes as f64 / 1e6)
}
