//! A plan's memory on a GPU: whole buffers by lifetime, because bindings of one buffer
//! may not be read and written at once.

use super::arena::{Life, What};
use super::{Place, Plan};
use crate::error::Result;
use crate::graph::target::{Caps, Target};
use crate::graph::{Graph, Node, Operand};
use crate::kernels::gpu::{self, Launch, LaunchIo, Limits, Storage, View};

/// What is planned before the loop begins keeps f32: timesteps with fractions do not survive f16, and together these
/// plans are a hundredth of the work.
pub(super) fn for_graph(graph: &Graph, caps: &Caps) -> Caps {
    let mut caps = caps.clone();
    if let (Target::Gpu(limits), true) = (&mut caps.target, graph.keeps_f32) {
        limits.storage = Storage::F32;
    }
    caps
}

/// What a GPU runs for a node.
pub(super) fn launch(graph: &Graph, node: &Node, variant: usize, limits: &Limits) -> Result<Launch> {
    let view = |v: &Operand| View { shape: v.shape, offset: v.offset, ..View::whole(graph.values[v.id]) };
    let x: Vec<View> = node.x.iter().map(view).collect();
    let io = LaunchIo { x: &x, w: &node.dims(), y: View::whole(graph.values[node.y]), limits };
    gpu::launch(&node.op, variant, &io).map_err(|e| e.at(&node.name))
}

impl Plan {
    /// Assigns buffers: values whose lifetimes overlap never share one. Largest first, so that a buffer has the size of
    /// its first value; each into the smallest that is free during its life.
    pub(super) fn place_buffers(&mut self, graph: &Graph) {
        self.store(graph, Place::Buffer(0));
        // In bytes here, not in elements.
        let mut lives = self.lives();
        for life in &mut lives {
            if let What::Operand(id) = life.what {
                life.elems *= self.values[id].storage.bytes();
            }
        }
        self.arena_unshared = lives.iter().map(|l| l.elems).sum::<usize>() / 4;
        for (i, step) in self.steps.iter_mut().enumerate() {
            step.scratch_buffers = vec![0; step.launch.scratch.len()];
            let sizes = step.launch.scratch.iter().map(|b| *b as usize).enumerate();
            lives.extend(sizes.map(|(n, elems)| Life { what: What::Buffer(i, n), first: i, last: i, elems }));
        }
        lives.sort_by_key(|l| (std::cmp::Reverse(l.elems), l.first, l.last));
        let mut taken: Vec<Vec<Life>> = Vec::new();
        for life in lives {
            let free = |b: &Vec<Life>| b.iter().all(|l| l.last < life.first || life.last < l.first);
            // Later buffers are smaller.
            let n = taken.iter().rposition(free).unwrap_or_else(|| {
                taken.push(Vec::new());
                self.buffers.push(life.elems.next_multiple_of(gpu::ALIGN as usize) as u64);
                taken.len() - 1
            });
            match life.what {
                What::Operand(id) => self.values[id].place = Place::Buffer(n),
                What::Buffer(step, scratch) => self.steps[step].scratch_buffers[scratch] = n,
                What::Scratch(_) => {}
            }
            taken[n].push(life);
        }
    }
}
