//! Requests of one picture each go in: the cells of `--grid`, or a prompt each; their pictures come out, and of a grid
//! a labelled contact sheet.

use super::generate::Writer;
use super::output::{OutputPlan, write_png};
use super::terminal::puts;
use lienzo::checkpoint::Model;
use lienzo::diffusion::Request;
use lienzo::engine::Session;
use lienzo::error::{Error, Result, escape};
use lienzo::image::{Image, PARAMETERS, PictureLimits, png_bytes, read_png};
use lienzo::job::axes::Axes;
use lienzo::job::resume::name_seed;
use lienzo::job::sheet;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Every cell is checked, and its file's name, before the first is drawn.
pub fn check(requests: &[Request], output: &OutputPlan, model: &Model, overwrite: bool) -> Result<()> {
    let mut taken = HashMap::new();
    for (cell, request) in requests.iter().enumerate() {
        request.check(model).map_err(|e| e.at(format_args!("picture {}", cell + 1)))?;
        let path = output.path(cell, name_seed(request, 0));
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

/// Draws all cells, columns fastest, then the sheet. Each picture is written as soon as it is there; those that are
/// there already are read for the sheet.
pub fn run(
    axes: &Axes,
    cells: &[Request],
    output: &OutputPlan,
    overwrite: bool,
    (session, mut writer): (&Session<'_>, Writer<'_>),
) -> Result<()> {
    let (mut pictures, mut first) = (Vec::new(), None);
    for (number, request) in cells.iter().enumerate() {
        let (image, text, path) = match request.skip.contains(&0) {
            true => there(output.path(number, name_seed(request, 0)))?,
            false => {
                let drawn = writer.draw(session, request, number)?;
                let drawn = drawn.ok_or_else(|| Error::other("no picture came out"))?;
                (drawn.image, drawn.text, drawn.path)
            }
        };
        pictures.push(image);
        first.get_or_insert((path, text));
    }
    let Some((path, text)) = first else { return Ok(()) };
    let image = sheet::sheet(axes, &pictures)?;
    let path = write_png(&sheet_path(&path, overwrite), &png_bytes(&image, text.as_deref())?, overwrite)?;
    puts!("{}", path.display());
    Ok(())
}

/// Whether the sheet is there too.
pub fn has_sheet(cells: &[Request], output: &OutputPlan) -> bool {
    let first = cells.first().map(|request| output.path(0, name_seed(request, 0)));
    first.is_some_and(|path| sheet_path(&path, true).exists())
}

/// A picture that an interrupted run has made.
fn there(path: PathBuf) -> Result<(Image, Option<String>, PathBuf)> {
    let (image, texts) = read_png(&path, PictureLimits::default())?;
    let text = texts.into_iter().find(|(key, _)| key == PARAMETERS).map(|(_, text)| text);
    Ok((image, text, path))
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
