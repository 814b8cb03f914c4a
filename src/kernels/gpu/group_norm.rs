//! group_norm on a GPU. `naive`: a workgroup per sample and group. `merged`: moments of each channel over tiles of
//! pixels go to a scratch buffer, then every workgroup joins those of its groups and normalises its part. Where the
//! producers of the sources have left statistics the first dispatch is not needed, unless there are so many tiles of
//! them that joining some first is cheaper.
//!
//! What rounds (tiles, the order in which they are joined) depends on a sample's shape and on nothing else, unless
//! bindings are so small that a tile of pixels does not fit into one.

mod records;

use super::bands::{Slice, cut, rows_that_fit, whole_fits};
use super::{ALIGN, Bind, Dispatch, GpuVariant, Launch, LaunchIo, Limits, Record, Shader, Storage, View, What};
use crate::kernels::group_norm::GroupNorm;
use crate::kernels::statistics::PIXELS;
use crate::kernels::{Dims, Kernel};
use crate::tensor::Shape;
use records::{ApplyParams, JoinParams, NaiveParams, StatsParams};
use std::ops::Range;

/// Slowest first.
pub const VARIANTS: &[GpuVariant<GroupNorm>] = &[
    GpuVariant { name: "naive", supports: supports_naive, launch: naive },
    GpuVariant { name: "merged", supports: supports_merged, launch: merged },
];

/// Quads that `group_norm_stats` and `group_norm_apply` take side by side.
const STRIP: usize = 16;

/// What every dispatch needs to know of the shapes.
struct Sizes<'a> {
    x0: &'a View,
    /// The first source again where there is only one.
    x1: &'a View,
    second: usize,
    quads0: usize,
    quads1: usize,
    pixels: usize,
    group: usize,
}

impl<'a> Sizes<'a> {
    fn new(op: &GroupNorm, io: &LaunchIo<'a>) -> Option<Self> {
        let x0 = io.x.first()?;
        let second = usize::from(op.two_sources);
        let x1 = io.x.get(second)?;
        Some(Self {
            x0,
            x1,
            second,
            quads0: x0.quads() as usize,
            quads1: second * x1.quads() as usize,
            pixels: io.y.shape.pixels(),
            group: io.y.shape.c / op.groups,
        })
    }

    /// The rows of samples `samples`, or pixels `pixels` of one sample, of both sources.
    fn slices(&self, samples: &Range<usize>, pixels: &Range<usize>, limits: &Limits) -> [Slice; 2] {
        let of = |i: usize, v: &View| {
            let count = samples.len().min(v.shape.b);
            let first = if samples.len() >= v.shape.b { 0 } else { samples.start % v.shape.b };
            let from = first * self.pixels + pixels.start;
            Slice::new(What::X(i), v, from..from + (count - 1) * self.pixels + pixels.len(), limits.storage)
        };
        [of(0, self.x0), of(self.second, self.x1)]
    }

    /// The statistics of samples `samples` that the producers of both sources have left.
    fn given(&self, io: &LaunchIo<'_>, samples: &Range<usize>) -> [Slice; 2] {
        let of = |i: usize| {
            let v = &io.x[i];
            let count = samples.len().min(v.shape.b);
            let first = if samples.len() >= v.shape.b { 0 } else { samples.start % v.shape.b };
            let rows = v.shape.pixels();
            Slice::new(What::X(i), v, first * rows..(first + count) * rows, Storage::F32)
        };
        [of(1 + self.second), of(1 + 2 * self.second)]
    }

    /// All samples at once, if that fits; else one by one.
    fn samples(&self, io: &LaunchIo<'_>, also: bool) -> Vec<Range<usize>> {
        let all = also && [self.x0, self.x1, &io.y].iter().all(|v| whole_fits(v, io.limits));
        let b = io.y.shape.b;
        if all { cut(b, b, b) } else { cut(b, 1, 1) }
    }
}

fn supports_naive(op: &GroupNorm, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    // A whole sample must fit: its statistics are taken in one dispatch.
    let fits = |s: &Shape| {
        let v = View::whole(*s);
        whole_fits(&v, limits) || rows_that_fit(v.pitch, limits) >= s.pixels()
    };
    !op.given && op.output(x, w).is_ok_and(|y| fits(&y[0])) && x.iter().all(fits)
}

fn naive(op: &GroupNorm, io: &LaunchIo<'_>) -> Launch {
    let Some(s) = Sizes::new(op, io) else { return Launch::default() };
    let bundle = if s.group.is_multiple_of(4) { 1 } else { 4 / (1 << s.group.trailing_zeros().min(2)) };
    let bundles = op.groups.div_ceil(bundle);
    let one = |samples: Range<usize>| {
        let [x0, x1] = s.slices(&samples, &(0..s.pixels), io.limits);
        let y = Slice::new(What::Y, &io.y, samples.start * s.pixels..samples.end * s.pixels, io.limits.storage);
        let params = NaiveParams {
            first: 0,
            bundles: bundles as u32,
            bundle: bundle as u32,
            groups: op.groups as u32,
            size: s.group as u32,
            pixels: s.pixels as u32,
            c: io.y.shape.c as u32,
            c0: s.x0.shape.c as u32,
            quads: io.y.quads(),
            eps: op.eps,
            x0_start: x0.start,
            x0_pitch: s.x0.pitch_quads(),
            x0_rows: x0.rows,
            x1_start: x1.start,
            x1_pitch: s.x1.pitch_quads(),
            x1_rows: x1.rows,
            y_start: y.start,
        };
        Dispatch {
            shader: Shader::new("group_norm_naive", io.limits).with("ACT", op.act),
            params: Record::new(&params),
            binds: vec![x0.bind, x1.bind, What::W(0).into(), What::W(1).into(), y.bind],
            grid: [(samples.len() * bundles) as u32, 1, 1],
        }
    };
    Launch { dispatches: s.samples(io, true).into_iter().map(one).collect(), scratch: Vec::new() }
}

/// Pixels of a tile: between 64 and 2048 of them, 32 tiles a sample in between. Fewer tiles leave most of a large GPU
/// idle while statistics are taken; more make the joining, which every workgroup of the second dispatch repeats, dearer
/// than its own part. `widest` is the larger pitch of the sources, half of which is spare for views of wider tensors.
fn tile_rows(pixels: usize, widest: usize, limits: &Limits) -> usize {
    (pixels / 32).clamp(64, 2048).min(rows_that_fit(2 * widest, limits).max(1))
}

/// Bytes of one sample's moments.
fn stats_bytes(tiles: usize, quads: usize) -> u64 {
    ((tiles * quads * 48) as u64).next_multiple_of(ALIGN)
}

fn supports_merged(op: &GroupNorm, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    let Ok(y) = op.output(x, w) else { return false };
    let (x, given) = x.split_at(op.sources());
    let views: Vec<View> = x.iter().map(|s| View::whole(*s)).collect();
    let widest = views.iter().map(|v| v.pitch).max().unwrap_or(4);
    let tiles = y[0].pixels().div_ceil(tile_rows(y[0].pixels(), widest, limits));
    let quads: usize = views.iter().map(|v| v.quads() as usize).sum();
    let a_row = |s: &Shape| rows_that_fit(View::whole(*s).pitch, limits) > 0;
    // Given tiles of one sample are bound together, f32 whatever else is.
    let f32_limits = Limits { storage: Storage::F32, ..limits.clone() };
    let given_fit = |s: &Shape| rows_that_fit(View::whole(*s).pitch, &f32_limits) >= s.pixels();
    let all_fit = a_row(&y[0]) && x.iter().all(a_row) && given.iter().all(given_fit);
    all_fit && stats_bytes(tiles, quads) <= limits.max_binding
}

/// Given tiles of a sample that every workgroup of the last dispatch joins itself: 64x64 pixels.
const MOST_GIVEN: usize = 64;

/// The moments' layout: given, if there are no bytes of them.
struct Stats {
    tile_rows: usize,
    tiles: usize,
    bytes: u64,
}

impl Stats {
    fn new(s: &Sizes<'_>, limits: &Limits, given: bool) -> Self {
        let own = |v: &View| View::whole(v.shape).pitch;
        if given && s.pixels.div_ceil(PIXELS) <= MOST_GIVEN {
            return Self { tile_rows: PIXELS, tiles: s.pixels.div_ceil(PIXELS), bytes: 0 };
        }
        if given {
            let tile_rows = (s.pixels / 32).next_multiple_of(PIXELS);
            let tiles = s.pixels.div_ceil(tile_rows);
            return Self { tile_rows, tiles, bytes: stats_bytes(tiles, s.quads0 + s.quads1) };
        }
        let tile_rows = tile_rows(s.pixels, own(s.x0).max(own(s.x1)), limits);
        let tiles = s.pixels.div_ceil(tile_rows);
        Self { tile_rows, tiles, bytes: stats_bytes(tiles, s.quads0 + s.quads1) }
    }

    /// The binding for some samples.
    fn bind(&self, what: What, samples: &Range<usize>) -> Bind {
        Bind { what, start: samples.start as u64 * self.bytes, bytes: Some(samples.len() as u64 * self.bytes) }
    }
}

fn merged(op: &GroupNorm, io: &LaunchIo<'_>) -> Launch {
    let Some(s) = Sizes::new(op, io) else { return Launch::default() };
    let stats = Stats::new(&s, io.limits, op.given);
    let total = io.y.shape.b as u64 * stats.bytes;
    let given = &io.x[op.sources()..];
    let bytes = |v: &View| (4 * v.shape.rows() * v.pitch) as u64;
    let samples = s.samples(io, given.iter().map(bytes).fold(total, u64::max) <= io.limits.max_binding);
    let mut dispatches = Vec::new();
    for some in samples.iter().filter(|_| stats.bytes > 0) {
        if op.given {
            dispatches.push(join_dispatch(&s, &stats, io, some));
        } else {
            dispatches.extend(stats_dispatches(&s, &stats, io, some));
        }
    }
    for some in &samples {
        dispatches.extend(apply_dispatches(op, &s, &stats, io, some));
    }
    Launch { dispatches, scratch: [total].into_iter().filter(|b| *b > 0).collect() }
}

/// Ranges of pixels: all, or where only one sample is seen, what fits.
fn pixel_bands(s: &Sizes<'_>, io: &LaunchIo<'_>, whole: usize, unit: usize) -> Vec<Range<usize>> {
    let widest = s.x0.pitch.max(s.x1.pitch).max(io.y.pitch);
    let fit = rows_that_fit(widest, io.limits);
    if whole > 1 || fit >= s.pixels {
        cut(s.pixels, s.pixels, s.pixels)
    } else {
        cut(s.pixels, s.pixels, fit / unit * unit)
    }
}

fn stats_dispatches(s: &Sizes<'_>, stats: &Stats, io: &LaunchIo<'_>, samples: &Range<usize>) -> Vec<Dispatch> {
    let strips0 = s.quads0.div_ceil(STRIP);
    let strips = strips0 + s.quads1.div_ceil(STRIP);
    let one = |pixels: Range<usize>| {
        let [x0, x1] = s.slices(samples, &pixels, io.limits);
        let tiles = pixels.len().div_ceil(stats.tile_rows);
        let params = StatsParams {
            first: 0,
            strips: strips as u32,
            strips0: strips0 as u32,
            quads0: s.quads0 as u32,
            quads1: s.quads1 as u32,
            tiles: tiles as u32,
            tile0: (pixels.start / stats.tile_rows) as u32,
            tile_rows: stats.tile_rows as u32,
            pixels: pixels.len() as u32,
            x0_start: x0.start,
            x0_pitch: s.x0.pitch_quads(),
            x0_rows: x0.rows,
            x1_start: x1.start,
            x1_pitch: s.x1.pitch_quads(),
            x1_rows: x1.rows,
            stats_stride: (stats.bytes / 16) as u32,
        };
        Dispatch {
            shader: Shader::new("group_norm_stats", io.limits),
            params: Record::new(&params),
            binds: vec![x0.bind, x1.bind, stats.bind(What::ScratchOut(0), samples)],
            grid: [(samples.len() * tiles * strips) as u32, 1, 1],
        }
    };
    pixel_bands(s, io, samples.len(), stats.tile_rows).into_iter().map(one).collect()
}

fn join_dispatch(s: &Sizes<'_>, stats: &Stats, io: &LaunchIo<'_>, samples: &Range<usize>) -> Dispatch {
    let strips0 = s.quads0.div_ceil(STRIP);
    let strips = strips0 + s.quads1.div_ceil(STRIP);
    let [given0, given1] = s.given(io, samples);
    let params = JoinParams {
        first: 0,
        strips: strips as u32,
        strips0: strips0 as u32,
        quads0: s.quads0 as u32,
        quads1: s.quads1 as u32,
        tiles: stats.tiles as u32,
        joined: (stats.tile_rows / PIXELS) as u32,
        given_tiles: s.pixels.div_ceil(PIXELS) as u32,
        given_rows: PIXELS as u32,
        sample_pixels: s.pixels as u32,
        given0_start: given0.start,
        given0_pitch: io.x[1 + s.second].pitch_quads(),
        given0_rows: given0.rows,
        given1_start: given1.start,
        given1_pitch: io.x[1 + 2 * s.second].pitch_quads(),
        given1_rows: given1.rows,
        stats_stride: (stats.bytes / 16) as u32,
    };
    Dispatch {
        shader: Shader::new("group_norm_join", io.limits),
        params: Record::new(&params),
        binds: vec![given0.bind, given1.bind, stats.bind(What::ScratchOut(0), samples)],
        grid: [(samples.len() * stats.tiles * strips) as u32, 1, 1],
    }
}

fn apply_dispatches(
    op: &GroupNorm,
    s: &Sizes<'_>,
    stats: &Stats,
    io: &LaunchIo<'_>,
    samples: &Range<usize>,
) -> Vec<Dispatch> {
    let strips = (io.y.quads() as usize).div_ceil(STRIP);
    // Groups that 16 quads can touch; the more columns, the fewer threads for each.
    let most = (4 * STRIP - 1).div_ceil(s.group) + 1;
    let columns = most.min(op.groups).min(4 * STRIP).next_power_of_two();
    // Enough rows to make up for the joining, few enough to fill a large GPU.
    let block_rows = (s.pixels / 128).max(256);
    let given = (stats.bytes == 0).then(|| s.given(io, samples));
    let given_view = |i: usize| {
        given.as_ref().map_or((0, 1, 1), |g| (g[i].start, io.x[1 + s.second * (1 + i)].pitch_quads(), g[i].rows))
    };
    let one = |pixels: Range<usize>| {
        let [x0, x1] = s.slices(samples, &pixels, io.limits);
        let from = samples.start * s.pixels + pixels.start;
        let rows = from..from + (samples.len() - 1) * s.pixels + pixels.len();
        let y = Slice::new(What::Y, &io.y, rows, io.limits.storage);
        let blocks = pixels.len().div_ceil(block_rows);
        let params = ApplyParams {
            first: 0,
            strips: strips as u32,
            blocks: blocks as u32,
            block_rows: block_rows as u32,
            pixels: pixels.len() as u32,
            tiles: stats.tiles as u32,
            tile_rows: stats.tile_rows as u32,
            sample_pixels: s.pixels as u32,
            size: s.group as u32,
            columns: columns as u32,
            c: io.y.shape.c as u32,
            c0: s.x0.shape.c as u32,
            quads: io.y.quads(),
            quads0: s.quads0 as u32,
            quads1: s.quads1 as u32,
            eps: op.eps,
            x0_start: x0.start,
            x0_pitch: s.x0.pitch_quads(),
            x0_rows: x0.rows,
            x1_start: x1.start,
            x1_pitch: s.x1.pitch_quads(),
            x1_rows: x1.rows,
            stats_stride: (stats.bytes / 16) as u32,
            y_start: y.start,
            given_tiles: stats.tiles as u32,
            given0_start: given_view(0).0,
            given0_pitch: given_view(0).1,
            given0_rows: given_view(0).2,
            given1_start: given_view(1).0,
            given1_pitch: given_view(1).1,
            given1_rows: given_view(1).2,
        };
        let (slot, moments) = match &given {
            Some(given) => ("tiles_given", given.iter().map(|g| g.bind).collect()),
            None => ("tiles_own", vec![stats.bind(What::Scratch(0), samples)]),
        };
        let mut binds = vec![x0.bind, x1.bind, What::W(0).into(), What::W(1).into()];
        binds.extend(moments);
        binds.push(y.bind);
        let shader = Shader::new("group_norm_apply", io.limits).slot("tiles", slot);
        Dispatch {
            shader: shader.with("ACT", op.act).with("Y", binds.len() as u32),
            params: Record::new(&params),
            binds,
            grid: [(samples.len() * blocks * strips) as u32, 1, 1],
        }
    };
    pixel_bands(s, io, samples.len(), 1).into_iter().map(one).collect()
}
