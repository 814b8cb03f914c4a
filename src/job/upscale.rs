//! A picture made larger in the user's words: a factor, a network, a memory limit; which tiles that means, and the
//! passes that lead to the factor.

use super::word::ByteCount;
use crate::checkpoint::Model;
use crate::diffusion::upscale::{Tiling, upscale};
use crate::engine::Engine;
use crate::engine::residency::Again;
use crate::error::{Error, Kind, Remedy, Result};
use crate::image::raster::Raster;
use crate::models::part::Part;
use crate::system::format_bytes;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What one wants of a larger picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UpscaleOrder {
    /// How many times as long each side becomes; none: as the network does it.
    pub scale: Option<f64>,
    /// Pixels of a tile along a side; none: as large as memory allows.
    pub tile: Option<usize>,
    /// Bytes that the process may take.
    pub max_memory: Option<ByteCount>,
}

/// What a network does with a picture, known before a pixel is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpscalePlan {
    /// How each pass cuts its picture.
    pub tiling: Tiling,
    /// Times that the picture goes through the network.
    pub passes: usize,
    /// Width and height of the result.
    pub size: (usize, usize),
    /// Bytes of the process at the worst moment.
    pub peak: u64,
}

/// What the process needs beside the network and the pictures.
const BASE: u64 = 50_000_000;
/// Pixels of a result at most: a PNG of so many is written in a minute and opened by most programs.
const MOST_PIXELS: f64 = 400e6;
/// Sides of tiles that are tried, in pixels.
const TILES: [usize; 6] = [1024, 512, 256, 128, 64, 32];
/// Passes at most, as the webui has it.
const MOST_PASSES: usize = 3;

impl UpscaleOrder {
    /// Refuses what no picture could be given.
    ///
    /// # Errors
    /// Usage: a factor or a tile that is no size.
    pub fn check(&self) -> Result<()> {
        if let Some(scale) = self.scale.filter(|s| !(s.is_finite() && (1.0..=64.0).contains(s))) {
            return Err(Error::of_option("scale", format!("{scale} is no factor; 1 to 64 are")));
        }
        match self.tile {
            Some(tile) if !(16..=16_384).contains(&tile) => {
                Err(Error::of_option("tile", format!("{tile} pixels are no tile; 16 to 16384 are")))
            }
            _ => Ok(()),
        }
    }

    /// How a picture of this size goes through the network. No weight is read.
    ///
    /// # Errors
    /// Too big: the result, or what the smallest tiles need.
    pub fn plan(
        &self,
        engine: &Engine,
        model: &Model,
        (width, height): (usize, usize),
        deep: bool,
    ) -> Result<UpscalePlan> {
        self.check()?;
        let own = model.networks.upscaler()?.scale();
        let scale = self.scale.unwrap_or(own as f64);
        let side = |n: usize| ((n as f64 * scale) as usize).max(1);
        let size = (side(width), side(height));
        let mut passes = 1;
        while own > 1 && passes < MOST_PASSES && (own as f64).powi(passes as i32) < scale {
            passes += 1;
        }
        // The last pass is the largest; what it makes may be made smaller after it.
        let before = own.pow(passes as u32 - 1);
        let (input, reached) = ((before * width, before * height), (before * own * width, before * own * height));
        let most = (size.0 as f64 * size.1 as f64).max(reached.0 as f64 * reached.1 as f64);
        if most > MOST_PIXELS {
            let message = format!(
                "{width}x{height} pixels {scale} times as large go through {}x{}, more than {} megapixels; cut the \
                 picture, or use a smaller factor",
                reached.0,
                reached.1,
                MOST_PIXELS / 1e6
            );
            return Err(Error::usage(message));
        }
        // Samples of 16 bits in and out, and a PNG's own copy of the result.
        let bytes = |(w, h): (usize, usize)| (w * h * if deep { 14 } else { 11 }) as u64;
        let beside = BASE + bytes(input) + bytes(reached).max(bytes(size));
        let limit = self.max_memory.map(|b| b.0);
        let limit = limit.or_else(|| crate::system::available_memory().map(|have| have / 4 * 3));
        self.fitting(engine, model, input, beside, limit).map(|(tiling, peak)| UpscalePlan {
            tiling,
            passes,
            size,
            peak,
        })
    }

    /// The largest tiles that fit.
    fn fitting(
        &self,
        engine: &Engine,
        model: &Model,
        input: (usize, usize),
        beside: u64,
        limit: Option<u64>,
    ) -> Result<(Tiling, u64)> {
        let upscaler = model.networks.upscaler()?;
        let sides = match &self.tile {
            Some(tile) => std::slice::from_ref(tile),
            None => &TILES[..],
        };
        let mut least = u64::MAX;
        for side in sides {
            let tiling = Tiling::new(upscaler, *side);
            let (w, h) = tiling.window(upscaler, input);
            let part = Part::Upscale { size: (1, h, w) };
            // The window is a tensor of its own on the way in, and the result one on the way out.
            let tensors = (w * h * 3 * 4 * (1 + upscaler.scale() * upscaler.scale())) as u64;
            let peak = beside + tensors + engine.residency(model, &[part], Again::Nothing, None, false)?.peak;
            if limit.is_none_or(|limit| peak <= limit) {
                return Ok((tiling, peak));
            }
            least = least.min(peak);
        }
        let have = limit.unwrap_or(0);
        let message = format!("{} are needed, and {} are allowed", format_bytes(least), format_bytes(have));
        Err(Error::new(Kind::TooBig { need: least, have }, message).try_this(Remedy::SmallerSize))
    }
}

/// A picture through the network as often as the plan says, and then to the plan's size. `listen` hears how many tiles
/// of how many are done in all passes together, as far as is known.
///
/// # Errors
/// Cancelled; whatever keeps a tile from being computed.
pub fn enlarge(
    engine: &Engine,
    model: &Arc<Model>,
    from: &Raster,
    plan: &UpscalePlan,
    cancel: &AtomicBool,
    listen: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Raster> {
    let session = engine.session(model, cancel);
    let mut picture = from.clone();
    for _ in 0..plan.passes {
        picture = upscale(&session, &picture, plan.tiling, listen)?;
    }
    Ok(if (picture.width, picture.height) == plan.size { picture } else { picture.resized(plan.size) })
}

/// What a picture's metadata say of it after what they said before, as the webui's extras write it.
pub fn metadata(before: Option<&str>, model: &Model, from: (usize, usize), to: (usize, usize)) -> String {
    let factor = to.0 as f64 / from.0 as f64;
    let factor = if (factor - factor.round()).abs() < 1e-9 { format!("{factor:.0}") } else { format!("{factor:.3}") };
    let own = format!("Postprocess upscale by: {factor}, Postprocess upscaler: {}", model.name);
    match before.map(str::trim_end).filter(|text| !text.is_empty()) {
        Some(before) if before.lines().last().is_some_and(|line| line.contains(": ")) => format!("{before}, {own}"),
        Some(before) => format!("{before}\n{own}"),
        None => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(order: UpscaleOrder, size: (usize, usize)) -> Result<UpscalePlan> {
        let model = Model::embedded_upscaler().unwrap();
        order.plan(&Engine::on_cpu().unwrap(), &model, size, false)
    }

    #[test]
    fn passes_and_sizes_follow_the_factor() {
        let of = |scale| plan(UpscaleOrder { scale, ..UpscaleOrder::default() }, (100, 60)).unwrap();
        assert_eq!((of(None).passes, of(None).size), (1, (400, 240)));
        assert_eq!((of(Some(2.5)).passes, of(Some(2.5)).size), (1, (250, 150)));
        assert_eq!((of(Some(8.0)).passes, of(Some(8.0)).size), (2, (800, 480)));
        assert!(plan(UpscaleOrder { scale: Some(f64::NAN), ..UpscaleOrder::default() }, (9, 9)).is_err());
        assert!(plan(UpscaleOrder { scale: Some(64.0), ..UpscaleOrder::default() }, (9000, 9000)).is_err());
    }

    #[test]
    fn less_memory_means_smaller_tiles_until_none_fit() {
        let within = |mb: u64| {
            let max_memory = Some(ByteCount(mb * 1_000_000));
            plan(UpscaleOrder { max_memory, ..UpscaleOrder::default() }, (640, 640))
        };
        let (large, small) = (within(4000).unwrap(), within(320).unwrap());
        assert!(large.tiling.side >= 640 && small.tiling.side < 640 && small.peak <= 320_000_000, "{small:?}");
        let error = within(60).unwrap_err();
        assert!(matches!(error.kind(), Kind::TooBig { need, have: 60_000_000 } if *need > 60_000_000), "{error}");
    }

    #[test]
    fn metadata_keep_what_was_said() {
        let model = Model::embedded_upscaler().unwrap();
        let own = "Postprocess upscale by: 4, Postprocess upscaler: realesr-animevideov3";
        assert_eq!(metadata(None, &model, (10, 5), (40, 20)), own);
        let before = "a cat\nSteps: 3, Seed: 1";
        assert_eq!(metadata(Some(before), &model, (10, 5), (40, 20)), format!("{before}, {own}"));
    }
}
