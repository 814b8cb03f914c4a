//! The thread that draws: jobs come out of the queue, pictures go onto the disk. Nothing that happens to a job ends it.

use super::progress::Follower;
use super::record::{Job, Picture, PictureKind, Preview, State};
use super::shelf::smaller;
use super::work::{Work, work};
use super::{Control, Jobs};
use crate::checkpoint::ModelId;
use crate::diffusion::preview::{Preview as Shown, PreviewBy};
use crate::diffusion::{Event, Request};
use crate::engine::Engine;
use crate::engine::devices::{DeviceWish, NumberKind, WeightType};
use crate::error::{Error, Kind, Result};
use crate::image::{Image, png_bytes};
use crate::job::fit::{self, Allowed, Needs};
use crate::job::metadata::Metadata;
use crate::job::order::Order;
use crate::job::sheet;
use crate::server::fault::{Fault, FaultKind, told};
use crate::server::models::Models;
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The longer side of a preview, and bytes of its PNG at most.
const PREVIEW: (usize, usize) = (256, 64 << 10);
/// At most one preview in this time.
const PREVIEW_EVERY: Duration = Duration::from_millis(500);
/// How long the painter waits for a job before it looks whether the server ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// What an engine was opened for.
type Numbers = (NumberKind, WeightType);

/// Draws jobs, one after the other, on an engine that stays loaded.
pub(crate) struct Painter {
    models: Arc<Models>,
    wish: DeviceWish,
    allowed: Allowed,
    /// The engine that drew last. Another one is opened where an order wants other numbers.
    engine: Mutex<Option<(Numbers, Arc<Engine>)>>,
    /// Seconds of an evaluation, as measured here, by model and size.
    pace: Mutex<HashMap<(ModelId, usize, usize), f64>>,
    latest: Mutex<Option<f64>>,
}

/// What an order would take.
pub(crate) struct Estimate {
    /// Bytes at the worst moment.
    pub(crate) need: u64,
    /// Bytes there are.
    pub(crate) have: Option<u64>,
    /// From what was measured here before.
    pub(crate) seconds: Option<f64>,
    /// The device.
    pub(crate) device: String,
}

impl Painter {
    /// For a device.
    pub(crate) fn new(models: Arc<Models>, wish: DeviceWish, allowed: Allowed) -> Self {
        Self { models, wish, allowed, engine: Mutex::default(), pace: Mutex::default(), latest: Mutex::default() }
    }

    /// An engine for an order's numbers.
    ///
    /// # Errors
    /// The device cannot be used, or has no such numbers.
    pub(crate) fn engine(&self, order: &Order) -> Result<Arc<Engine>> {
        let numbers = (order.precision.unwrap_or(self.wish.precision), order.weight_type.unwrap_or(self.wish.weights));
        let mut engine = self.engine.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, known)) = engine.as_ref().filter(|(own, _)| *own == numbers) {
            return Ok(known.clone());
        }
        let wish = DeviceWish { precision: numbers.0, weights: numbers.1, ..self.wish.clone() };
        let opened = match self.models.default().and_then(|entry| entry.model.clone().ok()) {
            // Which device: as for one picture of the server's own model.
            Some(model) => {
                let request = Request::new(&model, "")?;
                let tokens = model.tokenizer()?;
                wish.open(Some(&|engine| fit::work(engine, &model, std::slice::from_ref(&request), &tokens)))?
            }
            None => wish.open(None)?,
        };
        let limit = opened.engine.backend().memory_limit().map(|limit| limit / 4 * 3);
        let new = Arc::new(opened.engine.within(self.allowed.budget().or(limit)));
        *engine = Some((numbers, new.clone()));
        Ok(new)
    }

    /// Seconds of a step, as measured last.
    pub(crate) fn latest_pace(&self) -> Option<f64> {
        *self.latest.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Lets go of what is loaded, once nothing draws with it.
    pub(crate) fn unload(&self) {
        *self.engine.lock().unwrap_or_else(|e| e.into_inner()) = None;
    }

    /// The device that draws now.
    pub(crate) fn device(&self) -> Option<(String, bool)> {
        let engine = self.engine.lock().unwrap_or_else(|e| e.into_inner());
        let backend = engine.as_ref()?.1.backend();
        Some((backend.name(), backend.numerics().device.is_some()))
    }

    /// What work would take; refuses what does not fit.
    ///
    /// # Errors
    /// Too big, with a size that fits; what no plan can be made for.
    pub(crate) fn estimate(&self, order: &Order, work: &Work) -> Result<Estimate, Fault> {
        let engine = self.engine(order)?;
        let tokens = work.model.tokenizer()?;
        let needs = Needs::new(&engine, &work.model, &work.requests, &tokens)?;
        if let Err(objection) = fit::check(&needs, self.allowed, &mut Vec::new()) {
            let fault = Fault::of_objection(objection);
            return Err(self.with_smaller(fault, &engine, work));
        }
        let (need, have) = fit::bytes(&needs, self.allowed)?;
        Ok(Estimate { need, have, seconds: self.seconds(work), device: engine.backend().name() })
    }

    /// Adds the largest of some smaller sizes that fits.
    fn with_smaller(&self, fault: Fault, engine: &Engine, work: &Work) -> Fault {
        if fault.kind != FaultKind::TooBig || work.base.picture().is_some() {
            return fault;
        }
        let Ok(tokens) = work.model.tokenizer() else { return fault };
        let (w, h) = (work.base.width, work.base.height);
        let fits = |(width, height): (usize, usize)| {
            let request = Request { width, height, batch_size: 1, ..work.base.clone() };
            let needs = Needs::new(engine, &work.model, std::slice::from_ref(&request), &tokens);
            needs.is_ok_and(|needs| fit::check(&needs, self.allowed, &mut Vec::new()).is_ok())
        };
        let scaled = |part: usize| (((w * part / 8) / 64 * 64).max(64), ((h * part / 8) / 64 * 64).max(64));
        match (1..8).rev().map(scaled).find(|size| fits(*size)) {
            Some((width, height)) => {
                fault.or_set(format!("{width}x{height} fits"), serde_json::json!({"width": width, "height": height}))
            }
            None => fault,
        }
    }

    /// How long work takes, if such work was measured.
    fn seconds(&self, work: &Work) -> Option<f64> {
        let pace = self.pace.lock().unwrap_or_else(|e| e.into_inner());
        let one = |r: &Request| {
            let pace = pace.get(&(work.model.id(), r.width, r.height))?;
            Some(pace * (r.sampling.steps * r.count) as f64)
        };
        work.requests.iter().map(one).sum()
    }

    /// Draws until the server ends.
    pub(crate) fn run(&self, jobs: &Arc<Jobs>) {
        while !jobs.ending.load(Ordering::SeqCst) {
            let Some(ticket) = jobs.broker.pull(PATIENCE) else { continue };
            let Some((job, control)) = jobs.begin(&ticket.id) else { continue };
            let begun = Instant::now();
            let drawn = catch_unwind(AssertUnwindSafe(|| self.draw(jobs, &job, &control)));
            let drawn = drawn.unwrap_or_else(|_| {
                // What it left behind may be half-made.
                *self.engine.lock().unwrap_or_else(|e| e.into_inner()) = None;
                Err(Fault::new(FaultKind::Internal, "drawing this failed; the server's log says why"))
            });
            let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            jobs.counters.drawn_millis.fetch_add(millis, Ordering::Relaxed);
            let stopped = control.stop.load(Ordering::SeqCst);
            match drawn {
                Ok(()) => jobs.end(&job.id, State::Done, None),
                Err(_) if stopped => jobs.end(&job.id, State::Cancelled, None),
                Err(_) if control.back.load(Ordering::SeqCst) => jobs.back(&job.id),
                Err(fault) => jobs.end(&job.id, State::Failed, Some(fault)),
            }
        }
    }

    /// Draws one job.
    fn draw(&self, jobs: &Arc<Jobs>, job: &Job, control: &Arc<Control>) -> Result<(), Fault> {
        let mut follower = Follower::new(job.total, job.pictures.len());
        follower.report().into_iter().for_each(|progress| jobs.set_progress(&job.id, progress));
        let entry = self.models.of_order(Some(job.model.id.as_ref()))?;
        let (model, vae) = self.models.with_vae(&entry, job.order.vae.as_deref())?;
        let mut work = work(&job.order, model, &jobs.pictures)?;
        let engine = self.engine(&job.order)?;
        let tokens = work.model.tokenizer()?;
        let mut notes = Vec::new();
        if let Some(size) = fit::fit(&engine, &work.model, &work.requests, &tokens, self.allowed, &mut notes)? {
            work.requests.iter_mut().for_each(|r| r.batch_size = size);
        }
        let needs = Needs::new(&engine, &work.model, &work.requests, &tokens)?;
        let keep = fit::check(&needs, self.allowed, &mut notes).map_err(Fault::of_objection)?;
        drop(needs);
        let exact = job.order.weight_type == Some(WeightType::F32);
        let cancel = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let metadata = Metadata::start(&work.model, (vae.as_deref(), None), exact, &engine, cancel)?;
        let session = engine.session(&work.model, &control.now).keeping(keep).within(self.allowed.budget());
        let mut easel = Easel {
            jobs,
            job,
            control,
            follower,
            metadata,
            painter: self,
            work: &work,
            seen: Instant::now(),
            notes: notes.iter().map(told).collect(),
            error: None,
            sheet: Vec::new(),
        };
        easel.note();
        let mut offset = 0;
        for (cell, request) in work.requests.iter().enumerate() {
            easel.all_of(&session, request, cell, offset)?;
            offset += request.count;
        }
        easel.finish()?;
        // Read beside the drawing; whoever asks for the record later knows it.
        if job.model.sha256.is_none() {
            let sha256 = entry.sha256(&control.stop)?;
            jobs.change(&job.id, |job| job.model.sha256 = Some(sha256))?;
        }
        Ok(())
    }

    /// After how many evaluations each a preview is worth its time.
    fn preview(&self, work: &Work, request: &Request) -> Option<Shown> {
        let pace = self.pace.lock().unwrap_or_else(|e| e.into_inner());
        let steps = request.sampling.steps;
        let pace = pace.get(&(work.model.id(), request.width, request.height)).copied();
        let every = match pace {
            // It is there before anybody has looked.
            Some(pace) if pace * (steps as f64) < 1.0 => return None,
            Some(pace) => (PREVIEW_EVERY.as_secs_f64() / pace).ceil() as usize,
            None => steps.div_ceil(8),
        };
        Some(Shown { every: every.max(1), by: PreviewBy::Colours })
    }
}

/// One job on its way.
struct Easel<'a> {
    jobs: &'a Arc<Jobs>,
    job: &'a Job,
    control: &'a Control,
    follower: Follower,
    metadata: Metadata<'a>,
    painter: &'a Painter,
    work: &'a Work,
    seen: Instant,
    notes: Vec<String>,
    error: Option<Error>,
    /// Of a grid.
    sheet: Vec<(usize, Image)>,
}

impl Easel<'_> {
    /// Draws a request's pictures but for those that are there; goes on behind a picture that was skipped.
    fn all_of(
        &mut self,
        session: &crate::engine::Session<'_>,
        request: &Request,
        cell: usize,
        offset: usize,
    ) -> Result<(), Fault> {
        let there = self.job.pictures.iter().filter(|p| p.kind == PictureKind::Picture).map(|p| p.index);
        let mut skip: BTreeSet<usize> =
            there.filter_map(|i| i.checked_sub(offset)).filter(|i| *i < request.count).collect();
        loop {
            if skip.len() == request.count {
                return Ok(());
            }
            // What an order asks for itself is shown however soon the picture is there.
            let preview = request.preview.or_else(|| self.painter.preview(self.work, request));
            let request = Request { skip: skip.clone(), preview, ..request.clone() };
            let mut at = 0;
            let drawn = session.draw(&request, &mut |event| {
                match &event {
                    Event::Stage { image, .. } => at = *image,
                    Event::Picture { index, .. } => drop(skip.insert(*index)),
                    _ => {}
                }
                self.hear(event, &request, cell, offset)
            });
            match (self.error.take(), drawn) {
                (Some(e), _) => return Err(e.into()),
                (None, Ok(())) => return Ok(()),
                (None, Err(e)) => {
                    let ends = self.control.stop.load(Ordering::SeqCst) || self.control.back.load(Ordering::SeqCst);
                    if ends || *e.kind() != Kind::Cancelled || !self.control.skip.swap(false, Ordering::SeqCst) {
                        return Err(e.into());
                    }
                    self.control.now.store(false, Ordering::SeqCst);
                    skip.insert(at);
                }
            }
        }
    }

    fn hear(&mut self, event: Event, request: &Request, cell: usize, offset: usize) -> ControlFlow<()> {
        match event {
            Event::Note(note) => {
                self.notes.push(note);
                self.note();
            }
            Event::Doubt(doubt) => {
                self.notes.push(doubt.to_string());
                self.note();
            }
            Event::Stage { phase, image, units } => {
                let steps = (request.sampling.steps, request.together());
                self.follower.stage(phase, offset + image, units, steps);
            }
            Event::Done(done) => self.follower.done(done),
            // A job that the server's end interrupts is begun anew.
            Event::Answer { .. } => {}
            Event::Preview { index, image, .. } => self.preview(offset + index, &image, request),
            Event::Picture { index, seed, image } => {
                if let Some(pace) = self.follower.pace() {
                    let key = (self.work.model.id(), request.width, request.height);
                    *self.painter.latest.lock().unwrap_or_else(|e| e.into_inner()) = Some(pace);
                    self.painter.pace.lock().unwrap_or_else(|e| e.into_inner()).insert(key, pace);
                }
                self.follower.finished();
                if let Err(e) = self.keep(index, seed, image, request, cell, offset) {
                    self.error = Some(e);
                    return ControlFlow::Break(());
                }
            }
        }
        if let Some(progress) = self.follower.report() {
            self.jobs.set_progress(&self.job.id, progress);
        }
        if self.control.now.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Keeps a picture, then says so.
    fn keep(
        &mut self,
        index: usize,
        seed: u64,
        image: Image,
        request: &Request,
        cell: usize,
        offset: usize,
    ) -> Result<()> {
        let text = self.metadata.text(request, index)?;
        let sha256 = self.jobs.pictures.keep(&png_bytes(&image, Some(&text))?)?;
        let picture = Picture {
            sha256,
            index: offset + index,
            kind: PictureKind::Picture,
            width: image.width,
            height: image.height,
            seed: Some(seed),
            cell: self.work.cells[cell].clone(),
            parameters: Some(text),
        };
        self.jobs.add(&self.job.id, picture)?;
        if self.work.axes.is_some() {
            self.sheet.push((offset + index, image));
        }
        Ok(())
    }

    fn preview(&mut self, picture: usize, image: &Image, request: &Request) {
        let asked = self.job.order.preview.is_some();
        if !asked && self.seen.elapsed() < PREVIEW_EVERY && self.jobs.preview(&self.job.id).is_some() {
            return;
        }
        self.seen = Instant::now();
        let Some(png) = small_png(image) else { return };
        let (width, height) =
            request.start.outpaint().map_or((image.width, image.height), |o| o.sides.grown(o.picture.size));
        let step = self.follower.step();
        self.jobs.set_preview(&self.job.id, Preview { picture, step, width, height, png });
    }

    /// Tells what the asker should know, with the record.
    fn note(&mut self) {
        let notes = std::mem::take(&mut self.notes);
        if notes.is_empty() {
            return;
        }
        let added = self.jobs.change(&self.job.id, |job| {
            job.notes.extend(notes);
            job.notes.dedup();
        });
        if added.is_ok() {
            self.jobs.announce(&self.job.id);
        }
    }

    /// The sheet of a grid.
    fn finish(mut self) -> Result<(), Fault> {
        let Some(axes) = &self.work.axes else { return Ok(()) };
        // Cells that were drawn before a restart.
        for picture in self.job.pictures.iter().filter(|p| p.kind == PictureKind::Picture) {
            let png = self.jobs.pictures.png(&picture.sha256)?;
            let image = crate::image::read_png_bytes(&png, &picture.sha256, crate::image::PictureLimits::default())?.0;
            self.sheet.push((picture.index, image));
        }
        self.sheet.sort_by_key(|(index, _)| *index);
        let images: Vec<Image> = self.sheet.drain(..).map(|(_, image)| image).collect();
        if images.len() != axes.cells() {
            return Ok(());
        }
        let text = self.metadata.text(&self.work.requests[0], 0)?;
        let image = sheet::sheet(axes, &images)?;
        let sha256 = self.jobs.pictures.keep(&png_bytes(&image, Some(&text))?)?;
        let picture = Picture {
            sha256,
            index: images.len(),
            kind: PictureKind::Sheet,
            width: image.width,
            height: image.height,
            seed: None,
            cell: None,
            parameters: Some(text),
        };
        Ok(self.jobs.add(&self.job.id, picture)?)
    }
}

/// A preview's PNG, small enough to be sent often.
fn small_png(image: &Image) -> Option<Vec<u8>> {
    let mut side = PREVIEW.0;
    loop {
        let png = png_bytes(&smaller(image, side), None).ok()?;
        if png.len() <= PREVIEW.1 || side < 32 {
            return Some(png);
        }
        side /= 2;
    }
}
