//! A picture and how far each side shall grow go in; the larger picture comes out, with
//! the original in it byte for byte.
//!
//! One side after the other, a strip at a time: a window of the model's own size covers the strip and, for context, the
//! picture beside it. The strip is filled with colours and grain from there, painted like a masked part, and joined: a
//! cheapest cut ([`crate::image::cut`]) leaves out what breaks off at the border, and a membrane
//! ([`crate::image::membrane`]) takes up the rest of the step.

use super::img2img::Init;
use super::inpaint::{Fill, Inpaint, MaskSettings};
use super::prompt::Prompts;
use super::{Event, Listener, Request, Stages, Start, tell};
use crate::error::{Error, Result, escape};
use crate::image::Image;
use crate::image::cut::fitting;
use crate::image::extend::add_texture;
use crate::image::mask::Mask;
use crate::image::membrane::{continued, joined};
use crate::image::resize::{ResizeMode, window};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How far each side grows, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// To the left.
    pub left: usize,
    /// To the right.
    pub right: usize,
    /// Upwards.
    pub up: usize,
    /// Downwards.
    pub down: usize,
}

/// The names of the sides, in the order in which they are painted.
const NAMES: [&str; 4] = ["left", "right", "up", "down"];

impl Sides {
    /// Reads `left=128,right=64`; `top` and `bottom` are understood too.
    ///
    /// # Errors
    /// Usage: another word, no number, a side told twice, or nothing to do.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let text = escape(text);
            Error::of_option(
                "outpaint",
                format!("{text}: {why}; write left=128,right=64 (sides: left, right, up, down)"),
            )
        };
        let mut sides = [None; 4];
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, pixels) = part.split_once('=').ok_or_else(|| wrong("a side has no number"))?;
            let name = match name.trim().to_ascii_lowercase().as_str() {
                "top" => "up".to_string(),
                "bottom" => "down".to_string(),
                name => name.to_string(),
            };
            let side = NAMES.iter().position(|n| *n == name).ok_or_else(|| wrong("there is no such side"))?;
            let pixels: usize = pixels.trim().parse().map_err(|_| wrong("that is not a number of pixels"))?;
            if sides[side].replace(pixels).is_some() {
                return Err(wrong("a side is told twice"));
            }
        }
        let [left, right, up, down] = sides.map(Option::unwrap_or_default);
        if [left, right, up, down] == [0; 4] {
            return Err(wrong("no side grows, so there is nothing to paint"));
        }
        Ok(Self { left, right, up, down })
    }

    /// What a picture's size becomes.
    pub fn grown(&self, (width, height): (usize, usize)) -> (usize, usize) {
        let sum = |a: usize, b: usize, c: usize| a.saturating_add(b).saturating_add(c);
        (sum(self.left, width, self.right), sum(self.up, height, self.down))
    }
}

impl std::fmt::Display for Sides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sides = NAMES.iter().zip([self.left, self.right, self.up, self.down]).filter(|(_, n)| *n > 0);
        let words: Vec<String> = sides.map(|(name, n)| format!("{name}={n}")).collect();
        f.write_str(&words.join(","))
    }
}

/// What is outpainted. The request's size is that of the windows.
#[derive(Clone, Debug)]
pub struct Outpaint {
    /// The picture.
    pub picture: Init,
    /// How far it grows.
    pub sides: Sides,
}

impl Outpaint {
    /// Bytes that it holds, and that its work takes at most beside: the canvas and its mask, twice while they grow, its
    /// file, and the textures of a window of this size, which are computed in a square of a power of two.
    pub fn bytes(&self, (width, height): (usize, usize)) -> (u64, u64) {
        let (w, h) = self.sides.grown(self.picture.size);
        let side = width.max(height).next_power_of_two() as u64;
        let canvas = 2 * 4 * (w * h) as u64;
        (self.picture.image.bytes(), canvas.max(4 * (w * h) as u64 + Image::bytes_to_write(w, h)) + 72 * side * side)
    }
}

/// A window for pictures that grow to `full`: the model's own size, or less where that is enough. A multiple of 8.
pub fn window_size(full: (usize, usize), own: usize, least: usize) -> (usize, usize) {
    let side = |n: usize| n.min(own).next_multiple_of(8).max(least);
    (side(full.0), side(full.1))
}

/// A strip that the picture grows by: one side, so many pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Strip {
    side: usize,
    pixels: usize,
}

/// Latents are squares of so many pixels, or of a part of that: borders between known and painted lie on its multiples.
const STEP: usize = 8;

/// The strips in order, those of a side about equally wide; none takes more than half a window, so that the other half
/// is context.
fn strips(sides: Sides, (width, height): (usize, usize)) -> Vec<Strip> {
    let mut out = Vec::new();
    for (side, total) in [sides.left, sides.right, sides.up, sides.down].into_iter().enumerate() {
        let most = (if side < 2 { width } else { height } / 2 / STEP * STEP).max(STEP);
        let count = total.div_ceil(most);
        let mut left = total;
        for i in 0..count {
            let pixels = left.div_ceil(count - i).next_multiple_of(STEP).min(left);
            out.push(Strip { side, pixels });
            left -= pixels;
        }
    }
    out
}

/// Where windows of `size` begin that cover a length, overlapping by a quarter or more.
/// The last may reach a little beyond.
fn places(length: usize, size: usize) -> Vec<usize> {
    let rest = length.saturating_sub(size).next_multiple_of(STEP);
    let steps = rest.div_ceil((size * 3 / 4 / STEP * STEP).max(STEP));
    (0..=steps).map(|i| if i == steps { rest } else { i * rest / steps / STEP * STEP }).collect()
}

/// Left upper corners of the windows that cover the strip by which a canvas has just become so large, with context
/// beside it.
fn corners(strip: Strip, (w, h): (usize, usize), (width, height): (usize, usize)) -> Vec<(isize, isize)> {
    let (w, h) = (w as isize, h as isize);
    let along = |n: isize, size: usize| places(n as usize, size).into_iter().map(|p| p as isize);
    // Pixels beyond the canvas, so that the border lies between two latents.
    let beyond = (strip.pixels.next_multiple_of(STEP) - strip.pixels) as isize;
    let (right, below) = (w + beyond - width as isize, h + beyond - height as isize);
    match strip.side {
        0 => along(h, height).map(|y| (-beyond, y)).collect(),
        1 => along(h, height).map(|y| (right, y)).collect(),
        2 => along(w, width).map(|x| (x, -beyond)).collect(),
        _ => along(w, width).map(|x| (x, below)).collect(),
    }
}

/// How many windows of this size a picture takes.
pub(super) fn windows(outpaint: &Outpaint, size: (usize, usize)) -> usize {
    let (mut w, mut h) = outpaint.picture.size;
    let mut count = 0;
    for strip in strips(outpaint.sides, size) {
        if strip.side < 2 {
            w += strip.pixels;
        } else {
            h += strip.pixels;
        }
        count += corners(strip, (w, h), size).len();
    }
    count
}

/// A picture that grows; what is not painted yet is 255 in the mask.
struct Canvas {
    image: Image,
    mask: Mask,
}

impl Canvas {
    /// One strip larger.
    fn grow(&mut self, strip: Strip) {
        let p = strip.pixels;
        let (w, h) = (self.image.width, self.image.height);
        let (x, y) = (if strip.side == 0 { p } else { 0 }, if strip.side == 2 { p } else { 0 });
        let size = if strip.side < 2 { (w + p, h) } else { (w, h + p) };
        self.image = window(&self.image, (-(x as isize), -(y as isize)), size);
        self.mask = Mask::filled(size.0, size.1, 255);
        for row in y..y + h {
            self.mask.values[row * size.0 + x..][..w].fill(0);
        }
    }

    /// Left upper corners of the windows that cover the strip just grown.
    fn windows(&self, strip: Strip, size: (usize, usize)) -> Vec<(isize, isize)> {
        corners(strip, (self.image.width, self.image.height), size)
    }

    /// The window's picture and mask; beyond the canvas the edge is repeated.
    fn cut(&self, at: (isize, isize), size: (usize, usize)) -> (Image, Mask) {
        (window(&self.image, at, size), self.mask.changed(|mask| window(mask, at, size)))
    }

    /// Lays the masked part of a window into the canvas.
    fn lay(&mut self, at: (isize, isize), part: &Image) {
        let (w, h) = (self.image.width as isize, self.image.height as isize);
        for (i, pixel) in part.rgb.chunks_exact(3).enumerate() {
            let (x, y) = (at.0 + (i % part.width) as isize, at.1 + (i / part.width) as isize);
            if (0..w).contains(&x) && (0..h).contains(&y) {
                let place = (y * w + x) as usize;
                if self.mask.values[place] > 0 {
                    self.image.rgb[place * 3..][..3].copy_from_slice(pixel);
                }
            }
        }
    }

    /// From now on the window counts as painted.
    fn keep(&mut self, at: (isize, isize), (width, height): (usize, usize)) {
        let (w, h) = (self.image.width, self.image.height);
        let span = |at: isize, size: usize, n: usize| at.max(0) as usize..((at + size as isize).max(0) as usize).min(n);
        for y in span(at.1, height, h) {
            self.mask.values[y * w..][span(at.0, width, w)].fill(0);
        }
    }
}

/// Between the seeds of a picture's windows: alike noise would draw alike things. Odd, and far from the steps of `-b`.
const SEED_STEP: u64 = 1_000_003;

/// Outpaints each of the request's pictures and tells it.
pub(super) fn generate(
    stages: &dyn Stages,
    prompts: &Prompts,
    request: &Request,
    outpaint: &Outpaint,
    listen: &mut Listener<'_>,
) -> Result<()> {
    let size = (request.width, request.height);
    let strips = strips(outpaint.sides, size);
    for index in (0..request.count).filter(|i| !request.skip.contains(i)) {
        let image = outpaint.picture.cropped(outpaint.picture.image.clone());
        let mask = Mask::filled(image.width, image.height, 0);
        let mut canvas = Canvas { image, mask };
        let (mut tiles, mut answers) = (0, 0);
        for strip in &strips {
            canvas.grow(*strip);
            for at in canvas.windows(*strip, size) {
                let mut one = window_request(request, index, tiles, canvas.cut(at, size));
                one.known = request.known.get(&index).map(|all| (0, all.behind(answers))).into_iter().collect();
                let mut count = |event: Event| {
                    answers += usize::from(matches!(event, Event::Answer { .. }));
                    listen(event)
                };
                paint(stages, prompts, &one, (index, at), &mut canvas, &mut count)?;
                canvas.keep(at, size);
                tiles += 1;
            }
        }
        tell(listen, Event::Picture { index, seed: request.seeds(index).0, image: canvas.image })?;
    }
    Ok(())
}

/// The request for one window: inpainting with a filled strip.
fn window_request(request: &Request, index: usize, tile: u64, (image, mask): (Image, Mask)) -> Request {
    let (seed, second) = request.seeds(index);
    let shift = tile.wrapping_mul(SEED_STEP);
    let mut filled = continued(&image, &mask);
    add_texture(&mut filled, &mask, seed.wrapping_add(shift));
    let size = (image.width, image.height);
    let init = Init { image: filled, size, hash: String::new(), mode: ResizeMode::default() };
    // Borders lie between latents. Each is painted or kept: mixing some was measured, and made twice the step.
    let (soft, fill, settings) = (false, Fill::Original, MaskSettings::default());
    let inpaint = Inpaint { mask, soft, fill, overlay: None, settings };
    Request {
        count: 1,
        batch_size: 1,
        skip: BTreeSet::new(),
        seed: seed.wrapping_add(shift),
        variation: request.variation.map(|(own, strength)| (second.unwrap_or(own).wrapping_add(shift), strength)),
        start: Start::Masked(Arc::new(init), Arc::new(inpaint)),
        ..request.clone()
    }
}

/// Paints one window into the canvas; what is told of it is told of picture `index`.
///
/// Of the painting, what does not go on from the picture is left to the fill, and the rest is joined without a step.
fn paint(
    stages: &dyn Stages,
    prompts: &Prompts,
    one: &Request,
    (index, at): (usize, (isize, isize)),
    canvas: &mut Canvas,
    listen: &mut Listener<'_>,
) -> Result<()> {
    let size = (one.width, one.height);
    let (image, mask) = canvas.cut(at, size);
    let mut painted = None;
    let mut hear = |event: Event| match event {
        Event::Picture { image, .. } => {
            painted = Some(image);
            ControlFlow::Continue(())
        }
        Event::Preview { image, done, .. } => {
            canvas.lay(at, &image);
            listen(Event::Preview { index, done, image: canvas.image.clone() })
        }
        Event::Stage { phase, units, .. } => listen(Event::Stage { phase, image: index, units }),
        Event::Answer { answer, .. } => listen(Event::Answer { index, answer }),
        other => listen(other),
    };
    super::pictures(stages, prompts, None, one, &mut hear)?;
    let painted = painted.ok_or_else(|| Error::other("outpainting: a window was not painted"))?;
    let filled = one.start.init().map_or(&image, |init| &init.image);
    // Compared without its grain.
    let fits = fitting(&continued(&image, &mask), &painted, &mask, (stages.model().networks.factor() / 2).max(1));
    canvas.lay(at, &joined(filled, &painted, &fits, size.0.min(size.1) / 2));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_read() {
        let sides = Sides::parse("left=128, bottom=8").unwrap();
        assert_eq!(sides, Sides { left: 128, down: 8, ..Sides::default() });
        assert_eq!(Sides::parse(&sides.to_string()).unwrap(), sides);
        assert_eq!(sides.grown((10, 20)), (138, 28));
        for text in ["", "left", "left=0,right=0", "left=-1", "left=x", "side=3", "left=1,left=2", "128"] {
            let message = Sides::parse(text).unwrap_err().to_string();
            assert!(message.contains("left=128,right=64"), "{text}: {message}");
        }
        assert_eq!(Sides::parse("left=18446744073709551615,right=9").unwrap().grown((9, 9)).0, usize::MAX);
    }

    #[test]
    fn windows_cover_what_is_new_and_have_context() {
        assert_eq!(places(64, 64), [0]);
        assert_eq!(places(100, 64), [0, 40]);
        assert_eq!(places(200, 64), [0, 40, 88, 136]);
        let sides = Sides { left: 70, up: 10, ..Sides::default() };
        let all = strips(sides, (64, 64));
        assert_eq!(all.iter().map(|s| s.pixels).collect::<Vec<_>>(), [24, 24, 22, 10]);
        let picture = Image { width: 90, height: 100, rgb: (0..27_000).map(|i| (i % 251) as u8).collect() };
        let mut canvas = Canvas { mask: Mask::filled(90, 100, 0), image: picture.clone() };
        let white = Image { width: 64, height: 64, rgb: vec![255; 64 * 64 * 3] };
        for strip in all {
            canvas.grow(strip);
            for at in canvas.windows(strip, (64, 64)) {
                let (_, mask) = canvas.cut(at, (64, 64));
                assert!(mask.values.iter().filter(|v| **v == 0).count() >= 64 * 32 && !mask.is_black());
                canvas.lay(at, &white);
                canvas.keep(at, (64, 64));
            }
            assert!(canvas.mask.is_black());
        }
        assert_eq!((canvas.image.width, canvas.image.height), (160, 110));
        assert_eq!(window(&canvas.image, (70, 10), (90, 100)), picture);
        assert!(canvas.image.rgb[..160 * 30].iter().all(|v| *v == 255));
    }
}
