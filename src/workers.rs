//! The CPU's threads: one dispatch per step, tasks claimed from an atomic counter, scratch that belongs to a worker.
//!
//! [`Workers::for_each_row`] is how kernels write their output: each task gets rows of its own.
#![allow(unsafe_code, reason = "tasks get disjoint rows of one slice")]

mod pool;
pub mod tuning;

use crate::error::Result;
use pool::Pool;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use tuning::Tuning;

/// The caller and the threads that help it, and a scratch buffer for each of them.
///
/// Kernels split their work by shape alone, so that results do not depend on the number of workers.
pub struct Workers {
    pool: Pool,
    scratch: Vec<Mutex<Scratch>>,
    /// Elements that each of them has at least.
    reserved: AtomicUsize,
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

/// Rows that tasks share out: row r begins at `r * pitch`, and what follows its `width` elements is left alone.
pub struct RowsMut<'a, T> {
    data: &'a mut [T],
    count: usize,
    width: usize,
    pitch: usize,
}

impl<'a, T> RowsMut<'a, T> {
    /// `count` rows.
    ///
    /// # Panics
    /// They do not lie in `data`, or a row is empty or longer than the pitch.
    pub fn new(data: &'a mut [T], count: usize, width: usize, pitch: usize) -> Self {
        assert!((1..=pitch).contains(&width), "rows of {width} elements, {pitch} apart");
        let end = count.checked_sub(1).map_or(Some(0), |n| n.checked_mul(pitch)?.checked_add(width));
        assert!(end.is_some_and(|end| end <= data.len()), "{count} rows, {pitch} apart, in {} elements", data.len());
        Self { data, count, width, pitch }
    }
}

/// Where shared rows begin.
#[derive(Clone, Copy)]
struct Start<T>(*mut T);

// SAFETY: `for_each_part` gives each task rows of its own, and elements may go to other threads.
unsafe impl<T: Send> Send for Start<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Start<T> {}

impl<T> Start<T> {
    /// A method, so that closures capture the wrapper and not the pointer in it.
    fn get(&self) -> *mut T {
        self.0
    }
}

impl Workers {
    /// `threads` threads, at least one, of which whoever calls is the first.
    pub fn new(threads: usize) -> Result<Self> {
        let threads = threads.max(1);
        let pool = Pool::new(threads - 1)?;
        Ok(Self {
            pool,
            reserved: AtomicUsize::new(0),
            scratch: (0..threads).map(|_| Mutex::default()).collect(),
            tuning: Mutex::default(),
        })
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

    /// Elements that every worker's scratch holds.
    pub fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Acquire)
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
        // It never shrinks.
        self.reserved.fetch_max(elems, Ordering::AcqRel);
    }

    /// Calls `f(r, row)` once for each row, a task for every `rows_per_task` of them: the way for kernels to write
    /// their output.
    pub fn for_each_row<T: Send>(&self, out: RowsMut<'_, T>, rows_per_task: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let (pitch, width) = (out.pitch, out.width);
        self.for_each_part(out, rows_per_task, |first, part, _| {
            for (i, row) in part.chunks_mut(pitch).enumerate() {
                f(first + i, &mut row[..width]);
            }
        });
    }

    /// Calls `f(first, part, scratch)` once for each run of `rows_per_task` rows, the last of which may be shorter. A
    /// part goes from the start of row `first` to the end of its last row.
    pub fn for_each_part<T: Send>(
        &self,
        out: RowsMut<'_, T>,
        rows_per_task: usize,
        f: impl Fn(usize, &mut [T], &mut [f32]) + Sync,
    ) {
        let RowsMut { data, count, width, pitch } = out;
        let start = Start(data.as_mut_ptr());
        self.for_each(count.div_ceil(rows_per_task), |task, scratch| {
            let first = task * rows_per_task;
            let rows = rows_per_task.min(count - first);
            // SAFETY: `RowsMut::new` saw that all rows lie in the slice, which is borrowed until every task has
            // returned, and that none is longer than the pitch: runs of different rows do not overlap, and `for_each`
            // gives each task once.
            let part =
                unsafe { std::slice::from_raw_parts_mut(start.get().add(first * pitch), (rows - 1) * pitch + width) };
            f(first, part, scratch);
        });
    }

    /// What `f` gives for each task, in order.
    pub fn gather<T: Send + Sync>(&self, tasks: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let mut found: Vec<Option<T>> = Vec::new();
        found.resize_with(tasks, || None);
        self.for_each_row(RowsMut::new(&mut found, tasks, 1, 1), 1, |task, found| found[0] = Some(f(task)));
        found.into_iter().flatten().collect()
    }

    /// Calls `f(task, scratch)` once for each task in `0 .. tasks`, in any order, on any worker. Scratch holds what an
    /// earlier task left there. Tasks must not call this again.
    pub fn for_each(&self, tasks: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        let next = AtomicUsize::new(0);
        let work = |worker: usize| {
            // One call at a time, and only this worker takes this lock: it is never waited for. A poisoned one holds
            // only scratch.
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
        self.pool.run(tasks.saturating_sub(1), &work);
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

    #[test]
    fn rows_are_shared_out_once_and_padding_is_left_alone() {
        for (threads, per_task) in [(1, 1), (2, 3), (5, 7), (3, 1000)] {
            let workers = Workers::new(threads).unwrap();
            let (count, width, pitch) = (50, 3, 5);
            let mut data = vec![-1.0; (count - 1) * pitch + width];
            workers.for_each_row(RowsMut::new(&mut data, count, width, pitch), per_task, |r, row: &mut [f32]| {
                assert_eq!(row.len(), width);
                row.iter_mut().enumerate().for_each(|(c, v)| *v += (r * width + c + 1) as f32);
            });
            for (i, v) in data.iter().enumerate() {
                let (r, c) = (i / pitch, i % pitch);
                assert_eq!(*v, if c < width { (r * width + c) as f32 } else { -1.0 });
            }
            assert_eq!(workers.gather(9, |i| i * i), [0, 1, 4, 9, 16, 25, 36, 49, 64]);
            workers.for_each_row(RowsMut::new(&mut data, 0, 1, 1), 4, |_, _| panic!("there is no row"));
        }
    }

    #[test]
    fn rows_that_do_not_lie_in_the_slice_are_refused() {
        for (count, width, pitch) in [(3, 4, 4), (2, 4, 3), (1, 0, 4), (usize::MAX, 2, usize::MAX / 2)] {
            let made = std::panic::catch_unwind(|| RowsMut::new(&mut [0.0_f32; 11], count, width, pitch).count);
            assert!(made.is_err(), "{count} {width} {pitch}");
        }
    }
}
