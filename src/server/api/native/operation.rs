//! For those who run it: does it live, does it take jobs, numbers.

use crate::server::Shared;
use crate::server::jobs::record::State as JobState;
use crate::system;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// GET /healthz
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// GET /readyz
pub(super) async fn readyz(State(app): State<Shared>) -> Response {
    if app.jobs.ending.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the server ends\n").into_response();
    }
    let output = app.config.output.clone();
    let writes =
        tokio::task::spawn_blocking(move || crate::files::Temporary::inside(&output.join("jobs")).is_ok()).await;
    match writes {
        Ok(true) => "ok\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the folder of records cannot be written to\n").into_response(),
    }
}

/// GET /metrics
pub(super) async fn metrics(State(app): State<Shared>) -> Response {
    let mut out = String::new();
    let mut put = |name: &str, kind: &str, help: &str, values: &[(&str, f64)]| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP lienzo_{name} {help}\n# TYPE lienzo_{name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(out, "lienzo_{name}{labels} {value}");
        }
    };
    let n = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let c = &app.jobs.counters;
    put("jobs_submitted_total", "counter", "Orders that became jobs.", &[("", n(&c.submitted))]);
    put("jobs_known_total", "counter", "Orders that were answered from the history.", &[("", n(&c.known))]);
    let ended = [
        ("{state=\"done\"}", n(&c.done)),
        ("{state=\"failed\"}", n(&c.failed)),
        ("{state=\"cancelled\"}", n(&c.cancelled)),
    ];
    put("jobs_ended_total", "counter", "Jobs by how they ended.", &ended);
    put("pictures_total", "counter", "Pictures that were finished.", &[("", n(&c.pictures))]);
    put("drawing_seconds_total", "counter", "Seconds spent on jobs.", &[("", n(&c.drawn_millis) / 1e3)]);
    let active = app.jobs.active();
    let running = active.iter().filter(|job| job.state == JobState::Running).count();
    put("jobs_waiting", "gauge", "Jobs in the queue.", &[("", app.jobs.broker.waiting().len() as f64)]);
    put("jobs_running", "gauge", "Jobs that are drawn now.", &[("", running as f64)]);
    put("jobs_known", "gauge", "Jobs in the history.", &[("", app.jobs.len() as f64)]);
    put("listeners", "gauge", "Listeners of events.", &[("", app.jobs.hub.listeners() as f64)]);
    let answered = app.requests.answered();
    let classes = ["{status=\"1xx\"}", "{status=\"2xx\"}", "{status=\"3xx\"}", "{status=\"4xx\"}", "{status=\"5xx\"}"];
    let answered: Vec<(&str, f64)> = classes.into_iter().zip(answered.map(|n| n as f64)).collect();
    put("http_requests_total", "counter", "Requests by the class of their answer.", &answered);
    put("http_seconds_total", "counter", "Seconds until answers began.", &[("", app.requests.seconds())]);
    let resident = system::resident().unwrap_or_default() as f64;
    put("resident_bytes", "gauge", "Memory of the process.", &[("", resident)]);
    put("uptime_seconds", "gauge", "Seconds since the start.", &[("", app.begun.elapsed().as_secs_f64())]);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], out).into_response()
}
