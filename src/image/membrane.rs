//! Colours known along the border of a part go in; the smoothest field in the part that meets them comes out.

use super::Image;
use super::mask::Mask;

/// What a pixel is to the membrane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// Not of it: the membrane ends there freely.
    Outside,
    /// Of its frame: the value is given.
    Frame,
    /// Of the membrane: the value is sought.
    Free,
}

/// Sweeps over each size; the coarser sizes have done the rest.
const SWEEPS: usize = 48;

/// How much further than to the mean of its neighbours each value goes (Young, "Iterative Methods for Solving Partial
/// Difference Equations of Elliptic Type", 1954). The coarser sizes have their frame up to a pixel elsewhere, and
/// without this a smooth remainder of several levels is left, which sweeps take away too slowly.
const FURTHER: f32 = 1.85;

/// Below this many pixels on the longer side there is no coarser size, and all the sweeps that it takes are made.
const COARSEST: usize = 8;

/// One size of the membrane.
struct Level {
    width: usize,
    height: usize,
    cells: Vec<Cell>,
    values: Vec<[f32; 3]>,
}

impl Level {
    fn neighbours(&self, i: usize) -> impl Iterator<Item = usize> + '_ {
        let (w, h) = (self.width, self.height);
        let (x, y) = (i % w, i / w);
        let all = [(x > 0, i.wrapping_sub(1)), (x + 1 < w, i + 1), (y > 0, i.wrapping_sub(w)), (y + 1 < h, i + w)];
        all.into_iter().filter(|(there, j)| *there && self.cells[*j] != Cell::Outside).map(|(_, j)| j)
    }

    /// Successive over-relaxation: each free value goes to the mean of its neighbours and beyond; `pull` draws it to 0.
    fn relax(&mut self, free: &[usize], pull: f32, sweeps: usize) {
        for _ in 0..sweeps {
            for &i in free {
                let (mut sum, mut count) = ([0.0; 3], pull);
                for j in self.neighbours(i) {
                    sum.iter_mut().zip(self.values[j]).for_each(|(s, v)| *s += v);
                    count += 1.0;
                }
                if count > 0.0 {
                    self.values[i].iter_mut().zip(sum).for_each(|(v, s)| *v += FURTHER * (s / count - *v));
                }
            }
        }
    }

    /// Half the size. Where four pixels have a part of the frame, they become frame.
    fn halved(&self) -> Self {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let mut out =
            Self { width, height, cells: vec![Cell::Outside; width * height], values: vec![[0.0; 3]; width * height] };
        let mut counts = vec![0.0; width * height];
        for (i, cell) in self.cells.iter().enumerate() {
            let j = i / self.width / 2 * width + i % self.width / 2;
            match cell {
                Cell::Frame => {
                    out.cells[j] = Cell::Frame;
                    counts[j] += 1.0;
                    out.values[j].iter_mut().zip(self.values[i]).for_each(|(s, v)| *s += v);
                }
                Cell::Free if out.cells[j] == Cell::Outside => out.cells[j] = Cell::Free,
                _ => {}
            }
        }
        for (value, count) in out.values.iter_mut().zip(counts).filter(|(_, count)| *count > 0.0) {
            *value = value.map(|v| v / count);
        }
        out
    }

    /// Finds the free values, from those of half the size.
    fn solve(&mut self, pull: f32) {
        let free: Vec<usize> = (0..self.cells.len()).filter(|i| self.cells[*i] == Cell::Free).collect();
        if free.is_empty() {
            return;
        }
        let longer = self.width.max(self.height);
        if longer <= COARSEST {
            return self.relax(&free, pull, 4 * COARSEST * COARSEST);
        }
        let mut half = self.halved();
        half.solve(4.0 * pull);
        for i in &free {
            self.values[*i] = half.values[i / self.width / 2 * half.width + i % self.width / 2];
        }
        self.relax(&free, pull, SWEEPS);
    }
}

/// `result`, changed inside of the mask so that it goes on from `image` without a step; elsewhere it is `image`.
///
/// Both pictures show the same outside of the mask, but for what encoding and painting changed there. That difference,
/// seen along the border, is laid over the inside as a membrane: it equals the difference at the border and is as
/// smooth as can be within (Perez, Gangnet and Blake, "Poisson Image Editing", 2003, equation 7: a Laplace equation
/// with the difference as its border values). What crosses the border then has the slope that it has in `result`. Where
/// the mask reaches the picture's edge the membrane ends freely. It falls to 0 over `reach` pixels, so that one wrong
/// place does not tint everything.
///
/// The equation is solved from small sizes to large ones, in one order whatever the number of threads.
pub fn joined(image: &Image, result: &Image, mask: &Mask, reach: usize) -> Image {
    let apart = |i: usize| f32::from(image.rgb[i]) - f32::from(result.rgb[i]);
    let values = spread(mask, 1.0 / (reach * reach).max(1) as f32, |i| [0, 1, 2].map(|c| apart(i * 3 + c)));
    laid(image, mask, |i| f32::from(result.rgb[i]) + values[i / 3][i % 3])
}

/// `image` with the colours at the mask's border carried on into it as a membrane; in an all-white mask, grey.
pub fn continued(image: &Image, mask: &Mask) -> Image {
    let apart = |i: usize| f32::from(image.rgb[i]) - 127.5;
    let values = spread(mask, 0.0, |i| [0, 1, 2].map(|c| apart(i * 3 + c)));
    laid(image, mask, |i| 127.5 + values[i / 3][i % 3])
}

/// What `frame` gives for the pixels beside the mask, spread into it.
fn spread(mask: &Mask, pull: f32, frame: impl Fn(usize) -> [f32; 3]) -> Vec<[f32; 3]> {
    let (w, h) = (mask.width, mask.height);
    let inside = |i: usize| mask.values[i] > 0;
    let cells = mask.values.iter().map(|v| if *v > 0 { Cell::Free } else { Cell::Outside }).collect();
    let mut level = Level { width: w, height: h, cells, values: vec![[0.0; 3]; w * h] };
    for i in (0..w * h).filter(|i| !inside(*i)) {
        let (x, y) = (i % w, i / w);
        let beside = x > 0 && inside(i - 1) || x + 1 < w && inside(i + 1) || y > 0 && inside(i - w);
        if beside || y + 1 < h && inside(i + w) {
            level.cells[i] = Cell::Frame;
            level.values[i] = frame(i);
        }
    }
    level.solve(pull);
    level.values
}

/// `image` with `value` for each byte inside of the mask.
fn laid(image: &Image, mask: &Mask, value: impl Fn(usize) -> f32) -> Image {
    let mut out = image.clone();
    for (i, byte) in out.rgb.iter_mut().enumerate().filter(|(i, _)| mask.values[i / 3] > 0) {
        *byte = (value(i) + 0.5).clamp(0.0, 255.0) as u8;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(w: usize, h: usize, value: impl Fn(usize, usize) -> f32) -> Image {
        let rgb = (0..w * h).flat_map(|i| [value(i % w, i / w).round().clamp(0.0, 255.0) as u8; 3]).collect();
        Image { width: w, height: h, rgb }
    }

    fn mask(w: usize, h: usize, inside: impl Fn(usize, usize) -> bool) -> Mask {
        let values = (0..w * h).map(|i| if inside(i % w, i / w) { 255 } else { 0 }).collect();
        Mask { width: w, height: h, values }
    }

    /// The same membrane by nothing but sweeps, in f64, until it rests.
    fn slowly(level: &Level, pull: f64) -> Vec<f64> {
        let mut d: Vec<f64> = level.values.iter().map(|v| f64::from(v[0])).collect();
        for _ in 0..20_000 {
            for i in (0..d.len()).filter(|i| level.cells[*i] == Cell::Free) {
                let near: Vec<usize> = level.neighbours(i).collect();
                d[i] = near.iter().map(|j| d[*j]).sum::<f64>() / (near.len() as f64 + pull);
            }
        }
        d
    }

    #[test]
    fn sizes_from_small_to_large_come_to_the_membrane() {
        let (w, h) = (61, 47);
        for pull in [0.0, 1.0 / 400.0] {
            let disc = |x: usize, y: usize| (x as i32 - 28).pow(2) + (y as i32 - 30).pow(2) < 500 || x > 50;
            let inside = mask(w, h, disc);
            let mut level = Level { width: w, height: h, cells: Vec::new(), values: vec![[0.0; 3]; w * h] };
            level.cells = (0..w * h).map(|i| if inside.values[i] > 0 { Cell::Free } else { Cell::Frame }).collect();
            for i in (0..w * h).filter(|i| inside.values[*i] == 0) {
                level.values[i] = [30.0 + ((i % w) as f32 / 9.0).sin() * 20.0 - (i / w) as f32 * 0.5; 3];
            }
            let want = slowly(&level, f64::from(pull));
            level.solve(pull);
            let most = level.values.iter().zip(&want).map(|(v, w)| (f64::from(v[0]) - w).abs()).fold(0.0, f64::max);
            assert!(most < 0.1, "pull {pull}: {most} levels off");
        }
    }

    #[test]
    fn what_crosses_the_border_keeps_its_slope() {
        let inside = mask(64, 40, |x, y| x >= 40 || y < 8);
        let scene = |x: usize, y: usize| 90.0 + (x as f32 * 0.7).sin() * 20.0 + y as f32;
        let image = picture(64, 40, |x, y| if x >= 40 || y < 8 { 0.0 } else { scene(x, y) });
        // The painting is 20 levels darker at one end of the border and 10 brighter at the other.
        let result = picture(64, 40, |x, y| scene(x, y) - 20.0 + y as f32 * 0.75);
        let out = joined(&image, &result, &inside, 1_000_000);
        let at = |x: usize, y: usize| f32::from(out.rgb[(y * 64 + x) * 3]);
        for y in 8..40 {
            assert!((0..40).all(|x| out.rgb[(y * 64 + x) * 3] == image.rgb[(y * 64 + x) * 3]));
            let (step, slope) = (at(40, y) - at(39, y), scene(40, y) - scene(39, y));
            assert!((step - slope).abs() <= 3.0, "row {y}: a step of {step} for {slope}");
        }
        for x in 0..40 {
            assert!((at(x, 8) - at(x, 7) - 1.0).abs() <= 3.0, "column {x}: {} above {}", at(x, 7), at(x, 8));
        }
    }

    #[test]
    fn far_away_the_result_stays_and_without_a_frame_everywhere() {
        let inside = mask(200, 9, |x, _| x >= 10);
        let (image, result) = (picture(200, 9, |_, _| 180.0), picture(200, 9, |_, _| 100.0));
        let out = joined(&image, &result, &inside, 20);
        let at = |x: usize| out.rgb[x * 3];
        assert!(at(10) > 170 && (60..180).contains(&at(30)) && at(199) <= 101, "{} {} {}", at(10), at(30), at(199));
        assert_eq!(joined(&image, &result, &mask(200, 9, |_, _| true), 20), result);
        assert_eq!(joined(&image, &result, &mask(200, 9, |_, _| false), 20), image);
    }

    #[test]
    fn colours_are_carried_on() {
        let inside = mask(48, 32, |x, _| x >= 24);
        let image = picture(48, 32, |x, y| if x >= 24 { 0.0 } else { 40.0 + 5.0 * y as f32 });
        let out = continued(&image, &inside);
        let at = |x: usize, y: usize| out.rgb[(y * 48 + x) * 3];
        for y in 0..32 {
            assert!((0..24).all(|x| at(x, y) == 40 + 5 * y as u8));
            // The exact solution is 10.5 levels away in the corners, where the slope ends,
            // and 2.5 at most in the middle half.
            let most = if (8..24).contains(&y) { 3 } else { 11 };
            assert!(at(24, y).abs_diff(at(23, y)) <= most, "{y}: {} {}", at(23, y), at(24, y));
            // Far away all rows come near the mean.
            assert!(at(47, y).abs_diff(117) < 60);
        }
        assert!(continued(&image, &mask(48, 32, |_, _| true)).rgb.iter().all(|v| *v == 128));
    }
}
