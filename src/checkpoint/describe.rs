//! A model to the text that `lienzo inspect` prints.

use super::Model;
use super::arch::required_of;
use crate::error::escape;
use crate::models::text::{MlpActivation, TextConfig};
use crate::models::training::Prediction;
use crate::models::unet::{UnetBlock, UnetConfig};
use crate::models::{Autoencoder, Predictor};
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
    let networks = &model.networks;
    let task = if networks.inpaints() { "inpainting" } else { "text to image" };
    line("kind", format!("{task} ({}-channel U-Net)", networks.in_channels()));
    networks.text.iter().for_each(|t| line("text", text(t)));
    if let Some(Predictor::Unet(u)) = &networks.predictor {
        line("U-Net", unet(u));
    }
    line("VAE", networks.autoencoder.as_ref().map_or("none; give one in a file of its own".into(), autoencoder));
    line("schedule", schedule(model));
    let tokenizer = if model.tokenizer.is_some() { "the model's own" } else { "built in (OpenAI CLIP's)" };
    line("tokenizer", tokenizer.into());
    let d = &model.defaults;
    let settings = format!("{0}x{0}, {1} steps, guidance {2}, {3}", d.size, d.steps, d.guidance, escape(&d.sampler));
    let taken = model.evidence.kind.map(|kind| format!(" (taken for {kind}, by its name)")).unwrap_or_default();
    line("defaults", settings + &taken);
    for (part, what) in [("text_encoder", "text"), ("unet.", "U-Net"), ("vae.", "VAE"), ("", "all")] {
        line(&format!("size {what}"), sizes(model, part));
    }
    out
}

fn list<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|i| i.to_string()).collect::<Vec<_>>().join("/")
}

fn text(c: &TextConfig) -> String {
    let activation = match c.activation {
        MlpActivation::QuickGelu => "quick GELU",
        MlpActivation::Gelu => "GELU",
    };
    let state = match (c.trained, c.final_norm) {
        (1, true) => String::new(),
        (n, norm) => format!(", state {n} from the end{}", if norm { "" } else { " without the final norm" }),
    };
    let pooled = c.projection.map_or(String::new(), |p| format!(", pooled {p}"));
    format!(
        "{} layers, {} channels, {} heads, MLP {}, {activation}, {} positions, {} tokens{state}{pooled}",
        c.layers, c.width, c.heads, c.mlp_width, c.positions, c.vocab
    )
}

fn unet(u: &UnetConfig) -> String {
    let attends = |b: &UnetBlock| if b.depths.iter().any(|d| *d > 0) { "yes" } else { "no" };
    let resnets = u.down.iter().map(|b| b.depths.len()).max().unwrap_or(0);
    let mut out = format!(
        "levels {}, {resnets} blocks per level, heads {}, attention {}, text of {} channels, {} groups",
        list(u.down.iter().map(|b| b.channels)),
        list(u.down.iter().map(|b| b.heads)),
        list(u.down.iter().map(attends)),
        u.context_width,
        u.groups
    );
    let mut more = |what: String| {
        out.push_str(", ");
        out.push_str(&what);
    };
    if u.down.iter().chain(&u.up).chain(&u.middle).any(|b| b.depths.iter().any(|d| *d > 1)) {
        let side = |blocks: &[UnetBlock]| list(blocks.iter().map(|b| list_of(&b.depths)));
        more(format!("depths down {} up {}", side(&u.down), side(&u.up)));
    }
    match u.middle.as_ref().map(|b| b.depths.as_slice()) {
        None => more("no middle".into()),
        Some([0]) => more("a middle of one ResNet".into()),
        Some(_) => {}
    }
    if u.down.iter().any(|b| b.cross_only) {
        more(format!("cross-attention only {}", list(u.down.iter().map(|b| if b.cross_only { "yes" } else { "no" }))));
    }
    if let Some(a) = u.added {
        more(format!("told pooled text of {} and {} sizes", a.pooled, a.numbers));
    }
    if let Some(width) = u.guidance {
        more(format!("told the guidance scale ({width})"));
    }
    out
}

fn autoencoder(a: &Autoencoder) -> String {
    match a {
        Autoencoder::Kl(v) => format!(
            "levels {}, {} blocks per level, {} groups, {} latent channels, {} pixels per latent, scaling {}{}",
            list(v.channels.iter()),
            v.blocks,
            v.groups,
            v.latent_channels,
            v.factor(),
            v.scaling,
            if v.encodes { "" } else { ", decoder only" }
        ),
        Autoencoder::Tiny(t) => format!(
            "tiny, {} channels, {} latent channels, {} pixels per latent{}",
            t.channels,
            t.latent_channels,
            t.factor(),
            if t.encoder.is_empty() { ", decoder only" } else { "" }
        ),
    }
}

fn list_of(depths: &[usize]) -> String {
    depths.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
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
    let grounds = model.evidence.prediction;
    format!(
        "predicts {predicts} ({grounds}), betas {} to {} {kind}, {} timesteps{snr}",
        s.beta_start, s.beta_end, s.train_steps
    )
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
