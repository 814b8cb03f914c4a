//! The one error type: what went wrong, where, and what to do about it, each as data.
//!
//! Nothing here knows how a user asks for a thing: a command line words a [`Remedy`] and an [option](Error::option) as
//! its flags, a server as fields of its requests. `Display` speaks of neither.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an error means to the program; fallbacks match on this and on nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be carried out as written.
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
    /// The caller asked to stop.
    Cancelled,
    /// Anything else: input and output, the system.
    Other,
}

/// What a user can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// A smaller picture, or fewer at once.
    SmallerSize,
    /// A picture of this size.
    Size {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// The processor instead of the device.
    Cpu,
    /// A newer driver of the device.
    NewDriver,
    /// Fewer threads.
    FewerThreads,
    /// Less memory at the cost of time: weights are read when they are needed.
    LowMemory,
    /// Values between steps kept as f32.
    F32,
    /// Weights kept as f32.
    F32Weights,
    /// Another VAE.
    OtherVae,
    /// A lower guidance.
    LowerGuidance,
    /// Another sampler.
    OtherSampler,
    /// More steps, or more of them for the picture's change.
    MoreStrength,
    /// Another name for what is written.
    OtherName,
    /// Leave to replace what is there.
    Overwrite,
    /// The list of styles.
    ListStyles,
    /// Another word on what the model predicts.
    Prediction,
}

impl Remedy {
    /// What to do, as a sentence's end: `use a smaller size`.
    pub fn in_words(self) -> String {
        let text = match self {
            Self::SmallerSize => "use a smaller size",
            Self::Size { width, height } => return format!("try {width}x{height}"),
            Self::Cpu => "use the CPU",
            Self::NewDriver => "update the driver",
            Self::FewerThreads => "use fewer threads",
            Self::LowMemory => "have the weights read as they are needed",
            Self::F32 => "compute in f32",
            Self::F32Weights => "keep the weights as f32",
            Self::OtherVae => "try another VAE",
            Self::LowerGuidance => "lower the guidance",
            Self::OtherSampler => "try another sampler",
            Self::MoreStrength => "raise the strength or the steps",
            Self::OtherName => "choose another name",
            Self::Overwrite => "allow that it is replaced",
            Self::ListStyles => "see the list of styles",
            Self::Prediction => "tell what the model predicts",
        };
        text.to_owned()
    }
}

/// What was wrong, where, and what can be done.
///
/// ```
/// use lienzo::error::{Error, Kind, Remedy};
///
/// let error = Error::new(Kind::OutOfMemory, "no room").at("decode");
/// let error = error.try_this(Remedy::SmallerSize).try_this(Remedy::Cpu);
/// assert_eq!(error.to_string(), "decode: no room; use a smaller size, or use the CPU");
/// assert_eq!((error.place(), error.remedies().len()), (&["decode".to_string()][..], 2));
/// ```
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

/// Behind a box, so that a `Result` stays small where nothing goes wrong.
#[derive(Clone, Debug)]
struct Inner {
    kind: Kind,
    place: Vec<String>,
    option: Option<&'static str>,
    message: String,
    remedies: Vec<Remedy>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of any kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let (place, message) = (Vec::new(), message.into());
        Self(Box::new(Inner { kind, place, option: None, message, remedies: Vec::new(), source: None }))
    }

    /// The request is wrong; say what is possible.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// One option of the request is wrong. `option` is its name in [snake case](Error::option): `inpaint_fill`.
    pub fn of_option(option: &'static str, message: impl Into<String>) -> Self {
        let mut error = Self::usage(message);
        error.0.option = Some(option);
        error
    }

    /// A file is not usable; the path is the error's place.
    pub fn bad_file(path: impl AsRef<Path>, message: impl fmt::Display) -> Self {
        Self::new(Kind::BadFile, message.to_string()).at(escape(&path.as_ref().to_string_lossy()))
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
        &self.0.kind
    }

    /// Where it happened, outermost first: a file and a tensor, a stage and a step.
    pub fn place(&self) -> &[String] {
        &self.0.place
    }

    /// The option of the request that is wrong, where it is one.
    pub fn option(&self) -> Option<&'static str> {
        self.0.option
    }

    /// What went wrong, without place and remedies.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What can be done, the best first.
    pub fn remedies(&self) -> &[Remedy] {
        &self.0.remedies
    }

    /// Puts where it happened around what is known of the place: `decode`, then `up_blocks.0`.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.place.insert(0, place.to_string());
        self
    }

    /// Adds something that can be done.
    #[must_use]
    pub fn try_this(mut self, remedy: Remedy) -> Self {
        if !self.0.remedies.contains(&remedy) {
            self.0.remedies.push(remedy);
        }
        self
    }

    /// Adds what may be behind it to what went wrong.
    #[must_use]
    pub fn perhaps(mut self, why: impl fmt::Display) -> Self {
        self.0.message.push_str(&format!("; {why}"));
        self
    }

    /// Keeps what it came from, for [`source`](std::error::Error::source). The message says it already.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// The same under another kind.
    #[must_use]
    pub fn into_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The whole as a sentence, with an option and remedies worded by the caller.
    pub fn worded(&self, option: impl Fn(&'static str) -> String, remedy: impl Fn(Remedy) -> String) -> String {
        let inner = &*self.0;
        let mut parts = inner.place.clone();
        parts.extend(inner.option.map(option));
        parts.push(inner.message.clone());
        let mut text = parts.join(": ");
        for (i, one) in inner.remedies.iter().enumerate() {
            let last = i > 0 && i + 1 == inner.remedies.len();
            text.push_str(if i == 0 { "; " } else { ", " });
            text.push_str(if last { "or " } else { "" });
            text.push_str(&remedy(*one));
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.worded(|option| option.replace('_', " "), Remedy::in_words))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}

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
        // Unicode 16, property Bidi_Control.
        let marks = ['\u{61c}', '\u{200e}', '\u{200f}'];
        let bidi = marks.contains(&c) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
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
        assert_eq!(escape("\u{202e}exe\u{61c}\u{200f}"), "\\u{202e}exe\\u{61c}\\u{200f}");
        assert!(escape(&"x".repeat(100_000)).chars().count() <= 201);
    }

    #[test]
    fn an_error_is_one_sentence_and_its_parts() {
        let io = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = Error::bad_file("a\x1b.ckpt", "is no model").at("open").caused_by(io);
        assert_eq!(error.to_string(), "open: a\\u{1b}.ckpt: is no model");
        assert_eq!((error.place().len(), error.message()), (2, "is no model"));
        assert!(std::error::Error::source(&error).is_some());
        let error = Error::of_option("inpaint_fill", "'x' is not known");
        assert_eq!((error.to_string().as_str(), error.kind()), ("inpaint fill: 'x' is not known", &Kind::Usage));
        let remedies = [Remedy::F32, Remedy::F32, Remedy::LowerGuidance, Remedy::OtherSampler];
        let error = remedies.into_iter().fold(Error::other("a NaN"), Error::try_this);
        assert_eq!(error.to_string(), "a NaN; compute in f32, lower the guidance, or try another sampler");
        assert_eq!(error.worded(str::to_owned, |r| format!("{r:?}")), "a NaN; F32, LowerGuidance, or OtherSampler");
    }
}
