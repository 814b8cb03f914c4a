//! A plan's memory on a CPU: one arena, in which values lie by lifetime, and outputs in the place of operands that end.

use super::{Place, Plan};
use crate::graph::Graph;
use std::cmp::Reverse;

/// Alignment of every value, in f32 elements: a cache line, which is also the widest vector.
const ALIGN: usize = 16;

/// What lives.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// A stored value.
    Value(usize),
    /// A step's scratch in the arena.
    Scratch(usize),
    /// A step's n-th scratch buffer on a GPU.
    Buffer(usize, usize),
}

/// When something lives, and how large it is.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub what: What,
    /// Steps in which it must be there, both included.
    pub first: usize,
    pub last: usize,
    pub elems: usize,
}

impl Life {
    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Lives that begin at one offset: a value, then what takes its place, and so on.
type Chain = Vec<Life>;

impl Plan {
    /// Assigns arena offsets: values whose lifetimes overlap never overlap in memory, but where an output takes an operand's
    /// place. Largest first, each at the lowest offset that is free during its life, which comes within a few percent of the
    /// live maximum on these graphs.
    pub(super) fn place(&mut self, graph: &Graph) {
        self.store(graph, Place::Slot { offset: 0 });
        let lives = self.lives();
        self.arena_unshared = lives.iter().map(|l| l.elems).sum();
        let mut chains = self.chains(&lives);
        let most = |chain: &Chain| chain.iter().map(|l| l.elems).max();
        chains.sort_by_key(|c| (Reverse(most(c)), c[0].first, c[c.len() - 1].last));
        let mut placed: Vec<(Life, usize)> = Vec::with_capacity(lives.len());
        for chain in chains {
            let offset = lowest_free(&placed, &chain);
            for life in chain {
                self.arena = self.arena.max(offset + life.elems);
                match life.what {
                    What::Value(id) => self.values[id].place = Place::Slot { offset },
                    What::Scratch(step) => self.steps[step].scratch_offset = offset,
                    What::Buffer(..) => {}
                }
                placed.push((life, offset));
            }
        }
    }

    /// Decides which outputs take an operand's place, of those whose variants can: where a whole stored value is read for the
    /// last time, and once. `lives` are in the order of the steps.
    fn chains(&mut self, lives: &[Life]) -> Vec<Chain> {
        let mut chains: Vec<Chain> = Vec::with_capacity(lives.len());
        // By value: its chain and its last step. Inputs have neither.
        let mut known: Vec<Option<(usize, usize)>> = vec![None; self.values.len()];
        for life in lives {
            let mut chain = chains.len();
            if let What::Value(id) = life.what {
                let step = &mut self.steps[life.first];
                if id == step.y {
                    let taken = step.in_place.and_then(|how| {
                        let v = step.x[how.operand()];
                        let whole = v.offset == 0 && v.shape == self.values[v.id].shape;
                        let once = step.x.iter().filter(|x| x.id == v.id).count() == 1;
                        known[v.id].filter(|(_, last)| whole && once && *last == life.first)
                    });
                    match taken {
                        Some((operand, _)) => chain = operand,
                        None => step.in_place = None,
                    }
                }
                known[id] = Some((chain, life.last));
            }
            if chain == chains.len() {
                chains.push(Chain::new());
            }
            chains[chain].push(*life);
        }
        chains
    }

    /// The lifetimes, in steps, of everything that lives in the arena.
    pub(super) fn lives(&self) -> Vec<Life> {
        let mut lives = Vec::new();
        let mut index = vec![usize::MAX; self.values.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for id in step.written() {
                index[id] = lives.len();
                let elems = self.values[id].elems().next_multiple_of(ALIGN);
                lives.push(Life { what: What::Value(id), first: i, last: i, elems });
            }
            for v in &step.x {
                if let Some(life) = lives.get_mut(index[v.id]) {
                    life.last = i;
                }
            }
            if step.scratch.shared > 0 {
                let elems = step.scratch.shared.next_multiple_of(ALIGN);
                lives.push(Life { what: What::Scratch(i), first: i, last: i, elems });
            }
        }
        for (_, id) in &self.outputs {
            if let Some(life) = lives.get_mut(index[*id]) {
                life.last = self.steps.len();
            }
        }
        lives
    }
}

/// The lowest offset at which a chain overlaps nothing that lives at the same time.
fn lowest_free(placed: &[(Life, usize)], chain: &Chain) -> usize {
    let mut taken = Vec::new();
    for life in chain {
        let others = placed.iter().filter(|(other, _)| life.meets(other));
        taken.extend(others.map(|(other, offset)| (life.elems, *offset, offset + other.elems)));
    }
    // The lowest is the beginning, or where something ends.
    let mut starts: Vec<usize> = taken.iter().map(|(.., end)| *end).chain([0]).collect();
    starts.sort_unstable();
    let free = |at: &usize| taken.iter().all(|(elems, start, end)| at + elems <= *start || end <= at);
    starts.into_iter().find(free).unwrap_or(0)
}
