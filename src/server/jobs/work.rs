//! An order and a model go in, the requests that draw it come out: on the same way as the command line's, so that the
//! bytes are the same.

use crate::checkpoint::Model;
use crate::diffusion::Request;
use crate::job::axes::Axes;
use crate::job::hints::hints;
use crate::job::note::{Objection, Phrase};
use crate::job::order::Order;
use crate::job::picture::Shelf;
use crate::job::resolve::{remarks, resolve};
use crate::job::styles::{self, Styling};
use crate::job::{dynamic, tags};
use crate::server::fault::{Fault, told};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What is to be drawn.
pub(crate) struct Work {
    /// The model.
    pub(crate) model: Arc<Model>,
    /// One request of several pictures, or several of one each.
    pub(crate) requests: Vec<Request>,
    /// What varies, where there is to be a sheet.
    pub(crate) axes: Option<Axes>,
    /// Of several requests: the fields that each has otherwise.
    pub(crate) cells: Vec<Option<Map<String, Value>>>,
    /// The request before a grid varies it.
    pub(crate) base: Request,
    /// What the asker should know.
    pub(crate) notes: Vec<String>,
}

impl Work {
    /// Pictures, without the sheet.
    pub(crate) fn total(&self) -> usize {
        self.requests.iter().map(|r| r.count).sum()
    }
}

/// Makes the requests of an order.
///
/// # Errors
/// Everything that can be refused without drawing.
pub(crate) fn work(order: &Order, model: Arc<Model>, shelf: &dyn Shelf) -> Result<Work, Fault> {
    order.check().map_err(Fault::of_objection)?;
    if !order.lora.is_empty() {
        return Err(Fault::of_order("lora", "adapters are not here: leave them out"));
    }
    let styling = Styling::new(&order.styles, &styles::all(None)?)?;
    let own = order.prompt.clone().unwrap_or_default();
    let typed = order.grid.as_ref().and_then(Axes::prompt).map_or(own, str::to_owned);
    let against = order.negative_prompt.clone().unwrap_or_default();
    let (prompt, negative) = styling.apply(untagged(&typed)?, untagged(&against)?)?;
    let mut phrases: Vec<Phrase> = Vec::new();
    let base = resolve(order, (prompt, negative), &model, shelf, &mut phrases).map_err(Fault::of_objection)?;
    let styled = |prompt: &str| -> Result<String, Objection> {
        let prompt = untagged(prompt).map_err(|f| Objection::usage(f.message.into()))?;
        Ok(styling.apply(prompt, "")?.0)
    };
    let chosen = dynamic::is_dynamic(&typed, false) && order.grid.is_none();
    let (requests, cells) = match &order.grid {
        Some(axes) => {
            let requests = axes.requests(&base, &styled).map_err(Fault::of_objection)?;
            let cells = (0..requests.len()).map(|cell| Some(axes.fields(cell).into_iter().collect())).collect();
            (requests, cells)
        }
        None if chosen => choices(&typed, &base, &styled)?,
        None => (vec![base.clone()], vec![None]),
    };
    for request in &requests {
        // A grid may bring adapters too.
        untagged(&request.prompt)?;
        request.check(&model)?;
    }
    phrases.extend(remarks(order, &base, &model));
    let mut notes: Vec<String> = phrases.iter().map(told).collect();
    if model.path.is_none() {
        notes.extend(hints(&typed, &[])?.lines);
    }
    Ok(Work { model, requests, axes: order.grid.clone(), cells, base, notes })
}

/// Requests and cells.
type Several = (Vec<Request>, Vec<Option<Map<String, Value>>>);

/// A request for each picture of a prompt with choices in it: its seed chooses the words.
fn choices(typed: &str, base: &Request, styled: &dyn Fn(&str) -> Result<String, Objection>) -> Result<Several, Fault> {
    let mut out = (Vec::new(), Vec::new());
    for index in 0..base.count {
        let (seed, second) = base.seeds(index);
        let variation = second.zip(base.variation.map(|(_, strength)| strength));
        let text = dynamic::chosen(typed, second.unwrap_or(seed), None)?;
        let prompt = styled(&text).map_err(Fault::of_objection)?;
        out.0.push(Request { prompt, seed, variation, count: 1, ..base.clone() });
        out.1.push(Some([("prompt".to_owned(), json!(text))].into_iter().collect()));
    }
    Ok(out)
}

/// A prompt that asks for nothing that is not here.
fn untagged(prompt: &str) -> Result<&str, Fault> {
    let (without, found) = tags::taken_out(prompt, |_| true);
    match found.first() {
        Some(tag) => {
            let message = format!("the prompt asks for what is not here: {}", crate::error::escape(&tag.text));
            let without = json!({"prompt": without});
            Err(Fault::of_order("prompt", message).or_set("without it", without))
        }
        None => Ok(prompt),
    }
}
