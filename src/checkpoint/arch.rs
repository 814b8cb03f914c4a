//! Tensor shapes to an architecture, and an architecture to the tensors that it needs.

use super::Model;
use crate::error::escape;
use crate::models::autoencoder::kl::KlConfig;
use crate::models::text::TextConfig;
use crate::models::unet::{UnetConfig, UnetLevel};
use crate::models::{Autoencoder, Networks, Predictor};
use crate::weights::WeightSource;
use std::fmt::Write as _;

/// What the shapes do not tell, for the SD 1.x family.
const CLIP_HEADS: usize = 12;
const UNET_HEADS: usize = 8;
const GROUPS: usize = 32;
/// The latent scale of SD 1.x's VAE.
pub const SCALING: f32 = 0.18215;

/// A tensor's canonical name and shape.
pub type Required = (String, Vec<usize>);

fn dim(source: &dyn WeightSource, name: &str, axis: usize) -> Result<usize, String> {
    let shape = &source.info(name).ok_or_else(|| format!("has no {name}; it is incomplete"))?.shape;
    shape.get(axis).copied().ok_or_else(|| format!("has {name} of shape {shape:?}; it is not of the SD 1.x family"))
}

/// How many of `pattern` with `{}` replaced by 0, 1, 2, ... are there. Bounded, so that names cannot make it long.
fn count(source: &dyn WeightSource, pattern: &str) -> usize {
    (0..256).take_while(|i| source.info(&pattern.replace("{}", &i.to_string())).is_some()).count()
}

/// The text encoder that the tensors describe.
///
/// # Errors
/// A sentence that names the tensor which is missing or unlike any of the family.
pub fn clip(source: &dyn WeightSource) -> Result<TextConfig, String> {
    let embedding = "text_encoder.embeddings.token_embedding.weight";
    Ok(TextConfig {
        vocab: dim(source, embedding, 0)?,
        width: dim(source, embedding, 1)?,
        layers: count(source, "text_encoder.encoder.layers.{}.layer_norm1.weight"),
        heads: CLIP_HEADS,
        mlp_width: dim(source, "text_encoder.encoder.layers.0.mlp.fc1.weight", 0)?,
        positions: dim(source, "text_encoder.embeddings.position_embedding.weight", 0)?,
        ..TextConfig::default()
    })
}

/// The U-Net that the tensors describe.
///
/// # Errors
/// As [`clip`].
pub fn unet(source: &dyn WeightSource) -> Result<UnetConfig, String> {
    let levels = count(source, "unet.down_blocks.{}.resnets.0.conv1.weight");
    let level = |i| {
        let channels = dim(source, &format!("unet.down_blocks.{i}.resnets.0.conv1.weight"), 0)?;
        let attention = source.info(&format!("unet.down_blocks.{i}.attentions.0.norm.weight")).is_some();
        Ok(UnetLevel { channels, heads: UNET_HEADS, attention })
    };
    Ok(UnetConfig {
        in_channels: dim(source, "unet.conv_in.weight", 1)?,
        out_channels: dim(source, "unet.conv_out.weight", 0)?,
        levels: (0..levels).map(level).collect::<Result<_, String>>()?,
        blocks: count(source, "unet.down_blocks.0.resnets.{}.conv1.weight"),
        context_width: dim(source, "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1)?,
        groups: GROUPS,
        eps: 1e-5,
    })
}

/// The autoencoder that the tensors describe.
///
/// # Errors
/// As [`clip`].
pub fn vae(source: &dyn WeightSource) -> Result<KlConfig, String> {
    let levels = count(source, "vae.encoder.down_blocks.{}.resnets.0.conv1.weight");
    let channels = |i| dim(source, &format!("vae.encoder.down_blocks.{i}.resnets.0.conv1.weight"), 0);
    Ok(KlConfig {
        channels: (0..levels).map(channels).collect::<Result<_, String>>()?,
        blocks: count(source, "vae.encoder.down_blocks.0.resnets.{}.conv1.weight"),
        latent_channels: dim(source, "vae.decoder.conv_in.weight", 1)?,
        groups: GROUPS,
        scaling: SCALING,
        shift: 0.0,
    })
}

/// Whether the three fit together and within limits, so that everything after this may divide, shift and multiply.
///
/// # Errors
/// A sentence on what does not fit.
pub fn sane(networks: &Networks) -> Result<(), String> {
    let (clip, unet, vae) = three(networks)?;
    let within = |what: &str, value: usize, from: usize, to: usize| {
        let fits = (from..=to).contains(&value);
        fits.then_some(()).ok_or_else(|| format!("has {value} {what}; between {from} and {to} are supported"))
    };
    let divides = |what: &str, parts: usize, whole: usize| {
        let fits = parts > 0 && whole.is_multiple_of(parts);
        fits.then_some(()).ok_or_else(|| format!("has {whole} channels, not divisible into {parts} {what}"))
    };
    within("text layers", clip.layers, 1, 128)?;
    within("text channels", clip.width, 1, 16_384)?;
    within("text MLP channels", clip.mlp_width, 1, 65_536)?;
    within("tokens in its vocabulary", clip.vocab, 3, 1 << 20)?;
    within("text positions", clip.positions, 3, 4096)?;
    divides("text heads", clip.heads, clip.width)?;
    within("U-Net levels", unet.levels.len(), 1, 8)?;
    within("U-Net blocks per level", unet.blocks, 1, 16)?;
    for (i, level) in unet.levels.iter().enumerate() {
        within("U-Net channels", level.channels, 2, 16_384)?;
        divides("U-Net norm groups", unet.groups, level.channels)?;
        // The middle block always attends, with the last level's heads.
        if level.attention || i + 1 == unet.levels.len() {
            divides("U-Net heads", level.heads, level.channels)?;
        }
    }
    // The timestep embedding is sines beside cosines.
    divides("halves", 2, unet.levels[0].channels)?;
    within("VAE levels", vae.channels.len(), 1, 8)?;
    within("VAE blocks per level", vae.blocks, 1, 16)?;
    within("latent channels", vae.latent_channels, 1, 64)?;
    for &channels in &vae.channels {
        within("VAE channels", channels, 1, 16_384)?;
        divides("VAE norm groups", vae.groups, channels)?;
    }
    let positive = |x: f32| x.is_finite() && x > 0.0;
    if !positive(vae.scaling) || !positive(unet.eps) || !positive(clip.eps) {
        return Err("has a VAE scaling factor or an epsilon that is not a positive number".into());
    }
    if unet.context_width != clip.width {
        let (want, have) = (unet.context_width, clip.width);
        return Err(format!("has a U-Net for text of {want} channels and a text encoder of {have}; they do not fit"));
    }
    let latents = vae.latent_channels;
    if unet.out_channels != latents || ![latents, 2 * latents + 1].contains(&unet.in_channels) {
        let (i, o) = (unet.in_channels, unet.out_channels);
        return Err(format!(
            "has a U-Net of {i} channels in and {o} out with {latents} latent channels; \
             text-to-image ({latents} in) and inpainting ({} in) checkpoints are supported",
            2 * latents + 1
        ));
    }
    Ok(())
}

/// Every tensor that networks of these shapes need, under canonical names; they have passed [`sane`].
pub fn required(networks: &Networks) -> Vec<Required> {
    let mut list = List { out: Vec::new() };
    if let Ok((clip, unet, vae)) = three(networks) {
        list.clip(clip);
        list.unet(unet);
        list.vae(vae);
    }
    list.out
}

/// The three networks of the SD 1.x family.
///
/// # Errors
/// A sentence on the one that is missing.
pub fn three(networks: &Networks) -> Result<(&TextConfig, &UnetConfig, &KlConfig), String> {
    let clip = networks.text.first().ok_or("holds no text encoder; use a complete checkpoint")?;
    let Some(Predictor::Unet(unet)) = &networks.predictor else {
        return Err("holds no U-Net; use a complete checkpoint".into());
    };
    let Some(Autoencoder::Kl(vae)) = &networks.autoencoder else {
        return Err("holds no VAE; use a complete checkpoint".into());
    };
    Ok((clip, unet, vae))
}

/// [`required`] of an opened model.
pub fn required_of(model: &Model) -> Vec<Required> {
    required(&model.networks)
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

struct List {
    out: Vec<Required>,
}

impl List {
    fn tensor(&mut self, name: String, shape: &[usize]) {
        self.out.push((name, shape.to_vec()));
    }

    /// Weight and bias; `shape[0]` is the bias's length.
    fn layer(&mut self, name: &str, shape: &[usize]) {
        self.tensor(format!("{name}.weight"), shape);
        self.tensor(format!("{name}.bias"), &shape[..1]);
    }

    fn clip(&mut self, c: &TextConfig) {
        let w = c.width;
        self.tensor("text_encoder.embeddings.token_embedding.weight".into(), &[c.vocab, w]);
        self.tensor("text_encoder.embeddings.position_embedding.weight".into(), &[c.positions, w]);
        for i in 0..c.layers {
            let at = format!("text_encoder.encoder.layers.{i}");
            for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                self.layer(&format!("{at}.self_attn.{projection}"), &[w, w]);
            }
            self.layer(&format!("{at}.layer_norm1"), &[w]);
            self.layer(&format!("{at}.layer_norm2"), &[w]);
            self.layer(&format!("{at}.mlp.fc1"), &[c.mlp_width, w]);
            self.layer(&format!("{at}.mlp.fc2"), &[w, c.mlp_width]);
        }
        self.layer("text_encoder.final_layer_norm", &[w]);
    }

    /// A ResNet from `i` to `o` channels; `time` is the width of the time embedding, which the VAE's lack.
    fn resnet(&mut self, at: &str, i: usize, o: usize, time: Option<usize>) {
        self.layer(&format!("{at}.norm1"), &[i]);
        self.layer(&format!("{at}.conv1"), &[o, i, 3, 3]);
        if let Some(t) = time {
            self.layer(&format!("{at}.time_emb_proj"), &[o, t]);
        }
        self.layer(&format!("{at}.norm2"), &[o]);
        self.layer(&format!("{at}.conv2"), &[o, o, 3, 3]);
        if i != o {
            self.layer(&format!("{at}.conv_shortcut"), &[o, i]);
        }
    }

    fn transformer(&mut self, at: &str, c: usize, context: usize) {
        self.layer(&format!("{at}.norm"), &[c]);
        self.layer(&format!("{at}.proj_in"), &[c, c]);
        self.layer(&format!("{at}.proj_out"), &[c, c]);
        let block = format!("{at}.transformer_blocks.0");
        for norm in ["norm1", "norm2", "norm3"] {
            self.layer(&format!("{block}.{norm}"), &[c]);
        }
        for (attention, keys) in [("attn1", c), ("attn2", context)] {
            self.tensor(format!("{block}.{attention}.to_q.weight"), &[c, c]);
            self.tensor(format!("{block}.{attention}.to_k.weight"), &[c, keys]);
            self.tensor(format!("{block}.{attention}.to_v.weight"), &[c, keys]);
            self.layer(&format!("{block}.{attention}.to_out.0"), &[c, c]);
        }
        self.layer(&format!("{block}.ff.net.0.proj"), &[8 * c, c]);
        self.layer(&format!("{block}.ff.net.2"), &[c, 4 * c]);
    }

    fn unet(&mut self, u: &UnetConfig) {
        let (first, last) = (u.levels[0].channels, u.levels[u.levels.len() - 1].channels);
        let time = 4 * first;
        self.layer("unet.conv_in", &[first, u.in_channels, 3, 3]);
        self.layer("unet.time_embedding.linear_1", &[time, first]);
        self.layer("unet.time_embedding.linear_2", &[time, time]);
        let (mut x, mut skips) = (first, vec![first]);
        for (i, level) in u.levels.iter().enumerate() {
            let c = level.channels;
            for j in 0..u.blocks {
                self.resnet(&format!("unet.down_blocks.{i}.resnets.{j}"), x, c, Some(time));
                if level.attention {
                    self.transformer(&format!("unet.down_blocks.{i}.attentions.{j}"), c, u.context_width);
                }
                x = c;
                skips.push(c);
            }
            if i + 1 < u.levels.len() {
                self.layer(&format!("unet.down_blocks.{i}.downsamplers.0.conv"), &[c, c, 3, 3]);
                skips.push(c);
            }
        }
        self.resnet("unet.mid_block.resnets.0", last, last, Some(time));
        self.transformer("unet.mid_block.attentions.0", last, u.context_width);
        self.resnet("unet.mid_block.resnets.1", last, last, Some(time));
        for (i, level) in u.levels.iter().rev().enumerate() {
            let c = level.channels;
            for j in 0..=u.blocks {
                let skip = skips.pop().unwrap_or(0);
                self.resnet(&format!("unet.up_blocks.{i}.resnets.{j}"), x + skip, c, Some(time));
                if level.attention {
                    self.transformer(&format!("unet.up_blocks.{i}.attentions.{j}"), c, u.context_width);
                }
                x = c;
            }
            if i + 1 < u.levels.len() {
                self.layer(&format!("unet.up_blocks.{i}.upsamplers.0.conv"), &[c, c, 3, 3]);
            }
        }
        self.layer("unet.conv_norm_out", &[first]);
        self.layer("unet.conv_out", &[u.out_channels, first, 3, 3]);
    }

    fn vae_middle(&mut self, at: &str, c: usize) {
        self.resnet(&format!("{at}.resnets.0"), c, c, None);
        self.layer(&format!("{at}.attentions.0.group_norm"), &[c]);
        for projection in ["to_q", "to_k", "to_v", "to_out.0"] {
            self.layer(&format!("{at}.attentions.0.{projection}"), &[c, c]);
        }
        self.resnet(&format!("{at}.resnets.1"), c, c, None);
    }

    fn vae(&mut self, v: &KlConfig) {
        let (first, last, latents) = (v.channels[0], v.channels[v.channels.len() - 1], v.latent_channels);
        self.layer("vae.encoder.conv_in", &[first, 3, 3, 3]);
        let mut x = first;
        for (i, &c) in v.channels.iter().enumerate() {
            for j in 0..v.blocks {
                self.resnet(&format!("vae.encoder.down_blocks.{i}.resnets.{j}"), x, c, None);
                x = c;
            }
            if i + 1 < v.channels.len() {
                self.layer(&format!("vae.encoder.down_blocks.{i}.downsamplers.0.conv"), &[c, c, 3, 3]);
            }
        }
        self.vae_middle("vae.encoder.mid_block", last);
        self.layer("vae.encoder.conv_norm_out", &[last]);
        self.layer("vae.encoder.conv_out", &[2 * latents, last, 3, 3]);
        self.layer("vae.quant_conv", &[2 * latents, 2 * latents]);
        self.layer("vae.post_quant_conv", &[latents, latents]);
        self.layer("vae.decoder.conv_in", &[last, latents, 3, 3]);
        self.vae_middle("vae.decoder.mid_block", last);
        for (i, &c) in v.channels.iter().rev().enumerate() {
            for j in 0..=v.blocks {
                self.resnet(&format!("vae.decoder.up_blocks.{i}.resnets.{j}"), x, c, None);
                x = c;
            }
            if i + 1 < v.channels.len() {
                self.layer(&format!("vae.decoder.up_blocks.{i}.upsamplers.0.conv"), &[c, c, 3, 3]);
            }
        }
        self.layer("vae.decoder.conv_norm_out", &[first]);
        self.layer("vae.decoder.conv_out", &[3, first, 3, 3]);
    }
}
