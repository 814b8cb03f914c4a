//! Connections come in, answers go out, within limits: how many, how long, how much. And the end of it all.

pub(crate) mod body;
pub(crate) mod guard;
mod log;

pub(crate) use log::Requests;

use super::Shared;
use super::api;
use super::fault::{FaultKind, Refusal};
use super::jobs::events::Weight;
use super::page;
use crate::error::{Error, Result};
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::{Router, middleware};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections at once.
const CONNECTIONS: u32 = 256;
/// How long a client may take for its headers; an idle connection is closed after it too.
const HEADERS: Duration = Duration::from_secs(15);
/// Bytes and lines of headers.
const HEADER_BYTES: usize = 64 << 10;
const HEADER_LINES: usize = 100;
/// At the end: how long what runs may still take, and how long a stopped job may.
const TO_FINISH: Duration = Duration::from_secs(6);
const TO_STOP: Duration = Duration::from_secs(2);
const TO_ANSWER: Duration = Duration::from_secs(1);
/// Uploads that nobody names are looked for so often.
const SWEEP: Duration = Duration::from_secs(3600);

/// All routes, with the rules before them.
pub(crate) fn router(app: Shared) -> Router {
    let routes = api::routes().merge(page::routes());
    let routes = routes.fallback(nothing).method_not_allowed_fallback(no_method);
    // Every body has its own limit in the guard.
    let routes = routes.layer(DefaultBodyLimit::disable());
    routes.layer(middleware::from_fn_with_state(app.clone(), guard::guard)).with_state(app)
}

async fn nothing(uri: Uri) -> Response {
    api::refused(uri.path(), Refusal::new(FaultKind::NotFound, "Not Found"))
}

async fn no_method(uri: Uri) -> Response {
    let refusal = Refusal::new(FaultKind::BadRequest, "Method Not Allowed").status(StatusCode::METHOD_NOT_ALLOWED);
    api::refused(uri.path(), refusal)
}

/// Serves until the process is told to end; then what runs is finished, or handed back to the queue.
pub(crate) async fn serve(
    app: Shared,
    listener: std::net::TcpListener,
    ready: impl FnOnce(),
    drawing: JoinHandle<()>,
) -> Result<()> {
    let failed = |e: std::io::Error| Error::other(format!("connections cannot be taken: {e}"));
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let router = router(app.clone());
    let slots = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let (end, ends) = watch::channel(false);
    let mut told = told_to_end();
    ready();
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let permit = tokio::select! {
            permit = slots.clone().acquire_owned() => permit.map_err(|e| Error::other(e.to_string()))?,
            _ = &mut told => break,
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, router.clone(), permit, ends.clone()))),
                // Out of files, or a client that was gone at once: the next one may do.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            _ = sweep.tick() => {
                let jobs = app.jobs.clone();
                tokio::task::spawn_blocking(move || jobs.sweep());
            }
            _ = &mut told => break,
        }
    }
    drop(listener);
    app.jobs.ending.store(true, Ordering::SeqCst);
    app.jobs.hub.tell("bye", Weight::Lasting, "", "{\"seconds\": 5}".into());
    app.jobs.broker.close();
    // Whoever is in the middle of an answer still gets it.
    if !within(TO_FINISH, || drawing.is_finished()).await {
        app.jobs.hand_back();
        within(TO_STOP, || drawing.is_finished()).await;
    }
    app.jobs.wake_all();
    // Nobody listens any more: they are gone.
    let _ = end.send(true);
    let _ = tokio::time::timeout(TO_ANSWER, slots.acquire_many(CONNECTIONS)).await;
    Ok(())
}

/// Looks until something holds, or the time is over.
async fn within(time: Duration, holds: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > time {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// One connection, until it or the server ends.
async fn connection(stream: TcpStream, router: Router, permit: OwnedSemaphorePermit, mut ends: watch::Receiver<bool>) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder.max_buf_size(HEADER_BYTES).max_headers(HEADER_LINES);
    // A client that went is noticed while its answer is still made.
    builder.half_close(false);
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = ends.changed() => {
            connection.as_mut().graceful_shutdown();
            // Broken or not: it is over.
            let _ = connection.await;
        }
    }
    drop(permit);
}

/// Resolves when the process is told to end: Ctrl-C, or SIGTERM. The second time it ends at once. Both are heard from
/// this call on.
fn told_to_end() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut signals = Signals::new();
    tokio::spawn(async move {
        signals.next().await;
        // Whoever waited for it may be gone.
        let _ = tell.send(());
        signals.next().await;
        std::process::exit(130);
    });
    Box::pin(async move {
        let _ = told.await;
    })
}

/// What tells a process to end. What cannot be heard never comes.
#[cfg(unix)]
struct Signals([Option<tokio::signal::unix::Signal>; 2]);

#[cfg(unix)]
impl Signals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self([SignalKind::terminate(), SignalKind::interrupt()].map(|kind| signal(kind).ok()))
    }

    async fn next(&mut self) {
        async fn one(signal: &mut Option<tokio::signal::unix::Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
        let [term, int] = &mut self.0;
        tokio::select! {
            () = one(term) => {}
            () = one(int) => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Self {
        Self
    }

    async fn next(&mut self) {
        // Where it cannot be heard, nobody is told.
        let _ = tokio::signal::ctrl_c().await;
    }
}
