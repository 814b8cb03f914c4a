//! An order with a mask or with sides that grow goes in, and a model; picture, mask and windows of the request come
//! out.

use super::note::{Field, Objection, Phrase, phrase};
use super::order::Order;
use super::picture::{Found, Shelf, check_room, fitted, init, shown};
use crate::checkpoint::Model;
use crate::diffusion::img2img::Init;
use crate::diffusion::inpaint::{Fill, Inpaint, MaskSettings, Overlay, told};
use crate::diffusion::outpaint::{Outpaint, Sides, window_size};
use crate::diffusion::{SIZES, Start};
use crate::image::Image;
use crate::image::extend::fill;
use crate::image::mask::{Mask, Region};
use crate::image::resize::{ResizeMode, fit, window};
use std::path::Path;
use std::sync::Arc;

/// The blur, and the margin of the masked part, where none is asked for.
const BLUR: usize = 4;
const PADDING: usize = 32;

/// What a request begins with.
#[derive(Default)]
pub(super) struct Beginning {
    pub start: Start,
    /// The size, where it does not follow from the picture.
    pub size: Option<(usize, usize)>,
    /// The strength where none is asked for, if it is not img2img's.
    pub strength: Option<f32>,
    /// The guidance where none is asked for, if it is not the model's own.
    pub guidance: Option<f32>,
}

/// Gets the picture, and the mask.
///
/// # Errors
/// What keeps them from being read, or from being painted.
pub(super) fn begin(
    order: &Order,
    model: &Model,
    shelf: &dyn Shelf,
    notes: &mut Vec<Phrase>,
) -> Result<Beginning, Objection> {
    let job = Job { order, model, shelf };
    if let Some(sides) = order.outpaint {
        return job.outpainted(sides);
    }
    match &order.mask {
        Some(mask) => job.masked(mask, notes),
        None => {
            let start = init(order, shelf)?.map_or(Start::Noise, |init| Start::Picture(Arc::new(init)));
            Ok(Beginning { start, ..Beginning::default() })
        }
    }
}

/// A picture, which part of it is painted anew, and the size where it does not follow from the picture.
type Masked = (Init, Inpaint, Option<(usize, usize)>);

struct Job<'a> {
    order: &'a Order,
    model: &'a Model,
    shelf: &'a dyn Shelf,
}

impl Job<'_> {
    fn masked(&self, name: &Path, notes: &mut Vec<Phrase>) -> Result<Beginning, Objection> {
        let order = self.order;
        let Some(path) = &order.init_image else { return Err(order.check().err().unwrap_or_else(nothing)) };
        let kind = order.inpaint_fill.unwrap_or_default();
        let picture = self.shelf.picture(path)?;
        let (drawn, hash) = self.mask(name, &picture.pixels, notes)?;
        // A blur along rows and columns, and the mask that comes of it; the part that is worked on.
        check_room(self.shelf, path, picture.pixels.bytes() + 4 * drawn.bytes() + picture.pixels.bytes())?;
        let only = order.only_masked.unwrap_or_default();
        let settings = MaskSettings {
            blur: order.mask_blur.unwrap_or(BLUR),
            invert: order.mask_invert.unwrap_or_default(),
            only_masked: only.then(|| order.only_masked_padding.unwrap_or(PADDING)),
            hash,
        };
        let (mut init, mut inpaint, size) = match settings.only_masked {
            Some(padding) => self.masked_part(picture, &drawn.blurred(settings.blur), padding, settings)?,
            None => self.whole_picture(&picture, &drawn, settings)?,
        };
        (inpaint.fill, inpaint.soft) = (kind, order.soft_mask.unwrap_or_default());
        if kind != Fill::Original {
            init.image = fill(&init.image, &inpaint.mask);
        }
        let start = Start::Masked(Arc::new(init), Arc::new(inpaint));
        Ok(Beginning { start, size, ..Beginning::default() })
    }

    /// The mask in the picture's size, and its hash.
    fn mask(&self, path: &Path, picture: &Image, notes: &mut Vec<Phrase>) -> Result<(Mask, String), Objection> {
        let Found { pixels: mut mask, hash } = self.shelf.mask(path)?;
        let invert = self.order.mask_invert.unwrap_or_default();
        if invert {
            mask = mask.inverted();
        }
        let (own, size) = ((mask.width, mask.height), (picture.width, picture.height));
        if own != size {
            let words = format!("{}: the mask is {}x{}, the picture {}x{}", shown(path), own.0, own.1, size.0, size.1);
            // Half a pixel of the smaller side may have been rounded away.
            let skew = (own.0 as f64 * size.1 as f64 - own.1 as f64 * size.0 as f64).abs();
            if skew > own.0.max(own.1).max(size.0).max(size.1) as f64 {
                let why = format!("{words}, in other proportions; draw the mask on the picture");
                return Err(Objection::usage(why.into()));
            }
            notes.push(format!("{words}; the mask is resized").into());
            // As a grey picture of its own size, of the new width, of the new size.
            let (mw, mh, w, h) = (own.0 as u64, own.1 as u64, size.0 as u64, size.1 as u64);
            check_room(self.shelf, path, picture.bytes() + 4 * mw * mh + 3 * w * mh + 4 * w * h)?;
            mask = mask.resized(size);
        }
        if mask.is_black() {
            let begin = format!("{}: there is nothing to repaint: the mask is all ", shown(path));
            let remedy = "; paint what shall become new white, or try ";
            return Err(Objection::usage(match invert {
                true => phrase![begin, "white, and ", Field::MaskInvert, " is given", remedy, Field::MaskInvert],
                false => phrase![begin, "black", remedy, Field::MaskInvert],
            }));
        }
        Ok((mask, hash))
    }

    /// All of the picture, in the size that was asked for.
    fn whole_picture(&self, picture: &Found<Image>, mask: &Mask, settings: MaskSettings) -> Result<Masked, Objection> {
        let hint = |fault: Objection| {
            let sentence = fault.to_string();
            Objection::usage(phrase![sentence, ", or ", Field::OnlyMasked, ", which keeps the picture's size"])
        };
        let init = fitted(self.order, &picture.pixels, picture.hash.clone()).map_err(hint)?;
        // The same way as the picture.
        let padded = (init.image.width, init.image.height);
        let mask = mask.changed(|m| window(&fit(m, init.size, init.mode), (0, 0), padded)).blurred(settings.blur);
        let region = Region::whole(init.size);
        let mut overlay = mask.cut(region);
        overlay.values.iter_mut().for_each(|v| *v = v.saturating_mul(2));
        let overlay = Some(Overlay { picture: init.cropped(init.image.clone()), mask: overlay, region });
        let inpaint = Inpaint { mask, soft: false, fill: Fill::Original, overlay, settings };
        Ok((init, inpaint, None))
    }

    /// The masked part and what is around it, brought to the size that was asked for.
    fn masked_part(
        &self,
        picture: Found<Image>,
        mask: &Mask,
        padding: usize,
        settings: MaskSettings,
    ) -> Result<Masked, Objection> {
        let Found { pixels: picture, hash } = picture;
        let (full, own) = ((picture.width, picture.height), self.model.defaults.size);
        let size = (self.order.width.unwrap_or(own), self.order.height.unwrap_or(own));
        let bounds = mask.bounds().unwrap_or(Region::whole(full));
        let region = bounds.grown(padding, full).expanded(size, full);
        let at = (region.x as isize, region.y as isize);
        let part = window(&picture, at, (region.width, region.height));
        let image = fit(&part, size, ResizeMode::Just);
        let init = Init { image, size, hash, mode: ResizeMode::default() };
        let overlay = Some(Overlay { picture, mask: mask.clone(), region });
        let mask = mask.cut(region).resized(size);
        let inpaint = Inpaint { mask, soft: false, fill: Fill::Original, overlay, settings };
        Ok((init, inpaint, Some(size)))
    }

    fn outpainted(&self, sides: Sides) -> Result<Beginning, Objection> {
        let Some(path) = &self.order.init_image else { return Err(self.order.check().err().unwrap_or_else(nothing)) };
        let found = self.shelf.picture(path)?;
        let picture = fitted(self.order, &found.pixels, found.hash)?;
        let full = sides.grown(picture.size);
        if full.0.max(full.1) > SIZES.1 {
            let ((w, h), (pw, ph)) = (full, picture.size);
            return Err(Objection::usage(phrase![
                Field::Outpaint,
                format!(" {sides}: the picture of {pw}x{ph} would become {w}x{h}, and {} is the longest side", SIZES.1),
                "; ask for less, or make it smaller with ",
                Field::Width,
                " or ",
                Field::Height
            ]));
        }
        let own = &self.model.defaults;
        let size = window_size(full, own.size, SIZES.0);
        let strength = Some(if told(self.model) { 1.0 } else { OUTPAINT_STRENGTH });
        let guidance = (own.size < SMALL).then(|| own.guidance.min(SMALL_GUIDANCE));
        let start = Start::Grown(Arc::new(Outpaint { picture, sides }));
        Ok(Beginning { start, size: Some(size), strength, guidance })
    }
}

/// Of an order that was not checked before it was resolved.
fn nothing() -> Objection {
    Objection::usage("there is no picture to begin with".into())
}

/// The strength of outpainting with a model that knows nothing of masks: some of the filled colours stay.
const OUTPAINT_STRENGTH: f32 = 0.8;

/// A model for pictures smaller than this is given a guidance of at most that: the model in the binary, which needs 3
/// to draw well from nothing, leaves blotches beside a given picture with more than 2.
const SMALL: usize = 256;
const SMALL_GUIDANCE: f32 = 2.0;
