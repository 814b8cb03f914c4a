//! A mask's file goes in; where to paint, blurred, cut and in the size of the latents, comes out.

use super::read::read_layers;
use super::resize::{ResizeMode, fit};
use super::{Image, PictureLimits};
use crate::error::Result;
use std::path::Path;

/// Where to paint: 255 anew, 0 not at all, row by row from the top.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` levels.
    pub values: Vec<u8>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask {}x{}", self.width, self.height)
    }
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Left.
    pub x: usize,
    /// Top.
    pub y: usize,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
}

/// Reads a mask: where its alpha varies, alpha above 128 is painted anew; otherwise its brightness counts. With it
/// comes the sha256 of its file.
pub fn read_mask(path: &Path, limits: PictureLimits) -> Result<(Mask, String)> {
    let (image, alpha, sha256) = read_layers(path, limits)?;
    if let Some(alpha) = alpha.filter(|a| a.iter().any(|v| *v != a[0])) {
        let values = alpha.iter().map(|a| if *a > 128 { 255 } else { 0 }).collect();
        return Ok((Mask { width: image.width, height: image.height, values }, sha256));
    }
    Ok((Mask::of(&image), sha256))
}

impl Mask {
    /// One value everywhere.
    pub fn filled(width: usize, height: usize, value: u8) -> Self {
        Self { width, height, values: vec![value; width * height] }
    }

    /// The brightness of a picture (ITU-R 601, in Pillow's 16-bit arithmetic).
    pub fn of(image: &Image) -> Self {
        let level = |p: &[u8]| {
            let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
            ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
        };
        let values = image.rgb.chunks_exact(3).map(level).collect();
        Self { width: image.width, height: image.height, values }
    }

    /// As a grey picture.
    pub fn image(&self) -> Image {
        let rgb = self.values.iter().flat_map(|v| [*v; 3]).collect();
        Image { width: self.width, height: self.height, rgb }
    }

    /// What a change of pictures does to a mask.
    #[must_use]
    pub fn changed(&self, change: impl FnOnce(&Image) -> Image) -> Self {
        let image = change(&self.image());
        Self { width: image.width, height: image.height, values: image.rgb.iter().step_by(3).copied().collect() }
    }

    /// Stretched to a size.
    #[must_use]
    pub fn resized(&self, size: (usize, usize)) -> Self {
        if size == (self.width, self.height) {
            return self.clone();
        }
        self.changed(|image| fit(image, size, ResizeMode::Just))
    }

    /// Black for white.
    #[must_use]
    pub fn inverted(mut self) -> Self {
        self.values.iter_mut().for_each(|v| *v = 255 - *v);
        self
    }

    /// Whether there is nothing to paint.
    pub fn is_black(&self) -> bool {
        self.values.iter().all(|v| *v == 0)
    }

    /// A Gaussian of deviation `sigma` over each axis, cut off as the webui does: `2 int(2.5 sigma + 0.5) + 1` pixels.
    #[must_use]
    pub fn blurred(&self, sigma: usize) -> Self {
        if sigma == 0 || self.values.is_empty() {
            return self.clone();
        }
        let reach = (2.5 * sigma as f64 + 0.5) as isize;
        let gauss = |i: isize| (-((i * i) as f64) / (2.0 * (sigma * sigma) as f64)).exp();
        let sum: f64 = (-reach..=reach).map(gauss).sum();
        let taps: Vec<f32> = (-reach..=reach).map(|i| (gauss(i) / sum) as f32).collect();
        let rows = self.convolved(&taps, reach, (self.width, 1), (self.height, self.width));
        rows.convolved(&taps, reach, (self.height, self.width), (self.width, 1))
    }

    /// Along one axis of length and stride `along`, for each place of the other; beyond
    /// the edge the picture is mirrored.
    fn convolved(&self, taps: &[f32], reach: isize, along: (usize, usize), across: (usize, usize)) -> Self {
        let (n, stride) = along;
        let mirrored = |i: isize| {
            let period = (2 * n as isize - 2).max(1);
            let i = i.rem_euclid(period);
            if i < n as isize { i } else { period - i }
        };
        let mut out = self.clone();
        for line in 0..across.0 {
            let start = line * across.1;
            for i in 0..n {
                let value = |k: usize| {
                    f32::from(self.values[start + mirrored(i as isize + k as isize - reach) as usize * stride])
                };
                let sum: f32 = taps.iter().enumerate().map(|(k, t)| t * value(k)).sum();
                out.values[start + i * stride] = (sum + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
        out
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        self.values.len() as u64
    }

    /// The smallest region with all that is not black.
    pub fn bounds(&self) -> Option<Region> {
        let row = |y: usize| &self.values[y * self.width..(y + 1) * self.width];
        let used = |y: &usize| row(*y).iter().any(|v| *v > 0);
        let (top, bottom) = ((0..self.height).find(used)?, (0..self.height).rev().find(used)?);
        let painted = |x: &usize| (top..=bottom).any(|y| row(y)[*x] > 0);
        let (left, right) = ((0..self.width).find(painted)?, (0..self.width).rev().find(painted)?);
        Some(Region { x: left, y: top, width: right + 1 - left, height: bottom + 1 - top })
    }

    /// The part in a region that lies inside.
    #[must_use]
    pub fn cut(&self, region: Region) -> Self {
        let rows = self.values.chunks_exact(self.width.max(1)).skip(region.y).take(region.height);
        let values = rows.flat_map(|row| &row[region.x..region.x + region.width]).copied().collect();
        Self { width: region.width, height: region.height, values }
    }

    /// In the size of the latents, 0 to 1. `soft` keeps what lies between; otherwise it is rounded.
    ///
    /// The reduction is bicubic, as the webui's. A mask so thin that rounding leaves nothing of it paints every latent
    /// that it touches instead.
    pub fn latents(&self, (h, w): (usize, usize), soft: bool) -> Vec<f32> {
        let source: Vec<f32> = self.values.iter().map(|v| f32::from(*v) / 255.0).collect();
        let narrow = shrunk(&source, self.width, self.height, w);
        let turned = shrunk(&transposed(&narrow, w), self.height, w, h);
        let mut small: Vec<f32> = transposed(&turned, h).iter().map(|v| v.clamp(0.0, 1.0)).collect();
        if !soft {
            small.iter_mut().for_each(|v| *v = v.round_ties_even());
        }
        if small.iter().all(|v| *v < 0.5) && !self.is_black() {
            self.touched(&mut small, (h, w));
        }
        small
    }

    /// Sets the latents over any pixel that is not black.
    fn touched(&self, small: &mut [f32], (h, w): (usize, usize)) {
        for (i, _) in self.values.iter().enumerate().filter(|(_, v)| **v > 0) {
            let (y, x) = (i / self.width * h / self.height, i % self.width * w / self.width);
            small[y * w + x] = 1.0;
        }
    }
}

fn transposed(values: &[f32], width: usize) -> Vec<f32> {
    (0..width).flat_map(|x| values.iter().skip(x).step_by(width)).copied().collect()
}

/// Rows of `from` values to rows of `to`: bicubic with a = -1/2, wider where it shrinks (Pillow's `BICUBIC`).
fn shrunk(values: &[f32], from: usize, rows: usize, to: usize) -> Vec<f32> {
    let scale = from as f64 / to.max(1) as f64;
    let stretch = scale.max(1.0);
    let cubic = |x: f64| match x.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    };
    let mut out = Vec::with_capacity(rows * to);
    for row in values.chunks_exact(from.max(1)) {
        for i in 0..to {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - 2.0 * stretch + 0.5).max(0.0) as usize;
            let last = ((center + 2.0 * stretch + 0.5) as usize).min(from);
            let (mut sum, mut weights) = (0.0, 0.0);
            for (x, v) in row.iter().enumerate().take(last).skip(first) {
                let weight = cubic((x as f64 - center + 0.5) / stretch);
                sum += weight * f64::from(*v);
                weights += weight;
            }
            out.push((sum / weights) as f32);
        }
    }
    out
}

impl Region {
    /// All of a picture.
    pub fn whole((width, height): (usize, usize)) -> Self {
        Self { x: 0, y: 0, width, height }
    }

    /// Larger by `padding` on every side, as far as the picture reaches.
    #[must_use]
    pub fn grown(self, padding: usize, (width, height): (usize, usize)) -> Self {
        let (x, y) = (self.x.saturating_sub(padding), self.y.saturating_sub(padding));
        let right = self.x.saturating_add(self.width).saturating_add(padding).min(width);
        let bottom = self.y.saturating_add(self.height).saturating_add(padding).min(height);
        Self { x, y, width: right - x, height: bottom - y }
    }

    /// Larger on one axis, so that its proportions become those of `like`, as far as the picture reaches.
    #[must_use]
    pub fn expanded(self, like: (usize, usize), (width, height): (usize, usize)) -> Self {
        let ratio = like.0 as f64 / like.1.max(1) as f64;
        let stretch = |start: usize, length: usize, wanted: f64, most: usize| {
            let wanted = (wanted as usize).clamp(length, most);
            let start = start.saturating_sub((wanted - length) / 2).min(most - wanted);
            (start, wanted)
        };
        if self.width as f64 / self.height.max(1) as f64 > ratio {
            let (y, height) = stretch(self.y, self.height, self.width as f64 / ratio, height);
            Self { y, height, ..self }
        } else {
            let (x, width) = stretch(self.x, self.width, self.height as f64 * ratio, width);
            Self { x, width, ..self }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(size: usize, inner: std::ops::Range<usize>) -> Mask {
        let value = |i: usize| inner.contains(&(i % size)) && inner.contains(&(i / size));
        Mask { width: size, height: size, values: (0..size * size).map(|i| if value(i) { 255 } else { 0 }).collect() }
    }

    #[test]
    fn a_blur_reaches_as_far_as_its_kernel() {
        let mask = square(64, 28..36).blurred(4);
        assert!(mask.bounds().is_some_and(|b| b.x >= 18 && b.width <= 28 && b.width > 20), "{:?}", mask.bounds());
        assert!(Mask::filled(9, 5, 255).blurred(4).values.iter().all(|v| *v == 255));
        assert_eq!(square(64, 28..36).blurred(0), square(64, 28..36));
        assert_eq!(Mask::filled(1, 1, 7).blurred(9).values, [7]);
    }

    #[test]
    fn latents_are_rounded_or_soft() {
        let mask = square(64, 16..48);
        let hard = mask.latents((8, 8), false);
        let painted: Vec<usize> = (0..64).filter(|i| hard[*i] == 1.0).collect();
        assert_eq!(painted.len(), 16);
        assert!(painted.iter().all(|i| (2..6).contains(&(i % 8)) && (2..6).contains(&(i / 8))));
        let soft = mask.blurred(4).latents((8, 8), true);
        assert!(soft.iter().any(|v| *v > 0.05 && *v < 0.95));
        // A line of one pixel.
        let thin = square(64, 20..21).latents((8, 8), false);
        assert_eq!(thin.iter().sum::<f32>(), 1.0);
        assert_eq!(thin[2 * 8 + 2], 1.0);
        assert!(Mask::filled(64, 64, 0).latents((8, 8), false).iter().all(|v| *v == 0.0));
    }

    #[test]
    fn regions_stay_inside() {
        let r = Region { x: 10, y: 20, width: 30, height: 10 };
        assert_eq!(r.grown(15, (100, 40)), Region { x: 0, y: 5, width: 55, height: 35 });
        assert_eq!(r.expanded((64, 64), (100, 40)), Region { x: 10, y: 10, width: 30, height: 30 });
        assert_eq!(r.expanded((64, 64), (100, 25)), Region { x: 10, y: 0, width: 30, height: 25 });
        assert_eq!(r.expanded((128, 16), (100, 40)), Region { x: 0, y: 20, width: 80, height: 10 });
    }
}
