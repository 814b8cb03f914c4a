//! Orders over HTTP go in, jobs and pictures come out: `lienzo serve`'s page, its own API, and those that other
//! programs speak.
//!
//! [`run`] is all of it. Inside: [`http`](self) holds connections, rules and limits; `api` has the three APIs, each a
//! router over the one `App`; `jobs` makes a job of each order and draws it, with `broker` as its queue; `models` are
//! the models that can be named; `page` is what a browser gets.
//!
//! The engine has a thread of its own; what waits for the disk or reads a picture runs on threads that may block, never
//! on those that hold connections.

#![allow(clippy::result_large_err, reason = "an error is made once a request, and travels a few calls")]
#![allow(dead_code, reason = "routes that use the rest of it follow")]

mod api;
mod broker;
mod clock;
mod fault;
mod http;
mod jobs;
mod models;
mod page;

use crate::engine::devices::DeviceWish;
use crate::error::{Error, Result};
use crate::job::fit::Allowed;
use crate::job::order::Order;
use crate::server::jobs::order::filled;
use crate::server::jobs::paint::Painter;
use crate::server::jobs::record::{Client, ModelName};
use crate::server::jobs::work::{Work, work};
use crate::server::jobs::{Asked, Jobs, Submitted};
use fault::{Fault, Refusal};
use models::{Entry, Models};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// How a server is run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; port 0 is any that is free.
    pub address: SocketAddr,
    /// Where records and pictures are kept. It is made if it is not there.
    pub output: PathBuf,
    /// Models by file; the first is the one that is meant where none is named.
    pub models: Vec<PathBuf>,
    /// A folder of models, looked into at the start and when asked to.
    pub model_dir: Option<PathBuf>,
    /// What everybody has to show. Needed on any address that others can reach.
    pub token: Option<String>,
    /// Names beside loopback's and IP addresses that requests may be sent to.
    pub hosts: Vec<String>,
    /// Origins of other pages that may send requests.
    pub origins: Vec<String>,
    /// Jobs that may wait.
    pub queue: usize,
    /// The device.
    pub device: DeviceWish,
    /// What of its memory may be used.
    pub allowed: Allowed,
    /// Access log as JSON.
    pub log_json: bool,
}

impl Config {
    /// On this machine alone, with the embedded model.
    pub fn new(output: PathBuf) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 7860)),
            output,
            models: Vec::new(),
            model_dir: None,
            token: None,
            hosts: Vec::new(),
            origins: Vec::new(),
            queue: 32,
            device: DeviceWish::default(),
            allowed: Allowed::default(),
            log_json: false,
        }
    }
}

/// What every handler has: the server's state.
pub(crate) type Shared = Arc<App>;

/// A server's state.
pub(crate) struct App {
    /// How it is run.
    pub(crate) config: Config,
    /// The port that it got.
    pub(crate) port: u16,
    /// Models by id.
    pub(crate) models: Arc<Models>,
    /// Jobs, their pictures and events, and the queue.
    pub(crate) jobs: Arc<Jobs>,
    /// Who draws.
    pub(crate) painter: Arc<Painter>,
    /// When it began.
    pub(crate) begun: Instant,
    /// What the APIs beside the native one keep between requests.
    pub(crate) sdapi: api::sdapi::Memory,
    /// Counters of requests.
    pub(crate) requests: http::Requests,
}

/// An order with all that is known of it before it is drawn.
pub(crate) struct Resolved {
    /// The model as it is listed.
    pub(crate) entry: Arc<Entry>,
    /// With defaults filled in.
    pub(crate) order: Order,
    /// What was left out.
    pub(crate) defaulted: Vec<String>,
    /// The requests.
    pub(crate) work: Work,
}

impl App {
    /// Resolves an order: everything that can be refused without drawing is refused here. Reads pictures and headers,
    /// so it blocks.
    ///
    /// # Errors
    /// What is wrong with it, naming the field.
    pub(crate) fn resolve(&self, order: &Order) -> Result<Resolved, Fault> {
        jobs::order::check(order)?;
        for (field, name) in [("init_image", &order.init_image), ("mask", &order.mask)] {
            let name = name.as_deref().map(|name| name.to_string_lossy());
            if name.is_some_and(|name| self.jobs.pictures.path(&name).is_none()) {
                return Err(Fault::of_order(field, format!("{field}: there is no such picture here: bring it first")));
            }
        }
        let entry = self.models.of_order(order.model.as_deref())?;
        let (model, _) = self.models.with_vae(&entry, order.vae.as_deref())?;
        let named = Order { model: Some(PathBuf::from(&entry.id)), ..order.clone() };
        let work = work(&named, model, &self.jobs.pictures)?;
        let (order, defaulted) = filled(&named, &work.base);
        Ok(Resolved { entry, order, defaulted, work })
    }

    /// Makes a job of an order; it is on the disk when this returns. Blocks: see [`App::submit`].
    ///
    /// # Errors
    /// What is wrong with the order; the queue is full; the server ends.
    pub(crate) fn submit_blocking(&self, order: &Order, by: By) -> Result<Submitted, Refusal> {
        let Resolved { entry, order: full, mut defaulted, work } = self.resolve(order)?;
        self.painter.estimate(&full, &work)?;
        if order.model.is_none() {
            defaulted.push("model".into());
        }
        let sha256 = entry.known_sha256().map(str::to_owned);
        let asked = Asked {
            key: Some(key(&full, &entry)),
            order: full,
            defaulted,
            model: ModelName { id: entry.id.clone(), name: work.model.name.clone(), sha256 },
            total: work.total(),
            notes: work.notes,
            idempotency: by.idempotency,
            client: by.client,
            awaited: by.awaited,
        };
        self.jobs.submit(asked)
    }

    /// [`App::submit_blocking`] on a thread that may block.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn submit(self: &Arc<Self>, order: Order, by: By) -> Result<Submitted, Refusal> {
        let app = self.clone();
        blocking(move || app.submit_blocking(&order, by)).await
    }

    /// Cancels a job.
    pub(crate) async fn cancel(self: &Arc<Self>, id: &str) -> Option<Arc<jobs::record::Job>> {
        let (jobs, id) = (self.jobs.clone(), id.to_owned());
        blocking(move || Ok(jobs.cancel(&id))).await.ok().flatten()
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct By {
    /// Which API.
    pub(crate) client: Client,
    /// Whether the asker waits on the connection: the job is dropped from the queue when it goes away.
    pub(crate) awaited: bool,
    /// The client's own key.
    pub(crate) idempotency: Option<String>,
}

/// What equal pictures are recognised by: the order with all defaults but those that change no picture, and the model's
/// weights.
fn key(order: &Order, entry: &Entry) -> String {
    let plain = Order { batch_size: None, preview: None, ..order.clone() };
    // An order is made of words and numbers: it always becomes JSON.
    let text = serde_json::to_string(&plain).unwrap_or_default();
    jobs::shelf::sha256(format!("{} {} {text}", env!("CARGO_PKG_VERSION"), entry.stamp()).as_bytes())
}

/// Runs on a thread that may block.
///
/// # Errors
/// What the work says; internal where it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::internal()),
    }
}

/// Serves until the process is told to end. `ready` hears the address once connections are taken; `told_to_end` is
/// awaited on a thread of its own and returns when the process is asked to stop.
///
/// # Errors
/// Usage: an address that others can reach without a token. Otherwise what keeps it from listening, drawing or writing.
pub fn run(config: Config, ready: &dyn Fn(SocketAddr)) -> Result<()> {
    if !config.address.ip().is_loopback() && config.token.is_none() {
        let message = format!("others can reach {}: choose a token that they have to show", config.address.ip());
        return Err(Error::of_option("token", message));
    }
    if config.token.as_deref().is_some_and(|token| token.len() < 8 || !token.bytes().all(|b| b.is_ascii_graphic())) {
        return Err(Error::of_option("token", "a token has at least 8 characters, and no spaces"));
    }
    let models = Arc::new(Models::new(config.models.clone(), config.model_dir.clone())?);
    let broker = Arc::new(broker::memory::Memory::new(config.queue));
    let jobs = Arc::new(Jobs::open(&config.output, broker)?);
    let painter = Arc::new(Painter::new(models.clone(), config.device.clone(), config.allowed));
    // Whether the device can be used at all is known before anybody asks.
    painter.engine(&Order::default())?;
    let failed = |what: &str, e: std::io::Error| Error::other(format!("{what}: {e}"));
    let listener = std::net::TcpListener::bind(config.address)
        .map_err(|e| failed(&format!("{} cannot be listened on", config.address), e))?;
    let address = listener.local_addr().map_err(|e| failed("the address", e))?;
    let app = Arc::new(App {
        port: address.port(),
        models,
        jobs,
        painter,
        begun: Instant::now(),
        sdapi: api::sdapi::Memory::default(),
        requests: http::Requests::default(),
        config,
    });
    let drawing = {
        let app = app.clone();
        let thread = std::thread::Builder::new().name("paint".into());
        thread.spawn(move || app.painter.run(&app.jobs)).map_err(|e| failed("no thread can be started to draw", e))?
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| failed("no threads can be started", e))?;
    let served = runtime.block_on(http::serve(app, listener, || ready(address), drawing));
    // Whatever still blocks is not waited for: all that matters is on the disk.
    runtime.shutdown_background();
    served
}
