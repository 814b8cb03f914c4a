//! A network whose files do not say what it predicts goes in; its answer to one question, and what that tells, come out.
//!
//! SD 2.x was published in both kinds with equal shapes. Asked for a constant latent at the last timestep, a network that
//! predicts noise answers about what it was given, and one that predicts velocity far less (the webui and
//! stable-diffusion.cpp ask the same).

use super::Engine;
use super::residency::Keep;
use crate::checkpoint::Model;
use crate::diffusion::Stages as _;
use crate::error::{Error, Result};
use crate::models::part::{self, Part, StepShape};
use crate::models::training::Prediction;
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Height and width of the latents in the question.
const SIDE: usize = 8;
/// Tokens of its text.
const TOKENS: usize = 2;
/// The value of all of it.
const VALUE: f32 = 0.5;
/// The last timestep.
const TIMESTEP: f32 = 999.0;
/// Answers that lie further below the question are a velocity's.
const BELOW: f64 = -1.0;

/// Asks the network. Its weights are read once and not kept.
///
/// # Errors
/// What keeps it from being run.
pub fn prediction(engine: &Engine, model: &Arc<Model>, cancel: &AtomicBool) -> Result<Prediction> {
    let session = engine.session(model, cancel).keeping(Keep::Stream);
    let networks = &model.networks;
    let filled = |shape: Shape| Tensor::new(shape, vec![VALUE; shape.len()]);
    let context = filled(Shape::tokens(1, TOKENS, networks.predictor()?.context_width()))?;
    let contexts = Part::Context { contexts: 1, tokens: TOKENS };
    let outputs: Vec<_> = (0..networks.keys_values().len()).map(part::context::keys_values).collect();
    let kv = session.run(contexts, None, vec![(part::context::CONTEXT, context)], &outputs)?;
    let time = Tensor::new(Shape::tokens(1, 1, 1), vec![TIMESTEP])?;
    let time = vec![(part::time::TIMESTEPS, time)];
    let rows = session.run(Part::Time { timesteps: 1 }, None, time, &[part::time::ROWS])?;
    let nothing = || Error::other("the network gave no answer");
    let row = rows.first().ok_or_else(nothing)?;
    let row = Tensor::new(Shape::new(1, 1, 1, row.shape().c), row.data().to_vec())?;
    let shape = StepShape { samples: 1, contexts: 1, times: 1, h: SIDE, w: SIDE, tokens: TOKENS };
    let mut inputs: Vec<_> = kv.into_iter().enumerate().map(|(n, kv)| (part::step::keys_values(n), kv)).collect();
    let latents = filled(Shape::new(1, SIDE, SIDE, networks.in_channels()))?;
    inputs.extend([(part::step::LATENTS, latents), (part::step::TIME, row)]);
    let answer = session.run(Part::Step(shape), None, inputs, &[part::step::OUTPUT])?;
    let values = answer.first().ok_or_else(nothing)?.data();
    let mean = values.iter().map(|v| f64::from(*v - VALUE)).sum::<f64>() / values.len().max(1) as f64;
    Ok(if mean < BELOW { Prediction::V } else { Prediction::Epsilon })
}
