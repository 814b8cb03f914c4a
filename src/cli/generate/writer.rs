//! Events go in, progress on the terminal and files come out.

use super::super::terminal::{Progress, puts, say};
use lienzo::diffusion::{Event, Phase, Request};
use lienzo::engine::Session;
use lienzo::error::{Error, Result};
use lienzo::image::{Image, png_bytes};
use lienzo::job::metadata::Metadata;
use lienzo::job::resume::name_seed;
use lienzo::output::{OutputPlan, write_png};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Turns events into progress lines and files.
pub struct Writer<'a> {
    progress: Progress,
    output: &'a OutputPlan,
    /// None where pictures are to say nothing of themselves.
    metadata: Option<Metadata<'a>>,
    request: &'a Request,
    /// Previews that are on the disk, by the picture's number.
    previews: BTreeSet<usize>,
    /// Why the listener stopped the work.
    error: Option<Error>,
}

impl<'a> Writer<'a> {
    /// For the pictures of one request.
    pub fn new(
        progress: Progress,
        output: &'a OutputPlan,
        metadata: Option<Metadata<'a>>,
        request: &'a Request,
    ) -> Self {
        Self { progress, output, metadata, request, previews: BTreeSet::new(), error: None }
    }

    /// Draws and writes all pictures.
    pub fn run(mut self, session: &Session<'_>) -> Result<()> {
        let request = self.request;
        let result = session.draw(request, &mut |event| self.hear(event));
        self.progress.abandon();
        match self.error.take() {
            // The listener stopped the work because of this.
            Some(e) => Err(e),
            None => result,
        }
    }

    fn hear(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Note(note) => say!("note: {note}"),
            Event::Stage { phase, image, units } => {
                let several = self.request.count > 1 && phase != Phase::Text;
                let which = if several { format!(" {}/{}", image + 1, self.request.count) } else { String::new() };
                self.progress.begin(&format!("{}{which}", phase.name()), units.unwrap_or(0));
            }
            Event::Done(units) => self.progress.at(units),
            Event::Preview { index, done, image } => self.preview(index, done, &image),
            Event::Picture { index, image, .. } => {
                self.progress.end();
                if let Err(e) = self.write(index, &image) {
                    self.error = Some(e);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Writes a preview; one that cannot be written costs a note, not the picture.
    fn preview(&mut self, index: usize, done: usize, image: &Image) {
        let keep = self.request.preview.is_some_and(|p| p.keep);
        let mut path = self.preview_path(index);
        if keep {
            path.set_extension("");
            path.set_extension(format!("preview-{done:03}.png"));
        }
        match png_bytes(image, None).and_then(|bytes| write_png(&path, &bytes, true)) {
            Ok(_) if keep => {}
            Ok(_) => drop(self.previews.insert(index)),
            Err(e) => say!("note: preview: {e}"),
        }
    }

    fn preview_path(&self, index: usize) -> PathBuf {
        self.output.path(index, name_seed(self.request, index)).with_extension("preview.png")
    }

    fn write(&mut self, index: usize, image: &Image) -> Result<()> {
        let text = self.metadata.as_mut().map(|m| m.text(self.request, index)).transpose()?;
        let seed = name_seed(self.request, index);
        let path = self.output.write(index, seed, &png_bytes(image, text.as_deref())?)?;
        if self.previews.remove(&index) {
            // The picture itself is there now; a preview that stays behind does no harm.
            let _ = std::fs::remove_file(self.preview_path(index));
        }
        // The only thing on stdout: what a script wants to know.
        puts!("{}", path.display());
        Ok(())
    }
}
