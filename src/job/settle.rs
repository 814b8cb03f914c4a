//! A model whose files leave open what it predicts goes in; the model with that settled comes out.

use super::note::{Field, Phrase, phrase};
use super::order::Order;
use super::question;
use super::word::Auto;
use crate::checkpoint::{Grounds, Model};
use crate::engine::Engine;
use crate::error::Result;
use crate::models::training::Prediction;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Asks the network itself where nothing else tells, unless the order does. Reads its weights once.
///
/// # Errors
/// What keeps it from being asked; cancelled.
pub fn settled(model: Model, order: &Order, notes: &mut Vec<Phrase>, cancel: &AtomicBool) -> Result<Model> {
    if !model.can_be_asked() || order.prediction.and_then(Auto::told).is_some() {
        return Ok(model);
    }
    let model = Arc::new(model);
    let prediction = question::prediction(&Engine::on_cpu()?, &model, cancel).map_err(|e| e.at("prediction"))?;
    let Some(model) = Arc::into_inner(model) else {
        return Err(crate::error::Error::other("the model is in use"));
    };
    let name = crate::error::escape(&model.name);
    let what = if prediction == Prediction::V { "velocity" } else { "noise" };
    let text =
        format!("{name} predicts {what}: nothing in its files says so, the network was asked; if it is not so, tell ");
    notes.push(phrase![text, Field::Prediction]);
    Ok(model.predicting(prediction, Grounds::Answer))
}
