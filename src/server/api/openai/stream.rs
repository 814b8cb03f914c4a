//! Texts go in from a task, and out on a connection: the body of an answer in events.

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Events that wait for a slow client.
const BUFFER: usize = 4;

struct Stream(Receiver<String>);

/// A sender of events and the body that sends them on; a client that went closes the sender.
pub(super) fn stream() -> (Sender<String>, Body) {
    let (sender, receiver) = channel(BUFFER);
    (sender, Body::new(Stream(receiver)))
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|text| text.map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}
