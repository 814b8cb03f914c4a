//! A body comes in as it is sent; what is too much or too slow is cut off.

use crate::server::fault::{FaultKind, Refusal};
use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How long a body may take, beside a second for each of these bytes.
const PATIENCE: Duration = Duration::from_secs(25);
const BYTES_A_SECOND: u64 = 64 << 10;

/// Why a body was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It has more bytes than are taken.
    TooLarge(u64),
    /// It comes too slowly.
    TooSlow,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge(most) => write!(f, "the body is too large: at most {most} bytes are taken"),
            Self::TooSlow => f.write_str("the body came too slowly"),
        }
    }
}

impl std::error::Error for Cut {}

impl From<Cut> for Refusal {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::TooLarge(most) => {
                let mut refusal = Self::new(FaultKind::TooLarge, cut.to_string());
                refusal.fault.have = Some(most);
                refusal
            }
            Cut::TooSlow => Self::new(FaultKind::BadRequest, cut.to_string()).status(StatusCode::REQUEST_TIMEOUT),
        }
    }
}

/// A body within limits.
struct Limited {
    inner: Body,
    most: u64,
    read: u64,
    begun: Instant,
    timer: Pin<Box<Sleep>>,
}

/// The same body, cut off behind so many bytes, or where it comes too slowly.
pub(crate) fn limited(inner: Body, most: u64) -> Body {
    let begun = Instant::now();
    let timer = Box::pin(tokio::time::sleep_until(begun + PATIENCE));
    Body::new(Limited { inner, most, read: 0, begun, timer })
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.read += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.read > self.most {
                    return Poll::Ready(Some(Err(Cut::TooLarge(self.most).into())));
                }
                let until = self.begun + PATIENCE + Duration::from_secs(self.read / BYTES_A_SECOND);
                if until > self.timer.deadline() + Duration::from_secs(1) {
                    self.timer.as_mut().reset(until);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other.map(|result| result.map_err(Into::into))),
            Poll::Pending => match Future::poll(self.timer.as_mut(), context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(Cut::TooSlow.into()))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.inner.size_hint()
    }
}

/// All bytes of a body that the guard has limited.
///
/// # Errors
/// It is too large, too slow, or broken off.
pub(crate) async fn bytes(mut body: Body) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        match frame {
            None => return Ok(out),
            Some(Ok(frame)) => out.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Some(Err(e)) => return Err(refused(&*e.into_inner())),
        }
    }
}

/// Why a body that the guard has limited could not be read, also where some other reader met it.
pub(crate) fn refused(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let mut at = Some(error);
    while let Some(e) = at {
        if let Some(cut) = e.downcast_ref::<Cut>() {
            return (*cut).into();
        }
        at = e.source();
    }
    Refusal::new(FaultKind::BadRequest, "the body broke off")
}

/// A body as JSON.
///
/// # Errors
/// As [`bytes`]; it is no JSON.
pub(crate) async fn json(body: Body) -> Result<serde_json::Value, Refusal> {
    let bytes = bytes(body).await?;
    serde_json::from_slice(&bytes).map_err(|e| Refusal::new(FaultKind::BadRequest, format!("the body is no JSON: {e}")))
}
