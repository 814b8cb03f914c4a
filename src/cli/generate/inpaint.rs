//! The flags of inpainting and outpainting and a model go in; picture, mask and windows of the request come out.

use super::GenerateArgs;
use super::request::shown;
use clap::Args;
use lienzo::checkpoint::{Model, sha256_file};
use lienzo::diffusion::SIZES;
use lienzo::diffusion::img2img::Init;
use lienzo::diffusion::inpaint::{Fill, Inpaint, MaskSettings, Overlay, told};
use lienzo::diffusion::outpaint::{Outpaint, Sides, window_size};
use lienzo::error::{Error, Result};
use lienzo::image::extend::fill;
use lienzo::image::mask::{Mask, Region, read_mask};
use lienzo::image::read::read_picture;
use lienzo::image::resize::{ResizeMode, fit, window};
use lienzo::image::{Image, Limits};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Painting a part anew, and painting beyond the edges, each with `-i`.
#[derive(Args, Clone, Debug)]
pub struct InpaintArgs {
    /// Paint only a part of the picture given with -i anew: where this picture (PNG or JPEG) is white, or opaque if it
    /// has transparent parts. All else stays exactly as it is
    #[arg(long, value_name = "FILE")]
    pub(super) mask: Option<std::path::PathBuf>,
    /// Paint where the mask is black instead
    #[arg(long, requires = "mask")]
    pub(super) mask_invert: bool,
    /// How softly the new part goes over into the old, in pixels, 0 to 64 [default: 4]
    #[arg(long, value_name = "PIXELS", requires = "mask")]
    pub(super) mask_blur: Option<usize>,
    /// What the work begins with under the mask: original, fill (the colours around it), latent-noise or latent-nothing
    /// [default: original]
    #[arg(long, value_name = "KIND", requires = "mask")]
    pub(super) inpaint_fill: Option<String>,
    /// Work on the masked part alone, in the size of -W and -H, and put it back: keeps the size of a large photograph
    /// and gives small parts more detail
    #[arg(long, requires = "mask")]
    pub(super) only_masked: bool,
    /// How much around the mask --only-masked looks at, in pixels of the picture [default: 32]
    #[arg(long, value_name = "PIXELS", requires = "only_masked")]
    pub(super) only_masked_padding: Option<usize>,
    /// Let old and new mix along the mask's border while painting, not only at the end
    #[arg(long, requires = "mask")]
    pub(super) soft_mask: bool,
    /// Paint beyond the edges of the picture given with -i: so many pixels on each side (left, right, up, down), for
    /// example left=128,right=64. With the small model in the binary, --cfg-scale is then 2 if it is not told
    #[arg(long, value_name = "SIDE=PIXELS,...", conflicts_with = "mask")]
    pub(super) outpaint: Option<String>,
}

/// The blur without `--mask-blur`, the margin without `--only-masked-padding`.
const BLUR: usize = 4;
const PADDING: usize = 32;

/// What a request begins with.
#[derive(Default)]
pub struct Start {
    pub init: Option<Init>,
    pub inpaint: Option<Inpaint>,
    pub outpaint: Option<Outpaint>,
    /// The size, where it does not follow from `init`.
    pub size: Option<(usize, usize)>,
    /// The strength without `--strength`, where it is not img2img's.
    pub strength: Option<f32>,
    /// The guidance without `--cfg-scale`, where it is not the model's own.
    pub guidance: Option<f32>,
}

impl GenerateArgs {
    /// Reads the picture of `-i`, and the mask.
    pub(super) fn start(&self, model: &Model) -> Result<Start> {
        let paint = &self.inpaint;
        if let Some(sides) = &paint.outpaint {
            return self.outpainted(Sides::parse(sides)?, model);
        }
        let Some(mask) = &paint.mask else { return Ok(Start { init: self.init()?, ..Start::default() }) };
        let Some(path) = &self.init_img else {
            return Err(Error::usage("--mask needs the picture that it belongs to: give that with -i"));
        };
        let blur = paint.mask_blur.unwrap_or(BLUR);
        if blur > 64 {
            return Err(Error::usage(format!("--mask-blur {blur} is out of range: use 0 to 64")));
        }
        let kind = paint.inpaint_fill.as_deref().map_or(Ok(Fill::default()), Fill::parse)?;
        let (picture, _) = read_picture(path, Limits::default())?;
        let drawn = self.mask(mask, &picture)?;
        let settings = MaskSettings {
            blur,
            invert: paint.mask_invert,
            only_masked: paint.only_masked.then(|| paint.only_masked_padding.unwrap_or(PADDING)),
            hash: short_hash(mask)?,
        };
        let mut start = if let Some(padding) = settings.only_masked {
            self.masked_part(&picture, &drawn.blurred(blur), padding, model, settings)?
        } else {
            self.whole_picture(&picture, &drawn, settings)?
        };
        if let (Some(init), Some(inpaint)) = (&mut start.init, &mut start.inpaint) {
            (inpaint.fill, inpaint.soft) = (kind, paint.soft_mask);
            if kind != Fill::Original {
                init.image = fill(&init.image, &inpaint.mask);
            }
        }
        Ok(start)
    }

    /// Reads the mask and brings it to the picture's size.
    fn mask(&self, path: &Path, picture: &Image) -> Result<Mask> {
        let mut mask = read_mask(path, Limits::default())?;
        if self.inpaint.mask_invert {
            mask = mask.inverted();
        }
        let (own, size) = ((mask.width, mask.height), (picture.width, picture.height));
        if own != size {
            let words = format!("{}: the mask is {}x{}, the picture {}x{}", shown(path), own.0, own.1, size.0, size.1);
            // Half a pixel of the smaller side may have been rounded away.
            let skew = (own.0 as f64 * size.1 as f64 - own.1 as f64 * size.0 as f64).abs();
            if skew > own.0.max(own.1).max(size.0).max(size.1) as f64 {
                return Err(Error::usage(format!("{words}, in other proportions; draw the mask on the picture")));
            }
            eprintln!("note: {words}; the mask is resized");
            mask = mask.resized(size);
        }
        if mask.is_black() {
            let colour = if self.inpaint.mask_invert { "white, and --mask-invert is given" } else { "black" };
            let remedy = "paint what shall become new white, or try --mask-invert";
            return Err(Error::usage(format!(
                "{}: there is nothing to repaint: the mask is all {colour}; {remedy}",
                shown(path)
            )));
        }
        Ok(mask)
    }

    /// All of the picture, in the size of `-W` and `-H`.
    fn whole_picture(&self, picture: &Image, mask: &Mask, settings: MaskSettings) -> Result<Start> {
        let hint = |e: Error| Error::usage(format!("{e}, or --only-masked, which keeps the picture's size"));
        let init = self.fitted(picture).map_err(hint)?;
        // The same way as the picture.
        let padded = (init.image.width, init.image.height);
        let mask = mask.changed(|m| window(&fit(m, init.size, init.mode), (0, 0), padded)).blurred(settings.blur);
        let region = Region::whole(init.size);
        let mut overlay = mask.cut(region);
        overlay.values.iter_mut().for_each(|v| *v = v.saturating_mul(2));
        let overlay = Some(Overlay { picture: init.cropped(init.image.clone()), mask: overlay, region });
        let inpaint = Inpaint { mask, soft: false, fill: Fill::Original, overlay, settings };
        Ok(Start { init: Some(init), inpaint: Some(inpaint), ..Start::default() })
    }

    /// The masked part and what is around it, brought to the size of `-W` and `-H`.
    fn masked_part(
        &self,
        picture: &Image,
        mask: &Mask,
        padding: usize,
        model: &Model,
        settings: MaskSettings,
    ) -> Result<Start> {
        let (full, own) = ((picture.width, picture.height), model.defaults.size);
        let size = (self.width.unwrap_or(own), self.height.unwrap_or(own));
        let step = |side: usize| side.is_multiple_of(8) && (SIZES.0..=SIZES.1).contains(&side);
        if !step(size.0) || !step(size.1) {
            let (w, h) = size;
            let rule = format!("-W and -H are multiples of 8 from {} to {}", SIZES.0, SIZES.1);
            return Err(Error::usage(format!("--only-masked cannot work in {w}x{h} pixels: {rule}")));
        }
        let bounds = mask.bounds().unwrap_or(Region::whole(full));
        let region = bounds.grown(padding, full).expanded(size, full);
        let at = (region.x as isize, region.y as isize);
        let part = window(picture, at, (region.width, region.height));
        let image = fit(&part, size, ResizeMode::Just);
        let init = Init { image, size, hash: self.picture_hash()?, mode: ResizeMode::default() };
        let overlay = Some(Overlay { picture: picture.clone(), mask: mask.clone(), region });
        let mask = mask.cut(region).resized(size);
        let inpaint = Inpaint { mask, soft: false, fill: Fill::Original, overlay, settings };
        Ok(Start { init: Some(init), inpaint: Some(inpaint), size: Some(size), ..Start::default() })
    }

    fn outpainted(&self, sides: Sides, model: &Model) -> Result<Start> {
        let Some(path) = &self.init_img else {
            return Err(Error::usage("--outpaint needs a picture to go on from: give that with -i"));
        };
        let (picture, _) = read_picture(path, Limits::default())?;
        let picture = self.fitted(&picture)?;
        let full = sides.grown(picture.size);
        if full.0.max(full.1) > SIZES.1 {
            let ((w, h), (pw, ph)) = (full, picture.size);
            return Err(Error::usage(format!(
                "--outpaint {sides}: the picture of {pw}x{ph} would become {w}x{h}, and {} is the longest side; ask for \
                 less, or make it smaller with -W or -H",
                SIZES.1
            )));
        }
        let size = window_size(full, model.defaults.size, SIZES.0);
        let strength = Some(if told(model) { 1.0 } else { OUTPAINT_STRENGTH });
        let guidance = (model.defaults.size < SMALL).then(|| model.defaults.guidance.min(SMALL_GUIDANCE));
        let outpaint = Some(Outpaint { picture, sides });
        Ok(Start { outpaint, size: Some(size), strength, guidance, ..Start::default() })
    }

    pub(super) fn picture_hash(&self) -> Result<String> {
        self.init_img.as_deref().map_or(Ok(String::new()), short_hash)
    }
}

/// The strength of outpainting with a model that knows nothing of masks: some of the filled colours stay.
const OUTPAINT_STRENGTH: f32 = 0.8;

/// A model for pictures smaller than this is given a guidance of at most that: the model in the binary, which needs 6
/// to draw well from nothing, leaves blotches beside a given picture with more than 2.
const SMALL: usize = 256;
const SMALL_GUIDANCE: f32 = 2.0;

/// What metadata call a file.
fn short_hash(path: &Path) -> Result<String> {
    Ok(sha256_file(path, &AtomicBool::new(false))?.chars().take(10).collect())
}
