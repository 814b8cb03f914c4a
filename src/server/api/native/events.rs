//! What happens, as server-sent events.

use crate::server::Shared;
use crate::server::fault::{Fault, FaultKind, Refusal};
use crate::server::jobs::events::Listener;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Deserialize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// A comment keeps the line open so often.
const EVERY: Duration = Duration::from_secs(15);

/// Where to go on.
#[derive(Deserialize)]
pub(super) struct From {
    after: Option<u64>,
}

/// GET /api/events
pub(super) async fn events(
    State(app): State<Shared>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let listener = app.jobs.hub.listen(last.or(from.after)).ok_or_else(|| {
        let mut fault = Fault::new(FaultKind::QueueFull, "too many listen already");
        fault.retry_after = Some(5);
        Refusal::from(fault)
    })?;
    // Proxies that keep answers back are asked not to.
    let kind =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((kind, Body::new(Stream::new(listener))).into_response())
}

type Next = Pin<Box<dyn Future<Output = Option<(&'static str, String)>> + Send>>;

/// Events as they are told, until the server ends.
struct Stream {
    listener: Arc<Listener>,
    next: Next,
    pulse: Pin<Box<Sleep>>,
    begun: bool,
    ended: bool,
}

impl Stream {
    fn new(listener: Arc<Listener>) -> Self {
        let next = next(listener.clone());
        Self { listener, next, pulse: Box::pin(sleep(EVERY)), begun: false, ended: false }
    }
}

/// The next event: its name, and its lines.
fn next(listener: Arc<Listener>) -> Next {
    Box::pin(async move {
        let Some(event) = listener.next().await else {
            return Some(("resync", "event: resync\ndata: {}\n\n".to_owned()));
        };
        let id = event.id.map_or(String::new(), |id| format!("id: {id}\n"));
        Some((event.name, format!("{id}event: {}\ndata: {}\n\n", event.name, event.data)))
    })
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let send = |text: String| Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))));
        // A first line at once: a client knows then that it listens.
        if !self.begun {
            self.begun = true;
            return send("retry: 1000\n\n".into());
        }
        if let Poll::Ready(event) = self.next.as_mut().poll(context) {
            let Some((name, text)) = event else { return Poll::Ready(None) };
            self.ended = name == "bye";
            self.next = next(self.listener.clone());
            self.pulse.as_mut().reset(tokio::time::Instant::now() + EVERY);
            return send(text);
        }
        if Future::poll(self.pulse.as_mut(), context).is_ready() {
            self.pulse.as_mut().reset(tokio::time::Instant::now() + EVERY);
            return send(": still here\n\n".into());
        }
        Poll::Pending
    }
}
