//! A plan's memory on a CPU: one arena, in which values lie by lifetime, and outputs in the place of operands that end.

use super::{Place, Plan, Step};
use crate::graph::Graph;
use crate::kernels::cpu::InPlace;
use std::cmp::Reverse;

/// Alignment of every value, in f32 elements: a cache line, which is also the widest vector.
const ALIGN: usize = 16;

/// What lives.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// A stored value.
    Operand(usize),
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

/// Offsets for everything that lives in an arena.
struct Arranged {
    placed: Vec<(Life, usize)>,
    elems: usize,
}

impl Plan {
    /// Assigns arena offsets: values whose lifetimes overlap never overlap in memory, but where an output takes an
    /// operand's place.
    pub(super) fn place(&mut self, graph: &Graph) {
        self.store(graph, Place::Slot { offset: 0 });
        let lives = self.lives();
        self.arena_unshared = lives.iter().map(|l| l.elems).sum();
        let can = self.can_take(&lives);
        let by_rows = |how: &InPlace| matches!(how, InPlace::Rows(_));
        let mut takes: Vec<Option<InPlace>> = can.iter().map(|how| how.filter(|how| !by_rows(how))).collect();
        let mut best = self.arrange(&lives, &takes);
        // Rows go over rows in waves, of which the first are short: only where that makes the whole smaller.
        for (i, how) in can.iter().enumerate().filter(|(_, how)| how.as_ref().is_some_and(by_rows)) {
            takes[i] = *how;
            let other = self.arrange(&lives, &takes);
            if other.elems < best.elems {
                best = other;
            } else {
                takes[i] = None;
            }
        }
        self.arena = best.elems;
        for (step, how) in self.steps.iter_mut().zip(takes) {
            step.in_place = how;
        }
        for (life, offset) in best.placed {
            match life.what {
                What::Operand(id) => self.values[id].place = Place::Slot { offset },
                What::Scratch(step) => self.steps[step].scratch_offset = offset,
                What::Buffer(..) => {}
            }
        }
    }

    /// For each step whose place its output can take: of those that its variant names, whole stored values that are
    /// read for the last time, and once.
    fn can_take(&self, lives: &[Life]) -> Vec<Option<InPlace>> {
        let ends = |id: usize, step: usize| {
            lives.iter().any(|l| matches!(l.what, What::Operand(v) if v == id) && l.last == step)
        };
        let can = |(i, step): (usize, &Step)| {
            step.in_place.filter(|how| {
                let v = step.x[how.operand()];
                let whole = v.offset == 0 && v.shape == self.values[v.id].shape;
                whole && ends(v.id, i) && step.x.iter().filter(|x| x.id == v.id).count() == 1
            })
        };
        self.steps.iter().enumerate().map(can).collect()
    }

    /// Largest first, each at the lowest offset that is free during its life, which comes within a few percent of the
    /// live maximum on these graphs. `lives` are in the order of the steps.
    fn arrange(&self, lives: &[Life], takes: &[Option<InPlace>]) -> Arranged {
        let mut chains: Vec<Chain> = Vec::with_capacity(lives.len());
        let mut chain_of = vec![usize::MAX; self.values.len()];
        for life in lives {
            let mut chain = chains.len();
            if let What::Operand(id) = life.what {
                let step = &self.steps[life.first];
                if let Some(how) = takes[life.first].filter(|_| id == step.y) {
                    chain = chain_of[step.x[how.operand()].id];
                }
                chain_of[id] = chain;
            }
            if chain == chains.len() {
                chains.push(Chain::new());
            }
            chains[chain].push(*life);
        }
        let most = |chain: &Chain| chain.iter().map(|l| l.elems).max();
        chains.sort_by_key(|c| (Reverse(most(c)), c[0].first, c[c.len() - 1].last));
        let mut placed: Vec<(Life, usize)> = Vec::with_capacity(lives.len());
        for chain in chains {
            let offset = lowest_free(&placed, &chain);
            placed.extend(chain.into_iter().map(|life| (life, offset)));
        }
        let elems = placed.iter().map(|(life, offset)| offset + life.elems).max().unwrap_or(0);
        Arranged { placed, elems }
    }

    /// The lifetimes, in steps, of everything that lives in the arena.
    pub(super) fn lives(&self) -> Vec<Life> {
        let mut lives = Vec::new();
        let mut index = vec![usize::MAX; self.values.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for id in step.written() {
                index[id] = lives.len();
                let elems = self.values[id].elems().next_multiple_of(ALIGN);
                lives.push(Life { what: What::Operand(id), first: i, last: i, elems });
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
