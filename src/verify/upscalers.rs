//! A folder of upscalers and what PyTorch computes with them; the resizings and tiles of a second pass.
//!
//! Reference values are in `reference_adapters.safetensors` (`upscale.NAME.image` and `.output`, `resize.*`) with
//! `adapters.json` (`tiles`), or in `check.safetensors` (one `image` for all, `NAME.output`); NAME is a file of the
//! folder, or of `upscale/` in it.

use super::reference::{Reference, Values};
use super::{Check, Status, VerifyOptions, error, limit};
use crate::checkpoint::open_upscaler;
use crate::diffusion::interpolate::{Interpolation, interpolate};
use crate::diffusion::tiles::split;
use crate::diffusion::upscale::network;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::resize::{ResizeMode, fit};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Files of reference values, the first that is there.
const FILES: [&str; 2] = ["reference_adapters.safetensors", "check.safetensors"];
const MAX_JSON: u64 = 16 << 20;

#[derive(Deserialize)]
struct Layouts {
    #[serde(default)]
    tiles: Vec<Layout>,
}

/// One cut of `adapters.json`: sizes are width and height.
#[derive(Deserialize)]
struct Layout {
    image: (usize, usize),
    tile: (usize, usize),
    overlap: usize,
    x: Vec<isize>,
    y: Vec<isize>,
}

/// Runs every selected check of a folder and reports it.
///
/// # Errors
/// The folder holds no reference values, or none that is selected.
pub fn upscalers(
    engine: &Engine,
    folder: &Path,
    options: &VerifyOptions,
    report: &mut dyn FnMut(&Check),
) -> Result<()> {
    let path = FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    let path = path.ok_or_else(|| Error::bad_file(folder, format!("holds none of {}", FILES.join(", "))))?;
    let bytes = std::fs::read(&path).map_err(|e| Error::bad_file(&path, e))?;
    let reference = Reference::from_safetensors(&bytes).map_err(|e| Error::bad_file(&path, e))?;
    let mut some = false;
    let mut tell = |name: &str, limit: f64, computed: &dyn Fn() -> Result<f64>| {
        if options.selects(name) {
            some = true;
            report(&checked(name, options.limit(limit), computed()));
        }
    };
    for name in reference.names() {
        if let Some(file) = name.strip_suffix(".output").filter(|n| !n.starts_with("control.")) {
            tell(name, limit::MODEL, &|| network_of(engine, folder, &reference, file));
        } else if let Some((mode, size)) = name.strip_prefix("resize.").and_then(|n| n.split_once('.')) {
            let limit = if mode == "lanczos" { limit::PICTURE } else { limit::SAMPLER };
            tell(name, limit, &|| resized(&reference, name, mode, size));
        }
    }
    let path = folder.join("adapters.json");
    for (n, layout) in layouts(&path)?.iter().enumerate() {
        tell(&format!("tiles.{n}"), 0.0, &|| Ok(layout.differs()));
    }
    if some { Ok(()) } else { Err(Error::of_option("only", "selects no check of this folder")) }
}

fn checked(name: &str, limit: f64, computed: Result<f64>) -> Check {
    let name = name.to_owned();
    match computed {
        // A NaN is not within any limit.
        Ok(error) => {
            let status = if error <= limit { Status::Pass } else { Status::Fail };
            Check { name, error: Some(error), limit, status, note: None }
        }
        Err(e) => Check { name, error: None, limit, status: Status::Fail, note: Some(e.to_string()) },
    }
}

/// The upscaler's file of this name.
fn file(folder: &Path, name: &str) -> Result<PathBuf> {
    let stem = name.strip_prefix("upscale.").unwrap_or(name);
    let folders = [folder.join("upscale"), folder.to_path_buf()];
    let all = folders.iter().flat_map(|f| ["safetensors", "pth"].map(|ext| f.join(format!("{stem}.{ext}"))));
    all.into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Error::bad_file(folder, format!("has no upscaler {stem}")))
}

fn network_of(engine: &Engine, folder: &Path, reference: &Reference, name: &str) -> Result<f64> {
    let model = Arc::new(open_upscaler(&file(folder, name)?)?);
    let image = pixels(reference.get(&format!("{name}.image")).or_else(|_| reference.get("image"))?)?;
    let large = network(&engine.session(&model, &AtomicBool::new(false)), &image)?;
    engine.release(&model, |_| true);
    error(&large.to_nchw(), &reference.get(&format!("{name}.output"))?.data)
}

/// `[1, 3, h, w]` or `[h, w, 3]` of 0 to 255 as `[1, h, w, 3]` of 0 to 1.
fn pixels(values: &Values) -> Result<Tensor> {
    let unit = |v: &[f32]| v.iter().map(|v| v / 255.0).collect::<Vec<f32>>();
    match values.shape[..] {
        [b, 3, h, w] => Tensor::from_nchw(Shape::new(b, h, w, 3), &unit(&values.data)),
        [h, w, 3] => Tensor::new(Shape::new(1, h, w, 3), unit(&values.data)),
        _ => Err(Error::other(format!("a picture of shape {:?}", values.shape))),
    }
}

fn resized(reference: &Reference, name: &str, mode: &str, size: &str) -> Result<f64> {
    let want = reference.get(name)?;
    let wrong = || Error::other(format!("{size} is no size"));
    let (a, b) = size.split_once('x').ok_or_else(wrong)?;
    let (a, b): (usize, usize) = (a.parse().map_err(|_| wrong())?, b.parse().map_err(|_| wrong())?);
    if mode == "lanczos" {
        let from = reference.get("resize.image")?;
        let [height, width, 3] = from.shape[..] else { return Err(Error::other("resize.image is no picture")) };
        let image = Image { width, height, rgb: from.data.iter().map(|v| *v as u8).collect() };
        let out = fit(&image, (a, b), ResizeMode::Just);
        let levels = out.rgb.iter().zip(&want.data).map(|(o, w)| (f64::from(*o) - f64::from(*w)).abs());
        return if out.rgb.len() == want.data.len() { Ok(levels.fold(0.0, f64::max)) } else { Err(wrong()) };
    }
    let key = |name: &str| name.to_lowercase().replace([' ', '-'], "_").replace(['(', ')'], "");
    let known = Interpolation::ALL.iter().find(|(name, _)| key(name) == mode);
    let (_, mode) = known.ok_or_else(|| Error::other(format!("there is no latent upscaler {mode}")))?;
    let from = reference.get("resize.latents")?;
    let [b_, c, h, w] = from.shape[..] else { return Err(Error::other("resize.latents are no latents")) };
    let latents = Tensor::from_nchw(Shape::new(b_, h, w, c), &from.data)?;
    error(&interpolate(&latents, (a, b), *mode)?.to_nchw(), &want.data)
}

fn layouts(path: &Path) -> Result<Vec<Layout>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let bytes = crate::files::read(path, MAX_JSON)?;
    serde_json::from_slice::<Layouts>(&bytes).map(|l| l.tiles).map_err(|e| Error::bad_file(path, e))
}

impl Layout {
    /// Tiles that begin elsewhere.
    fn differs(&self) -> f64 {
        let along = |n: usize, tile: usize, want: &[isize]| {
            let have = split(n, tile, self.overlap);
            have.iter().zip(want).filter(|(a, b)| a != b).count() + have.len().abs_diff(want.len())
        };
        (along(self.image.0, self.tile.0, &self.x) + along(self.image.1, self.tile.1, &self.y)) as f64
    }
}
