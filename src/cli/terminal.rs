//! The terminal: what is printed, what the user sees while waiting (a bar with the time left on a terminal, a plain
//! line per stage elsewhere), and Ctrl-C.
//!
//! A reader may go away and a disk may be full: what cannot be said costs no picture. It is told once, at the end.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Says a line on stderr, if anybody reads there.
pub fn line(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// `say!("{n} pictures")`: a line on stderr.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::terminal::line(format_args!($($words)*)) };
}
pub(crate) use say;

/// What kept stdout from being written, the first time.
static LOST: Mutex<Option<std::io::Error>> = Mutex::new(None);

/// Prints to stdout. A reader that went away (`| head`) is no error; a full disk is one, for [`ended`] to tell.
pub fn print(text: impl Display) {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            LOST.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
        }
        _ => {}
    }
}

/// `puts!("{name}")`: a line on stdout.
macro_rules! puts {
    ($($words:tt)*) => { $crate::cli::terminal::print(format_args!("{}\n", format_args!($($words)*))) };
}
pub(crate) use puts;

/// The end of a command that did what it should: a failure all the same if not all of it could be printed.
pub fn ended(code: ExitCode) -> ExitCode {
    match LOST.lock().unwrap_or_else(|e| e.into_inner()).take() {
        Some(e) => {
            say!("lienzo: not all could be printed: {e}");
            ExitCode::FAILURE
        }
        None => code,
    }
}

/// The first Ctrl-C sets the flag, which ends the run cleanly; the second ends the process at once.
pub fn cancel_on_ctrl_c(unit: &'static str) -> Arc<AtomicBool> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = cancel.clone();
    let handler = move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        lienzo::files::interrupt();
        say!("\nstopping after this {unit}; press Ctrl-C again to stop at once");
    };
    if let Err(e) = ctrlc::set_handler(handler) {
        say!("note: Ctrl-C will stop at once ({e})");
    }
    cancel
}

/// One stage after the other, on stderr.
pub struct ProgressLine {
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

impl ProgressLine {
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
            say!("{}: {done}/{}, about {:.0} s left", stage.label, stage.total, left.as_secs_f64());
            stage.said = Instant::now();
        }
    }

    /// Ends the current stage; on a terminal the bar is replaced by one line with its time.
    pub fn end(&mut self) {
        let Some(stage) = self.stage.take() else { return };
        stage.bar.finish_and_clear();
        let count = if stage.total > 1 { format!(" ({} evaluations)", stage.total) } else { String::new() };
        say!("{}{count}: {:.2} s", stage.label, stage.begun.elapsed().as_secs_f64());
    }

    /// Removes the bar without a line, before an error is printed.
    pub fn abandon(&mut self) {
        if let Some(stage) = self.stage.take() {
            stage.bar.finish_and_clear();
        }
    }
}
