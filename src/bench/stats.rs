//! Repeated times go in; a median, its spread, and whether enough was measured come out.

use std::time::{Duration, Instant};

/// The middle value, or the mean of the two middle ones; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => f64::NAN,
        _ if n % 2 == 1 => sorted[n / 2],
        _ => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The median distance from the median: a spread that a few interrupted runs do not move.
pub fn mad(values: &[f64]) -> f64 {
    let middle = median(values);
    median(&values.iter().map(|v| (v - middle).abs()).collect::<Vec<_>>())
}

/// When a series of samples is long enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Samples that are enough, once `least` has passed.
    pub samples: usize,
    /// Short work is repeated for at least this long, so that one interruption is not the result.
    pub least: Duration,
    /// Time after which no further sample is begun.
    pub budget: Duration,
}

impl Sampling {
    /// 20 samples and a twentieth of a second, or the budget.
    pub fn within(budget: Duration) -> Self {
        Self { samples: 20, least: Duration::from_millis(50), budget }
    }

    /// Whether to stop after `count` samples that took `elapsed`. There is always one sample.
    pub fn enough(&self, count: usize, elapsed: Duration) -> bool {
        count > 0 && (elapsed >= self.budget || count >= self.samples && elapsed >= self.least)
    }

    /// Seconds of each run of `work`; `before_each` runs ahead of each of them, untimed.
    pub fn take(&self, mut work: impl FnMut(), mut before_each: impl FnMut()) -> Vec<f64> {
        let begun = Instant::now();
        let mut times = Vec::with_capacity(self.samples);
        while !self.enough(times.len(), begun.elapsed()) {
            before_each();
            let start = Instant::now();
            work();
            times.push(start.elapsed().as_secs_f64());
        }
        times
    }
}

/// A total that is handed out evenly: what a cheap item leaves, the later ones share.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: Duration,
    items: usize,
}

/// How many times its even share an item may cost before it is skipped.
const GENEROSITY: u32 = 3;

impl Budget {
    /// `total` for `items`.
    pub fn new(total: Duration, items: usize) -> Self {
        Self { left: total, items }
    }

    /// The even share of the next item.
    pub fn share(&self) -> Duration {
        self.left / u32::try_from(self.items.max(1)).unwrap_or(u32::MAX)
    }

    /// Whether an item of this estimated cost is done: within a few shares, and within what is left.
    pub fn affords(&self, cost: Duration) -> bool {
        cost <= self.share().saturating_mul(GENEROSITY).min(self.left)
    }

    /// An item is over.
    pub fn spend(&mut self, spent: Duration) {
        self.left = self.left.saturating_sub(spent);
        self.items = self.items.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_outlier_moves_neither() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), mad(&[3.0, 1.0, 2.0])), (2.0, 1.0));
        assert_eq!((median(&[1.0, 2.0, 1000.0, 3.0]), mad(&[1.0, 2.0, 1000.0, 3.0])), (2.5, 1.0));
        assert_eq!((median(&[7.0]), mad(&[7.0])), (7.0, 0.0));
        assert!(median(&[]).is_nan() && mad(&[]).is_nan());
    }

    #[test]
    fn samples_or_budget() {
        let s = Sampling { samples: 20, least: 50 * MS, budget: 1000 * MS };
        assert!(!s.enough(0, 2000 * MS), "one sample is always taken");
        assert!(s.enough(1, 2000 * MS));
        assert!(!s.enough(19, 500 * MS));
        assert!(s.enough(20, 500 * MS));
        assert!(!s.enough(1000, 10 * MS), "short work goes on");
        let mut calls = 0;
        let none = Sampling { samples: 20, least: Duration::ZERO, budget: Duration::ZERO };
        assert_eq!((none.take(|| calls += 1, || ()).len(), calls), (1, 1));
    }

    #[test]
    fn what_is_saved_is_shared() {
        let mut b = Budget::new(100 * MS, 10);
        assert_eq!(b.share(), 10 * MS);
        assert!(b.affords(30 * MS) && !b.affords(31 * MS));
        b.spend(1 * MS);
        assert_eq!(b.share(), 11 * MS);
        b.spend(91 * MS);
        assert_eq!(b.share(), 1 * MS);
        b.spend(1000 * MS);
        assert!(!b.affords(1 * MS));
    }
}
