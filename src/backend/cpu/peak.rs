//! Threads and an instruction set go in; the multiply-adds that they can do a second come out.

use crate::simd::{Isa, Simd, Task, dispatch};
use crate::workers::Workers;
use std::hint::black_box;
use std::time::Instant;

const REPEATS: usize = 5;
/// Steps of the FMA loop in a task: a fraction of a millisecond.
const STEPS: usize = 20_000;
/// Tasks of the FMA loop for each worker: they even out threads that are interrupted.
const TASKS: usize = 24;

/// The f32 FMA peak of all workers, in FLOP/s: chains of multiply-adds that never leave the registers.
///
/// A chain waits for itself, so the loop needs latency times units of them: 12 are enough for two units of five cycles,
/// and 4 for sets so narrow that 12 would not fit into the registers. The better of the two counts.
pub fn fma_peak(isa: Isa, workers: &Workers) -> f64 {
    [true, false].map(|wide| FmaPace { isa, workers, wide }.peak()).into_iter().fold(0.0, f64::max)
}

/// [`fma_peak`] now and then: a processor's clock, and what its neighbours take of it, change within a minute.
pub struct FmaPace<'a> {
    isa: Isa,
    workers: &'a Workers,
    /// Twelve chains rather than four.
    wide: bool,
}

impl<'a> FmaPace<'a> {
    /// Finds out how many chains are the faster.
    pub fn new(isa: Isa, workers: &'a Workers) -> Self {
        let [narrow, wide] = [false, true].map(|wide| Self { isa, workers, wide });
        if wide.peak() >= narrow.peak() { wide } else { narrow }
    }

    /// FLOP/s of all workers in one or two milliseconds from now.
    pub fn sample(&self) -> f64 {
        let start = Instant::now();
        self.work();
        self.flops() as f64 / start.elapsed().as_secs_f64().max(1e-9)
    }

    fn peak(&self) -> f64 {
        best_rate(self.flops(), || self.work())
    }

    fn tasks(&self) -> usize {
        TASKS * self.workers.threads()
    }

    fn flops(&self) -> usize {
        let chains = if self.wide { 12 } else { 4 };
        2 * chains * STEPS * dispatch(self.isa, Lanes) * self.tasks()
    }

    fn work(&self) {
        self.workers.for_each(self.tasks(), |_, _| if self.wide { spin::<12>(self.isa) } else { spin::<4>(self.isa) });
    }
}

/// Amount over the shortest of several times.
pub(crate) fn best_rate(amount: usize, mut work: impl FnMut()) -> f64 {
    work();
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    amount as f64 / (0..REPEATS).map(time).fold(f64::INFINITY, f64::min).max(1e-9)
}

fn spin<const CHAINS: usize>(isa: Isa) {
    black_box(dispatch(isa, Chains::<CHAINS> { factor: black_box(0.999), summand: black_box(0.001) }));
}

/// The lanes of a vector.
struct Lanes;

impl Task for Lanes {
    type Out = usize;

    #[inline(always)]
    fn eval<S: Simd>(self, _: S) -> usize {
        S::LANES
    }
}

/// `CHAINS` independent chains `a = a * factor + summand`, which stay near 1.
struct Chains<const CHAINS: usize> {
    factor: f32,
    summand: f32,
}

impl<const CHAINS: usize> Task for Chains<CHAINS> {
    type Out = f32;

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> f32 {
        let (factor, summand) = (s.splat(self.factor), s.splat(self.summand));
        let mut chains = [s.splat(1.0); CHAINS];
        for _ in 0..STEPS {
            for a in &mut chains {
                *a = s.fma(*a, factor, summand);
            }
        }
        chains.into_iter().map(|a| s.sum(a)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_stay_finite() {
        for isa in Isa::available() {
            let sum = dispatch(isa, Chains::<12> { factor: 0.999, summand: 0.001 });
            let workers = Workers::new(1).unwrap();
            assert!(FmaPace::new(isa, &workers).sample() > 0.0);
            assert!((sum / (12 * dispatch(isa, Lanes)) as f32 - 1.0).abs() < 1e-3, "{isa}: {sum}");
        }
    }
}
