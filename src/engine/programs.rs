//! What is loaded, and which sessions use it: one table for all of them.
//!
//! A session claims what it asks for, until it ends, until its own rule ([`super::residency::Keep`]) lets go of it, or
//! until it has to wait for room. What nobody claims stays for the next request that wants it, and is the first to go.

use crate::backend::Memory;
use crate::checkpoint::{Model, ModelId};
use crate::models::part::{Part, PartKind};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

/// A model, a part of it, and whether its matrices are streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub model: ModelId,
    pub part: Part,
    pub streamed: bool,
}

impl Key {
    /// Programs of one kind of one model share their weights.
    fn kind(&self) -> (ModelId, PartKind) {
        (self.model, self.part.kind())
    }
}

/// A session while it draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Visitor(u64);

struct Entry<P> {
    program: P,
    /// Nobody can ask for the parts of a model that is no more.
    model: Weak<Model>,
    memory: Memory,
    claims: BTreeSet<Visitor>,
    /// When it was last asked for.
    asked: u64,
}

/// Loaded programs.
pub(super) struct Table<P> {
    entries: HashMap<Key, Entry<P>>,
    clock: u64,
}

impl<P> Default for Table<P> {
    fn default() -> Self {
        Self { entries: HashMap::new(), clock: 0 }
    }
}

impl<P: Clone> Table<P> {
    /// A new session.
    pub fn visitor(&mut self) -> Visitor {
        self.clock += 1;
        Visitor(self.clock)
    }

    /// A program that is loaded, claimed from now on.
    pub fn find(&mut self, key: &Key, who: Option<Visitor>) -> Option<P> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        entry.asked = self.clock;
        entry.claims.extend(who);
        Some(entry.program.clone())
    }

    /// A program that has been loaded, claimed from now on.
    pub fn insert(&mut self, (key, model): (Key, &Arc<Model>), program: P, memory: Memory, who: Option<Visitor>) {
        self.clock += 1;
        let (model, claims) = (Arc::downgrade(model), who.into_iter().collect());
        self.entries.insert(key, Entry { program, model, memory, claims, asked: self.clock });
    }

    /// Forgets what is of no use to anybody: the parts of models that were dropped, and those that read their weights
    /// at every run (they hold the model itself, and nothing that took long to make).
    pub fn tidy(&mut self) {
        let useful = |key: &Key, entry: &Entry<P>| !key.streamed && entry.model.strong_count() > 0;
        self.entries.retain(|key, entry| !entry.claims.is_empty() || useful(key, entry));
    }

    /// Lets go of a session's claims: it has ended, or waits.
    pub fn leave(&mut self, who: Option<Visitor>) {
        if let Some(who) = who {
            for entry in self.entries.values_mut() {
                entry.claims.remove(&who);
            }
        }
    }

    /// Lets go of a session's claims on parts of a model that it is not to keep; those that nobody else claims go.
    pub fn release(&mut self, model: ModelId, who: Option<Visitor>, which: impl Fn(&Part) -> bool) {
        self.entries.retain(|key, entry| {
            let go = key.model == model && which(&key.part);
            if let Some(who) = who.filter(|_| go) {
                entry.claims.remove(&who);
            }
            !go || !entry.claims.is_empty()
        });
    }

    /// Whether a session other than this one claims anything.
    pub fn others(&self, who: Option<Visitor>) -> bool {
        self.entries.values().any(|e| e.claims.iter().any(|claim| Some(*claim) != who))
    }

    /// Bytes of all that is loaded, and of `more` for a part beside it; programs of one kind share their weights.
    pub fn bytes_beside(&self, key: &Key, more: Memory) -> u64 {
        let mut weights = HashMap::from([(key.kind(), more.weights)]);
        let mut activations = more.activations;
        for (key, entry) in &self.entries {
            activations += entry.memory.activations;
            let shared = weights.entry(key.kind()).or_default();
            *shared = entry.memory.weights.max(*shared);
        }
        activations + weights.values().sum::<u64>()
    }

    /// Forgets what nobody claims, the longest unused first, until `more` fits beside the rest; whether it does.
    pub fn make_room(&mut self, key: &Key, more: Memory, budget: u64) -> bool {
        while self.bytes_beside(key, more) > budget {
            let idle = self.entries.iter().filter(|(_, e)| e.claims.is_empty());
            let Some(oldest) = idle.min_by_key(|(_, e)| e.asked).map(|(key, _)| *key) else { return false };
            self.entries.remove(&oldest);
        }
        true
    }

    /// Forgets all that nobody claims; whether there was anything.
    pub fn forget_idle(&mut self) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, e| !e.claims.is_empty());
        self.entries.len() < before
    }

    /// Forgets everything; whether there was anything.
    pub fn forget_all(&mut self) -> bool {
        !std::mem::take(&mut self.entries).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(kind: usize) -> Part {
        match kind {
            0 => Part::Time { timesteps: 1 },
            1 => Part::Decode { size: (1, 8, 8) },
            2 => Part::Decode { size: (1, 4, 4) },
            _ => Part::Encode { size: (1, 64, 64) },
        }
    }

    fn memory(weights: u64, activations: u64) -> Memory {
        Memory { weights, activations }
    }

    #[test]
    fn what_others_use_stays_and_the_longest_idle_goes_first() {
        let embedded = Arc::new(Model::embedded().unwrap());
        let model = embedded.id();
        let key = |kind| Key { model, part: part(kind), streamed: false };
        let new = |kind| (key(kind), &embedded);
        let mut table = Table::default();
        let (a, b) = (Some(table.visitor()), Some(table.visitor()));
        table.insert(new(0), 'a', memory(10, 1), a);
        table.insert(new(1), 'b', memory(20, 2), b);
        table.insert(new(2), 'c', memory(20, 3), b);
        // Decoders share their weights.
        assert_eq!(table.bytes_beside(&key(3), memory(5, 5)), 10 + 1 + 20 + 2 + 3 + 10);
        assert!(!table.make_room(&key(3), memory(5, 5), 45) && table.others(a));
        // One's own rule throws out nothing that another session uses.
        table.release(model, a, |_| true);
        assert!(table.find(&key(0), None).is_none() && table.find(&key(1), a).is_some());
        table.leave(b);
        assert!(table.find(&key(2), None).is_some() && !table.others(a));
        // b is claimed by a now; c, though asked for last, is nobody's.
        assert!(table.make_room(&key(3), memory(5, 5), 32));
        assert!(table.find(&key(2), None).is_none() && table.find(&key(1), None).is_some());
        table.leave(a);
        assert!(table.forget_idle() && !table.forget_idle() && !table.forget_all());
    }

    #[test]
    fn what_is_of_no_use_goes_when_nobody_claims_it() {
        let models = [(); 2].map(|()| Arc::new(Model::embedded().unwrap()));
        let key = |n: usize, streamed| Key { model: models[n].id(), part: part(n), streamed };
        let keys = [key(0, false), key(1, false), key(0, true)];
        let mut table = Table::default();
        let who = Some(table.visitor());
        for (n, key) in [0, 1, 0].into_iter().zip(keys) {
            table.insert((key, &models[n]), 'p', memory(1, 1), who);
        }
        let [_kept, dropped] = models;
        drop(dropped);
        let there = |table: &mut Table<char>| keys.map(|key| table.find(&key, None).is_some());
        table.tidy();
        assert_eq!(there(&mut table), [true; 3]);
        table.leave(who);
        table.tidy();
        assert_eq!(there(&mut table), [true, false, false]);
    }
}
