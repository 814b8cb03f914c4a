//! Noisy latents, a timestep and a text embedding to predicted noise: the U-Net.
//!
//! It is three plans. *context* turns a text embedding into keys and values, once per prompt; *time* turns timesteps
//! into one row each, once per picture; *step* is the rest.

use crate::error::Result;
use crate::graph::{Builder, Graph, Value, Weight, WeightExpr};
use crate::kernels::Dims;
use crate::kernels::conv2d::Pad;
use crate::kernels::matmul::Matmul;
use crate::layers::timestep::{time_embedding, time_rows};
use crate::layers::{Norm, concat, conv2d, downsample, group_norm, resnet, silu, spatial_transformer, upsample};
use crate::models::part::{self, StepShape};
use crate::tensor::Shape;
use std::collections::HashMap;

/// One resolution level of the U-Net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnetLevel {
    /// Channels of its ResNet blocks.
    pub channels: usize,
    /// Attention heads (SD 1.x: 8 everywhere). Configs call this `attention_head_dim`, a historic misnomer.
    pub heads: usize,
    /// Whether each ResNet is followed by a transformer block.
    pub attention: bool,
}

/// The shape of a U-Net of the SD 1.x/2.x family.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetConfig {
    /// Latent channels in: 4, or 9 for inpainting checkpoints.
    pub in_channels: usize,
    /// Latent channels out.
    pub out_channels: usize,
    /// Levels, full resolution first.
    pub levels: Vec<UnetLevel>,
    /// ResNets per level on the way down (one more on the way up).
    pub blocks: usize,
    /// Width of the text embedding.
    pub context_width: usize,
    /// GroupNorm groups.
    pub groups: usize,
    /// GroupNorm epsilon of the ResNets (1e-5); the transformer blocks' GroupNorm uses 1e-6 and their LayerNorm 1e-5.
    pub eps: f32,
}

/// What a U-Net is told beside latents, timestep and prompt; none of it is usual.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnetInputs {
    /// Inpainting models: the mask (1 is painted anew) and the latents of the picture without what is under it,
    /// `[5][h][w]` of one picture that all share, or of each picture one after the other.
    pub masked: Option<Vec<f32>>,
}

/// One ResNet, with the transformer that follows it.
struct Block {
    name: String,
    channels: usize,
    attention: Option<(String, usize)>,
}

impl UnetConfig {
    /// The blocks in the order in which they run.
    fn layout(&self) -> Vec<Block> {
        let mut all = Vec::new();
        let mut push = |stage: String, r: usize, level: &UnetLevel, attention: bool| {
            let name = format!("{stage}.resnets.{r}");
            let attention = attention.then(|| (format!("{stage}.attentions.{r}"), level.channels));
            all.push(Block { name, channels: level.channels, attention });
        };
        for (i, level) in self.levels.iter().enumerate() {
            (0..self.blocks).for_each(|r| push(format!("down_blocks.{i}"), r, level, level.attention));
        }
        if let Some(last) = self.levels.last() {
            push("mid_block".into(), 0, last, true);
            push("mid_block".into(), 1, last, false);
        }
        for (i, level) in self.levels.iter().rev().enumerate() {
            (0..=self.blocks).for_each(|r| push(format!("up_blocks.{i}"), r, level, level.attention));
        }
        all
    }

    /// Names (without `unet.`) and widths of the cross-attentions, in the order of the outputs of *context*.
    pub fn cross_attentions(&self) -> Vec<(String, usize)> {
        self.layout().into_iter().filter_map(|b| b.attention).collect()
    }

    /// ResNets (without `unet.`) with their channels, in the order of the columns of *time*.
    pub fn resnets(&self) -> Vec<(String, usize)> {
        self.layout().into_iter().map(|b| (b.name, b.channels)).collect()
    }

    /// What its family multiplies an autoencoder's latents by.
    pub fn latent_scale(&self) -> f32 {
        0.18215
    }

    /// Width of a row of *time*.
    pub fn time_width(&self) -> usize {
        self.resnets().iter().map(|(_, c)| c).sum()
    }
}

/// The *context* plan: `context [contexts, 1, tokens, width]` to each cross-attention's keys and values side by side,
/// `[contexts, 1, tokens, 2c]`, in the order of [`UnetConfig::cross_attentions`].
pub fn context(cfg: &UnetConfig, contexts: usize, tokens: usize) -> Result<Graph> {
    let mut b = Builder::new("context", "unet").keeping_f32();
    let x = b.input(part::context::CONTEXT, Shape::tokens(contexts, tokens, cfg.context_width));
    for (n, (name, c)) in cfg.cross_attentions().into_iter().enumerate() {
        let attn2 = b.path(&format!("{name}.transformer_blocks.0.attn2"));
        let rows = ["to_k", "to_v"].map(|part| (WeightExpr::One(format!("{attn2}.{part}.weight")), c)).to_vec();
        let w = Weight { expr: WeightExpr::Rows(rows), dims: Dims::matrix(2 * c, cfg.context_width) };
        let kv = b.push(&format!("{name}.transformer_blocks.0.attn2.kv"), Matmul::default(), &[x], vec![w])?;
        b.output(part::context::keys_values(n), kv);
    }
    Ok(b.finish())
}

/// The *time* plan: `timesteps [1, 1, T, 1]` to `rows [1, 1, T, time_width]`.
pub fn time(cfg: &UnetConfig, timesteps: usize) -> Result<Graph> {
    let mut b = Builder::new("time", "unet").keeping_f32();
    let t = b.input(part::time::TIMESTEPS, Shape::tokens(1, timesteps, 1));
    let width = cfg.levels.first().map_or(0, |l| l.channels);
    let embedding = time_embedding(&mut b, t, width)?;
    let rows = time_rows(&mut b, embedding, &cfg.resnets())?;
    b.output(part::time::ROWS, rows);
    Ok(b.finish())
}

/// What a block of *step* reads beside the picture.
struct Inputs {
    /// Time rows by ResNet name.
    time: HashMap<String, Value>,
    /// Keys and values by attention name.
    kv: HashMap<String, Value>,
    norm: Norm,
}

/// The *step* plan: `latents [samples, h, w, 4]` (9 channels for inpainting models), `time [times, 1, 1, time_width]`
/// and the outputs of *context*, to `output [contexts, h, w, 4]`.
pub fn step(cfg: &UnetConfig, s: StepShape) -> Result<Graph> {
    let mut b = Builder::new("step", "unet");
    let b = &mut b;
    let latents = b.input(part::step::LATENTS, Shape::new(s.samples, s.h, s.w, cfg.in_channels));
    let inputs = inputs(b, cfg, s);
    let first = cfg.levels.first().map_or(0, |l| l.channels);
    let mut x = conv2d(b, "conv_in", latents, first)?; // [b, h, w, c0]
    let mut skips = vec![x];

    for (i, level) in cfg.levels.iter().enumerate() {
        for r in 0..cfg.blocks {
            x = block(b, &format!("down_blocks.{i}"), r, x, level, level.attention, cfg, &inputs)?;
            skips.push(x);
        }
        if i + 1 < cfg.levels.len() {
            x = downsample(b, &format!("down_blocks.{i}.downsamplers.0.conv"), x, Pad::Around)?; // [b, h/2, w/2, c]
            skips.push(x);
        }
    }

    if let Some(last) = cfg.levels.last() {
        x = block(b, "mid_block", 0, x, last, true, cfg, &inputs)?;
        x = block(b, "mid_block", 1, x, last, false, cfg, &inputs)?;
    }

    for (i, level) in cfg.levels.iter().rev().enumerate() {
        for r in 0..=cfg.blocks {
            if let Some(skip) = skips.pop() {
                x = concat(b, &format!("up_blocks.{i}.resnets.{r}.concat"), x, skip)?; // [b, h, w, c + c_skip]
            }
            x = block(b, &format!("up_blocks.{i}"), r, x, level, level.attention, cfg, &inputs)?;
        }
        if let Some(next) = skips.last() {
            // The skip decides, so that odd sizes come back: 2n or 2n - 1.
            let size = (next.shape.h, next.shape.w);
            x = upsample(b, &format!("up_blocks.{i}.upsamplers.0.conv"), x, size)?;
        }
    }

    let x = group_norm(b, "conv_norm_out", x, cfg.groups, cfg.eps)?;
    let x = silu(b, "conv_norm_out", x)?;
    let x = conv2d(b, "conv_out", x, cfg.out_channels)?; // [b, h, w, 4]
    b.output(part::step::OUTPUT, x);
    Ok(std::mem::take(b).finish())
}

fn inputs(b: &mut Builder, cfg: &UnetConfig, s: StepShape) -> Inputs {
    let all = b.input(part::step::TIME, Shape::new(s.times, 1, 1, cfg.time_width()));
    let mut first = 0;
    let mut time = HashMap::new();
    for (name, c) in cfg.resnets() {
        time.insert(name, all.columns(first, c));
        first += c;
    }
    let kv = cfg.cross_attentions().into_iter().enumerate().map(|(n, (name, c))| {
        let v = b.input(part::step::keys_values(n), Shape::tokens(s.contexts, s.tokens, 2 * c));
        (name, v)
    });
    Inputs { kv: kv.collect(), time, norm: Norm { groups: cfg.groups, eps: cfg.eps } }
}

/// ResNet number `r` of a stage, then its transformer.
#[expect(clippy::too_many_arguments, reason = "a block has this many properties, and each is named at the call")]
fn block(
    b: &mut Builder,
    stage: &str,
    r: usize,
    x: Value,
    level: &UnetLevel,
    attention: bool,
    cfg: &UnetConfig,
    inputs: &Inputs,
) -> Result<Value> {
    let name = format!("{stage}.resnets.{r}");
    let x = resnet(b, &name, x, level.channels, inputs.norm, inputs.time.get(&name).copied())?;
    let name = format!("{stage}.attentions.{r}");
    match inputs.kv.get(&name) {
        Some(kv) if attention => spatial_transformer(b, &name, x, cfg.groups, level.heads, *kv),
        _ => Ok(x),
    }
}
