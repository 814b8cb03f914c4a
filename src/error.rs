//! The one error type: what went wrong, where, and what to do about it.

use std::fmt;
use std::path::Path;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an error means to the program; fallbacks match on this and on nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be carried out as written (exit code 2).
    Usage,
    /// A file is missing, truncated, malformed or not what it should be.
    BadFile,
    /// The work needs more memory than there is.
    TooBig {
        /// Bytes needed.
        need: u64,
        /// Bytes available.
        have: u64,
    },
    /// An allocation failed while running.
    OutOfMemory,
    /// The device stopped answering.
    DeviceLost,
    /// A kernel's variant does not compile or failed its self-test on the device, and the next plan does without it;
    /// or, from planning, no variant of an op is left.
    Refused,
    /// A stage produced a NaN, an infinity or an empty picture.
    NonFinite {
        /// `text`, `step 7`, `decode`, ...
        stage: String,
    },
    /// The caller asked to stop (exit code 130).
    Cancelled,
    /// Anything else: input and output, the system.
    Other,
}

/// An error with one sentence that names the culprit and the remedy.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    message: String,
}

impl Error {
    /// An error of any kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The request is wrong; say what is possible.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// A file is not usable; the path is put in front of the message.
    pub fn bad_file(path: impl AsRef<Path>, message: impl fmt::Display) -> Self {
        let path = escape(&path.as_ref().to_string_lossy());
        Self::new(Kind::BadFile, format!("{path}: {message}"))
    }

    /// Input and output, the system, everything else.
    pub fn other(message: impl Into<String>) -> Self {
        Self::new(Kind::Other, message)
    }

    /// The caller asked to stop.
    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "stopped on request")
    }

    /// What the error means to the program.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Puts where it happened in front of the message: `decode: up_blocks.0: ...`.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// 1 failed, 2 wrong usage, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage => 2,
            Kind::Cancelled => 130,
            _ => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Text that came from a file, with control characters escaped, so that it cannot drive a terminal.
///
/// Cut after 200 characters: nobody reads more in an error, and a hostile file may hold megabytes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(256));
    for (i, c) in text.chars().enumerate() {
        if i == 200 {
            out.push('…');
            break;
        }
        // Bidirectional controls reorder what a terminal shows, so they count as control characters here.
        let bidi = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
        if c.is_control() || bidi { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_file_cannot_drive_the_terminal() {
        assert_eq!(escape("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(escape("\u{202e}exe"), "\\u{202e}exe");
        assert!(escape(&"x".repeat(100_000)).chars().count() <= 201);
    }
}
