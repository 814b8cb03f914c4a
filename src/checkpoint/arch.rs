//! Tensor shapes to an architecture, and an architecture to the tensors that it needs.

use super::Model;
use crate::error::escape;
use crate::kernels::Packing;
use crate::models::autoencoder::kl::KlConfig;
use crate::models::autoencoder::tiny::TinyConfig;
use crate::models::part::Part;
use crate::models::text::{MlpActivation, Padding, TextConfig, root};
use crate::models::unet::{AddedEmbedding, UnetBlock, UnetConfig};
use crate::models::{Autoencoder, Networks, Predictor};
use crate::weights::WeightSource;
use std::fmt::Write as _;

/// What the shapes do not tell.
const CLIP_HEADS: usize = 12;
const UNET_HEADS: usize = 8;
/// The size of a head everywhere but in SD 1.x's U-Net.
const HEAD: usize = 64;
const GROUPS: usize = 32;
/// Width of the sinusoids of one of SDXL's numbers.
const SINUSOIDS: usize = 256;
/// Levels, layers and blocks that are looked for at most.
const MOST: usize = 256;

/// A tensor's canonical name and shape.
pub type Required = (String, Vec<usize>);

fn dim(source: &dyn WeightSource, name: &str, axis: usize) -> Result<usize, String> {
    let shape = &source.info(name).ok_or_else(|| format!("has no {name}; it is incomplete"))?.shape;
    shape
        .get(axis)
        .copied()
        .ok_or_else(|| format!("has {name} of shape {shape:?}; it is not of the Stable Diffusion family"))
}

/// How many of `pattern` with `{}` replaced by 0, 1, 2, ... are there. Bounded, so that names cannot make it long.
fn count(source: &dyn WeightSource, pattern: &str) -> usize {
    (0..MOST).take_while(|i| source.info(&pattern.replace("{}", &i.to_string())).is_some()).count()
}

/// The n-th text encoder that the tensors describe: OpenAI's CLIP, or OpenCLIP's.
///
/// # Errors
/// A sentence that names the tensor which is missing or unlike any of the family.
pub fn text(source: &dyn WeightSource, n: usize, openclip: bool) -> Result<TextConfig, String> {
    let root = root(n);
    let embedding = format!("{root}.embeddings.token_embedding.weight");
    let width = dim(source, &embedding, 1)?;
    // Files of one encoder may be in Hugging Face's layout too; nobody but OpenCLIP is so wide.
    let openclip = openclip || width >= 1024;
    let two = source.info("text_encoder_2.final_layer_norm.weight").is_some();
    let usual = TextConfig::default();
    Ok(TextConfig {
        vocab: dim(source, &embedding, 0)?,
        width,
        layers: count(source, &format!("{root}.encoder.layers.{{}}.layer_norm1.weight")),
        heads: if openclip || two { (width / HEAD).max(1) } else { CLIP_HEADS },
        mlp_width: dim(source, &format!("{root}.encoder.layers.0.mlp.fc1.weight"), 0)?,
        positions: dim(source, &format!("{root}.embeddings.position_embedding.weight"), 0)?,
        activation: if openclip { MlpActivation::Gelu } else { usual.activation },
        padding: if openclip { Padding::Token(0) } else { usual.padding },
        ..usual
    })
}

/// Which hidden states a model of these encoders was trained with. `added`: whether it is of the SDXL family.
pub fn trained(source: &dyn WeightSource, text: &mut [TextConfig], added: bool, openclip: [bool; 2]) {
    let several = text.len() > 1;
    for (n, t) in text.iter_mut().enumerate() {
        if added {
            (t.trained, t.called, t.final_norm) = (2, 2, false);
            let last = n == 1 || !several;
            let projection = source.info(&format!("{}.text_projection.weight", root(n)));
            t.projection = projection.filter(|_| last).and_then(|info| info.shape.first().copied());
        } else if t.padding != Padding::End {
            // SD 2.x: the last but one, whose successor folders have cut off.
            let whole = t.layers == 24 || openclip[n] && t.layers != 23;
            (t.trained, t.called) = (if whole { 2 } else { 1 }, 2);
        }
    }
}

/// The block below `at` that the tensors describe; none where there is no ResNet.
fn block(source: &dyn WeightSource, at: &str, linear: bool) -> Result<Option<UnetBlock>, String> {
    let resnets = count(source, &format!("{at}.resnets.{{}}.conv1.weight"));
    if resnets == 0 {
        return Ok(None);
    }
    let channels = dim(source, &format!("{at}.resnets.0.conv1.weight"), 0)?;
    let transformers = |r: usize| format!("{at}.attentions.{r}.transformer_blocks");
    let depth = |r| count(source, &format!("{}.{{}}.attn2.to_k.weight", transformers(r)));
    let depths: Vec<usize> = (0..resnets).map(depth).collect();
    let first = depths.iter().position(|d| *d > 0);
    let keys = first.map(|r| dim(source, &format!("{}.0.attn1.to_k.weight", transformers(r)), 1)).transpose()?;
    Ok(Some(UnetBlock {
        channels,
        heads: if linear { (channels / HEAD).max(1) } else { UNET_HEADS },
        cross_only: keys.is_some_and(|k| k != channels),
        depths,
    }))
}

/// The U-Net that the tensors describe; `linear`: whether its projections are matrices in the file.
///
/// # Errors
/// As [`text`].
pub fn unet(source: &dyn WeightSource, linear: bool) -> Result<UnetConfig, String> {
    let side = |side: &str| -> Result<Vec<UnetBlock>, String> {
        let blocks = (0..MOST).map(|i| block(source, &format!("unet.{side}_blocks.{i}"), linear));
        blocks.map_while(Result::transpose).collect()
    };
    let (in_channels, out_channels) = (dim(source, "unet.conv_in.weight", 1)?, dim(source, "unet.conv_out.weight", 0)?);
    let mut cfg = UnetConfig {
        in_channels,
        out_channels,
        down: side("down")?,
        middle: block(source, "unet.mid_block", linear)?,
        up: side("up")?,
        context_width: 0,
        groups: GROUPS,
        eps: 1e-5,
        linear,
        added: None,
        guidance: None,
    };
    let (first, _) = cfg.cross_attentions().into_iter().next().ok_or("has no cross-attention; it is incomplete")?;
    cfg.context_width = dim(source, &format!("unet.{first}.to_k.weight"), 1)?;
    // Widths tell whose head sizes they are, whatever the file looks like.
    let known = match cfg.context_width {
        768 => Some(false),
        1024 | 1280 | 2048 => Some(true),
        _ => None,
    };
    if let Some(by_size) = known {
        for block in cfg.down.iter_mut().chain(&mut cfg.middle).chain(&mut cfg.up) {
            block.heads = if by_size { (block.channels / HEAD).max(1) } else { UNET_HEADS };
        }
    }
    let added = source.info("unet.add_embedding.linear_1.weight").and_then(|info| info.shape.get(1).copied());
    cfg.added =
        added.map(|width| AddedEmbedding { pooled: width.saturating_sub(6 * SINUSOIDS), numbers: 6, each: SINUSOIDS });
    let guidance = source.info("unet.time_embedding.cond_proj.weight");
    cfg.guidance = guidance.and_then(|info| info.shape.get(1).copied());
    Ok(cfg)
}

/// How much of the added vector is pooled text: what the encoder gives; the rest is sinusoids of numbers.
///
/// # Errors
/// A sentence: the encoder's vector and some numbers do not fill the U-Net's.
pub fn fit_added(unet: &mut UnetConfig, text: &[TextConfig]) -> Result<(), String> {
    let Some(added) = &mut unet.added else { return Ok(()) };
    let width = added.width();
    let pooled = text.last().and_then(|t| t.projection);
    let Some(pooled) = pooled else {
        return Err(format!(
            "has a U-Net of the SDXL family, and no text encoder with a projection beside it ({} of {} channels); \
             use a checkpoint with both text encoders",
            if text.len() == 1 { "one" } else { "several" },
            super::parts::widths(text)
        ));
    };
    let numbers = width.checked_sub(pooled).filter(|rest| added.each > 0 && rest.is_multiple_of(added.each));
    let numbers = numbers.map(|rest| rest / added.each).filter(|n| (5..=6).contains(n)).ok_or_else(|| {
        format!("has a U-Net that is told a vector of {width}; with pooled text of {pooled} that is neither SDXL's nor its refiner's")
    })?;
    (added.pooled, added.numbers) = (pooled, numbers);
    Ok(())
}

/// The KL autoencoder that the tensors describe.
///
/// # Errors
/// As [`text`].
pub fn vae(source: &dyn WeightSource) -> Result<KlConfig, String> {
    // The decoder is there always, and one ResNet longer.
    let levels = count(source, "vae.decoder.up_blocks.{}.resnets.0.conv1.weight");
    let channels = |i| dim(source, &format!("vae.decoder.up_blocks.{i}.resnets.0.conv1.weight"), 0);
    Ok(KlConfig {
        channels: (0..levels).rev().map(channels).collect::<Result<_, String>>()?,
        blocks: count(source, "vae.decoder.up_blocks.0.resnets.{}.conv1.weight").saturating_sub(1),
        latent_channels: dim(source, "vae.decoder.conv_in.weight", 1)?,
        groups: GROUPS,
        encodes: source.names().iter().any(|n| n.starts_with("vae.encoder.")),
        ..KlConfig::default()
    })
}

/// The tiny autoencoder that the tensors describe.
///
/// # Errors
/// As [`text`].
pub fn tiny(source: &dyn WeightSource) -> Result<TinyConfig, String> {
    let has = |name: String| source.info(&name).is_some();
    let (first, last) = ("vae.decoder.layers.0.weight", "vae.encoder.layers.0.weight");
    let mut decoder = vec![0];
    let mut n = 2;
    loop {
        if has(format!("vae.decoder.layers.{n}.conv.0.weight")) {
            decoder.last_mut().into_iter().for_each(|blocks| *blocks += 1);
            n += 1;
        } else if has(format!("vae.decoder.layers.{}.weight", n + 1)) && decoder.len() < MOST {
            decoder.push(0);
            n += 2;
        } else {
            break;
        }
    }
    let mut encoder = if source.info(last).is_some() { vec![0] } else { Vec::new() };
    let mut n = 1;
    while !encoder.is_empty() {
        if has(format!("vae.encoder.layers.{n}.conv.0.weight")) {
            encoder.last_mut().into_iter().for_each(|blocks| *blocks += 1);
        } else if has(format!("vae.encoder.layers.{}.conv.0.weight", n + 1)) && encoder.len() < MOST {
            encoder.push(0);
        } else {
            break;
        }
        n += 1;
    }
    Ok(TinyConfig {
        channels: dim(source, first, 0)?,
        latent_channels: dim(source, first, 1)?,
        encoder,
        decoder,
        ..TinyConfig::default()
    })
}

fn within(what: &str, value: usize, from: usize, to: usize) -> Result<(), String> {
    let fits = (from..=to).contains(&value);
    fits.then_some(()).ok_or_else(|| format!("has {value} {what}; between {from} and {to} are supported"))
}

fn divides(what: &str, parts: usize, whole: usize) -> Result<(), String> {
    let fits = parts > 0 && whole.is_multiple_of(parts);
    fits.then_some(()).ok_or_else(|| format!("has {whole} channels, not divisible into {parts} {what}"))
}

fn positive(x: f32) -> Result<(), String> {
    let fits = x.is_finite() && x > 0.0;
    fits.then_some(()).ok_or_else(|| "has a VAE scaling factor or an epsilon that is not a positive number".to_owned())
}

/// Whether the networks fit together and within limits, so that everything after this may divide, shift and multiply.
///
/// # Errors
/// A sentence on what does not fit.
pub fn sane(networks: &Networks) -> Result<(), String> {
    networks.text.iter().try_for_each(sane_text)?;
    if let Some(Predictor::Unet(unet)) = &networks.predictor {
        sane_unet(unet)?;
    }
    match &networks.autoencoder {
        Some(Autoencoder::Kl(vae)) => sane_vae(vae)?,
        Some(Autoencoder::Tiny(tiny)) => sane_tiny(tiny)?,
        None => {}
    }
    fits_together(networks)
}

fn sane_text(clip: &TextConfig) -> Result<(), String> {
    within("text layers", clip.layers, 1, 128)?;
    within("text channels", clip.width, 1, 16_384)?;
    within("text MLP channels", clip.mlp_width, 1, 65_536)?;
    within("tokens in its vocabulary", clip.vocab, 3, 1 << 20)?;
    within("text positions", clip.positions, 3, 4096)?;
    within("channels of pooled text", clip.projection.unwrap_or(1), 1, 16_384)?;
    within("text layers behind the one in use", clip.trained, 1, clip.layers)?;
    divides("text heads", clip.heads, clip.width)?;
    positive(clip.eps)
}

fn sane_unet(unet: &UnetConfig) -> Result<(), String> {
    within("U-Net levels", unet.down.len(), 1, 8)?;
    within("U-Net input channels", unet.in_channels, 1, 1024)?;
    within("U-Net output channels", unet.out_channels, 1, 1024)?;
    within("channels of text for the U-Net", unet.context_width, 1, 65_536)?;
    if unet.up.len() != unet.down.len() {
        return Err(format!("has {} levels down and {} up; they have to match", unet.down.len(), unet.up.len()));
    }
    for block in unet.down.iter().chain(&unet.middle).chain(&unet.up) {
        within("U-Net blocks per level", block.depths.len(), 1, 17)?;
        within("U-Net channels", block.channels, 2, 16_384)?;
        divides("U-Net norm groups", unet.groups, block.channels)?;
        for &depth in block.depths.iter().filter(|d| **d > 0) {
            within("transformer blocks in one place", depth, 1, 64)?;
            divides("U-Net heads", block.heads, block.channels)?;
        }
    }
    for (down, up) in unet.down.iter().zip(unet.up.iter().rev()) {
        if up.depths.len() != down.depths.len() + 1 {
            let (up, down) = (up.depths.len(), down.depths.len());
            return Err(format!("has a level of {down} ResNets down and {up} up; up is one more"));
        }
    }
    // The timestep embedding is sines beside cosines.
    divides("halves", 2, unet.first_channels())?;
    if let Some(added) = unet.added {
        within("channels of pooled text", added.pooled, 1, 16_384)?;
        within("numbers beside the pooled text", added.numbers, 5, 6)?;
        within("sinusoids", added.each, 2, 4096)?;
    }
    within("sinusoids of a guidance scale", unet.guidance.unwrap_or(2), 2, 4096)?;
    positive(unet.eps)
}

fn sane_vae(vae: &KlConfig) -> Result<(), String> {
    within("VAE levels", vae.channels.len(), 1, 8)?;
    within("VAE blocks per level", vae.blocks, 1, 16)?;
    within("latent channels", vae.latent_channels, 1, 64)?;
    for &channels in &vae.channels {
        within("VAE channels", channels, 1, 16_384)?;
        divides("VAE norm groups", vae.groups, channels)?;
    }
    positive(vae.scaling)
}

fn sane_tiny(tiny: &TinyConfig) -> Result<(), String> {
    within("VAE channels", tiny.channels, 1, 16_384)?;
    within("latent channels", tiny.latent_channels, 1, 64)?;
    within("VAE levels", tiny.decoder.len(), 1, 8)?;
    within("VAE levels", tiny.encoder.len(), 0, 8)?;
    for &blocks in tiny.decoder.iter().chain(&tiny.encoder) {
        within("VAE blocks per level", blocks, 0, 16)?;
    }
    positive(tiny.scaling)
}

/// Whether the text encoders and the autoencoder are those of the U-Net.
fn fits_together(networks: &Networks) -> Result<(), String> {
    let Some(Predictor::Unet(unet)) = &networks.predictor else { return Ok(()) };
    if !networks.text.is_empty() && unet.context_width != networks.text_width() {
        let (want, have) = (unet.context_width, super::parts::widths(&networks.text));
        return Err(format!("has a U-Net for text of {want} channels and a text encoder of {have}; they do not fit"));
    }
    let latents = networks.latents().channels;
    if unet.out_channels != latents || ![latents, 2 * latents + 1].contains(&unet.in_channels) {
        let (i, o) = (unet.in_channels, unet.out_channels);
        let what = if i == 2 * latents { " (instruct-pix2pix)" } else { "" };
        return Err(format!(
            "has a U-Net of {i} channels in{what} and {o} out with {latents} latent channels; \
             text-to-image ({latents} in) and inpainting ({} in) checkpoints are supported",
            2 * latents + 1
        ));
    }
    Ok(())
}

/// Every tensor that networks of these shapes need, under canonical names: read off the graphs of all their parts. They
/// have passed [`sane`].
///
/// # Errors
/// A sentence: they make no graph.
pub fn required(networks: &Networks) -> Result<Vec<Required>, String> {
    let mut all: Vec<Required> = Vec::new();
    for (n, text) in networks.text.iter().enumerate() {
        all.push((format!("{}.embeddings.token_embedding.weight", root(n)), vec![text.vocab, text.width]));
        all.push((format!("{}.embeddings.position_embedding.weight", root(n)), vec![text.positions, text.width]));
    }
    for part in Part::all(networks) {
        let graph = part.graph(networks).map_err(|e| format!("has networks that cannot be built: {e}"))?;
        for (weight, packing) in graph.nodes.iter().flat_map(|n| n.w.iter().zip(n.op.packings())) {
            let dims = weight.dims;
            let row = match (packing, dims.taps) {
                (Packing::Vector { .. }, _) => vec![],
                (_, 1) => vec![dims.k],
                _ => vec![dims.k, 3, 3],
            };
            all.extend(weight.expr.shapes(dims.n, &row).into_iter().map(|(name, shape)| (name.to_owned(), shape)));
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// [`required`] of an opened model.
pub fn required_of(model: &Model) -> Vec<Required> {
    required(&model.networks).unwrap_or_default()
}

/// Compares a source with what is required.
///
/// # Errors
/// A sentence with the first missing and misshapen tensors and their counts.
pub fn check(source: &dyn WeightSource, required: &[Required]) -> Result<(), String> {
    let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
    for (name, shape) in required {
        match source.info(name) {
            None => missing.push(name.clone()),
            Some(info) if info.shape != *shape => {
                misshapen.push(format!("{name} is {:?} where {shape:?} belongs", info.shape));
            }
            Some(_) => {}
        }
    }
    let mut why = String::new();
    for (list, what) in [(missing, "missing"), (misshapen, "misshapen")] {
        if list.is_empty() {
            continue;
        }
        let (n, first) = (list.len(), list[..list.len().min(3)].iter().map(|t| escape(t)).collect::<Vec<_>>());
        let verb = if n == 1 { "tensor is" } else { "tensors are" };
        // Writing to a String cannot fail.
        let _ = write!(why, "{}{n} {verb} {what}, first: {}", if why.is_empty() { "" } else { "; " }, first.join(", "));
    }
    if why.is_empty() { Ok(()) } else { Err(why) }
}
