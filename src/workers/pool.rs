//! Threads that help their caller: work for many goes in; the call returns when everyone who joined in has finished.
//!
//! The caller works too, and it waits only for helpers that have begun: beside other programs a thread may get its
//! turn milliseconds after it was woken, and by then the work may be done. Who waits looks again for some
//! microseconds, which is as long as the gap between two steps of a plan, and then sleeps, so that its core is free
//! for whoever has work.
#![allow(unsafe_code, reason = "threads that outlive a call borrow its work while the call lasts")]

use crate::error::{Error, Remedy, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long who waits looks again before sleeping.
const SPIN: Duration = Duration::from_micros(40);

/// What is to be done, by each helper with its own number.
type Work = &'static (dyn Fn(usize) + Sync);

/// Helpers number 1 and up; the caller is number 0.
pub struct Pool {
    shared: Arc<Shared>,
    /// One call at a time.
    turn: Mutex<()>,
    helpers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Work was opened, or the pool is going away.
    opened: Condvar,
    /// Nobody is inside any more.
    left: Condvar,
    /// `State::number`, for those who look without the lock.
    number: AtomicUsize,
    /// `State::inside`, likewise.
    inside: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// What helpers may join; none once the caller has run out of it.
    work: Option<Work>,
    /// Counts what was opened, so that nobody joins twice.
    number: usize,
    /// Helpers that have joined and not finished.
    inside: usize,
    /// Helpers that sleep.
    asleep: usize,
    /// What a helper's panic said.
    panic: Option<Box<dyn Any + Send>>,
    ending: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What a helper does all its life.
    fn help(&self, me: usize) {
        let mut seen = 0;
        loop {
            look(|| self.number.load(Ordering::Acquire) != seen);
            let mut state = self.lock();
            while state.number == seen && !state.ending {
                state.asleep += 1;
                state = self.opened.wait(state).unwrap_or_else(|e| e.into_inner());
                state.asleep -= 1;
            }
            if state.ending {
                return;
            }
            seen = state.number;
            let Some(work) = state.work else { continue };
            state.inside += 1;
            self.inside.store(state.inside, Ordering::Release);
            drop(state);
            let done = catch_unwind(AssertUnwindSafe(|| work(me)));
            let mut state = self.lock();
            state.inside -= 1;
            if let Err(said) = done {
                state.panic.get_or_insert(said);
            }
            if state.inside == 0 {
                self.left.notify_one();
            }
            self.inside.store(state.inside, Ordering::Release);
        }
    }
}

/// Looks for something that is expected soon.
fn look(found: impl Fn() -> bool) {
    if found() {
        return;
    }
    let start = Instant::now();
    while start.elapsed() < SPIN {
        for _ in 0..16 {
            std::hint::spin_loop();
        }
        if found() {
            return;
        }
    }
}

/// Ends a call: nobody joins any more, and whoever is inside has left when this was dropped.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.lock().work = None;
        look(|| self.0.inside.load(Ordering::Acquire) == 0);
        let mut state = self.0.lock();
        while state.inside > 0 {
            state = self.0.left.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }
}

impl Pool {
    /// So many helpers.
    pub fn new(helpers: usize) -> Result<Self> {
        let mut pool = Self { shared: Arc::default(), turn: Mutex::default(), helpers: Vec::with_capacity(helpers) };
        for me in 1..=helpers {
            let shared = pool.shared.clone();
            let started = std::thread::Builder::new().name(format!("lienzo-{me}")).spawn(move || shared.help(me));
            let failed = |e: std::io::Error| {
                let message = format!("could not start {} threads ({e})", helpers + 1);
                Error::other(message).try_this(Remedy::FewerThreads).caused_by(e)
            };
            pool.helpers.push(started.map_err(failed)?);
        }
        Ok(pool)
    }

    /// Calls `work(0)` here, and `work(n)` on at most `wanted` helpers that come in time.
    ///
    /// # Panics
    /// With the panic of `work`, after all have finished.
    pub fn run(&self, wanted: usize, work: &(dyn Fn(usize) + Sync)) {
        // A panic of an earlier call left nothing behind.
        let _turn = self.turn.lock().unwrap_or_else(|e| e.into_inner());
        let wanted = wanted.min(self.helpers.len());
        if wanted == 0 {
            return work(0);
        }
        // SAFETY: only the lifetime changes. Helpers take the reference under the lock while the work is open, and
        // count themselves in; `Close` ends that and waits until the count is zero, also when `work(0)` panics. So no
        // helper has it when this function, which borrows it, returns.
        let borrowed = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Work>(work) };
        let mut state = self.shared.lock();
        state.work = Some(borrowed);
        state.number = state.number.wrapping_add(1);
        self.shared.number.store(state.number, Ordering::Release);
        state.panic = None;
        let asleep = state.asleep;
        drop(state);
        let close = Close(&self.shared);
        if asleep > 0 && wanted < asleep {
            (0..wanted).for_each(|_| self.shared.opened.notify_one());
        } else if asleep > 0 {
            self.shared.opened.notify_all();
        }
        work(0);
        drop(close);
        let panicked = self.shared.lock().panic.take();
        if let Some(said) = panicked {
            resume_unwind(said);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        // Wakes those that look, too.
        self.shared.number.fetch_add(1, Ordering::Release);
        self.shared.opened.notify_all();
        for helper in self.helpers.drain(..) {
            let _ended = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_join_and_everything_is_done_before_the_call_returns() {
        let pool = Pool::new(3).unwrap();
        for round in 0..2000_usize {
            let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let tasks = round % 17;
            pool.run(round % 5, &|me| {
                assert!(me <= 3);
                while next.fetch_add(1, Ordering::Relaxed) < tasks {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(done.into_inner(), tasks);
            if round % 100 == 0 {
                // Long enough for all to fall asleep.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2).unwrap();
        let began = AtomicUsize::new(0);
        let all = || while began.load(Ordering::Acquire) < 3 {};
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(2, &|me| {
                began.fetch_add(1, Ordering::Release);
                all();
                assert!(me != 1, "helper 1");
            });
        }));
        let said = caught.unwrap_err();
        assert!(said.downcast_ref::<&str>().is_some_and(|s| s.contains("helper 1")) || said.is::<String>());
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(2, &|me| assert!(me != 0))));
        assert!(caught.is_err());
        let ran = AtomicUsize::new(0);
        pool.run(2, &|_| {
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert!((1..=3).contains(&ran.into_inner()));
    }

    #[test]
    fn calls_of_several_threads_take_turns() {
        let pool = Pool::new(2).unwrap();
        let (busy, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(2, &|me| {
                            if me == 0 {
                                most.fetch_max(busy.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
                                std::thread::yield_now();
                                busy.fetch_sub(1, Ordering::AcqRel);
                            }
                        });
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
    }
}
