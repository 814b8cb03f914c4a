//! Events go in, progress on the terminal and files come out.

use super::super::terminal::{ProgressLine, puts, say};
use lienzo::diffusion::{Event, Phase, Request};
use lienzo::engine::Session;
use lienzo::error::{Error, Result, escape};
use lienzo::image::{Image, png_bytes};
use lienzo::job::metadata::Metadata;
use lienzo::job::resume::name_seed;
use lienzo::output::{OutputPlan, preview_path, write_png};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Turns events into progress lines and files.
pub struct Writer<'a> {
    progress: ProgressLine,
    output: &'a OutputPlan,
    /// None where pictures are to say nothing of themselves.
    metadata: Option<Metadata<'a>>,
    request: &'a Request,
    /// This run's previews that are on the disk, by the picture's number.
    previews: BTreeMap<usize, PathBuf>,
    /// Whether files that were there may be replaced.
    overwrite: bool,
    /// Why the listener stopped the work.
    error: Option<Error>,
}

impl<'a> Writer<'a> {
    /// For the pictures of one request.
    pub fn new(
        progress: ProgressLine,
        output: &'a OutputPlan,
        metadata: Option<Metadata<'a>>,
        request: &'a Request,
        overwrite: bool,
    ) -> Self {
        Self { progress, output, metadata, request, previews: BTreeMap::new(), overwrite, error: None }
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
        let bytes = match png_bytes(image, None) {
            Ok(bytes) => bytes,
            Err(e) => return say!("note: preview: {e}"),
        };
        // This run's own one makes room for the next; a file that was there before stays.
        if let Some(own) = self.previews.get(&index).filter(|_| !keep) {
            if let Err(e) = write_png(own, &bytes, true) {
                say!("note: preview: {e}");
            }
            return;
        }
        let picture = self.output.path(index, name_seed(self.request, index));
        let name = preview_path(&picture);
        let name = if keep { picture.with_extension(format!("preview-{done:03}.png")) } else { name };
        match self.new_file(&name, &bytes) {
            Ok(path) if !keep => drop(self.previews.insert(index, path)),
            Ok(_) => {}
            Err(e) => say!("note: preview: {e}"),
        }
    }

    /// Writes under a name, or under the next that is free, which is told.
    fn new_file(&self, name: &Path, bytes: &[u8]) -> Result<PathBuf> {
        let stem = name.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let numbered = (2..10).map(|n| name.with_file_name(format!("{stem}_{n}.png")));
        let mut names = std::iter::once(name.to_path_buf()).chain(numbered);
        let free = names.find(|path| self.overwrite || path.symlink_metadata().is_err());
        let shown = |path: &Path| escape(&path.to_string_lossy());
        let path = free.ok_or_else(|| Error::other(format!("'{}' was there before", shown(name))))?;
        if path != name {
            say!("note: preview: '{}' was there before; this one is '{}'", shown(name), shown(&path));
        }
        write_png(&path, bytes, self.overwrite)
    }

    fn write(&mut self, index: usize, image: &Image) -> Result<()> {
        let text = self.metadata.as_mut().map(|m| m.text(self.request, index)).transpose()?;
        let seed = name_seed(self.request, index);
        let path = self.output.write(index, seed, &png_bytes(image, text.as_deref())?)?;
        if let Some(preview) = self.previews.remove(&index) {
            // The picture itself is there now; a preview that stays behind does no harm.
            let _ = std::fs::remove_file(preview);
        }
        // The only thing on stdout: what a script wants to know.
        if !self.output.is_stdout() {
            puts!("{}", path.display());
        }
        Ok(())
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
