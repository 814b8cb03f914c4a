//! A picture through an upscaler, tile by tile: each tile is computed with so much of its surroundings that nobody sees
//! where it ends.

use super::Stages;
use crate::error::{Error, Kind, Result};
use crate::image::raster::{Raster, levels};
use crate::models::part::{self, Part};
use crate::models::upscaler::Upscaler;
use crate::tensor::{Shape, Tensor};
use std::ops::ControlFlow;

/// Pixels of reflection around a picture, so that the network's own border of zeros darkens none of it.
const BORDER: usize = 12;
/// What fast convolutions compute at once along a side. Tiling begin at multiples of it, so that a pixel is computed by
/// the same operations in every tile.
const GRID: usize = 4;
/// Surroundings of a tile of an RRDB network, whose reach is hundreds of pixels but fades after some.
const RRDB_MARGIN: usize = 32;

/// How a picture is cut for a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Pixels of a tile along a side, without what is around it.
    pub side: usize,
    /// Pixels around it that are computed too and dropped.
    pub margin: usize,
}

impl Tiling {
    /// Tiling of `side` pixels for a network; a side is a multiple of what fast convolutions compute at once.
    ///
    /// The margin of a Compact network is exact: each of its convolutions carries what is missing at the border of a
    /// tile as far as the pixels go that are computed together. So tiles of any size give the same picture.
    pub fn new(upscaler: &Upscaler, side: usize) -> Self {
        let margin = match upscaler {
            Upscaler::Compact(_) => GRID * upscaler.depth(),
            Upscaler::Rrdb(_) => RRDB_MARGIN.min(upscaler.depth().next_multiple_of(GRID)),
        };
        Self { side: side.max(GRID).next_multiple_of(GRID), margin }
    }

    /// The size of the largest window of a picture of so many pixels, what is around it included.
    pub fn window(&self, upscaler: &Upscaler, (width, height): (usize, usize)) -> (usize, usize) {
        let side = |n: usize| (self.side + 2 * self.margin).min(padded(upscaler, n));
        (side(width), side(height))
    }

    /// Tiling of a side with its border: where each begins and ends, and where its window does.
    fn along(&self, n: usize) -> Vec<Span> {
        (0..n.div_ceil(self.side))
            .map(|i| {
                let (start, end) = (i * self.side, ((i + 1) * self.side).min(n));
                Span { start, end, from: start.saturating_sub(self.margin), to: (end + self.margin).min(n) }
            })
            .collect()
    }
}

/// A tile along one axis, in pixels of the picture with its border.
struct Span {
    start: usize,
    end: usize,
    from: usize,
    to: usize,
}

/// A side with its border, and so much more that the network can take it.
fn padded(upscaler: &Upscaler, n: usize) -> usize {
    (n + 2 * BORDER).next_multiple_of(GRID.max(upscaler.multiple()))
}

/// Pixel `i` of a side of `n` with a border, reflected at its ends.
fn reflected(i: usize, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let period = 2 * (n - 1);
    let i = (i + period * BORDER - BORDER) % period;
    i.min(period - i)
}

/// The network's own output for pixels `[b, h, w, 3]` of 0 to 1, not clamped: `[b, s h, s w, 3]`.
///
/// # Errors
/// Whatever keeps it from being computed; a size that is no multiple of what the network takes.
pub fn network(stages: &dyn Stages, image: &Tensor) -> Result<Tensor> {
    let upscaler = stages.model().networks.upscaler()?;
    let s = image.shape();
    let part = Part::Upscale { size: (s.b, s.h, s.w) };
    let inputs = vec![(part::upscale::IMAGE, unshuffled(image, upscaler.multiple())?)];
    let out = stages.run(part, None, inputs, &[part::upscale::LARGE]).map_err(|e| e.at("upscale"))?;
    let large = out.into_iter().next().ok_or_else(|| Error::other("the upscaler has no output"))?;
    match large.data().iter().all(|v| v.is_finite()) {
        true => Ok(large),
        false => {
            let message = "the upscaler's values are not finite: its file is damaged, or for other pictures";
            Err(Error::new(Kind::NonFinite { stage: "upscale".into() }, message))
        }
    }
}

/// Pixels as channels: `y[i, j, c u^2 + di u + dj] = x[i u + di, j u + dj, c]` (torch.nn.PixelUnshuffle).
fn unshuffled(x: &Tensor, u: usize) -> Result<Tensor> {
    let s = x.shape();
    if u == 1 {
        return Ok(x.clone());
    }
    if !s.h.is_multiple_of(u) || !s.w.is_multiple_of(u) {
        return Err(Error::usage(format!("{}x{} pixels: this upscaler takes multiples of {u}", s.w, s.h)));
    }
    let shape = Shape::new(s.b, s.h / u, s.w / u, s.c * u * u);
    let at = |i: usize| {
        let (c, px, y, b) =
            (i % shape.c, i / shape.c % shape.w, i / shape.c / shape.w % shape.h, i / (shape.pixels() * shape.c));
        let (from, di, dj) = (c / (u * u), c / u % u, c % u);
        ((b * s.h + y * u + di) * s.w + px * u + dj) * s.c + from
    };
    Tensor::new(shape, (0..shape.len()).map(|i| x.data()[at(i)]).collect())
}

/// What an upscaler makes of a picture: each side `scale` times as long, 16 bits, alpha and profile kept. Alpha goes
/// through the network as a grey picture. `listen` hears after each tile how many of how many are done.
///
/// # Errors
/// Cancelled; whatever keeps a tile from being computed.
pub fn upscale(
    stages: &dyn Stages,
    from: &Raster,
    tiles: Tiling,
    listen: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Raster> {
    let scale = stages.model().networks.upscaler()?.scale();
    let mut filled = from.clone();
    filled.fill_hidden();
    let planes = 1 + usize::from(from.alpha.is_some());
    let mut done = 0;
    let mut tell = |all: usize| {
        done += 1;
        listen(done, planes * all)
    };
    let colours = plane(stages, &filled, &filled.colours, tiles, &mut tell)?;
    let alpha = match &from.alpha {
        None => None,
        Some(alpha) => {
            let grey: Vec<u16> = alpha.iter().flat_map(|a| [*a; 3]).collect();
            let large = plane(stages, from, &grey, tiles, &mut tell)?;
            Some(alpha_of(&large, alpha, (from.width, from.height), scale))
        }
    };
    Ok(Raster { width: scale * from.width, height: scale * from.height, colours, alpha, ..filled })
}

/// Alpha out of a grey picture of it. Where all around a pixel it is the same, it stays so: what is opaque stays
/// opaque.
fn alpha_of(large: &[u16], alpha: &[u16], (w, h): (usize, usize), scale: usize) -> Vec<u16> {
    let same = |x: usize, y: usize| {
        let around = |n: usize, most: usize| n.saturating_sub(1)..(n + 2).min(most);
        let here = alpha[y * w + x];
        around(y, h).flat_map(|y| around(x, w).map(move |x| y * w + x)).all(|i| alpha[i] == here).then_some(here)
    };
    let flat: Vec<Option<u16>> = (0..w * h).map(|i| same(i % w, i / w)).collect();
    let at = |i: usize| {
        let (x, y) = (i % (scale * w) / scale, i / (scale * w) / scale);
        // The three are nearly the same; green is what weighs most in a grey.
        flat[y * w + x].unwrap_or(large[3 * i + 1])
    };
    (0..w * h * scale * scale).map(at).collect()
}

/// Three samples a pixel through the network, tile by tile.
fn plane(
    stages: &dyn Stages,
    from: &Raster,
    samples: &[u16],
    tiles: Tiling,
    tell: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<u16>> {
    let upscaler = *stages.model().networks.upscaler()?;
    let (scale, top) = (upscaler.scale(), from.top());
    let (w, h) = (from.width, from.height);
    let width = scale * w;
    let mut out = vec![0; width * scale * h * 3];
    let (columns, lines) = (tiles.along(padded(&upscaler, w)), tiles.along(padded(&upscaler, h)));
    for line in &lines {
        for column in &columns {
            let shape = Shape::new(1, line.to - line.from, column.to - column.from, 3);
            let pixel = |i: usize| {
                let (y, x) = (line.from + i / shape.w, column.from + i % shape.w);
                3 * (reflected(y, h) * w + reflected(x, w))
            };
            let value = |i: usize| f32::from(samples[pixel(i / 3) + i % 3]) / f32::from(top);
            let large = network(stages, &Tensor::new(shape, (0..shape.len()).map(value).collect())?)?;
            let large_width = scale * shape.w;
            // What of the tile is in the picture, without its border.
            let inside = |span: &Span, n: usize| span.start.max(BORDER)..span.end.min(BORDER + n);
            let (rows, cols) = (inside(line, h), inside(column, w));
            for y in scale * rows.start..scale * rows.end.max(rows.start) {
                let begin = ((y - scale * line.from) * large_width + scale * (cols.start - column.from)) * 3;
                let count = 3 * scale * cols.len();
                let to = ((y - scale * BORDER) * width + scale * (cols.start - BORDER)) * 3;
                let values = large.data()[begin..begin + count].iter().copied();
                out[to..to + count].iter_mut().zip(levels(values, top)).for_each(|(to, level)| *to = level);
            }
            if tell(columns.len() * lines.len()).is_break() {
                return Err(Error::cancelled());
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::upscaler::CompactConfig;

    #[test]
    fn a_side_is_reflected_at_its_ends() {
        let side: Vec<usize> = (0..3 + 2 * BORDER).map(|i| reflected(i, 3)).collect();
        assert_eq!(side[BORDER - 3..BORDER + 6], [1, 2, 1, 0, 1, 2, 1, 0, 1]);
        assert!((0..40).all(|i| reflected(i, 1) == 0));
    }

    #[test]
    fn tiles_cover_a_side_and_their_windows_stay_inside() {
        let upscaler = Upscaler::Compact(CompactConfig { features: 8, convs: 2, scale: 2 });
        let tiles = Tiling::new(&upscaler, 30);
        assert_eq!((tiles.side, tiles.margin), (32, 16));
        let spans = tiles.along(100);
        let mut next = 0;
        for s in &spans {
            assert!(
                s.start == next && s.from <= s.start && s.to >= s.end && s.to <= 100 && s.from.is_multiple_of(GRID)
            );
            next = s.end;
        }
        assert_eq!(next, 100);
    }
}
