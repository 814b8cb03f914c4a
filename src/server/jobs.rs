//! Orders go in; jobs come out, with their records, events and pictures. Whatever API an order came by, it becomes a
//! job here.
//!
//! A job's record is on the disk before its asker hears of it, and again when it begins, at each picture and when it
//! ends; a file is whole or not there. What was queued or running when the process died waits again at the next start,
//! and keeps the pictures that it had.
//!
//! An API that answers with the picture submits, waits with a [`Waiter`], and reads the pictures by their sha256. A
//! waiter that is dropped (its client went away) drops its job too, while that still waits in the queue and nobody else
//! wants it.

pub(crate) mod events;
pub(crate) mod order;
pub(crate) mod paint;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod shelf;
pub(crate) mod work;

use crate::error::Result;
use crate::files::{self, IfTaken, cannot_write};
use crate::job::order::Order;
use crate::server::broker::{Broker, Ticket, Was};
use crate::server::clock;
use crate::server::fault::{Fault, FaultKind, Refusal};
use events::{Hub, Weight};
use record::{Client, Job, ModelName, Picture, Preview, Progress, State};
use serde_json::{Value, json};
use shelf::Pictures;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// A job that was running at a crash is begun again so often.
pub(crate) const MOST_ATTEMPTS: u32 = 3;
/// Bytes of a record at most.
const MAX_RECORD: u64 = 16 << 20;
/// Seconds after which a full queue is worth another try.
const COME_AGAIN: u64 = 5;

/// An order that was resolved: all that a record needs.
pub(crate) struct Asked {
    /// With defaults filled in.
    pub(crate) order: Order,
    /// What the client left out.
    pub(crate) defaulted: Vec<String>,
    /// The model.
    pub(crate) model: ModelName,
    /// Pictures, without the sheet.
    pub(crate) total: usize,
    /// What the asker should know.
    pub(crate) notes: Vec<String>,
    /// What pictures of the same order are recognised by; none where a new picture is wanted anyway.
    pub(crate) key: Option<String>,
    /// The client's own key.
    pub(crate) idempotency: Option<String>,
    /// Which API it came by.
    pub(crate) client: Client,
    /// Whether its asker waits on the connection: nobody else wants it then.
    pub(crate) awaited: bool,
}

/// What became of an order.
pub(crate) enum Submitted {
    /// It waits or runs.
    New(Arc<Job>),
    /// It was asked for before: this is its job.
    Known(Arc<Job>),
}

impl Submitted {
    /// The job.
    pub(crate) fn job(&self) -> &Arc<Job> {
        match self {
            Self::New(job) | Self::Known(job) => job,
        }
    }
}

/// How a running job is told to stop.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// The engine looks at it between steps.
    pub(crate) now: AtomicBool,
    /// The job is to end.
    pub(crate) stop: AtomicBool,
    /// The picture is to end, and the next one to begin.
    pub(crate) skip: AtomicBool,
    /// It goes back into the queue: the server ends.
    pub(crate) back: AtomicBool,
}

impl Control {
    fn raise(&self, which: &AtomicBool) {
        which.store(true, Ordering::SeqCst);
        self.now.store(true, Ordering::SeqCst);
    }
}

/// What is known of a job while it has not ended.
struct Live {
    progress: Option<Progress>,
    preview: Option<Arc<Preview>>,
    waiters: usize,
    awaited: bool,
    control: Arc<Control>,
    changed: watch::Sender<u64>,
}

impl Live {
    fn new(awaited: bool) -> Self {
        let changed = watch::Sender::new(0);
        Self { progress: None, preview: None, waiters: 0, awaited, control: Arc::default(), changed }
    }
}

struct Slot {
    job: Arc<Job>,
    live: Option<Live>,
}

#[derive(Default)]
struct Inner {
    jobs: BTreeMap<String, Slot>,
    /// The newest job of an order.
    keys: HashMap<String, String>,
    idempotency: HashMap<String, String>,
    /// How many jobs have a picture.
    shown: HashMap<String, usize>,
    pictures: usize,
    last: (u64, u32),
}

/// Numbers for `/metrics`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Jobs that were taken.
    pub(crate) submitted: AtomicU64,
    /// Answered from the history.
    pub(crate) known: AtomicU64,
    /// By how they ended.
    pub(crate) done: AtomicU64,
    /// By how they ended.
    pub(crate) failed: AtomicU64,
    /// By how they ended.
    pub(crate) cancelled: AtomicU64,
    /// Pictures that were finished.
    pub(crate) pictures: AtomicU64,
    /// Milliseconds that were drawn.
    pub(crate) drawn_millis: AtomicU64,
}

/// All jobs of a server.
pub(crate) struct Jobs {
    folder: PathBuf,
    inner: Mutex<Inner>,
    /// Held while an order becomes a job: of two equal ones at the same time one becomes it.
    submitting: Mutex<()>,
    /// Their pictures.
    pub(crate) pictures: Pictures,
    /// Who listens.
    pub(crate) hub: Hub,
    /// What waits.
    pub(crate) broker: Arc<dyn Broker>,
    /// Whether the server ends.
    pub(crate) ending: AtomicBool,
    /// Numbers.
    pub(crate) counters: Counters,
}

impl Jobs {
    /// Reads the history of a folder; what had not ended waits again.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub(crate) fn open(root: &Path, broker: Arc<dyn Broker>) -> Result<Self> {
        let folder = shelf::folder(root.join("jobs"))?;
        let jobs = Self {
            pictures: Pictures::new(root)?,
            folder,
            inner: Mutex::default(),
            submitting: Mutex::default(),
            hub: Hub::new(),
            broker,
            ending: AtomicBool::new(false),
            counters: Counters::default(),
        };
        let mut waiting = Vec::new();
        for entry in fs::read_dir(&jobs.folder).map_err(|e| cannot_write(&jobs.folder, &e))?.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            // A file of somebody else's stays where it is.
            let Ok(bytes) = files::read(&path, MAX_RECORD) else { continue };
            let Ok(job) = serde_json::from_slice::<Job>(&bytes) else { continue };
            if path.file_stem().is_some_and(|stem| *stem == *job.id) {
                waiting.extend((!job.state.ended()).then(|| job.id.clone()));
                jobs.lock().insert(job, Some(Live::new(false)));
            }
        }
        waiting.sort();
        for id in waiting {
            jobs.resume(&id)?;
        }
        Ok(jobs)
    }

    /// What did not end waits again, unless it took the process down too often.
    fn resume(&self, id: &str) -> Result<()> {
        let Some(job) = self.job(id) else { return Ok(()) };
        if job.attempts >= MOST_ATTEMPTS {
            let message = format!("the server died {} times while it drew this", job.attempts);
            self.end(id, State::Failed, Some(Fault::new(FaultKind::Internal, message)));
            return Ok(());
        }
        if job.state == State::Running {
            self.change(id, |job| (job.state, job.started) = (State::Queued, None))?;
        }
        self.broker.resume(Ticket { id: id.to_owned(), model: job.model.id.clone() });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Consistent between any two statements.
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether an order with this key of its client's was taken before.
    ///
    /// # Errors
    /// It was another order.
    pub(crate) fn of_idempotency(&self, idempotency: &str) -> Option<Arc<Job>> {
        let inner = self.lock();
        let id = inner.idempotency.get(idempotency)?;
        inner.jobs.get(id).map(|slot| slot.job.clone())
    }

    /// An order becomes a job, whose record is on the disk when this returns; or it is one already. Blocks on the disk.
    ///
    /// # Errors
    /// The queue is full, the server ends, or the record cannot be written.
    pub(crate) fn submit(&self, asked: Asked) -> Result<Submitted, Refusal> {
        if self.ending.load(Ordering::SeqCst) {
            return Err(shutting_down());
        }
        let _submitting = self.submitting.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(known) = asked.idempotency.as_deref().and_then(|key| self.of_idempotency(key)) {
            return Ok(Submitted::Known(known));
        }
        if let Some(known) = asked.key.as_deref().and_then(|key| self.drawn_before(key)) {
            // Somebody wants it who does not wait on a connection.
            if !asked.awaited
                && let Some(live) = self.lock().live(&known.id)
            {
                live.awaited = false;
            }
            self.counters.known.fetch_add(1, Ordering::Relaxed);
            return Ok(Submitted::Known(known));
        }
        let waiting = self.broker.waiting().len();
        if waiting >= self.broker.room() {
            return Err(self.full(waiting));
        }
        let awaited = asked.awaited;
        let job = self.recorded(asked);
        self.write(&job).map_err(|e| Refusal::from(Fault::new(FaultKind::Internal, e.to_string())))?;
        let (id, ticket) = (job.id.clone(), Ticket { id: job.id.clone(), model: job.model.id.clone() });
        self.lock().insert(job, Some(Live::new(awaited)));
        if let Err(full) = self.broker.publish(ticket) {
            self.lock().remove(&id);
            let _ = fs::remove_file(self.file(&id));
            return Err(self.full(full.0));
        }
        self.counters.submitted.fetch_add(1, Ordering::Relaxed);
        self.announce(&id);
        Ok(Submitted::New(self.job(&id).ok_or_else(Refusal::internal)?))
    }

    fn full(&self, waiting: usize) -> Refusal {
        let mut fault = Fault::new(FaultKind::QueueFull, format!("{waiting} jobs wait already: come again later"));
        (fault.need, fault.have) = (Some(waiting as u64 + 1), Some(self.broker.room() as u64));
        fault.retry_after = Some(COME_AGAIN);
        fault.into()
    }

    fn recorded(&self, asked: Asked) -> Job {
        let Asked { order, defaulted, model, total, notes, key, idempotency, client, .. } = asked;
        let id = self.lock().new_id();
        Job {
            id,
            revision: 1,
            state: State::Queued,
            order,
            defaulted,
            model,
            total,
            created: clock::now(),
            started: None,
            ended: None,
            attempts: 0,
            client,
            pictures: Vec::new(),
            notes,
            error: None,
            key,
            idempotency,
        }
    }

    /// The job of an equal order, if it waits, runs, or has all its pictures.
    fn drawn_before(&self, key: &str) -> Option<Arc<Job>> {
        let inner = self.lock();
        let slot = inner.jobs.get(inner.keys.get(key)?)?;
        let job = slot.job.clone();
        drop(inner);
        let whole = |job: &Job| {
            let drawn = job.pictures.iter().filter(|p| p.kind == record::PictureKind::Picture);
            drawn.count() == job.total && job.pictures.iter().all(|p| self.pictures.has_result(&p.sha256))
        };
        (!job.state.ended() || job.state == State::Done && whole(&job)).then_some(job)
    }

    fn file(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn write(&self, job: &Job) -> Result<()> {
        let path = self.file(&job.id);
        let bytes = serde_json::to_vec(job).map_err(|e| crate::Error::other(format!("a record: {e}")))?;
        files::write(&path, &bytes, IfTaken::Replace).map_err(|e| cannot_write(&path, &e))
    }

    /// Changes a record, on the disk first.
    fn change(&self, id: &str, change: impl FnOnce(&mut Job)) -> Result<()> {
        let Some(old) = self.job(id) else { return Ok(()) };
        let mut job = Job::clone(&old);
        change(&mut job);
        job.revision += 1;
        self.write(&job)?;
        self.lock().replace(job);
        Ok(())
    }

    /// The record of a job.
    pub(crate) fn job(&self, id: &str) -> Option<Arc<Job>> {
        self.lock().jobs.get(id).map(|slot| slot.job.clone())
    }

    /// A record as the native API tells it.
    pub(crate) fn told(&self, id: &str) -> Option<Value> {
        let (job, progress) = {
            let inner = self.lock();
            let slot = inner.jobs.get(id)?;
            (slot.job.clone(), slot.live.as_ref().and_then(|live| live.progress.clone()))
        };
        Some(job.wire(self.position(&job), progress.as_ref()))
    }

    /// Jobs before this one in the queue.
    pub(crate) fn position(&self, job: &Job) -> Option<usize> {
        if job.state != State::Queued {
            return None;
        }
        self.broker.waiting().iter().position(|id| *id == job.id)
    }

    /// How far a running job is.
    pub(crate) fn progress(&self, id: &str) -> Option<Progress> {
        self.lock().jobs.get(id)?.live.as_ref()?.progress.clone()
    }

    /// What a running job's picture looks like.
    pub(crate) fn preview(&self, id: &str) -> Option<Arc<Preview>> {
        self.lock().jobs.get(id)?.live.as_ref()?.preview.clone()
    }

    /// Jobs that wait or run, the oldest first.
    pub(crate) fn active(&self) -> Vec<Arc<Job>> {
        let inner = self.lock();
        // Whatever has not ended is live.
        inner.jobs.values().filter(|slot| slot.live.is_some()).map(|slot| slot.job.clone()).collect()
    }

    /// Jobs, the newest first: those for which `wanted` holds, from before and after some id. And how many pictures
    /// there are in all.
    pub(crate) fn list(
        &self,
        (after, before): (Option<&str>, Option<&str>),
        limit: usize,
        wanted: impl Fn(&Job) -> bool,
    ) -> (Vec<Arc<Job>>, usize) {
        let inner = self.lock();
        let fits = |id: &str| after.is_none_or(|after| id > after) && before.is_none_or(|before| id < before);
        let slots = inner.jobs.iter().rev().filter(|(id, _)| fits(id));
        let found = slots.filter(|(_, slot)| wanted(&slot.job)).take(limit).map(|(_, slot)| slot.job.clone());
        (found.collect(), inner.pictures)
    }

    /// How many jobs there are in all.
    pub(crate) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Waits for a job. While it waits in the queue, and nobody else wants it, dropping the waiter drops the job.
    pub(crate) fn wait(self: &Arc<Self>, id: &str) -> Option<Waiter> {
        let mut inner = self.lock();
        let slot = inner.jobs.get_mut(id)?;
        let changed = slot.live.as_mut().map(|live| {
            live.waiters += 1;
            live.changed.subscribe()
        });
        Some(Waiter { jobs: self.clone(), id: id.to_owned(), changed })
    }

    /// Cancels a job. Of one that has ended nothing changes. Blocks on the disk.
    pub(crate) fn cancel(&self, id: &str) -> Option<Arc<Job>> {
        self.job(id)?;
        match self.broker.cancel(id) {
            Was::Waiting => self.end(id, State::Cancelled, None),
            Was::Running => {
                if let Some(control) = self.control(id) {
                    control.raise(&control.stop);
                }
            }
            Was::Unknown => {}
        }
        self.job(id)
    }

    /// Ends a running job's picture, and begins its next one.
    pub(crate) fn skip(&self, id: &str) {
        if let Some(control) = self.control(id) {
            control.raise(&control.skip);
        }
    }

    /// Hands what runs back to the queue.
    pub(crate) fn hand_back(&self) {
        let inner = self.lock();
        for live in inner.jobs.values().filter_map(|slot| slot.live.as_ref()) {
            live.control.raise(&live.control.back);
        }
    }

    /// Wakes all waiters: the server ends.
    pub(crate) fn wake_all(&self) {
        let inner = self.lock();
        inner
            .jobs
            .values()
            .filter_map(|slot| slot.live.as_ref())
            .for_each(|live| live.changed.send_modify(|n| *n += 1));
    }

    fn control(&self, id: &str) -> Option<Arc<Control>> {
        self.lock().live(id).map(|live| live.control.clone())
    }

    /// Forgets a job that has ended, with pictures that no other job has.
    ///
    /// # Errors
    /// There is none, or it has not ended.
    pub(crate) fn delete(&self, id: &str) -> Result<(), Refusal> {
        let job = self.job(id).ok_or_else(|| Refusal::not_found("job"))?;
        if !job.state.ended() {
            return Err(Refusal::new(FaultKind::Conflict, "the job has not ended: cancel it first"));
        }
        let gone = self.lock().remove(id);
        // The record goes first: one without its pictures would be worse than pictures without a record.
        let _ = fs::remove_file(self.file(id));
        gone.iter().for_each(|sha| self.pictures.forget(sha));
        let data = json!({"id": id, "sha256": null});
        self.hub.tell("deleted", Weight::Lasting, id, data.to_string());
        Ok(())
    }

    /// Forgets one picture of a job; with its last one the job goes too.
    ///
    /// # Errors
    /// There is none, or the job has not ended.
    pub(crate) fn delete_picture(&self, id: &str, sha: &str) -> Result<(), Refusal> {
        let job = self.job(id).ok_or_else(|| Refusal::not_found("job"))?;
        if !job.pictures.iter().any(|p| p.sha256 == sha) {
            return Err(Refusal::not_found("picture of this job"));
        }
        if !job.state.ended() {
            return Err(Refusal::new(FaultKind::Conflict, "the job has not ended: cancel it first"));
        }
        if job.pictures.iter().all(|p| p.sha256 == sha) {
            return self.delete(id);
        }
        self.change(id, |job| job.pictures.retain(|p| p.sha256 != sha))?;
        if self.lock().shown.get(sha).is_none_or(|n| *n == 0) {
            self.pictures.forget(sha);
        }
        let data = json!({"id": id, "sha256": sha});
        self.hub.tell("deleted", Weight::Lasting, id, data.to_string());
        Ok(())
    }

    /// Forgets uploads that no job names any more and whose day is over.
    pub(crate) fn sweep(&self) {
        let inner = self.lock();
        let names = |name: &Option<PathBuf>| name.as_deref().map(|p| p.to_string_lossy().into_owned());
        let named: std::collections::HashSet<String> = inner
            .jobs
            .values()
            .flat_map(|slot| [names(&slot.job.order.init_image), names(&slot.job.order.mask)])
            .flatten()
            .collect();
        drop(inner);
        self.pictures.sweep(|sha| named.contains(sha));
    }

    /// A job begins: it is running from now on. None where it has been cancelled meanwhile.
    fn begin(&self, id: &str) -> Option<(Arc<Job>, Arc<Control>)> {
        let begun = self.change(id, |job| {
            (job.state, job.started, job.error) = (State::Running, Some(clock::now()), None);
            job.attempts += 1;
        });
        if let Err(e) = begun {
            self.end(id, State::Failed, Some(e.into()));
            return None;
        }
        self.announce(id);
        // Those behind it have come nearer.
        self.broker.waiting().iter().for_each(|id| self.announce(id));
        Some((self.job(id)?, self.control(id)?))
    }

    /// A running job has one more picture.
    fn add(&self, id: &str, picture: Picture) -> Result<()> {
        self.counters.pictures.fetch_add(1, Ordering::Relaxed);
        // The last one is written with the job's end.
        let last = self.job(id).is_some_and(|job| job.total == job.pictures.len() + 1 && job.order.grid.is_none());
        if last {
            let Some(old) = self.job(id) else { return Ok(()) };
            let mut job = Job::clone(&old);
            job.pictures.push(picture);
            self.lock().replace(job);
            return Ok(());
        }
        self.change(id, |job| job.pictures.push(picture))?;
        self.announce(id);
        Ok(())
    }

    /// A job ends.
    fn end(&self, id: &str, state: State, error: Option<Fault>) {
        let ended = |job: &mut Job| (job.state, job.ended, job.error) = (state, Some(clock::now()), error.clone());
        if let Err(e) = self.change(id, ended) {
            // The disk is full: it stays known until the process ends, and is drawn again after that.
            eprintln!("lienzo: {e}");
            if let Some(old) = self.job(id) {
                let mut job = Job::clone(&old);
                ended(&mut job);
                job.revision += 1;
                self.lock().replace(job);
            }
        }
        self.broker.done(id);
        let counter = match state {
            State::Failed => &self.counters.failed,
            State::Cancelled => &self.counters.cancelled,
            _ => &self.counters.done,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let live = self.lock().jobs.get_mut(id).and_then(|slot| slot.live.take());
        self.announce(id);
        // Whoever waits is woken by this.
        drop(live);
    }

    /// A job goes back into the queue.
    fn back(&self, id: &str) {
        let back = |job: &mut Job| {
            (job.state, job.started) = (State::Queued, None);
            job.attempts = job.attempts.saturating_sub(1);
        };
        if let Err(e) = self.change(id, back) {
            eprintln!("lienzo: {e}");
        }
        self.broker.back(id);
        self.announce(id);
    }

    fn set_progress(&self, id: &str, progress: Progress) {
        let data = json!({"id": id, "progress": progress}).to_string();
        if let Some(live) = self.lock().live(id) {
            live.progress = Some(progress);
            live.changed.send_modify(|n| *n += 1);
        }
        self.hub.tell("progress", Weight::Progress, id, data);
    }

    fn set_preview(&self, id: &str, preview: Preview) {
        use base64::Engine as _;
        if self.hub.listeners() > 0 {
            let image = base64::engine::general_purpose::STANDARD.encode(&preview.png);
            let Preview { picture, step, width, height, .. } = preview;
            let image = format!("data:image/png;base64,{image}");
            let data =
                json!({"id": id, "picture": picture, "step": step, "width": width, "height": height, "image": image});
            self.hub.tell("preview", Weight::Preview, id, data.to_string());
        }
        if let Some(live) = self.lock().live(id) {
            live.preview = Some(Arc::new(preview));
            live.changed.send_modify(|n| *n += 1);
        }
    }

    /// Tells everybody a job's record.
    fn announce(&self, id: &str) {
        if let Some(told) = self.told(id) {
            self.hub.tell("job", Weight::Lasting, id, told.to_string());
        }
        if let Some(live) = self.lock().live(id) {
            live.changed.send_modify(|n| *n += 1);
        }
    }

    /// A waiter went.
    fn leave(&self, id: &str) {
        let unwanted = {
            let mut inner = self.lock();
            let Some(live) = inner.live(id) else { return };
            live.waiters = live.waiters.saturating_sub(1);
            live.awaited && live.waiters == 0
        };
        if unwanted && self.broker.cancel(id) == Was::Waiting {
            self.end(id, State::Cancelled, None);
        }
    }
}

/// The server ends.
pub(crate) fn shutting_down() -> Refusal {
    let mut fault = Fault::new(FaultKind::ShuttingDown, "the server ends; what waits is drawn when it is back");
    fault.retry_after = Some(COME_AGAIN);
    fault.into()
}

impl Inner {
    fn live(&mut self, id: &str) -> Option<&mut Live> {
        self.jobs.get_mut(id)?.live.as_mut()
    }

    /// An id after all others of this process, also where the clock goes back.
    fn new_id(&mut self) -> String {
        loop {
            let (now, (last, turn)) = (clock::millis(), self.last);
            self.last = match () {
                () if now > last => (now, 0),
                () if turn < 99 => (last, turn + 1),
                () => (last + 1, 0),
            };
            let id = clock::job_id(self.last.0, self.last.1);
            if !self.jobs.contains_key(&id) {
                return id;
            }
        }
    }

    fn insert(&mut self, job: Job, live: Option<Live>) {
        if let Some(key) = &job.key {
            let known = self.keys.entry(key.clone()).or_insert_with(|| job.id.clone());
            if *known < job.id {
                known.clone_from(&job.id);
            }
        }
        if let Some(key) = &job.idempotency {
            self.idempotency.insert(key.clone(), job.id.clone());
        }
        self.count(&job, true);
        let live = live.filter(|_| !job.state.ended());
        self.jobs.insert(job.id.clone(), Slot { job: Arc::new(job), live });
    }

    fn replace(&mut self, job: Job) {
        let Some(old) = self.jobs.get(&job.id).map(|slot| slot.job.clone()) else { return };
        self.count(&old, false);
        self.count(&job, true);
        if let Some(slot) = self.jobs.get_mut(&job.id) {
            slot.job = Arc::new(job);
        }
    }

    /// Takes a job out; gives the pictures that no other job has.
    fn remove(&mut self, id: &str) -> Vec<String> {
        let Some(slot) = self.jobs.remove(id) else { return Vec::new() };
        self.count(&slot.job, false);
        for (keys, key) in [(&mut self.keys, &slot.job.key), (&mut self.idempotency, &slot.job.idempotency)] {
            if let Some(key) = key.as_ref().filter(|key| keys.get(*key).is_some_and(|known| known == id)) {
                keys.remove(key);
            }
        }
        let alone = |sha: &&String| !self.shown.contains_key(*sha);
        slot.job.pictures.iter().map(|p| &p.sha256).filter(alone).cloned().collect()
    }

    /// Counts a job's pictures in or out.
    fn count(&mut self, job: &Job, more: bool) {
        for picture in &job.pictures {
            let shown = self.shown.entry(picture.sha256.clone()).or_default();
            if more {
                *shown += 1;
                self.pictures += 1;
            } else {
                *shown = shown.saturating_sub(1);
                self.pictures = self.pictures.saturating_sub(1);
            }
            if *shown == 0 {
                self.shown.remove(&picture.sha256);
            }
        }
    }
}

/// Somebody who waits for a job on a connection.
pub(crate) struct Waiter {
    jobs: Arc<Jobs>,
    id: String,
    /// None where the job had ended already.
    changed: Option<watch::Receiver<u64>>,
}

impl Waiter {
    /// The record as it is now; none once it was deleted.
    pub(crate) fn job(&self) -> Option<Arc<Job>> {
        self.jobs.job(&self.id)
    }

    /// Waits until the record, the progress or the preview changes: false once the job has ended.
    pub(crate) async fn changed(&mut self) -> bool {
        match &mut self.changed {
            Some(changed) => changed.changed().await.is_ok(),
            None => false,
        }
    }

    /// Waits for the end, and gives the record.
    ///
    /// # Errors
    /// The job was deleted, or goes back into the queue because the server ends.
    pub(crate) async fn ended(&mut self) -> Result<Arc<Job>, Refusal> {
        loop {
            let more = self.changed().await;
            let job = self.job().ok_or_else(|| Refusal::not_found("job"))?;
            if !more || job.state.ended() {
                return Ok(job);
            }
            if self.jobs.ending.load(Ordering::SeqCst) && job.state == State::Queued {
                return Err(shutting_down());
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.changed.is_some() {
            self.jobs.leave(&self.id);
        }
    }
}
