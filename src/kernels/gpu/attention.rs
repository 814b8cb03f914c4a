//! attention on a GPU. `naive`: a thread for each quad of the output. `flash`: tiles of scores in workgroup memory.
//! `coop`: products on tensor cores.

mod coop;

use super::bands::{Slice, cut, rows_that_fit, whole_fits};
use super::{
    Bind, Dispatch, GpuVariant, Launch, LaunchIo, Limits, Record, Shader, Storage, View, What, linear, params,
};
use crate::kernels::Dims;
use crate::kernels::attention::Attention;
use crate::tensor::Shape;
use std::ops::Range;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<Attention>] = &[
    GpuVariant { name: "naive", supports: |_, x, _, limits| binds(x, limits), launch: naive },
    GpuVariant { name: "flash", supports: supports_flash, launch: flash },
    GpuVariant { name: "coop", supports: coop::supports, launch: coop::launch },
];

params! {
    /// See `shaders/attention_naive.wgsl`.
    NaiveParams {
        /// Quads of the output.
        total: u32,
        /// Quads of an output row.
        quads: u32,
        /// Channels.
        c: u32,
        /// Channels of a head.
        d: u32,
        /// Queries of a sample in this dispatch.
        rows: u32,
        /// The first of them.
        query0: u32,
        /// Keys of a sample.
        keys: u32,
        /// 1 / sqrt(d).
        scale: f32,
        /// First quad of q.
        q_start: u32,
        /// Quads from one row of q to the next.
        q_pitch: u32,
        /// Rows after which q repeats.
        q_rows: u32,
        /// First quad of k.
        k_start: u32,
        /// Quads from one row of k to the next.
        k_pitch: u32,
        /// Rows after which k repeats.
        k_rows: u32,
        /// First quad of v.
        v_start: u32,
        /// Quads from one row of v to the next.
        v_pitch: u32,
        /// Rows after which v repeats.
        v_rows: u32,
        /// First quad of the mask.
        mask_start: u32,
        /// Quads from one row of the mask to the next.
        mask_pitch: u32,
        /// Samples, planes and rows after which the mask repeats.
        mask_b: u32,
        /// See `mask_b`.
        mask_heads: u32,
        /// See `mask_b`.
        mask_rows: u32,
        /// First quad of y.
        y_start: u32,
    }
}

params! {
    /// See `shaders/attention_flash.wgsl`; `attention_coop.wgsl` has the same.
    FlashParams {
        /// Blocks of queries of a sample and head.
        blocks: u32,
        /// Heads.
        heads: u32,
        /// Queries of a sample in this dispatch.
        rows: u32,
        /// The first of them.
        query0: u32,
        /// Keys of a sample.
        keys: u32,
        /// 1 / sqrt(d).
        scale: f32,
        /// First quad of q.
        q_start: u32,
        /// Quads from one row of q to the next.
        q_pitch: u32,
        /// Rows after which q repeats.
        q_rows: u32,
        /// First quad of k.
        k_start: u32,
        /// Quads from one row of k to the next.
        k_pitch: u32,
        /// Rows after which k repeats.
        k_rows: u32,
        /// First quad of v.
        v_start: u32,
        /// Quads from one row of v to the next.
        v_pitch: u32,
        /// Rows after which v repeats.
        v_rows: u32,
        /// First quad of the mask.
        mask_start: u32,
        /// Quads from one row of the mask to the next.
        mask_pitch: u32,
        /// Samples, planes and rows after which the mask repeats.
        mask_b: u32,
        /// See `mask_b`.
        mask_heads: u32,
        /// See `mask_b`.
        mask_rows: u32,
        /// First quad of y.
        y_start: u32,
        /// Quads from one row of y to the next.
        y_pitch: u32,
    }
}

/// Whether all keys of a sample and at least one query fit into bindings, though q, k and v be columns of one tensor.
fn binds(x: &[Shape], limits: &Limits) -> bool {
    let [q, k, _, mask @ ..] = x else { return false };
    // A sample's mask is seen as a whole.
    let seen = |m: &Shape| {
        let view = View::whole(*m);
        whole_fits(&view, limits) || m.h * m.w <= rows_that_fit(view.pitch, limits)
    };
    if !mask.iter().all(seen) {
        return false;
    }
    let fit = rows_that_fit(3 * View::whole(*q).pitch, limits);
    fit >= 1 && fit >= k.pixels()
        || [q, k]
            .iter()
            .all(|s| 3 * View::whole(**s).pitch * s.rows() * limits.storage.bytes() <= limits.max_binding as usize)
}

/// A mask in the words of the parameters.
#[derive(Clone, Copy, Default)]
struct Mask {
    bind: Option<Bind>,
    start: u32,
    pitch: u32,
    b: u32,
    heads: u32,
    rows: u32,
}

impl Mask {
    /// All samples' masks, or one sample's.
    fn new(view: Option<&View>, sample: Option<usize>, storage: Storage) -> Self {
        let Some(view) = view else { return Self::default() };
        let Shape { b, h, w, .. } = view.shape;
        let (from, samples) = sample.map_or((0, b), |n| (n % b, 1));
        let slice = Slice::new(What::X(3), view, from * h * w..(from + samples) * h * w, storage);
        Self {
            bind: Some(slice.bind),
            start: slice.start,
            pitch: view.pitch_quads(),
            b: samples as u32,
            heads: h as u32,
            rows: w as u32,
        }
    }

    /// The file of the slot `mask`.
    fn file(op: &Attention) -> &'static str {
        if op.mask { "mask_given" } else { "mask_none" }
    }
}

/// What a dispatch sees: some queries of one sample, or all queries of all samples.
struct Band {
    samples: usize,
    queries: Range<usize>,
    /// q, k, v and y.
    slices: [Slice; 4],
    /// The mask, as the shaders are told of it; all of it is zero where there is none.
    mask: Mask,
}

fn bands(io: &LaunchIo<'_>) -> Vec<Band> {
    let (b, pixels, storage) = (io.y.shape.b, io.y.shape.pixels(), io.limits.storage);
    let views = || io.x.iter().chain([&io.y]);
    let all = views().all(|v| whole_fits(v, io.limits));
    let one = |sample: usize, queries: Range<usize>| {
        let operand = |i: usize, v: &View| {
            let n = v.shape.pixels();
            let first = sample % v.shape.b * n;
            let rows = match (all, i) {
                (true, _) => 0..v.shape.rows(),
                (false, 0) => first + queries.start..first + queries.end,
                (false, _) => first..first + n,
            };
            Slice::new(What::X(i), v, rows, storage)
        };
        let from = if all { 0 } else { sample * pixels };
        let to = if all { b * pixels } else { from + queries.end };
        let y = Slice::new(What::Y, &io.y, from + queries.start..to, storage);
        let slices = [operand(0, &io.x[0]), operand(1, &io.x[1]), operand(2, &io.x[2]), y];
        let mask = Mask::new(io.x.get(3), (!all).then_some(sample), storage);
        Band { samples: if all { b } else { 1 }, queries, slices, mask }
    };
    if all {
        return vec![one(0, 0..pixels)];
    }
    let fit = rows_that_fit(io.x[0].pitch.max(io.y.pitch), io.limits);
    (0..b)
        .flat_map(|sample| cut(pixels, pixels, fit).into_iter().map(move |queries| (sample, queries)))
        .map(|(s, q)| one(s, q))
        .collect()
}

fn naive(op: &Attention, io: &LaunchIo<'_>) -> Launch {
    let [q, k, v, ..] = io.x else { return Launch::default() };
    let d = q.shape.c / op.heads;
    let one = |band: Band| {
        let total = band.samples * band.queries.len() * io.y.quads() as usize;
        let ([xq, xk, xv, y], mask) = (band.slices, band.mask);
        let params = NaiveParams {
            first: 0,
            total: total as u32,
            quads: io.y.quads(),
            c: q.shape.c as u32,
            d: d as u32,
            rows: band.queries.len() as u32,
            query0: band.queries.start as u32,
            keys: k.shape.pixels() as u32,
            scale: scale(d),
            q_start: xq.start,
            q_pitch: q.pitch_quads(),
            q_rows: xq.rows,
            k_start: xk.start,
            k_pitch: k.pitch_quads(),
            k_rows: xk.rows,
            v_start: xv.start,
            v_pitch: v.pitch_quads(),
            v_rows: xv.rows,
            mask_start: mask.start,
            mask_pitch: mask.pitch,
            mask_b: mask.b,
            mask_heads: mask.heads,
            mask_rows: mask.rows,
            y_start: y.start,
        };
        Dispatch {
            shader: Shader::new("attention_naive", io.limits).slot("mask", Mask::file(op)).with("CAUSAL", op.causal),
            params: Record::new(&params),
            binds: [xq.bind, xk.bind, xv.bind].into_iter().chain(mask.bind).chain([y.bind]).collect(),
            grid: linear(total),
        }
    };
    Launch { dispatches: bands(io).into_iter().map(one).collect(), scratch: Vec::new() }
}

fn scale(d: usize) -> f32 {
    (1.0 / (d as f64).sqrt()) as f32
}

/// How `attention_flash` is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    tx: u32,
    ty: u32,
    per: u32,
    part: u32,
    step: u32,
    values: u32,
}

/// Bytes of workgroup memory that `attention_flash` uses: the WebGPU default, and half as much again where a device has
/// so much that several workgroups still share a processor. Which of the two changes no bit of the result.
fn shared_bytes(limits: &Limits) -> u32 {
    if limits.workgroup_bytes >= 48 << 10 { 24 << 10 } else { 16 << 10 }
}

impl Tile {
    /// For heads of so many quads.
    fn new(head: u32, limits: &Limits) -> Option<Self> {
        // 10 threads side by side fit heads of 40, 80 and 160 channels without waste: 64 queries, 40 keys, 160 threads,
        // which is five subgroups of 32. Other heads take 8 threads for each of 16 rows of them, or, if wide, 16 for
        // each of 8, so that no thread adds up more than 32 quads.
        let (tx, ty) = match head {
            10 | 20 | 30 | 40 => (10, 16),
            0..=32 => (8, 16),
            33..=128 => (16, 8),
            _ => return None,
        };
        let per = head.div_ceil(tx);
        // In quads: what weights and row_slots leave.
        let stage = shared_bytes(limits) / 16 - tx * (4 * ty + 1) - tx * ty;
        let step = *[4, 2, 1].iter().find(|s| head.is_multiple_of(**s) && **s * 4 * (tx + ty) <= stage)?;
        // As many columns of v as fit beside four keys, so that weights are read seldom; then as many keys.
        let part = (1..=per).rev().find(|part| per.is_multiple_of(*part) && 4 * part * tx <= stage)?;
        let values = 4 * (1..=tx).rev().find(|n| tx.is_multiple_of(*n) && 4 * n * part * tx <= stage)?;
        Some(Self { tx, ty, per, part, step, values })
    }
}

fn supports_flash(op: &Attention, x: &[Shape], _: &[Dims], limits: &Limits) -> bool {
    let Some(d) = x.first().map(|q| q.c / op.heads) else { return false };
    binds(x, limits) && d.is_multiple_of(4) && Tile::new((d / 4) as u32, limits).is_some()
}

fn flash(op: &Attention, io: &LaunchIo<'_>) -> Launch {
    let [q, ..] = io.x else { return Launch::default() };
    let head = (q.shape.c / op.heads / 4) as u32;
    let Some(tile) = Tile::new(head, io.limits) else { return Launch::default() };
    let shader = Shader::new("attention_flash", io.limits)
        .slot("mask", Mask::file(op))
        .with("CAUSAL", op.causal)
        .with("HEAD", head)
        .with("TX", tile.tx)
        .with("TY", tile.ty)
        .with("PER", tile.per)
        .with("PART", tile.part)
        .with("STEP", tile.step)
        .with("VALUES", tile.values);
    dispatches(op, io, &shader, 4 * tile.ty as usize)
}

/// The dispatches of a shader whose workgroups compute `block` queries of a head.
fn dispatches(op: &Attention, io: &LaunchIo<'_>, shader: &Shader, block: usize) -> Launch {
    let [q, k, v, ..] = io.x else { return Launch::default() };
    let one = |band: Band| {
        let blocks = band.queries.len().div_ceil(block);
        let ([xq, xk, xv, y], mask) = (band.slices, band.mask);
        let params = FlashParams {
            first: 0,
            blocks: blocks as u32,
            heads: op.heads as u32,
            rows: band.queries.len() as u32,
            query0: band.queries.start as u32,
            keys: k.shape.pixels() as u32,
            scale: scale(q.shape.c / op.heads),
            q_start: xq.start,
            q_pitch: q.pitch_quads(),
            q_rows: xq.rows,
            k_start: xk.start,
            k_pitch: k.pitch_quads(),
            k_rows: xk.rows,
            v_start: xv.start,
            v_pitch: v.pitch_quads(),
            v_rows: xv.rows,
            mask_start: mask.start,
            mask_pitch: mask.pitch,
            mask_b: mask.b,
            mask_heads: mask.heads,
            mask_rows: mask.rows,
            y_start: y.start,
            y_pitch: io.y.pitch_quads(),
        };
        Dispatch {
            shader: shader.clone(),
            params: Record::new(&params),
            binds: [xq.bind, xk.bind, xv.bind].into_iter().chain(mask.bind).chain([y.bind]).collect(),
            grid: [(band.samples * blocks * op.heads) as u32, 1, 1],
        }
    };
    Launch { dispatches: bands(io).into_iter().map(one).collect(), scratch: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_every_head() {
        let small = Limits::webgpu(Storage::F32);
        let large = Limits { workgroup_bytes: 48 << 10, ..small.clone() };
        for limits in [&small, &large] {
            for head in 1..=128 {
                let t = Tile::new(head, limits).unwrap_or_else(|| panic!("no tile for {head} quads"));
                assert!(t.per * t.tx >= head && t.per * 4 <= 32 && t.tx * t.ty <= limits.invocations, "{head}: {t:?}");
                assert!((4 * t.tx).is_multiple_of(t.values) && t.values.is_multiple_of(4), "{head}: {t:?}");
            }
        }
        assert_eq!(Tile::new(129, &small), None);
    }
}
