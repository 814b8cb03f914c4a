//! Models with adapters that are asked for again, by what they are made of: the pictures of one prompt share one.

use crate::checkpoint::adapter::{AdapterUse, with_adapters};
use crate::checkpoint::{Model, ModelId};
use crate::error::Result;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// How many are kept.
const MOST: usize = 8;

/// A model with adapters.
struct Variant {
    base: ModelId,
    uses: Vec<AdapterUse>,
    model: Arc<Model>,
}

/// The models with adapters, the oldest first.
#[derive(Default)]
pub(super) struct Variants(Mutex<VecDeque<Variant>>);

impl Variants {
    /// A model with adapters: known, or made now. And those that are forgotten for it.
    pub fn of(&self, base: &Model, uses: &[AdapterUse]) -> Result<(Arc<Model>, Option<Arc<Model>>)> {
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let same = |v: &Variant| {
            let alike = |(a, b): (&AdapterUse, &AdapterUse)| a.is(b);
            v.base == base.id() && v.uses.len() == uses.len() && v.uses.iter().zip(uses).all(alike)
        };
        if let Some(known) = all.iter().find(|v| same(v)) {
            return Ok((known.model.clone(), None));
        }
        let model = Arc::new(with_adapters(base, uses)?);
        let forgotten = if all.len() >= MOST { all.pop_front().map(|v| v.model) } else { None };
        all.push_back(Variant { base: base.id(), uses: uses.to_vec(), model: model.clone() });
        Ok((model, forgotten))
    }

    /// Others over the same tensors: what is loaded of them is what this one takes the place of.
    pub fn kin(&self, model: ModelId) -> Vec<ModelId> {
        let all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let base = all.iter().find(|v| v.model.id() == model).map_or(model, |v| v.base);
        let own = all.iter().filter(|v| v.base == base).map(|v| v.model.id());
        own.chain([base]).filter(|id| *id != model).collect()
    }
}
