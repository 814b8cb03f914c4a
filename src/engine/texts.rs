//! Tokenizers and text embeddings that are asked for again: the cells of a grid and the requests of a server mostly
//! share their prompts.

use crate::checkpoint::{Model, ModelId};
use crate::error::Result;
use crate::models::tokenizer::Tokenizer;
use crate::tensor::Tensor;
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// Embeddings of one chunk that are kept.
const TEXTS: usize = 64;
/// Models whose tokenizers are kept.
const TOKENIZERS: usize = 4;

/// What an embedding is found by: the model, the encoder and its hidden state, and the rows that go in.
type Text = (ModelId, (usize, usize), [u8; 32]);

/// What has been computed of texts, the oldest first.
#[derive(Default)]
pub(super) struct Texts {
    embeddings: Mutex<VecDeque<(Text, Arc<Tensor>)>>,
    tokenizers: Mutex<VecDeque<(ModelId, Arc<Tokenizer>)>>,
}

impl Texts {
    /// A model's tokenizer.
    pub fn tokenizer(&self, model: &Model) -> Result<Arc<Tokenizer>> {
        if let Some(known) = find(&mut lock(&self.tokenizers), |id| *id == model.id()) {
            return Ok(known);
        }
        let new = Arc::new(model.tokenizer()?);
        keep(&mut lock(&self.tokenizers), (model.id(), new.clone()), TOKENIZERS);
        Ok(new)
    }

    /// The hidden states of one encoder for these rows: known, or computed now.
    pub fn embedding(
        &self,
        model: ModelId,
        (encoder, clip_skip): (usize, usize),
        rows: Tensor,
        compute: impl FnOnce(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let digest = Sha256::digest(bytemuck::cast_slice::<f32, u8>(rows.data())).into();
        let key = (model, (encoder, clip_skip), digest);
        if let Some(known) = find(&mut lock(&self.embeddings), |text| *text == key) {
            return Ok(Tensor::clone(&known));
        }
        let new = compute(rows)?;
        keep(&mut lock(&self.embeddings), (key, Arc::new(new.clone())), TEXTS);
        Ok(new)
    }

    /// Forgets the embeddings: another device computes them from now on.
    pub fn forget(&self) {
        lock(&self.embeddings).clear();
    }
}

/// What is kept under a key, the youngest from now on.
fn find<K, V: Clone>(all: &mut VecDeque<(K, V)>, is: impl Fn(&K) -> bool) -> Option<V> {
    let at = all.iter().position(|(key, _)| is(key))?;
    let found = all.remove(at)?;
    let value = found.1.clone();
    all.push_back(found);
    Some(value)
}

fn keep<T>(all: &mut VecDeque<T>, new: T, most: usize) {
    if all.len() >= most {
        all.pop_front();
    }
    all.push_back(new);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Consistent between any two statements.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    #[test]
    fn a_text_is_computed_once_for_each_model_and_layer() {
        let texts = Texts::default();
        let (a, b) = (Model::embedded().unwrap().id(), Model::embedded().unwrap().id());
        let rows = |v: f32| Tensor::new(Shape::tokens(1, 2, 1), vec![v, 1.0]).unwrap();
        let mut computed = 0;
        let mut ask = |model, layer, v| {
            texts.embedding(model, (0, layer), rows(v), |rows| {
                computed += 1;
                Ok(rows)
            })
        };
        for _ in 0..2 {
            for (model, layer, v) in [(a, 1, 0.0), (b, 1, 0.0), (a, 2, 0.0), (a, 1, 5.0)] {
                assert_eq!(ask(model, layer, v).unwrap(), rows(v));
            }
        }
        (0..TEXTS).for_each(|i| drop(ask(a, 9, i as f32).unwrap()));
        ask(a, 1, 0.0).unwrap();
        assert_eq!(computed, 4 + TEXTS + 1, "the oldest goes");
    }
}
