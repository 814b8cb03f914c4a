//! A plan's matrices from the file while it runs: each step's panels are packed by a thread of their own, a little
//! ahead of the step, and dropped after it.
//!
//! The panels are those that would be kept otherwise, so that no result changes by a bit.

use super::reader::Packer;
use crate::backend::rounded::Rounded;
use crate::checkpoint::Model;
use crate::dtype::Storage;
use crate::error::{Error, Result};
use crate::graph::plan::{AHEAD, Plan};
use crate::kernels::cpu::panels::Packed;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Where a program's matrices come from.
pub struct Stream {
    plan: Arc<Plan>,
    model: Arc<Model>,
    weight_type: Storage,
    rounded: Arc<Rounded>,
}

/// A step's number and its matrices, each with its number in the plan.
type Item = (usize, Result<Vec<(usize, Packed)>>);

/// The matrices of one run, in the order of the steps.
pub struct Feed<'a> {
    plan: &'a Plan,
    items: Receiver<Item>,
}

impl Stream {
    /// A stream for a plan.
    pub fn new(plan: Arc<Plan>, model: Arc<Model>, weight_type: Storage, rounded: Arc<Rounded>) -> Self {
        Self { plan, model, weight_type, rounded }
    }

    /// Runs `body` while another thread reads and packs what it will ask for.
    pub fn run<T>(&self, body: impl FnOnce(&mut Feed<'_>) -> Result<T>) -> Result<T> {
        // One set is being packed and the others wait in the channel.
        let (to, items) = sync_channel(AHEAD - 1);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("lienzo-stream".into());
            let started = thread.spawn_scoped(scope, move || self.fill(&to));
            started.map_err(|e| Error::other(format!("could not start a thread to read weights ({e})")))?;
            let mut feed = Feed { plan: &self.plan, items };
            // The feed is dropped before the scope waits: the thread ends when nobody listens.
            body(&mut feed)
        })
    }

    fn fill(&self, to: &SyncSender<Item>) {
        let mut packer = Packer::new(&self.model, self.weight_type, &self.rounded);
        for (i, matrices) in self.plan.steps.iter().enumerate().map(|(i, step)| (i, matrices(&self.plan, &step.w))) {
            if matrices.is_empty() {
                continue;
            }
            // Without the pool, which is computing.
            let pack = |n: usize| Ok((n, packer.pack(&self.plan.weights[n], None)?));
            let packed: Result<Vec<_>> = matrices.into_iter().map(pack).collect();
            let failed = packed.is_err();
            if to.send((i, packed)).is_err() || failed {
                return;
            }
        }
    }
}

impl Feed<'_> {
    /// The matrices of step `i`; steps are asked for in order.
    pub fn step(&mut self, i: usize) -> Result<Vec<(usize, Packed)>> {
        if matrices(self.plan, &self.plan.steps[i].w).is_empty() {
            return Ok(Vec::new());
        }
        match self.items.recv() {
            Ok((at, packed)) if at == i => packed,
            _ => Err(Error::other(format!("no weights came for step {}", self.plan.steps[i].name))),
        }
    }
}

/// Those of a step's weights that are streamed.
fn matrices(plan: &Plan, weights: &[usize]) -> Vec<usize> {
    weights.iter().copied().filter(|w| !plan.weights[*w].packing.is_vector()).collect()
}
