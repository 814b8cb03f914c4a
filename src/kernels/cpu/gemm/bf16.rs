//! The product in bf16: inputs and weights rounded to bf16 in pairs along k, sums in f32.
//!
//! Twice the multiply-adds an instruction where the processor has `vdpbf16ps`; elsewhere the same values, more slowly.
//! A task first turns its rows of a block into pairs, in the worker's scratch, then does what the f32 product does.
#![allow(unsafe_code, reason = "rows are read through pointers, and tasks write disjoint parts of one output")]

use super::{BLOCK, Blocks, Finish, GROUP, PANEL, Panel, ProductTask, point, table_len};
use crate::kernels::cpu::tile::{Bf16, Old, Rows, Split, Tile};
use crate::kernels::cpu::{Scratch, gemm};
use crate::simd::{Simd, Task, pair};
use crate::tensor::Shape;
use crate::workers::tuning::Tuning;

/// Most pairs of a block.
const PAIRS: usize = BLOCK / 2;

/// Scratch for a product in bf16: that of [`gemm::scratch`] with room for a task's inputs.
pub fn scratch(sources: &[Shape], rows: usize, norm: bool, batch: usize) -> Scratch {
    let tasks = rows.min(Tuning::LARGEST.rows);
    let per_worker = table_len(tasks) + tasks * PAIRS + PAIRS * PANEL + tasks * GROUP * PANEL;
    Scratch { per_worker, ..gemm::scratch(sources, rows, norm, batch) }
}

/// A task of a product, in bf16.
pub struct Pairs<'a, 'b>(pub ProductTask<'a, 'b>);

impl Task for Pairs<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let part = self.0;
        let (p, rows) = (part.p, part.rows);
        let (table, rest) = part.scratch.split_at_mut(table_len(rows));
        let (inputs, rest) = rest.split_at_mut(rows * PAIRS);
        let (expanded, sums) = rest.split_at_mut(PAIRS * PANEL);
        let table: *mut *const f32 = table.as_mut_ptr().cast();
        let sums = &mut sums[..part.panels * rows * PANEL];
        let tiles = Split::at_most(rows, S::TILE_ROWS);
        let channels = [p.sources[0].shape.c, p.sources.last().map_or(0, |x| x.shape.c)];
        let taps = p.window.side * p.window.side;
        let mut blocks = Blocks::new(&channels[..p.sources.len()], taps).peekable();
        let mut old = Old::Ignore;
        while let Some(block) = blocks.next() {
            let k = block.len.div_ceil(2);
            // SAFETY: the table has room for `rows` pointers of each piece, and each points to as many values as its
            // piece has; then it holds one pointer for each row of pairs.
            unsafe {
                point(p, part.zeros, &block, part.first_row, rows, table);
                for (r, to) in inputs.chunks_exact_mut(PAIRS).enumerate() {
                    let pieces = block.pieces().iter().enumerate();
                    let all = pieces.map(|(i, x)| std::slice::from_raw_parts(*table.add(i * rows + r), x.len));
                    join(all, &mut to[..k]);
                }
                for (r, row) in inputs.chunks_exact(PAIRS).enumerate() {
                    table.add(r).write(row.as_ptr());
                }
            }
            for i in 0..part.panels {
                expand(s, p.w.panel(part.first_panel + i, block.from, block.len), &mut expanded[..k * PANEL]);
                let c = sums[i * rows * PANEL..(i + 1) * rows * PANEL].as_mut_ptr();
                for t in 0..tiles.parts {
                    let (row, m) = tiles.part(t);
                    // SAFETY: table, B and C hold what the tiles read and write, by their sizes above.
                    unsafe {
                        let (c, rows) = (c.add(row * PANEL), Rows::Pointers(table.add(row)));
                        Tile { m, k, rows, b: expanded.as_ptr(), c, old }.run_as::<S, Bf16>(s);
                        if blocks.peek().is_none() {
                            let at = Finish { first_row: part.first_row + row, m, panel: part.first_panel + i };
                            at.store(s, p, c, part.out.get(), part.pitch);
                        }
                    }
                }
            }
            old = Old::Add;
        }
    }
}

/// Values that follow each other in several slices to pairs; a last one without a partner is paired with zero.
#[inline(always)]
fn join<'a>(slices: impl Iterator<Item = &'a [f32]>, to: &mut [f32]) {
    let mut row = [0.0; BLOCK];
    let mut len = 0;
    for x in slices {
        row[len..len + x.len()].copy_from_slice(x);
        len += x.len();
    }
    for (to, two) in to.iter_mut().zip(row.chunks_exact(2)) {
        *to = pair(two[0], two[1]);
    }
}

/// Lines of a panel to pairs of lines.
#[inline(always)]
fn expand<S: Simd>(s: S, panel: Panel<'_>, to: &mut [f32]) {
    let lines = match panel {
        Panel::F16(b) => b.len(),
        Panel::F32(b) => b.len(),
    } / PANEL;
    for (i, to) in to.chunks_exact_mut(PANEL).enumerate() {
        let mut at = 0;
        while at < PANEL {
            // SAFETY: lines below `lines` exist; at + LANES <= 32.
            let load = |line: usize| unsafe {
                match panel {
                    _ if line >= lines => s.splat(0.0),
                    Panel::F16(b) => s.load_f16(b.as_ptr().add(line * PANEL + at)),
                    Panel::F32(b) => s.load(b.as_ptr().add(line * PANEL + at)),
                }
            };
            // SAFETY: as above.
            unsafe { s.store(to.as_mut_ptr().add(at), s.pairs(load(2 * i), load(2 * i + 1))) };
            at += S::LANES;
        }
    }
}
