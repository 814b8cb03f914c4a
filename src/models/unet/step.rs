//! Noisy latents, rows of *time* and the keys and values of *context* to a prediction: the *step* plan.

use super::{UnetConfig, UnetVisit};
use crate::error::Result;
use crate::graph::{Builder, Graph, Operand};
use crate::kernels::conv2d::Pad;
use crate::layers::transformer::Transformer;
use crate::layers::{Norm, concat, conv2d, downsample, group_norm, resnet, silu, spatial_transformer, upsample};
use crate::models::part::{self, StepShape};
use crate::tensor::Shape;
use std::collections::HashMap;

/// What a block reads beside the picture.
struct Inputs {
    /// Time rows by ResNet name.
    time: HashMap<String, Operand>,
    /// Keys and values in the order in which they are used.
    kv: std::vec::IntoIter<Operand>,
}

/// `latents [samples, h, w, 4]` (9 channels for inpainting models), `time [times, 1, 1, time_width]` and the outputs of
/// *context*, to `output [contexts, h, w, 4]`.
pub fn step(cfg: &UnetConfig, s: StepShape) -> Result<Graph> {
    let mut b = Builder::new("step", "unet");
    let b = &mut b;
    let latents = b.input(part::step::LATENTS, Shape::new(s.samples, s.h, s.w, cfg.in_channels));
    let mut inputs = inputs(b, cfg, s);
    let mut x = conv2d(b, "conv_in", latents, cfg.first_channels())?; // [b, h, w, c0]
    let mut skips = vec![x];
    for visit in cfg.walk() {
        match &visit {
            UnetVisit::Resnet { leaves, takes, .. } => {
                let skip = if *takes { skips.pop() } else { None };
                x = block(b, &visit, x, skip, cfg, &mut inputs)?;
                if *leaves {
                    skips.push(x);
                }
            }
            UnetVisit::Downsample { name } => {
                x = downsample(b, name, x, Pad::Around)?; // [b, h/2, w/2, c]
                skips.push(x);
            }
            UnetVisit::Upsample { name } => {
                // The skip decides, so that odd sizes come back: 2n or 2n - 1.
                let size = skips.last().map_or((2 * x.shape.h, 2 * x.shape.w), |next| (next.shape.h, next.shape.w));
                x = upsample(b, name, x, size)?;
            }
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
    let kv = cfg.cross_attentions().into_iter().enumerate();
    let kv = kv.map(|(n, (_, c))| b.input(part::step::keys_values(n), Shape::tokens(s.contexts, s.tokens, 2 * c)));
    Inputs { time, kv: kv.collect::<Vec<_>>().into_iter() }
}

/// A ResNet, over what waits for it, then its transformer.
fn block(
    b: &mut Builder,
    visit: &UnetVisit,
    x: Operand,
    skip: Option<Operand>,
    cfg: &UnetConfig,
    inputs: &mut Inputs,
) -> Result<Operand> {
    let UnetVisit::Resnet { name, channels, attention, .. } = visit else { return Ok(x) };
    let norm = Norm { groups: cfg.groups, eps: cfg.eps };
    let x = match skip {
        Some(skip) => concat(b, &format!("{name}.concat"), x, skip)?, // [b, h, w, c + c_skip]
        None => x,
    };
    let x = resnet(b, name, x, *channels, norm, inputs.time.get(name).copied())?;
    let Some(a) = attention else { return Ok(x) };
    let how = Transformer { groups: cfg.groups, heads: a.heads, depth: a.depth, cross_only: a.cross_only };
    spatial_transformer(b, &a.name, x, how, &mut inputs.kv)
}
