//! The CPU's attention: q, k and v in, softmax-weighted sums of v out, the scores never stored as a whole.
//!
//! Queries are in SIMD lanes: for 32 queries, S^T = K Q^T has keys as rows, so the rows of k and v are used as they
//! lie, maxima and sums go down the columns without shuffles, and no width of a head needs padding.
#![allow(unsafe_code, reason = "rows are read through pointers, and tasks write disjoint parts of one output")]

mod bf16;

use super::tile::{COLUMNS, Old, Rows, Shared, Split, Tile};
use super::{In, Io, Scratch, Variant};
use crate::kernels::Dims;
use crate::kernels::attention::Attention;
use crate::simd::{Isa, Simd, Task, dispatch, math};
use crate::tensor::Shape;
use crate::workers::Workers;

/// Slowest first.
pub(crate) static VARIANTS: &[Variant<Attention>] = &[
    Variant { scratch: naive_scratch, ..Variant::plain("naive", naive) },
    Variant { scratch: flash_scratch, ..Variant::plain("flash", flash) },
    Variant { scratch: bf16::scratch, ..Variant::plain("flash_bf16", bf16::run) },
];

/// Keys of one round of the online softmax: they, their scores (8 KiB), values and sums share a first-level cache of 32
/// KiB at 40 channels a head.
const KEYS: usize = 64;
/// Tiles of 32 queries that share each round's keys while those are in the cache.
const TILES: usize = 4;

fn naive_scratch(_: &Attention, x: &[Shape], _: &[Dims]) -> Scratch {
    Scratch { shared: 0, per_worker: x[1].pixels() }
}

/// One output row is a task; for each head scores, softmax, weighted sum.
fn naive(op: &Attention, _: Isa, io: &mut Io<'_>, workers: &Workers) {
    let [q, k, v] = [io.x[0], io.x[1], io.x[2]];
    let (shape, d, mask) = (io.y.shape, io.y.shape.c / op.heads, io.x.get(3).copied());
    workers.for_each_part(io.y.rows(), 1, |row, y, scratch| {
        let (b, t) = (row / shape.pixels(), row % shape.pixels());
        let seen = if op.causal { t + 1 } else { k.shape.pixels() };
        let scores = &mut scratch[..seen];
        for (head, y) in y.chunks_exact_mut(d).enumerate() {
            let at = |x: &In<'_>, token: usize, c: usize| {
                x.data[(b % x.shape.b * x.shape.pixels() + token) * x.pitch + head * d + c]
            };
            for (j, s) in scores.iter_mut().enumerate() {
                *s = (0..d).map(|c| at(&q, t, c) * at(&k, j, c)).sum::<f32>() / (d as f32).sqrt();
            }
            if let Some(mask) = &mask {
                let bias = Bias::new(mask, b, head).row(t);
                scores.iter_mut().zip(bias).for_each(|(s, bias)| *s += bias);
            }
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|s| *s = (*s - most).exp());
            let sum: f32 = scores.iter().sum();
            for (c, y) in y.iter_mut().enumerate() {
                *y = scores.iter().enumerate().map(|(j, s)| s * at(&v, j, c)).sum::<f32>() / sum;
            }
        }
    });
}

/// The plane of a mask that one head of one sample sees.
#[derive(Clone, Copy)]
struct Bias<'a> {
    rows: &'a [f32],
    pitch: usize,
    queries: usize,
    keys: usize,
}

impl<'a> Bias<'a> {
    fn new(mask: &In<'a>, b: usize, head: usize) -> Self {
        let In { data, shape, pitch } = *mask;
        let first = (b % shape.b * shape.h + head % shape.h) * shape.w;
        Self { rows: &data[first * pitch..], pitch, queries: shape.w, keys: shape.c }
    }

    /// What is added to a query's scores.
    fn row(&self, query: usize) -> &'a [f32] {
        &self.rows[query.min(self.queries - 1) * self.pitch..][..self.keys]
    }

    /// Adds to lines of 32 queries' scores for keys `from`, ..., which are powers of two. Queries that do not exist get
    /// the last one's.
    fn add(&self, query: usize, from: usize, scores: &mut [f32]) {
        let count = scores.len() / COLUMNS;
        for i in 0..COLUMNS {
            let row = &self.row(query + i)[from..from + count];
            for (line, bias) in scores.chunks_exact_mut(COLUMNS).zip(row) {
                line[i] += bias * std::f32::consts::LOG2_E;
            }
        }
    }
}

/// The parts of a worker's scratch, each whole cache lines.
struct Room {
    /// Q^T of each tile, `[d][32]`, scaled.
    queries: usize,
    /// Pointers to a round's keys.
    keys: usize,
    /// Scores, then their exponentials, `[KEYS][32]`.
    scores: usize,
    /// O^T of each tile, `[d][32]`.
    sums: usize,
    /// For each tile: maxima, totals, the factor for older sums; 32 each.
    columns: usize,
}

impl Room {
    fn new(d: usize) -> Self {
        Self {
            queries: TILES * d * COLUMNS,
            keys: (KEYS * size_of::<*const f32>() / size_of::<f32>()).next_multiple_of(16),
            scores: KEYS * COLUMNS,
            sums: TILES * d * COLUMNS,
            columns: TILES * 3 * COLUMNS,
        }
    }

    fn len(&self) -> usize {
        self.queries + self.keys + self.scores + self.sums + self.columns
    }
}

fn flash_scratch(op: &Attention, x: &[Shape], _: &[Dims]) -> Scratch {
    Scratch { shared: 0, per_worker: Room::new(x[0].c / op.heads).len() }
}

fn flash(op: &Attention, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let [q, k, v] = [io.x[0], io.x[1], io.x[2]];
    let shape = io.y.shape;
    let (d, mask) = (shape.c / op.heads, io.x.get(3).copied());
    let out = Shared::new(io.y.data);
    let blocks = shape.pixels().div_ceil(TILES * COLUMNS);
    workers.for_each(shape.b * op.heads * blocks, |task, scratch| {
        let (b, head, block) = (task / (op.heads * blocks), task / blocks % op.heads, task % blocks);
        let row = |x: &In<'_>| b % x.shape.b * x.shape.pixels();
        let bias = mask.map(|mask| Bias::new(&mask, b, head));
        let first = block * TILES * COLUMNS;
        let head = Head {
            q: &q.data[(row(&q) + first) * q.pitch + head * d..],
            q_pitch: q.pitch,
            k: &k.data[row(&k) * k.pitch + head * d..],
            k_pitch: k.pitch,
            v: &v.data[row(&v) * v.pitch + head * d..],
            v_pitch: v.pitch,
            keys: k.shape.pixels(),
            first,
            queries: (shape.pixels() - first).min(TILES * COLUMNS),
            causal: op.causal,
            bias,
            d,
            // SAFETY: the row is one of the output's.
            out: unsafe { out.get().add((b * shape.pixels() + first) * io.y.pitch + head * d) },
            out_pitch: io.y.pitch,
            scratch,
        };
        dispatch(isa, head);
    });
}

/// One task: up to `TILES` tiles of queries of one head of one sample.
struct Head<'a> {
    q: &'a [f32],
    q_pitch: usize,
    k: &'a [f32],
    k_pitch: usize,
    v: &'a [f32],
    v_pitch: usize,
    keys: usize,
    first: usize,
    queries: usize,
    causal: bool,
    bias: Option<Bias<'a>>,
    d: usize,
    out: *mut f32,
    out_pitch: usize,
    scratch: &'a mut [f32],
}

impl Task for Head<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(mut self, s: S) {
        let room = Room::new(self.d);
        let scratch = std::mem::take(&mut self.scratch);
        let (queries, rest) = scratch.split_at_mut(room.queries);
        let (table, rest) = rest.split_at_mut(room.keys);
        let (scores, rest) = rest.split_at_mut(room.scores);
        let (sums, rest) = rest.split_at_mut(room.sums);
        let columns = &mut rest[..room.columns];
        let table: *mut *const f32 = table.as_mut_ptr().cast();
        let tiles = self.queries.div_ceil(COLUMNS);
        self.pack_queries(queries);
        let mut from = 0;
        while from < self.seen(tiles - 1) {
            let count = KEYS.min(self.keys - from);
            for j in 0..count {
                let key = &self.k[(from + j) * self.k_pitch..][..self.d];
                // SAFETY: the table has room for KEYS pointers.
                unsafe { table.add(j).write(key.as_ptr()) };
            }
            for t in 0..tiles {
                let count = count.min(self.seen(t).saturating_sub(from));
                if count == 0 {
                    continue;
                }
                let columns = &mut columns[t * 3 * COLUMNS..(t + 1) * 3 * COLUMNS];
                let size = self.d * COLUMNS;
                let (q, o) = (&queries[t * size..(t + 1) * size], &mut sums[t * size..(t + 1) * size]);
                // SAFETY: the table holds `count` keys of d values, q and o d lines, scores KEYS lines.
                unsafe {
                    self.score(s, table, count, q.as_ptr(), scores.as_mut_ptr());
                    self.mask(t, from, count, scores);
                    soften(s, &mut scores[..count * COLUMNS], columns, from == 0);
                    self.weigh(s, from, count, scores.as_ptr(), columns, o.as_mut_ptr());
                }
            }
            from += KEYS;
        }
        for t in 0..tiles {
            let total = &columns[t * 3 * COLUMNS + COLUMNS..][..COLUMNS];
            // SAFETY: the output's rows of these queries are this task's.
            unsafe { self.finish(t, &sums[t * self.d * COLUMNS..][..self.d * COLUMNS], total) };
        }
    }
}

impl Head<'_> {
    /// Keys that any query of a tile sees.
    #[inline(always)]
    fn seen(&self, tile: usize) -> usize {
        if self.causal { self.keys.min(self.first + (tile + 1) * COLUMNS) } else { self.keys }
    }

    /// Q^T with zeros for queries that do not exist, scaled so that the softmax is one of powers of two.
    #[inline(always)]
    fn pack_queries(&self, to: &mut [f32]) {
        let scale = (std::f64::consts::LOG2_E / (self.d as f64).sqrt()) as f32;
        // Lines are written in order; the 32 rows that they come from stay in the cache.
        for (t, tile) in to.chunks_exact_mut(self.d * COLUMNS).take(self.queries.div_ceil(COLUMNS)).enumerate() {
            let rows = COLUMNS.min(self.queries - t * COLUMNS);
            let from = &self.q[t * COLUMNS * self.q_pitch..];
            for (c, line) in tile.chunks_exact_mut(COLUMNS).enumerate() {
                line[rows..].fill(0.0);
                for (i, x) in line[..rows].iter_mut().enumerate() {
                    *x = from[i * self.q_pitch + c] * scale;
                }
            }
        }
    }

    /// S^T = K Q^T.
    ///
    /// # Safety
    /// The table must hold `count` rows of d values, `q` d lines, `scores` room for `count` lines.
    #[inline(always)]
    unsafe fn score<S: Simd>(&self, s: S, table: *const *const f32, count: usize, q: *const f32, scores: *mut f32) {
        let split = Split::at_most(count, S::TILE_ROWS);
        for i in 0..split.parts {
            let (key, m) = split.part(i);
            // SAFETY: the caller's.
            unsafe {
                let rows = Rows::Pointers(table.add(key));
                Tile { m, k: self.d, rows, b: q, c: scores.add(key * COLUMNS), old: Old::Ignore }.run(s);
            }
        }
    }

    /// Adds the mask, and hides the keys that come after a query.
    #[inline(always)]
    fn mask(&self, tile: usize, from: usize, count: usize, scores: &mut [f32]) {
        let first = self.first + tile * COLUMNS;
        if let Some(bias) = &self.bias {
            bias.add(first, from, &mut scores[..count * COLUMNS]);
        }
        if self.causal && from + count > first {
            for (j, line) in scores.chunks_exact_mut(COLUMNS).take(count).enumerate() {
                let hidden = (from + j).saturating_sub(first).min(COLUMNS);
                line[..hidden].fill(f32::NEG_INFINITY);
            }
        }
    }

    /// O^T = O^T * factor + V^T P^T.
    ///
    /// # Safety
    /// `weights` must hold `count` lines, `sums` d lines.
    #[inline(always)]
    unsafe fn weigh<S: Simd>(
        &self,
        s: S,
        from: usize,
        count: usize,
        weights: *const f32,
        columns: &[f32],
        sums: *mut f32,
    ) {
        let old = if from == 0 { Old::Ignore } else { Old::Scale(columns[2 * COLUMNS..].as_ptr()) };
        let values = &self.v[from * self.v_pitch..][..(count - 1) * self.v_pitch + self.d];
        let split = Split::at_most(self.d, S::TILE_ROWS);
        for i in 0..split.parts {
            let (c, m) = split.part(i);
            let rows = Rows::Transposed { start: values[c..].as_ptr(), pitch: self.v_pitch };
            // SAFETY: the caller's; the last row of values was just checked to have d of them.
            unsafe {
                Tile { m, k: count, rows, b: weights, c: sums.add(c * COLUMNS), old }.run(s);
            }
        }
    }

    /// Divides by the totals and turns O^T into rows of the output.
    ///
    /// # Safety
    /// This task must own the output rows of the tile.
    #[inline(always)]
    unsafe fn finish(&self, tile: usize, sums: &[f32], total: &[f32]) {
        for i in 0..COLUMNS.min(self.queries - tile * COLUMNS) {
            let by = 1.0 / total[i];
            // SAFETY: the caller's.
            let row =
                unsafe { std::slice::from_raw_parts_mut(self.out.add((tile * COLUMNS + i) * self.out_pitch), self.d) };
            for (y, line) in row.iter_mut().zip(sums.chunks_exact(COLUMNS)) {
                *y = line[i] * by;
            }
        }
    }
}

/// One round of the online softmax: scores become powers of two relative to the new maximum; `columns` are the maxima,
/// the totals and the factor by which older sums shrink.
#[inline(always)]
fn soften<S: Simd>(s: S, scores: &mut [f32], columns: &mut [f32], first: bool) {
    let p = scores.as_mut_ptr();
    let (lines, c) = (scores.len() / COLUMNS, columns.as_mut_ptr());
    let mut at = 0;
    while at < COLUMNS {
        // SAFETY: p has `lines` lines of 32, c three; at + LANES <= 32.
        unsafe {
            let (old_max, old_total) = (s.load(c.add(at)), s.load(c.add(COLUMNS + at)));
            let mut most = if first { s.load(p.add(at)) } else { old_max };
            for j in 0..lines {
                most = s.max(most, s.load(p.add(j * COLUMNS + at)));
            }
            let (shrink, mut total) = if first {
                (s.splat(0.0), s.splat(0.0))
            } else {
                let shrink = math::exp2(s, s.sub(old_max, most));
                (shrink, s.mul(old_total, shrink))
            };
            for j in 0..lines {
                let to = p.add(j * COLUMNS + at);
                let e = math::exp2(s, s.sub(s.load(to), most));
                total = s.add(total, e);
                s.store(to, e);
            }
            s.store(c.add(at), most);
            s.store(c.add(COLUMNS + at), total);
            s.store(c.add(2 * COLUMNS + at), shrink);
        }
        at += S::LANES;
    }
}
