//! Requests of one picture each go in: the cells of `--grid`, or a prompt each; their pictures come out, and of a grid
//! a labelled contact sheet.

use super::terminal::{ProgressLine, puts, say};
use lienzo::checkpoint::Model;
use lienzo::diffusion::{Event, Request};
use lienzo::engine::Session;
use lienzo::error::{Error, Result, escape};
use lienzo::image::{Image, png_bytes};
use lienzo::job::axes::Axes;
use lienzo::job::metadata::Metadata;
use lienzo::job::sheet;
use lienzo::output::{OutputPlan, write_png};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What a grid is made with, all of it ready.
pub struct Grid<'a> {
    /// What varies, where there is to be a sheet.
    pub axes: Option<&'a Axes>,
    /// The cells, columns fastest.
    pub requests: &'a [Request],
    /// Where the single pictures go.
    pub output: &'a OutputPlan,
    /// What is written into them, if anything.
    pub metadata: Option<Metadata<'a>>,
    /// Whether an older sheet may go.
    pub overwrite: bool,
}

/// Every cell is checked, and its file's name, before the first is drawn.
pub fn check(requests: &[Request], output: &OutputPlan, model: &Model, overwrite: bool) -> Result<()> {
    let mut taken = HashMap::new();
    for (cell, request) in requests.iter().enumerate() {
        request.check(model).map_err(|e| e.at(format_args!("picture {}", cell + 1)))?;
        let path = output.path(cell, request.seed);
        let shown = escape(&path.to_string_lossy());
        if let Some(other) = taken.insert(path.clone(), cell) {
            let (a, b) = (other + 1, cell + 1);
            return Err(Error::usage(format!("pictures {a} and {b} would both be {shown}: use {{index}} in -o")));
        }
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(Error::usage(format!("'{shown}' exists: choose another -o, or give --overwrite")));
        }
    }
    Ok(())
}

impl Grid<'_> {
    /// Draws all cells, then the sheet. Each picture is written as soon as it is there.
    pub fn run(mut self, session: &Session<'_>) -> Result<()> {
        let mut progress = ProgressLine::new();
        let (mut pictures, mut first) = (Vec::new(), None);
        for (cell, request) in self.requests.iter().enumerate() {
            let (image, text, path) = self.cell(cell, request, session, &mut progress)?;
            if self.axes.is_some() {
                pictures.push(image);
                first.get_or_insert((path, text));
            }
        }
        let (Some(axes), Some((path, text))) = (self.axes, first) else { return Ok(()) };
        let image = sheet::sheet(axes, &pictures)?;
        let path = write_png(&sheet_path(&path, self.overwrite), &png_bytes(&image, text.as_deref())?, self.overwrite)?;
        puts!("{}", path.display());
        Ok(())
    }

    /// One picture with its text and where it was written.
    fn cell(
        &mut self,
        cell: usize,
        request: &Request,
        session: &Session<'_>,
        progress: &mut ProgressLine,
    ) -> Result<(Image, Option<String>, PathBuf)> {
        let of = self.requests.len();
        let mut drawn = None;
        let result = session.draw(request, &mut |event| {
            match event {
                Event::Note(note) => say!("note: {note}"),
                Event::Stage { phase, units, .. } => {
                    progress.begin(&format!("{} {}/{of}", phase.name(), cell + 1), units.unwrap_or(0));
                }
                Event::Done(units) => progress.at(units),
                // Refused together with a grid.
                Event::Preview { .. } => {}
                Event::Picture { image, seed, .. } => {
                    progress.end();
                    drawn = Some((image, seed));
                }
            }
            ControlFlow::Continue(())
        });
        progress.abandon();
        result?;
        let (image, seed) = drawn.ok_or_else(|| Error::other("no picture came out"))?;
        let text = self.metadata.as_mut().map(|m| m.text(request, 0)).transpose()?;
        let path = self.output.write(cell, seed, &png_bytes(&image, text.as_deref())?)?;
        puts!("{}", path.display());
        Ok((image, text, path))
    }
}

/// `cat_1.png` to `cat_grid.png`, or the next name that is free.
fn sheet_path(first: &Path, overwrite: bool) -> PathBuf {
    let stem = first.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let stem = stem.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['_', '-']).to_string();
    let stem = if stem.is_empty() { "pictures".to_string() } else { stem };
    let mut path = first.with_file_name(format!("{stem}_grid.png"));
    let mut number = 1;
    while !overwrite && path.symlink_metadata().is_ok() {
        number += 1;
        path = first.with_file_name(format!("{stem}_grid_{number}.png"));
    }
    path
}
