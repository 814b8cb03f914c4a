//! What happened to matrices that a file holds in a wider type than f16: told once, in sentences.

use crate::dtype::Dtype;
use crate::error::escape;
use crate::weights::expr::WeightExpr;
use crate::weights::{Origin, WeightSource};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

/// Whether matrices were rounded to f16, and which could not be, because they hold values beyond it.
#[derive(Default)]
pub struct Rounded {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rounded: bool,
    /// Weights that hold values beyond f16, by their first tensor.
    beyond: BTreeSet<(String, Origin)>,
    /// How much of this has been said.
    said: (bool, usize),
}

impl Rounded {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A matrix of this type was rounded to f16. One that an adapter changes is rounded as the file's own was.
    pub fn round(&self, from: Dtype, patched: bool) {
        if from != Dtype::F16 && !patched {
            self.lock().rounded = true;
        }
    }

    /// A weight holds values beyond f16.
    pub fn keep(&self, expr: &WeightExpr, source: &dyn WeightSource) {
        self.lock().beyond.extend(first(expr, source));
    }

    /// Whether a weight is known to hold values beyond f16.
    pub fn is_beyond(&self, expr: &WeightExpr, source: &dyn WeightSource) -> bool {
        first(expr, source).is_some_and(|key| self.lock().beyond.contains(&key))
    }

    /// The first tensors of a source's weights that are known to hold values beyond f16.
    #[cfg(feature = "gpu")]
    pub fn beyond(&self, source: &dyn WeightSource) -> Vec<String> {
        let own = |key: &&(String, Origin)| source.info(&key.0).is_some() && origin(source, &key.0) == key.1;
        self.lock().beyond.iter().filter(own).map(|(name, _)| name.clone()).collect()
    }

    /// What has not been said yet.
    pub fn take(&self) -> Vec<String> {
        let mut state = self.lock();
        let mut out = Vec::new();
        if state.rounded && !state.said.0 {
            out.push("weights are kept as f16; type f32 keeps them exact".to_owned());
        }
        let beyond = state.beyond.len();
        if beyond > state.said.1 {
            let first = state.beyond.first().map(|(name, _)| escape(name)).unwrap_or_default();
            let others = if beyond > 1 { format!(" and {} other weights", beyond - 1) } else { String::new() };
            out.push(format!("{first}{others}: values beyond f16's largest, 65504, so kept as f32"));
        }
        state.said = (state.rounded, beyond);
        out
    }
}

fn first(expr: &WeightExpr, source: &dyn WeightSource) -> Option<(String, Origin)> {
    expr.names().first().map(|name| ((*name).to_owned(), origin(source, name)))
}

fn origin(source: &dyn WeightSource, name: &str) -> Origin {
    Origin { source: source.id(name), patches: source.patches(name).to_vec() }
}
