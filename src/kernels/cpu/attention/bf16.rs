//! Flash attention in bf16: queries, keys, values and exponentials rounded to bf16, scores and sums in f32.
//!
//! Keys become pairs along their width, values pairs of neighbouring keys, once for all queries, in shared scratch.
//! Then the rounds are those of the f32 variant.
#![allow(unsafe_code, reason = "rows are read through pointers, and tasks write disjoint parts of scratch and output")]

use super::{Bias, COLUMNS, Head, KEYS, Room, TILES, soften};
use crate::kernels::Dims;
use crate::kernels::attention::Attention;
use crate::kernels::cpu::tile::{Bf16, Old, Rows, Shared, Split, Tile};
use crate::kernels::cpu::{In, Io, Scratch};
use crate::simd::{Isa, Simd, Task, dispatch_bf16, pair};
use crate::tensor::Shape;
use crate::workers::Workers;

/// Pairs of keys of a task that packs.
const PACKED: usize = 32;

/// Elements of the pairs of all keys, whole cache lines: `[b][keys][heads][d/2]`.
fn keys_len(k: Shape, heads: usize) -> usize {
    (k.rows() * keys_pitch(k, heads)).next_multiple_of(16)
}

fn keys_pitch(k: Shape, heads: usize) -> usize {
    heads * (k.c / heads).div_ceil(2)
}

/// Elements of the pairs of all values: `[b][keys/2][c]`.
fn values_len(v: Shape) -> usize {
    v.b * v.pixels().div_ceil(2) * v.c
}

pub fn scratch(op: &Attention, x: &[Shape], _: &[Dims]) -> Scratch {
    let room = Room::new(x[0].c / op.heads);
    let shared = keys_len(x[1], op.heads) + values_len(x[2]);
    Scratch { shared, per_worker: room.len() + KEYS / 2 * COLUMNS }
}

pub fn run(op: &Attention, isa: Isa, io: &mut Io<'_>, workers: &Workers) {
    let [q, k, v] = [io.x[0], io.x[1], io.x[2]];
    let (shape, heads) = (io.y.shape, op.heads);
    let (d, mask) = (shape.c / heads, io.x.get(3).copied());
    let (keys, values) = io.scratch.split_at_mut(keys_len(k.shape, heads));
    pack(&k, &v, heads, isa, Shared::new(keys), Shared::new(values), workers);
    let (keys, values, out): (&[f32], &[f32], _) = (keys, values, Shared::new(io.y.data));
    let blocks = shape.pixels().div_ceil(TILES * COLUMNS);
    workers.for_each(shape.b * heads * blocks, |task, scratch| {
        let (b, head, block) = (task / (heads * blocks), task / blocks % heads, task % blocks);
        let row = |x: &In<'_>| b % x.shape.b * x.shape.pixels();
        let (first, count, pitch) = (block * TILES * COLUMNS, k.shape.pixels(), keys_pitch(k.shape, heads));
        let f32s = Head {
            q: &q.data[(row(&q) + first) * q.pitch + head * d..],
            q_pitch: q.pitch,
            k: &[],
            k_pitch: 0,
            v: &[],
            v_pitch: 0,
            keys: count,
            first,
            queries: (shape.pixels() - first).min(TILES * COLUMNS),
            causal: op.causal,
            bias: mask.map(|mask| Bias::new(&mask, b, head)),
            d,
            // SAFETY: the row is one of the output's.
            out: unsafe { out.get().add((b * shape.pixels() + first) * io.y.pitch + head * d) },
            out_pitch: io.y.pitch,
            scratch,
        };
        let keys = &keys[row(&k) * pitch + head * d.div_ceil(2)..];
        let values = &values[b % v.shape.b * count.div_ceil(2) * shape.c + head * d..];
        dispatch_bf16(isa, Pairs { head: f32s, keys, keys_pitch: pitch, values, values_pitch: shape.c });
    });
}

/// Writes the pairs of all keys and values.
fn pack(k: &In<'_>, v: &In<'_>, heads: usize, isa: Isa, keys: Shared<f32>, values: Shared<f32>, workers: &Workers) {
    let count = k.shape.pixels().div_ceil(2);
    let parts = Split::at_most(count, PACKED);
    for (x, to, is_key) in [(k, keys, true), (v, values, false)] {
        workers.for_each(x.shape.b * parts.parts, |task, _| {
            let (b, (first, pairs)) = (task / parts.parts, parts.part(task % parts.parts));
            dispatch_bf16(isa, Pack { x, heads, is_key, b, first, pairs, to: to.get() });
        });
    }
}

/// Some pairs of keys of a sample, or of values.
struct Pack<'a> {
    x: &'a In<'a>,
    heads: usize,
    is_key: bool,
    b: usize,
    first: usize,
    pairs: usize,
    to: *mut f32,
}

impl Task for Pack<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(self, _: S) {
        let In { data, shape, pitch } = *self.x;
        let (n, c) = (shape.pixels(), shape.c);
        let row = |i: usize| &data[(self.b * n + i) * pitch..][..c];
        for j in self.first..self.first + self.pairs {
            if !self.is_key {
                // SAFETY: this pair of rows is this task's.
                let to = unsafe { std::slice::from_raw_parts_mut(self.to.add((self.b * n.div_ceil(2) + j) * c), c) };
                let low = row(2 * j);
                if 2 * j + 1 < n {
                    let both = low.iter().zip(row(2 * j + 1));
                    to.iter_mut().zip(both).for_each(|(to, (low, high))| *to = pair(*low, *high));
                } else {
                    to.iter_mut().zip(low).for_each(|(to, low)| *to = pair(*low, 0.0));
                }
                continue;
            }
            let (d, width) = (c / self.heads, keys_pitch(shape, self.heads));
            for key in 2 * j..(2 * j + 2).min(n) {
                // SAFETY: this row is this task's.
                let to = unsafe { std::slice::from_raw_parts_mut(self.to.add((self.b * n + key) * width), width) };
                for (to, from) in to.chunks_exact_mut(d.div_ceil(2)).zip(row(key).chunks_exact(d)) {
                    for (to, two) in to.iter_mut().zip(from.chunks(2)) {
                        *to = pair(two[0], two.get(1).copied().unwrap_or(0.0));
                    }
                }
            }
        }
    }
}

/// One task: up to `TILES` tiles of queries of one head of one sample.
struct Pairs<'a> {
    head: Head<'a>,
    keys: &'a [f32],
    keys_pitch: usize,
    values: &'a [f32],
    values_pitch: usize,
}

impl Task for Pairs<'_> {
    type Out = ();

    #[inline(always)]
    fn eval<S: Simd>(mut self, s: S) {
        let head = &mut self.head;
        let (d, pairs, room) = (head.d, head.d.div_ceil(2), Room::new(head.d));
        let scratch = std::mem::take(&mut head.scratch);
        let (queries, rest) = scratch.split_at_mut(room.queries);
        let (table, rest) = rest.split_at_mut(room.keys);
        let (scores, rest) = rest.split_at_mut(room.scores);
        let (sums, rest) = rest.split_at_mut(room.sums);
        let (columns, rest) = rest.split_at_mut(room.columns);
        let weights = &mut rest[..KEYS / 2 * COLUMNS];
        let table: *mut *const f32 = table.as_mut_ptr().cast();
        let tiles = head.queries.div_ceil(COLUMNS);
        pack_queries(head, queries);
        let mut from = 0;
        while from < head.seen(tiles - 1) {
            let count = KEYS.min(head.keys - from);
            for j in 0..count {
                let key = &self.keys[(from + j) * self.keys_pitch..][..pairs];
                // SAFETY: the table has room for KEYS pointers.
                unsafe { table.add(j).write(key.as_ptr()) };
            }
            for t in 0..tiles {
                let count = count.min(head.seen(t).saturating_sub(from));
                if count == 0 {
                    continue;
                }
                let columns = &mut columns[t * 3 * COLUMNS..(t + 1) * 3 * COLUMNS];
                let q = &queries[t * pairs * COLUMNS..(t + 1) * pairs * COLUMNS];
                let o = &mut sums[t * d * COLUMNS..(t + 1) * d * COLUMNS];
                let split = Split::at_most(count, S::TILE_ROWS);
                for i in 0..split.parts {
                    let (key, m) = split.part(i);
                    let c = scores[key * COLUMNS..].as_mut_ptr();
                    // SAFETY: the table holds `count` keys, q their number of pairs in lines, scores KEYS lines.
                    unsafe {
                        let rows = Rows::Pointers(table.add(key));
                        Tile { m, k: pairs, rows, b: q.as_ptr(), c, old: Old::Ignore }.run_as::<S, Bf16>(s);
                    }
                }
                head.mask(t, from, count, scores);
                soften(s, &mut scores[..count * COLUMNS], columns, from == 0);
                pack_weights(s, &scores[..count * COLUMNS], weights);
                let old = if from == 0 { Old::Ignore } else { Old::Scale(columns[2 * COLUMNS..].as_ptr()) };
                let k = count.div_ceil(2);
                let values = &self.values[from / 2 * self.values_pitch..][..(k - 1) * self.values_pitch + d];
                let split = Split::at_most(d, S::TILE_ROWS);
                for i in 0..split.parts {
                    let (c, m) = split.part(i);
                    let rows = Rows::Transposed { start: values[c..].as_ptr(), pitch: self.values_pitch };
                    let (b, c) = (weights.as_ptr(), o[c * COLUMNS..].as_mut_ptr());
                    // SAFETY: k rows of values have d columns, weights k lines, o d lines.
                    unsafe { Tile { m, k, rows, b, c, old }.run_as::<S, Bf16>(s) };
                }
            }
            from += KEYS;
        }
        for t in 0..tiles {
            let total = &columns[t * 3 * COLUMNS + COLUMNS..][..COLUMNS];
            // SAFETY: the output's rows of these queries are this task's.
            unsafe { head.finish(t, &sums[t * d * COLUMNS..][..d * COLUMNS], total) };
        }
    }
}

/// Q^T as pairs along d, scaled, with zeros for queries that do not exist.
#[inline(always)]
fn pack_queries(head: &Head<'_>, to: &mut [f32]) {
    let scale = (std::f64::consts::LOG2_E / (head.d as f64).sqrt()) as f32;
    let pairs = head.d.div_ceil(2);
    for i in 0..head.queries.next_multiple_of(COLUMNS) {
        let column = &mut to[i / COLUMNS * pairs * COLUMNS + i % COLUMNS..];
        if i >= head.queries {
            (0..pairs).for_each(|c| column[c * COLUMNS] = 0.0);
            continue;
        }
        let row = &head.q[i * head.q_pitch..][..head.d];
        for (c, two) in row.chunks(2).enumerate() {
            column[c * COLUMNS] = pair(two[0] * scale, two.get(1).map_or(0.0, |x| x * scale));
        }
    }
}

/// Lines of exponentials to pairs of lines.
#[inline(always)]
fn pack_weights<S: Simd>(s: S, lines: &[f32], to: &mut [f32]) {
    for (two, to) in lines.chunks(2 * COLUMNS).zip(to.chunks_exact_mut(COLUMNS)) {
        let mut at = 0;
        while at < COLUMNS {
            // SAFETY: the chunk holds one line or two of 32 values; at + LANES <= 32.
            unsafe {
                let low = s.load(two.as_ptr().add(at));
                let high = if two.len() > COLUMNS { s.load(two.as_ptr().add(COLUMNS + at)) } else { s.splat(0.0) };
                s.store(to.as_mut_ptr().add(at), s.pairs(low, high));
            }
            at += S::LANES;
        }
    }
}
