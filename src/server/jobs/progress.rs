//! Events of the engine go in; how much of a job is done, and how long the rest takes, comes out.

use super::record::Progress;
use crate::diffusion::Phase;
use std::time::{Duration, Instant};

/// What denoising is of a picture's work.
const DENOISE: f64 = 0.92;
/// At most one report in this time, but for new stages.
const EVERY: Duration = Duration::from_millis(150);

/// Follows one job.
pub(crate) struct Follower {
    /// Pictures in all, and finished.
    total: usize,
    finished: usize,
    /// Pictures that are computed together now.
    together: usize,
    stage: &'static str,
    picture: usize,
    steps: usize,
    units: Option<usize>,
    done: usize,
    share: f64,
    begun: Instant,
    /// When drawing began, and the share then: loading is not drawing.
    drawing: Option<(Instant, f64)>,
    /// When the current picture's first evaluation was done.
    first: Option<Instant>,
    told: Option<Instant>,
}

impl Follower {
    /// For a job of so many pictures, of which some are there already.
    pub(crate) fn new(total: usize, finished: usize) -> Self {
        let share = finished as f64 / total.max(1) as f64;
        Self {
            total: total.max(1),
            finished,
            together: 1,
            stage: "load",
            picture: finished,
            steps: 0,
            units: None,
            done: 0,
            share,
            begun: Instant::now(),
            drawing: None,
            first: None,
            told: None,
        }
    }

    /// A stage begins; `steps` are the sampler's.
    pub(crate) fn stage(
        &mut self,
        phase: Phase,
        picture: usize,
        units: Option<usize>,
        (steps, together): (usize, usize),
    ) {
        self.stage = match phase {
            Phase::Text => "text",
            Phase::Encode => "encode",
            Phase::Denoise => "draw",
            Phase::Decode => "decode",
        };
        self.picture = picture;
        if phase == Phase::Denoise {
            (self.units, self.steps, self.done) = (units, steps, 0);
            self.together = together.min(self.total - self.finished.min(self.total)).max(1);
            self.first = None;
            self.drawing.get_or_insert((Instant::now(), self.share));
        }
        self.told = None;
    }

    /// So many evaluations are done.
    pub(crate) fn done(&mut self, done: usize) {
        self.done = done;
        self.first.get_or_insert_with(Instant::now);
    }

    /// A picture is finished.
    pub(crate) fn finished(&mut self) {
        self.finished += 1;
        self.stage = "write";
        self.told = None;
    }

    /// Seconds for one evaluation of the current picture, once two are done.
    pub(crate) fn pace(&self) -> Option<f64> {
        let first = self.first.filter(|_| self.done >= 2)?;
        Some(first.elapsed().as_secs_f64() / (self.done - 1) as f64)
    }

    /// Sampler steps done.
    pub(crate) fn step(&self) -> usize {
        match self.units {
            Some(units) if units > 0 => self.done * self.steps / units,
            _ => self.done,
        }
    }

    /// A report, if one is due.
    pub(crate) fn report(&mut self) -> Option<Progress> {
        if self.told.is_some_and(|told| told.elapsed() < EVERY) {
            return None;
        }
        self.told = Some(Instant::now());
        let drawn = match (self.stage, self.units) {
            ("draw", Some(units)) if units > 0 => DENOISE * (self.done as f64 / units as f64).min(1.0),
            // How many there will be, nobody knows: it comes nearer and nearer.
            ("draw", None) => DENOISE * (1.0 - 1.0 / (1.0 + self.done as f64 / self.steps.max(1) as f64)),
            ("decode", _) => DENOISE,
            _ => 0.0,
        };
        let share = (self.finished as f64 + drawn * self.together as f64) / self.total as f64;
        self.share = self.share.max(share.min(1.0));
        Some(Progress {
            stage: self.stage,
            picture: self.picture,
            step: self.step(),
            steps: self.units.map(|_| self.steps),
            share: self.share,
            elapsed: self.begun.elapsed().as_secs_f64(),
            left: self.left(),
        })
    }

    fn left(&self) -> Option<f64> {
        let (since, share) = self.drawing?;
        let gained = self.share - share;
        if gained <= 0.0 || self.done < 2 && self.finished == 0 {
            return None;
        }
        Some(since.elapsed().as_secs_f64() * (1.0 - self.share) / gained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_from_nothing_to_all_and_never_goes_back() {
        let mut follower = Follower::new(2, 0);
        let mut seen = vec![follower.report().unwrap().share];
        let mut report = |follower: &mut Follower| {
            follower.told = None;
            let progress = follower.report().unwrap();
            seen.push(progress.share);
            progress
        };
        follower.stage(Phase::Text, 0, Some(1), (10, 1));
        assert_eq!(report(&mut follower).stage, "text");
        for picture in 0..2 {
            // Heun: two evaluations a step.
            follower.stage(Phase::Denoise, picture, Some(20), (10, 1));
            for n in 1..=20 {
                follower.done(n);
                let progress = report(&mut follower);
                assert_eq!((progress.step, progress.steps), (n / 2, Some(10)));
                assert_eq!(progress.left.is_some(), n >= 2 || picture == 1, "{n}");
            }
            follower.stage(Phase::Decode, picture, Some(1), (10, 1));
            report(&mut follower);
            follower.finished();
            report(&mut follower);
        }
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!((seen[0], seen.last()), (0.0, Some(&1.0)));
        assert!(follower.pace().is_some());
    }

    #[test]
    fn reports_do_not_come_faster_than_anybody_can_read() {
        let mut follower = Follower::new(1, 0);
        assert!(follower.report().is_some() && follower.report().is_none());
        follower.stage(Phase::Denoise, 0, None, (5, 1));
        assert!(follower.report().is_some());
    }
}
