//! A picture and a mask go in; what sampler, U-Net and finished picture need of them comes out.
//!
//! A model of four channels knows nothing of masks: what is kept is mixed into its answers ([`Kept`], the webui's
//! recipe). An inpainting model has nine and is told mask and masked picture ([`UnetInputs`]), and nothing is mixed.

use super::denoise::guided::Masked;
use super::denoise::noise::Noise;
use super::denoise::plan::{Settings, Timetable};
use super::denoise::run::{self, Denoiser, EvaluationListener};
use super::{Request, Stages, Start, img2img};
use crate::checkpoint::Model;
use crate::error::{Error, Result, escape};
use crate::image::Image;
use crate::image::mask::{Mask, Region};
use crate::image::membrane::joined;
use crate::image::resize::{ResizeMode, fit, window};
use crate::models::unet::UnetInputs;

/// What is under the mask when the work begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// The colours around it.
    Fill,
    /// What was there.
    #[default]
    Original,
    /// Noise.
    LatentNoise,
    /// Zeros, which are a brownish grey.
    LatentNothing,
}

impl Fill {
    /// Reads `fill | original | latent-noise | latent-nothing`, the webui's words for them and its numbers.
    ///
    /// # Errors
    /// Usage, with what there is.
    pub fn parse(name: &str) -> Result<Self> {
        match name.trim().to_ascii_lowercase().replace([' ', '_'], "-").as_str() {
            "fill" | "0" => Ok(Self::Fill),
            "original" | "1" => Ok(Self::Original),
            "latent-noise" | "2" => Ok(Self::LatentNoise),
            "latent-nothing" | "3" => Ok(Self::LatentNothing),
            _ => Err(Error::of_option(
                "inpaint_fill",
                format!("'{}' is not known; use fill, original, latent-noise or latent-nothing", escape(name)),
            )),
        }
    }

    /// The webui's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Original => "original",
            Self::LatentNoise => "latent noise",
            Self::LatentNothing => "latent nothing",
        }
    }
}

/// How the mask was made: what metadata tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskSettings {
    /// Deviation of the blur, in pixels.
    pub blur: usize,
    /// Whether black is painted.
    pub invert: bool,
    /// The margin, where only the masked part was worked on.
    pub only_masked: Option<usize>,
    /// The first ten digits of the mask file's sha256.
    pub hash: String,
}

/// Which part of a picture is painted anew. The picture itself is in [`Start`], already filled.
#[derive(Clone, Debug)]
pub struct Inpaint {
    /// 255 is painted anew, in the request's size.
    pub mask: Mask,
    /// Whether latents at the border are mixed; otherwise each is either painted or kept.
    pub soft: bool,
    /// What is under the mask at the start.
    pub fill: Fill,
    /// How the result gets back into the picture; without, it is left as it is.
    pub overlay: Option<Overlay>,
    /// How the mask was made.
    pub settings: MaskSettings,
}

/// The picture that a result is laid into.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The original.
    pub picture: Image,
    /// How much of the result is seen, in the picture's size; where it is 0 the original is not touched.
    pub mask: Mask,
    /// Where in the picture the result belongs.
    pub region: Region,
}

impl Inpaint {
    /// Bytes that it holds, and those that [`Inpaint::finished`] and the file of its picture take at most beside them.
    pub fn bytes(&self) -> (u64, u64) {
        let Some(overlay) = &self.overlay else { return (self.mask.bytes(), 0) };
        let Overlay { picture, mask, region } = overlay;
        let part = (region.width * region.height) as u64;
        // The result, what was there and their mask in the region's size; a membrane over both: values, cells, their
        // numbers, and a third of that again for its smaller sizes; what comes of it.
        let joining = part * (3 + 3 + 1 + (12 + 1 + 8) * 4 / 3 + 3);
        let writing = picture.bytes() + Image::bytes_to_write(picture.width, picture.height);
        (self.mask.bytes() + picture.bytes() + mask.bytes(), joining.max(writing))
    }

    /// The finished picture: the result where it belongs, and the original, byte for byte, outside of the blurred mask.
    ///
    /// What encoding and decoding changed along the mask's border, a shift of colour mostly, is taken back inside
    /// ([`joined`]), so that it does not show where the two meet.
    pub fn finished(&self, result: Image) -> Image {
        let Some(overlay) = &self.overlay else { return result };
        let Region { x, y, width, height } = overlay.region;
        let part = fit(&result, (width, height), ResizeMode::Just);
        let old = window(&overlay.picture, (x as isize, y as isize), (width, height));
        let part = joined(&old, &part, &overlay.mask.cut(overlay.region), width.min(height) / 2);
        let mut out = overlay.picture.clone();
        for (row, pixels) in part.rgb.chunks_exact(width * 3).enumerate() {
            let first = (y + row) * out.width + x;
            let weights = &overlay.mask.values[first..first + width];
            let kept = &mut out.rgb[first * 3..(first + width) * 3];
            for ((kept, new), weight) in kept.chunks_exact_mut(3).zip(pixels.chunks_exact(3)).zip(weights) {
                let weight = u32::from(*weight);
                for (k, n) in kept.iter_mut().zip(new) {
                    *k = ((u32::from(*n) * weight + u32::from(*k) * (255 - weight) + 127) / 255) as u8;
                }
            }
        }
        out
    }
}

/// The sampling of a request: an inpainting model that may change everything begins with nothing but noise.
pub fn settings(request: &Request, model: &Model) -> Settings {
    let masked = matches!(request.start, Start::Masked(..) | Start::Grown(_));
    let everything = told(model) && masked && request.sampling.strength.is_some_and(|s| s >= 1.0);
    let strength = request.sampling.strength.filter(|_| !everything);
    Settings { strength, ..request.sampling.clone() }
}

/// Whether a model is an inpainting model: it takes a mask and a masked picture beside the latents.
pub fn told(model: &Model) -> bool {
    model.networks.inpaints()
}

/// What a request's pictures have in common before they are painted.
#[derive(Clone, Debug, Default)]
pub struct Painting {
    /// Latents of the picture to begin with.
    init: Option<Vec<f32>>,
    /// The mask for every latent.
    mask: Option<Vec<f32>>,
    fill: Fill,
    /// Whether what is kept is mixed in.
    mixed: bool,
    /// What the U-Net is told.
    pub inputs: UnetInputs,
}

impl Painting {
    /// Encodes what has to be encoded.
    pub fn new(stages: &dyn Stages, request: &Request) -> Result<Self> {
        let model = stages.model();
        let (h, w) = request.latent_size(model);
        let told = told(model);
        let begins = settings(request, model).strength.is_some();
        let init = request.start.init().filter(|_| begins || !told);
        let plane = request.start.inpaint().map(|i| i.mask.latents((h, w), i.soft));
        Ok(Self {
            init: init.map(|init| img2img::encode(stages, &init.image)).transpose()?,
            mask: plane.map(|plane| plane.repeat(model.networks.latents().channels)),
            fill: request.start.inpaint().map(|i| i.fill).unwrap_or_default(),
            mixed: !told,
            inputs: UnetInputs { masked: if told { Some(masked_picture(stages, request)?) } else { None } },
        })
    }

    /// The latents that `n` pictures begin with. `noise` is their first noise, once more: the webui draws it again too.
    pub fn start(&self, n: usize, noise: &mut dyn Noise) -> Result<Option<Vec<f32>>> {
        let Some(mut start) = self.init.as_ref().map(|init| init.repeat(n)) else { return Ok(None) };
        let Some(mask) = self.mask.as_ref().filter(|_| matches!(self.fill, Fill::LatentNoise | Fill::LatentNothing))
        else {
            return Ok(Some(start));
        };
        let mut drawn = vec![0.0; start.len()];
        if self.fill == Fill::LatentNoise {
            noise.next(&mut drawn)?;
        }
        for ((x, d), m) in start.iter_mut().zip(&drawn).zip(mask.iter().cycle()) {
            *x = *x * (1.0 - m) + d * m;
        }
        Ok(Some(start))
    }

    /// The mask of `n` pictures, where the sampler has to keep to it.
    pub fn mixed_mask(&self, n: usize) -> Option<Vec<f32>> {
        self.mask.as_ref().filter(|_| self.mixed).map(|mask| mask.repeat(n))
    }
}

/// Mask and latents of the picture without what is under it, `[5][h][w]`. With no mask, all is to be painted and the
/// picture is grey.
fn masked_picture(stages: &dyn Stages, request: &Request) -> Result<Vec<f32>> {
    let (h, w) = request.latent_size(stages.model());
    let (height, width) = (request.height, request.width);
    let Start::Masked(init, inpaint) = &request.start else {
        let grey = img2img::encode_values(stages, (height, width), vec![0.0; height * width * 3])?;
        return Ok([vec![1.0; h * w], grey].concat());
    };
    let painted: Vec<bool> = inpaint.mask.values.iter().map(|v| *v >= 128).collect();
    // The nearest pixel of each latent is the first of its square, as torch counts.
    let nearest = |i: usize| painted[(i / w * height / h) * width + i % w * width / w];
    let mut plane: Vec<f32> = (0..h * w).map(|i| if nearest(i) { 1.0 } else { 0.0 }).collect();
    if !plane.contains(&1.0) {
        plane = inpaint.mask.latents((h, w), false);
    }
    let value = |(i, v): (usize, &u8)| if painted[i / 3] { 0.0 } else { f32::from(*v) / 127.5 - 1.0 };
    let values = init.image.rgb.iter().enumerate().map(value).collect();
    Ok([plane, img2img::encode_values(stages, (height, width), values)?].concat())
}

/// What stays as it is while the rest is painted, each as long as the latents.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The picture's latents.
    pub init: &'a [f32],
    /// 1 is painted anew, 0 is kept.
    pub mask: &'a [f32],
}

/// [`run::sample`], with what is kept mixed into every answer and into the result.
pub fn sample(
    plan: &Timetable,
    (images, len): (usize, usize),
    start: Option<&[f32]>,
    kept: Option<Kept<'_>>,
    noise: &mut dyn Noise,
    denoiser: &mut dyn Denoiser,
    listener: &mut EvaluationListener<'_>,
) -> Result<Vec<f32>> {
    let Some(kept) = kept else { return run::sample(plan, (images, len), start, noise, denoiser, listener) };
    let mut masked = Masked::new(denoiser, kept.init, kept.mask, images)?;
    let mut x = run::sample(plan, (images, len), start, noise, &mut masked, listener)?;
    masked.blend(&mut x);
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_masked_is_not_touched() {
        let picture = Image { width: 5, height: 4, rgb: (0..60).collect() };
        let mut mask = Mask::filled(5, 4, 0);
        mask.values[7] = 255;
        mask.values[8] = 128;
        let region = Region { x: 1, y: 1, width: 3, height: 2 };
        let overlay = Some(Overlay { picture: picture.clone(), mask: mask.clone(), region });
        let inpaint = Inpaint { mask, soft: false, fill: Fill::Original, overlay, settings: MaskSettings::default() };
        // The decoder gives back what was not painted, first as it was and then a little too bright.
        for shift in [0, 9] {
            let mut result = window(&picture, (1, 1), (3, 2));
            result.rgb[3..9].fill(190);
            result.rgb.iter_mut().for_each(|v| *v += shift);
            let out = inpaint.finished(result);
            for i in 0..20 {
                let (old, new) = (&picture.rgb[i * 3..i * 3 + 3], &out.rgb[i * 3..i * 3 + 3]);
                match i {
                    7 => assert!(new.iter().all(|n| n.abs_diff(190) <= 4), "{shift}: {new:?}"),
                    8 => assert!(new.iter().zip(old).all(|(n, o)| n > o && *n < 190)),
                    _ => assert_eq!(new, old),
                }
            }
        }
    }

    #[test]
    fn names_of_fills() {
        for fill in [Fill::Fill, Fill::Original, Fill::LatentNoise, Fill::LatentNothing] {
            assert_eq!(Fill::parse(fill.name()).unwrap(), fill);
        }
        assert!(Fill::parse("latent").unwrap_err().to_string().contains("latent-nothing"));
    }
}
