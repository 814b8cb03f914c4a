//! A picture to begin with goes in, the latents that the sampler starts from come out.

use super::Stages;
use crate::error::{Error, Remedy, Result};
use crate::image::Image;
use crate::image::resize::{ResizeMode, fit, window};
use crate::tensor::{Shape, Tensor};

/// Sides of latents are whole, so those of a picture are multiples of this.
const STEP: usize = 8;

/// The picture that img2img begins with, in a size that the model can take.
#[derive(Clone, Debug)]
pub struct Init {
    /// The picture, its right and lower edge repeated up to a multiple of 8.
    pub image: Image,
    /// The size without that: what the result is cut back to.
    pub size: (usize, usize),
    /// What metadata call the file: the first ten digits of its sha256.
    pub hash: String,
    /// How it was brought to its size.
    pub mode: ResizeMode,
}

impl Init {
    /// Brings a picture to `width` x `height` (its own where none is given).
    ///
    /// # Errors
    /// Usage: a size outside of `sizes`, with one that keeps the picture's proportions.
    pub fn new(
        picture: &Image,
        (width, height): (Option<usize>, Option<usize>),
        mode: ResizeMode,
        hash: String,
        sizes: (usize, usize),
    ) -> Result<Self> {
        let (own_width, own_height) = (picture.width.max(1), picture.height.max(1));
        let size = match (width, height) {
            (None, None) => (own_width, own_height),
            // One side alone keeps the proportions.
            (Some(w), None) => (w, (w as f64 * own_height as f64 / own_width as f64).round() as usize),
            (None, Some(h)) => ((h as f64 * own_width as f64 / own_height as f64).round() as usize, h),
            (Some(w), Some(h)) => (w, h),
        };
        let padded = (size.0.next_multiple_of(STEP), size.1.next_multiple_of(STEP));
        let possible = |side: usize| (sizes.0..=sizes.1).contains(&side);
        if !possible(padded.0) || !possible(padded.1) {
            let (w, h) = size;
            let (near_w, near_h) = nearest((own_width, own_height), sizes);
            let (least, most) = sizes;
            let message = format!("the picture would be {w}x{h}: sides go from {least} to {most} pixels");
            return Err(Error::usage(message).try_this(Remedy::Size { width: near_w, height: near_h }));
        }
        let fitted = fit(picture, size, mode);
        let image = if padded == size { fitted } else { window(&fitted, (0, 0), padded) };
        Ok(Self { image, size, hash, mode })
    }

    /// A result without the edges that were added.
    pub fn cropped(&self, image: Image) -> Image {
        if (image.width, image.height) == self.size { image } else { window(&image, (0, 0), self.size) }
    }
}

/// A possible size in the proportions of a picture, 512 pixels or a little more at the shorter side.
fn nearest((w, h): (usize, usize), sizes: (usize, usize)) -> (usize, usize) {
    let scale = 512.0 / w.min(h) as f64;
    let side = |n: usize| ((n as f64 * scale / 64.0).round() as usize * 64).clamp(sizes.0, sizes.1);
    (side(w), side(h))
}

/// Pixels to latents `[c, h, w]`: the mean of the VAE's distribution, scaled.
pub fn encode(stages: &dyn Stages, image: &Image) -> Result<Vec<f32>> {
    let values = image.rgb.iter().map(|v| f32::from(*v) / 127.5 - 1.0).collect();
    encode_values(stages, (image.height, image.width), values)
}

/// [`encode`] of values `[h, w, 3]` from -1 to 1.
pub fn encode_values(stages: &dyn Stages, (h, w): (usize, usize), values: Vec<f32>) -> Result<Vec<f32>> {
    let moments = stages.encode(Tensor::new(Shape::new(1, h, w, 3), values)?)?;
    let kind = stages.model().networks.latents();
    let latents = kind.to_sampler(&mean(&moments, kind.channels));
    match latents.iter().all(|v| v.is_finite()) {
        true => Ok(latents),
        false => Err(Error::new(
            crate::Kind::NonFinite { stage: "encode".into() },
            "the latents of the picture hold a NaN or an infinity",
        )
        .at("encode")
        .try_this(Remedy::OtherVae)),
    }
}

/// The first `channels` of moments `[1, h, w, 2 channels]`, as `[c, h, w]`.
pub fn mean(moments: &Tensor, channels: usize) -> Vec<f32> {
    let shape = moments.shape();
    let mut mean = moments.to_nchw();
    mean.truncate(shape.pixels() * channels.min(shape.c));
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Image {
        Image { width, height, rgb: (0..width * height * 3).map(|i| (i * 31 % 251) as u8).collect() }
    }

    fn init(size: (usize, usize), asked: (Option<usize>, Option<usize>)) -> Result<Init> {
        Init::new(&picture(size.0, size.1), asked, ResizeMode::Crop, String::new(), (64, 2048))
    }

    #[test]
    fn sizes_follow_the_picture() {
        let own = init((100, 70), (None, None)).unwrap();
        assert_eq!((own.size, own.image.width, own.image.height), ((100, 70), 104, 72));
        // Nothing but the edges is added, and they go away again.
        assert_eq!(own.cropped(own.image.clone()), picture(100, 70));
        assert_eq!(&own.image.rgb[99 * 3..100 * 3], &own.image.rgb[103 * 3..104 * 3]);
        assert_eq!(init((100, 50), (Some(200), None)).unwrap().size, (200, 100));
        assert_eq!(init((100, 50), (None, Some(100))).unwrap().size, (200, 100));
        assert_eq!(init((100, 50), (Some(64), Some(65))).unwrap().image.height, 72);
    }

    #[test]
    fn impossible_sizes_come_with_a_possible_one() {
        let message = |size, asked| init(size, asked).unwrap_err().to_string();
        assert!(message((4000, 3000), (None, None)).contains("try 704x512"));
        assert!(message((40, 40), (None, None)).contains("try 512x512"));
        assert!(message((100, 50), (Some(9), None)).contains("9x5"));
        assert!(message((1, 5000), (None, None)).contains("try 512x2048"));
    }

    #[test]
    fn the_mean_is_the_first_half() {
        let moments = Tensor::new(Shape::new(1, 1, 2, 4), (0..8).map(|v| v as f32).collect()).unwrap();
        assert_eq!(mean(&moments, 2), [0.0, 4.0, 1.0, 5.0]);
    }
}
