//! Two pictures of one place go in; which of them to show where, so that nobody sees a border, comes out.
//!
//! Kwatra, Schoedl, Essa, Turk and Bobick, "Graphcut Textures" (2003), joined as in Agarwala and others, "Interactive
//! Digital Photomontage" (2004): a cheapest cut here, and a membrane ([`super::membrane`]) over what it leaves.

use super::Image;
use super::mask::Mask;
use std::collections::VecDeque;

/// What it costs to show the fill instead of the painting: along a border as long as the picture is wide and as deep as
/// that, as much as a step of so many levels all along the border.
const PRICE: f32 = 64.0;

/// Capacities are whole numbers: so many to a level.
const GRAIN: f32 = 64.0;

/// Where `painted` goes on from what is known, 255; 0 where `filled` does it better, or where nothing is masked.
///
/// `filled` is the picture with its colours carried on into the masked part. A model may begin there with something
/// that ends at the border, the half of a second object say. No blending hides that, but the fill goes on by nature. So
/// each cell of `cell` pixels is painted or filled at a price: a painted one within two cells of what is known pays for
/// how far it is from the fill, two unlike neighbours pay for how far both pictures are from each other there, and each
/// filled one pays a little, so that the painting is shown wherever nothing speaks against it. The
/// cheapest choice is a minimum cut.
pub fn fitting(filled: &Image, painted: &Image, mask: &Mask, cell: usize) -> Mask {
    let grid = Grid::new(filled, painted, mask, cell.max(1));
    let n = grid.open.len();
    let (source, sink) = (n, n + 1);
    let mut flow = Flow::new(n + 2);
    let units = |levels: f32| (levels * GRAIN).round() as i64;
    let price = PRICE * cell as f32 / mask.width.min(mask.height).max(1) as f32;
    let usual = 2.0 * grid.usual();
    for i in (0..n).filter(|i| grid.open[*i]) {
        flow.join(source, i, units(price), 0);
        let step = (grid.apart[i] - usual).max(0.0);
        match grid.depth(i) {
            Some(1) => flow.join(i, sink, units(step), 0),
            Some(_) => flow.join(i, sink, units(step / 2.0), 0),
            None => {}
        }
        for j in grid.beside(i).into_iter().flatten().filter(|j| *j > i && grid.open[*j]) {
            let both = units(grid.apart[i] + grid.apart[j]);
            flow.join(i, j, both, both);
        }
    }
    flow.push(source, sink);
    let painted = flow.reached(source);
    let mut out = mask.clone();
    for (i, value) in out.values.iter_mut().enumerate().filter(|(_, v)| **v > 0) {
        *value = if painted[grid.of(i % mask.width, i / mask.width)].is_some() { 255 } else { 0 };
    }
    out
}

/// Squares of pixels, and how far two pictures are from each other in them.
struct Grid {
    width: usize,
    height: usize,
    cell: usize,
    /// Whether anything of the cell is masked.
    open: Vec<bool>,
    /// The difference of the two mean colours, in levels.
    apart: Vec<f32>,
}

impl Grid {
    fn new(a: &Image, b: &Image, mask: &Mask, cell: usize) -> Self {
        let (width, height) = (mask.width.div_ceil(cell), mask.height.div_ceil(cell));
        let mut out = Self { width, height, cell, open: vec![false; width * height], apart: Vec::new() };
        let mut sums = vec![[0.0f32; 4]; width * height];
        for (i, (p, q)) in a.rgb.chunks_exact(3).zip(b.rgb.chunks_exact(3)).enumerate() {
            let at = out.of(i % mask.width, i / mask.width);
            out.open[at] |= mask.values[i] > 0;
            (0..3).for_each(|c| sums[at][c] += f32::from(p[c]) - f32::from(q[c]));
            sums[at][3] += 1.0;
        }
        out.apart = sums.iter().map(|s| s[..3].iter().map(|v| v.abs()).sum::<f32>() / (3.0 * s[3].max(1.0))).collect();
        out
    }

    fn of(&self, x: usize, y: usize) -> usize {
        y / self.cell * self.width + x / self.cell
    }

    /// Left, right, above, below.
    fn beside(&self, i: usize) -> [Option<usize>; 4] {
        let (x, y) = (i % self.width, i / self.width);
        [
            (x > 0).then(|| i - 1),
            (x + 1 < self.width).then(|| i + 1),
            (y > 0).then(|| i - self.width),
            (y + 1 < self.height).then(|| i + self.width),
        ]
    }

    /// 1 beside what is known, 2 behind that.
    fn depth(&self, i: usize) -> Option<usize> {
        let near = |i: usize| self.beside(i).into_iter().flatten().any(|j| !self.open[j]);
        match near(i) {
            true => Some(1),
            false => self.beside(i).into_iter().flatten().any(near).then_some(2),
        }
    }

    /// How far the pictures are from each other where both show the same: what encoding and decoding changes.
    fn usual(&self) -> f32 {
        let known = || self.apart.iter().zip(&self.open).filter(|(_, open)| !**open);
        known().map(|(apart, _)| apart).sum::<f32>() / known().count().max(1) as f32
    }
}

/// A network of capacities, by Dinic's algorithm (1970).
struct Flow {
    /// Edges of each node; edge e and edge e ^ 1 are the two directions of one.
    edges: Vec<Vec<usize>>,
    /// Where an edge leads, and what still fits through it.
    to: Vec<usize>,
    room: Vec<i64>,
}

impl Flow {
    fn new(nodes: usize) -> Self {
        Self { edges: vec![Vec::new(); nodes], to: Vec::new(), room: Vec::new() }
    }

    fn join(&mut self, a: usize, b: usize, there: i64, back: i64) {
        for (from, to, room) in [(a, b, there), (b, a, back)] {
            self.edges[from].push(self.to.len());
            self.to.push(to);
            self.room.push(room);
        }
    }

    /// Steps from `source` to each node along edges with room.
    fn reached(&self, source: usize) -> Vec<Option<usize>> {
        let mut steps = vec![None; self.edges.len()];
        steps[source] = Some(0);
        let mut queue = VecDeque::from([source]);
        while let Some(node) = queue.pop_front() {
            for &e in self.edges[node].iter().filter(|e| self.room[**e] > 0) {
                if steps[self.to[e]].is_none() {
                    steps[self.to[e]] = steps[node].map(|s| s + 1);
                    queue.push_back(self.to[e]);
                }
            }
        }
        steps
    }

    /// Sends as much as fits from `source` to `sink`.
    fn push(&mut self, source: usize, sink: usize) {
        loop {
            let steps = self.reached(source);
            if steps[sink].is_none() {
                return;
            }
            let mut next = vec![0; self.edges.len()];
            while self.path(source, sink, &steps, &mut next) {}
        }
    }

    /// Fills one shortest path; `next` is the edge that each node tries next.
    fn path(&mut self, source: usize, sink: usize, steps: &[Option<usize>], next: &mut [usize]) -> bool {
        let mut path: Vec<usize> = Vec::new();
        let mut node = source;
        while node != sink {
            let onward = |e: &usize| self.room[*e] > 0 && steps[self.to[*e]] == steps[node].map(|s| s + 1);
            match self.edges[node].get(next[node]) {
                Some(e) if onward(e) => {
                    path.push(*e);
                    node = self.to[*e];
                }
                Some(_) => next[node] += 1,
                None => {
                    let Some(e) = path.pop() else { return false };
                    node = self.to[e ^ 1];
                    next[node] += 1;
                }
            }
        }
        let most = path.iter().map(|e| self.room[*e]).min().unwrap_or(0);
        for e in path {
            self.room[e] -= most;
            self.room[e ^ 1] += most;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(w: usize, h: usize, value: impl Fn(usize, usize) -> u8) -> Image {
        Image { width: w, height: h, rgb: (0..w * h).flat_map(|i| [value(i % w, i / w); 3]).collect() }
    }

    fn half(w: usize, h: usize) -> Mask {
        Mask { width: w, height: h, values: (0..w * h).map(|i| if i % w < w / 2 { 0 } else { 255 }).collect() }
    }

    fn shown(fits: &Mask, x: usize, y: usize) -> bool {
        fits.values[y * fits.width + x] == 255
    }

    #[test]
    fn an_object_cut_by_the_border_is_not_shown_and_a_whole_one_is() {
        let disc = |x: usize, y: usize, cx: i32, cy: i32| (x as i32 - cx).pow(2) + (y as i32 - cy).pow(2) <= 64;
        let filled = picture(64, 64, |_, _| 200);
        // One disc sits on the border at 32, the other is whole; the painted ground is a little off.
        let painted = picture(64, 64, |x, y| match x >= 32 && disc(x, y, 32, 16) || disc(x, y, 48, 44) {
            true => 40,
            false => 197 + (x * 7 + y * 5) as u8 % 5,
        });
        let fits = fitting(&filled, &painted, &half(64, 64), 2);
        for y in 0..64 {
            assert!((0..32).all(|x| !shown(&fits, x, y)));
            for x in 32..64 {
                assert!(!(disc(x, y, 32, 16) && shown(&fits, x, y)), "half a disc at {x} {y}");
                assert!(!disc(x, y, 48, 44) || shown(&fits, x, y), "a hole in the disc at {x} {y}");
            }
        }
        assert!(fits.values.iter().filter(|v| **v > 0).count() > 64 * 32 * 3 / 4);
        // What continues the picture is shown, however unlike the fill it is further away.
        let painted = picture(64, 64, |x, _| if x < 44 { 200 } else { 30 });
        assert_eq!(fitting(&filled, &painted, &half(64, 64), 2), half(64, 64));
    }

    #[test]
    fn as_much_flows_as_the_narrowest_cut_lets_through() {
        // The network of Cormen, Leiserson, Rivest and Stein, "Introduction to Algorithms", figure 26.1: 23.
        let mut flow = Flow::new(6);
        for (a, b, room) in
            [(0, 1, 16), (0, 2, 13), (2, 1, 4), (1, 3, 12), (3, 2, 9), (2, 4, 14), (4, 3, 7), (3, 5, 20), (4, 5, 4)]
        {
            flow.join(a, b, room, 0);
        }
        flow.push(0, 5);
        let sent: i64 = flow.edges[5].iter().map(|e| flow.room[*e]).sum();
        assert_eq!(sent, 23);
        let side: Vec<bool> = flow.reached(0).iter().map(Option::is_some).collect();
        assert_eq!(side, [true, true, true, false, true, false]);
    }
}
