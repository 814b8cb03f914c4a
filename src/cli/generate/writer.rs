//! Requests go in, one after the other; progress on the terminal and files come out.

use super::super::output::{OutputPlan, preview_path, write_png};
use super::super::remedy::in_flags;
use super::super::terminal::{ProgressLine, puts, say};
use lienzo::checkpoint::Model;
use lienzo::diffusion::answers::Answer;
use lienzo::diffusion::{Event, Phase, Request};
use lienzo::engine::{Engine, Session};
use lienzo::error::{Error, Remedy, Result, escape};
use lienzo::image::raster::Raster;
use lienzo::image::{Image, png_bytes};
use lienzo::job::metadata::Metadata;
use lienzo::job::resume::name_seed;
use lienzo::job::unfinished::Keeper;
use lienzo::job::upscale::{self, UpscaleOrder, enlarge};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What all pictures of a job have in common.
#[derive(Clone, Copy)]
pub struct Manner<'a> {
    /// Where they go.
    pub output: &'a OutputPlan,
    /// How many they are.
    pub count: usize,
    /// Whether files that were there may be replaced.
    pub overwrite: bool,
    /// Whether each preview is a file of its own that stays.
    pub keep_previews: bool,
    /// How long a picture has to be worked on before what is done of it is kept.
    pub keep_after: Duration,
}

/// A picture that was written.
pub struct Written {
    /// Its pixels.
    pub image: Image,
    /// What it says of itself, if anything.
    pub text: Option<String>,
    /// Where it is.
    pub path: PathBuf,
}

/// Makes finished pictures larger.
pub struct Enlarger<'a> {
    /// What computes it.
    pub engine: &'a Engine,
    /// The network.
    pub model: Arc<Model>,
    /// The factor.
    pub order: UpscaleOrder,
    /// Set to stop it.
    pub cancel: &'a AtomicBool,
}

impl Enlarger<'_> {
    /// A larger picture as a PNG, and what it says of itself.
    fn png(&self, progress: &mut ProgressLine, image: &Image, text: Option<&str>) -> Result<Vec<u8>> {
        let picture = Raster::from(image);
        let from = (picture.width, picture.height);
        let plan = self.order.plan(self.engine, &self.model, from, false)?;
        let mut begun = false;
        let large = enlarge(self.engine, &self.model, &picture, &plan, self.cancel, &mut |done, all| {
            if !std::mem::replace(&mut begun, true) {
                progress.begin("upscale", all);
            }
            progress.at(done);
            if self.cancel.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        progress.end();
        let text = text.map(|text| upscale::metadata(Some(text), &self.model, from, plan.size));
        large.png_bytes(text.as_deref())
    }
}

/// Turns events into progress lines and files.
pub struct Writer<'a> {
    progress: ProgressLine,
    manner: Manner<'a>,
    /// None where pictures are to say nothing of themselves.
    metadata: Option<Metadata<'a>>,
    /// This run's previews that are on the disk, by the picture's number.
    previews: BTreeMap<usize, PathBuf>,
    enlarger: Option<Enlarger<'a>>,
    /// What is kept of pictures that are not finished, by their numbers.
    keepers: BTreeMap<usize, Keeper>,
    last: Option<Written>,
    /// Why the listener stopped the work.
    error: Option<Error>,
}

impl<'a> Writer<'a> {
    /// For the pictures of a job.
    pub fn new(manner: Manner<'a>, metadata: Option<Metadata<'a>>, enlarger: Option<Enlarger<'a>>) -> Self {
        let (progress, previews) = (ProgressLine::new(), BTreeMap::new());
        let keepers = BTreeMap::new();
        Self { progress, manner, metadata, previews, enlarger, keepers, last: None, error: None }
    }

    /// The same going on with what is kept of unfinished pictures.
    #[must_use]
    pub fn keeping(mut self, keepers: BTreeMap<usize, Keeper>) -> Self {
        self.keepers = keepers;
        self
    }

    /// Draws a request's pictures and writes them; the first is number `first` of the job. Gives the last one.
    pub fn draw(&mut self, session: &Session<'_>, request: &Request, first: usize) -> Result<Option<Written>> {
        let result = session.draw(request, &mut |event| self.hear(request, first, event));
        self.progress.abandon();
        // The listener stopped the work because of this.
        let result = self.error.take().map_or(result, Err);
        if let Some(kept) = self.keepers.values().find(|k| result.is_err() && k.count() > 0) {
            say!("note: {} evaluations are kept in '{}': --resume goes on there", kept.count(), kept.name());
        }
        result.map(|()| self.last.take())
    }

    fn hear(&mut self, request: &Request, first: usize, event: Event) -> ControlFlow<()> {
        match event {
            Event::Note(note) => say!("note: {note}"),
            Event::Doubt(doubt) => say!("note: {doubt}; {}", in_flags(Remedy::Prediction)),
            Event::Stage { phase, image, units } => {
                // Several pictures of one request have their text in common.
                let one = self.manner.count == 1 || (request.count > 1 && phase == Phase::Text);
                let which = if one { String::new() } else { format!(" {}/{}", first + image + 1, self.manner.count) };
                self.progress.begin(&format!("{}{which}", phase.name()), units.unwrap_or(0));
            }
            Event::Done(units) => self.progress.at(units),
            Event::Answer { index, answer } => self.keep(request, index, first + index, answer),
            Event::Preview { index, done, image } => {
                self.preview(first + index, name_seed(request, index), done, &image);
            }
            Event::Picture { index, image, .. } => {
                self.progress.end();
                if let Err(e) = self.write(request, index, first, image) {
                    self.error = Some(e);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Keeps what is done of a picture that takes long; where that cannot be, it costs a note.
    fn keep(&mut self, request: &Request, index: usize, number: usize, answer: Answer) {
        let Some(metadata) = self.metadata.as_mut().filter(|_| !self.manner.output.is_stdout()) else { return };
        let picture = self.manner.output.path(number, name_seed(request, index));
        let keeper = self.keepers.entry(number).or_insert_with(|| Keeper::new(&picture));
        let due = keeper.has_file() || (keeper.age() >= self.manner.keep_after && metadata.is_ready());
        let parameters = if due { metadata.text(request, index).ok() } else { None };
        if let Err(e) = keeper.hear(answer, parameters) {
            say!("note: what is done of this picture is not kept: {e}");
        }
    }

    /// Writes a preview; one that cannot be written costs a note, not the picture.
    fn preview(&mut self, number: usize, seed: u64, done: usize, image: &Image) {
        let keep = self.manner.keep_previews;
        let bytes = match png_bytes(image, None) {
            Ok(bytes) => bytes,
            Err(e) => return say!("note: preview: {e}"),
        };
        // This run's own one makes room for the next; a file that was there before stays.
        if let Some(own) = self.previews.get(&number).filter(|_| !keep) {
            if let Err(e) = write_png(own, &bytes, true) {
                say!("note: preview: {e}");
            }
            return;
        }
        let picture = self.manner.output.path(number, seed);
        let name = preview_path(&picture);
        let name = if keep { picture.with_extension(format!("preview-{done:03}.png")) } else { name };
        match self.new_file(&name, &bytes) {
            Ok(path) if !keep => drop(self.previews.insert(number, path)),
            Ok(_) => {}
            Err(e) => say!("note: preview: {e}"),
        }
    }

    /// Writes under a name, or under the next that is free, which is told.
    fn new_file(&self, name: &Path, bytes: &[u8]) -> Result<PathBuf> {
        let stem = name.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let numbered = (2..10).map(|n| name.with_file_name(format!("{stem}_{n}.png")));
        let mut names = std::iter::once(name.to_path_buf()).chain(numbered);
        let free = names.find(|path| self.manner.overwrite || path.symlink_metadata().is_err());
        let shown = |path: &Path| escape(&path.to_string_lossy());
        let path = free.ok_or_else(|| Error::other(format!("'{}' was there before", shown(name))))?;
        if path != name {
            say!("note: preview: '{}' was there before; this one is '{}'", shown(name), shown(&path));
        }
        write_png(&path, bytes, self.manner.overwrite)
    }

    fn write(&mut self, request: &Request, index: usize, first: usize, image: Image) -> Result<()> {
        let text = self.metadata.as_mut().map(|m| m.text(request, index)).transpose()?;
        let (number, seed) = (first + index, name_seed(request, index));
        let small = || png_bytes(&image, text.as_deref());
        let large = self.enlarger.as_ref().map(|e| e.png(&mut self.progress, &image, text.as_deref()));
        // A picture that was drawn is not lost with what should have become of it.
        let (bytes, failed) = match large {
            Some(Ok(large)) => (large, None),
            Some(Err(e)) => (small()?, Some(e)),
            None => (small()?, None),
        };
        let path = self.manner.output.write(number, seed, &bytes)?;
        if let Some(mut keeper) = self.keepers.remove(&number) {
            keeper.remove();
        }
        if let Some(preview) = self.previews.remove(&number) {
            // The picture itself is there now; a preview that stays behind does no harm.
            let _ = std::fs::remove_file(preview);
        }
        // The only thing on stdout: what a script wants to know.
        if !self.manner.output.is_stdout() {
            puts!("{}", path.display());
        }
        self.last = Some(Written { image, text, path });
        failed.map_or(Ok(()), |e| Err(e.at("the picture was written as it was drawn")))
    }
}

impl Drop for Writer<'_> {
    /// A run that was stopped leaves no preview behind.
    fn drop(&mut self) {
        for preview in self.previews.values() {
            let _ = std::fs::remove_file(preview);
        }
    }
}
