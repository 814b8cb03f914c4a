//! What the user sees while waiting: a bar with the time left on a terminal, a plain line per stage elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// One stage after the other, on stderr.
pub struct Progress {
    terminal: bool,
    quiet: bool,
    stage: Option<Stage>,
}

struct Stage {
    label: String,
    begun: Instant,
    total: usize,
    bar: ProgressBar,
    /// When a plain line was last written: a log must not fill up with them.
    said: Instant,
}

/// At most one plain line in this time.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    /// For this process's stderr.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), quiet: false, stage: None }
    }

    /// Begins a stage of `total` units, ending the one before.
    pub fn begin(&mut self, label: &str, total: usize) {
        self.end();
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::hidden());
        if self.terminal && !self.quiet {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            let template = "{msg:<22} {bar:30} {pos}/{len}  {elapsed} (left {eta})";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(label.to_owned());
            bar.tick();
        }
        let now = Instant::now();
        self.stage = Some(Stage { label: label.into(), begun: now, total, bar, said: now });
    }

    /// `done` units of the current stage are finished.
    pub fn at(&mut self, done: usize) {
        let Some(stage) = &mut self.stage else { return };
        stage.bar.set_position(done as u64);
        if !self.terminal && done < stage.total && stage.said.elapsed() >= PLAIN_EVERY && done > 0 {
            let left = stage.begun.elapsed().mul_f64((stage.total - done) as f64 / done as f64);
            eprintln!("{}: {done}/{}, about {:.0} s left", stage.label, stage.total, left.as_secs_f64());
            stage.said = Instant::now();
        }
    }

    /// Ends the current stage; on a terminal the bar is replaced by one line with its time.
    pub fn end(&mut self) {
        let Some(stage) = self.stage.take() else { return };
        stage.bar.finish_and_clear();
        let count = if stage.total > 1 { format!(" ({} evaluations)", stage.total) } else { String::new() };
        eprintln!("{}{count}: {:.2} s", stage.label, stage.begun.elapsed().as_secs_f64());
    }

    /// Removes the bar without a line, before an error is printed.
    pub fn abandon(&mut self) {
        if let Some(stage) = self.stage.take() {
            stage.bar.finish_and_clear();
        }
    }
}
