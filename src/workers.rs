//! The CPU's threads: one dispatch per step, tasks claimed from an atomic counter, scratch that belongs to a worker.

pub mod tuning;

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use tuning::Tuning;

/// A pool of threads of our own (never rayon's global one) and a scratch buffer for each of them.
///
/// Kernels split their work by shape alone, so that results do not depend on the number of workers.
pub struct Workers {
    pool: rayon::ThreadPool,
    scratch: Vec<Mutex<Scratch>>,
    tuning: Mutex<Option<Tuning>>,
}

/// f32 elements aligned to a cache line, which is also the widest vector.
#[derive(Default)]
struct Scratch {
    lines: Vec<Line>,
}

#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Workers {
    /// A pool of `threads` threads, at least one.
    pub fn new(threads: usize) -> Result<Self> {
        let threads = threads.max(1);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("lienzo-{i}"))
            .build()
            .map_err(|e| Error::other(format!("could not start {threads} threads ({e}); try a smaller -t")))?;
        Ok(Self { pool, scratch: (0..threads).map(|_| Mutex::default()).collect(), tuning: Mutex::default() })
    }

    /// How many there are.
    pub fn threads(&self) -> usize {
        self.scratch.len()
    }

    /// The sizes that kernels cut their work into; the default ones until [`Workers::tune`] has set others.
    pub fn tuning(&self) -> Tuning {
        self.lock_tuning().unwrap_or_default()
    }

    /// Whether [`Workers::tune`] was called.
    pub fn is_tuned(&self) -> bool {
        self.lock_tuning().is_some()
    }

    /// Sets the sizes; no result depends on them. Those that are not among the choices are left out: no scratch is made
    /// for them.
    pub fn tune(&self, tuning: Tuning) {
        *self.lock_tuning() = Some(tuning).filter(Tuning::is_known);
    }

    fn lock_tuning(&self) -> MutexGuard<'_, Option<Tuning>> {
        // Plain data: consistent whatever happened.
        self.tuning.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Makes every worker's scratch hold at least `elems` f32. Called when a program is loaded, not while it runs.
    pub fn reserve(&self, elems: usize) {
        for s in &self.scratch {
            let mut s = s.lock().unwrap_or_else(|e| e.into_inner());
            let lines = elems.div_ceil(16);
            if s.lines.len() < lines {
                s.lines.resize(lines, Line([0.0; 16]));
            }
        }
    }

    /// Calls `f(task, scratch)` once for each task in `0 .. tasks`, in any order, on any worker. Scratch holds what an
    /// earlier task left there.
    pub fn for_each(&self, tasks: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        let next = AtomicUsize::new(0);
        let work = |worker: usize| {
            // Only this worker takes this lock, so it is never waited for. A poisoned one holds only scratch.
            let mut scratch = self.scratch[worker].lock().unwrap_or_else(|e| e.into_inner());
            let elems = bytemuck::cast_slice_mut(&mut scratch.lines);
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                f(task, elems);
            }
        };
        if tasks <= 1 || self.threads() == 1 {
            // Still inside the pool: the caller may have a small stack.
            self.pool.install(|| work(0));
        } else {
            self.pool.broadcast(|ctx| work(ctx.index()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 5] {
            let workers = Workers::new(threads).unwrap();
            workers.reserve(100);
            let hits: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
            workers.for_each(1000, |task, scratch| {
                assert!(scratch.len() >= 100);
                hits[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
        }
    }
}
