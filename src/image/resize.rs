//! A picture and a size go in, the picture in that size comes out.

use super::Image;
use crate::error::{Error, Result, escape};
use std::f64::consts::PI;

/// What happens where the proportions of picture and size differ (`--resize-mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResizeMode {
    /// Stretched.
    Just,
    /// Scaled to cover the size; what sticks out is cut off on both sides alike.
    #[default]
    Crop,
    /// Scaled to fit into the size; the bands beside it repeat its edge.
    Fill,
}

impl ResizeMode {
    /// Reads `just | crop | fill`, or the webui's numbers 0, 1 and 2.
    ///
    /// # Errors
    /// Usage, with what there is.
    pub fn parse(name: &str) -> Result<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "just" | "just resize" | "0" => Ok(Self::Just),
            "crop" | "crop and resize" | "1" => Ok(Self::Crop),
            "fill" | "resize and fill" | "2" => Ok(Self::Fill),
            _ => Err(Error::usage(format!("unknown resize mode '{}': use just, crop or fill", escape(name)))),
        }
    }

    /// The name that [`ResizeMode::parse`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Just => "just",
            Self::Crop => "crop",
            Self::Fill => "fill",
        }
    }
}

/// The picture in a size of `width` x `height`; one that has it already is not touched.
pub fn fit(image: &Image, (width, height): (usize, usize), mode: ResizeMode) -> Image {
    let (w, h) = (image.width.max(1), image.height.max(1));
    if (w, h) == (width, height) {
        return image.clone();
    }
    let scales = (width as f64 / w as f64, height as f64 / h as f64);
    let scale = match mode {
        ResizeMode::Just => return resample(image, (width, height)),
        ResizeMode::Crop => scales.0.max(scales.1),
        ResizeMode::Fill => scales.0.min(scales.1),
    };
    let side = |n: usize, full: usize| {
        let scaled = ((n as f64 * scale).round() as usize).max(1);
        if mode == ResizeMode::Crop { scaled.max(full) } else { scaled.min(full) }
    };
    let scaled = resample(image, (side(w, width), side(h, height)));
    let offset = |have: usize, want: usize| (have as isize - want as isize) / 2;
    window(&scaled, (offset(scaled.width, width), offset(scaled.height, height)), (width, height))
}

/// The part of a picture from `(x, y)` on, `width` x `height`; outside of the picture its edge is repeated.
pub fn window(image: &Image, (x, y): (isize, isize), (width, height): (usize, usize)) -> Image {
    let inside = |i: isize, n: usize| i.clamp(0, n as isize - 1) as usize;
    let mut rgb = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        let row = inside(y + row as isize, image.height) * image.width;
        for column in 0..width {
            let at = (row + inside(x + column as isize, image.width)) * 3;
            rgb.extend_from_slice(&image.rgb[at..at + 3]);
        }
    }
    Image { width, height, rgb }
}

/// Lanczos with three lobes, made wider where the picture shrinks; along the rows
/// first, rounded, then along the columns.
///
/// Source: Turkowski, "Filters for common resampling tasks" (Graphics Gems, 1990); the order and the rounding in
/// between are Pillow's.
fn resample(image: &Image, (width, height): (usize, usize)) -> Image {
    let rgb = lanczos(&image.rgb, 3, (image.width, image.height), (width, height));
    Image { width, height, rgb }
}

/// A channel's value as a file stores it.
pub trait Level: Copy + Default {
    /// What is brightest.
    const TOP: f32;

    /// The number.
    fn value(self) -> f32;

    /// The nearest level, at most the brightest.
    fn nearest(value: f32) -> Self;
}

impl Level for u8 {
    const TOP: f32 = 255.0;

    fn value(self) -> f32 {
        f32::from(self)
    }

    fn nearest(value: f32) -> Self {
        (value + 0.5).clamp(0.0, Self::TOP) as Self
    }
}

impl Level for u16 {
    const TOP: f32 = 65_535.0;

    fn value(self) -> f32 {
        f32::from(self)
    }

    fn nearest(value: f32) -> Self {
        (value + 0.5).clamp(0.0, Self::TOP) as Self
    }
}

/// Pixels of `channels` samples in another size; nothing of nothing is white.
pub fn lanczos<T: Level>(
    samples: &[T],
    channels: usize,
    (from_width, from_height): (usize, usize),
    (width, height): (usize, usize),
) -> Vec<T> {
    let horizontal = Taps::new(from_width, width);
    let mut rows = vec![T::default(); width * from_height * channels];
    if rows.is_empty() || samples.is_empty() {
        return vec![T::nearest(T::TOP); width * height * channels];
    }
    let (from, to) = (samples.chunks_exact(from_width * channels), rows.chunks_exact_mut(width * channels));
    for (row, out) in from.zip(to) {
        for (x, pixel) in out.chunks_exact_mut(channels).enumerate() {
            let (first, weights) = horizontal.at(x);
            for (c, value) in pixel.iter_mut().enumerate() {
                let row = row[first * channels + c..].iter().step_by(channels);
                *value = T::nearest(weights.iter().zip(row).map(|(w, v)| w * v.value()).sum());
            }
        }
    }
    let vertical = Taps::new(from_height, height);
    let mut all = vec![T::default(); width * height * channels];
    let mut sums = vec![0.0; width * channels];
    for (y, out) in all.chunks_exact_mut(width * channels).enumerate() {
        let (first, weights) = vertical.at(y);
        sums.fill(0.0);
        let from = rows[first * width * channels..].chunks_exact(width * channels);
        for (weight, row) in weights.iter().zip(from) {
            sums.iter_mut().zip(row).for_each(|(s, v)| *s += weight * v.value());
        }
        out.iter_mut().zip(&sums).for_each(|(o, s)| *o = T::nearest(*s));
    }
    all
}

/// For each place of a side, the first place of the other side that it is made of, and the weights.
struct Taps {
    first: Vec<usize>,
    weights: Vec<f32>,
    ends: Vec<usize>,
}

impl Taps {
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = 3.0 * stretch;
        let mut out = Self { first: Vec::new(), weights: Vec::new(), ends: vec![0] };
        for i in 0..to {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(from);
            let weights: Vec<f64> = (first..last).map(|x| lobes((x as f64 - center + 0.5) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            out.first.push(first);
            out.weights.extend(weights.iter().map(|w| (w / sum) as f32));
            out.ends.push(out.weights.len());
        }
        out
    }

    fn at(&self, i: usize) -> (usize, &[f32]) {
        (self.first[i], &self.weights[self.ends[i]..self.ends[i + 1]])
    }
}

fn lobes(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
    if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, values: &[u8]) -> Image {
        Image { width, height: values.len() / width, rgb: values.iter().flat_map(|&v| [v; 3]).collect() }
    }

    #[test]
    fn constants_stay_constant() {
        let image = grey(37, &[93; 37 * 21]);
        for size in [(1, 1), (8, 200), (37, 21), (64, 5), (300, 300)] {
            for mode in [ResizeMode::Just, ResizeMode::Crop, ResizeMode::Fill] {
                let out = fit(&image, size, mode);
                assert_eq!((out.width, out.height), size);
                assert!(out.rgb.iter().all(|v| *v == 93), "{size:?} {mode:?}");
            }
        }
    }

    #[test]
    fn a_ramp_stays_a_ramp() {
        let values: Vec<u8> = (0..16 * 16).map(|i| (i % 16 * 16) as u8).collect();
        let out = fit(&grey(16, &values), (32, 32), ResizeMode::Just);
        for x in 6..26 {
            // Place x of 32 lies at (x + 0.5) / 2 - 0.5 of 16.
            let want = ((x as f64 + 0.5) / 2.0 - 0.5) * 16.0;
            let have = f64::from(out.rgb[(16 * 32 + x) * 3]);
            assert!((have - want).abs() < 2.0, "{x}: {have} for {want}");
        }
        let half = fit(&out, (16, 16), ResizeMode::Just);
        assert!(half.rgb.iter().zip(&grey(16, &values).rgb).all(|(a, b)| a.abs_diff(*b) < 8));
    }

    #[test]
    fn modes_keep_or_lose_the_sides() {
        // A wide picture: black, white, black.
        let row: Vec<u8> = (0..48).map(|x| if (16..32).contains(&x) { 255 } else { 0 }).collect();
        let image = grey(48, &row.repeat(16));
        let middle = |i: &Image, x: usize| i.rgb[(i.height / 2 * i.width + x) * 3];
        let crop = fit(&image, (16, 16), ResizeMode::Crop);
        assert!((2..14).all(|x| middle(&crop, x) > 250));
        let just = fit(&image, (16, 16), ResizeMode::Just);
        assert!(middle(&just, 2) < 9 && middle(&just, 8) > 246 && middle(&just, 13) < 9);
        let tall = grey(16, &(0..48 * 16).map(|i| if i / 16 < 24 { 10 } else { 240 }).collect::<Vec<_>>());
        let fill = fit(&tall, (48, 48), ResizeMode::Fill);
        assert!(fill.rgb[0] == 10 && fill.rgb[47 * 3] == 10 && fill.rgb[47 * 48 * 3] == 240);
        let window = window(&grey(2, &[1, 2, 3, 4]), (-1, 0), (4, 3));
        let values: Vec<u8> = window.rgb.iter().step_by(3).copied().collect();
        assert_eq!(values, [1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]);
    }

    #[test]
    fn names_of_modes() {
        for mode in [ResizeMode::Just, ResizeMode::Crop, ResizeMode::Fill] {
            assert_eq!(ResizeMode::parse(mode.name()).unwrap(), mode);
        }
        assert!(ResizeMode::parse("latent").is_err());
    }
}
