//! A request and its answer go in, one line comes out on stderr, and numbers for `/metrics`.

use crate::error::escape;
use crate::server::{Shared, clock};
use axum::http::{Method, StatusCode};
use serde_json::json;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Requests by how they were answered: 1xx to 5xx.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    answered: [AtomicU64; 5],
    micros: AtomicU64,
}

impl Requests {
    /// How many, by the first digit of the answer's status.
    pub(crate) fn answered(&self) -> [u64; 5] {
        self.answered.each_ref().map(|n| n.load(Ordering::Relaxed))
    }

    /// Seconds of all together.
    pub(crate) fn seconds(&self) -> f64 {
        self.micros.load(Ordering::Relaxed) as f64 / 1e6
    }
}

/// Counts and says. A query is left out: it may hold a token.
pub(super) fn log(app: &Shared, method: &Method, path: &str, status: StatusCode, took: Duration) {
    let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
    app.requests.answered[class].fetch_add(1, Ordering::Relaxed);
    app.requests.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    let (now, path, status, millis) = (clock::now(), escape(path), status.as_u16(), took.as_secs_f64() * 1e3);
    let line = if app.config.log_json {
        let millis = (millis * 10.0).round() / 10.0;
        json!({"time": now, "method": method.as_str(), "path": path, "status": status, "ms": millis}).to_string()
    } else {
        format!("{now} {method} {path} {status} {millis:.1} ms")
    };
    // A log that nobody reads costs no answer.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
