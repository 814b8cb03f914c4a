// group_norm, first of two dispatches where the producers of x have left many tiles: joins them to as few as
// group_norm_stats would make, so that group_norm_apply, every workgroup of which joins those of its groups, has little
// to do. Layout: given0 [B'][tile][mean, M2][C0], given1 likewise, rows of quads of f32; stats as
// group_norm_stats.wgsl. Threads: a workgroup per (sample, tile of stats, 16 quads); 16 quads by 16 given tiles at a
// time, joined in a fixed order. Memory: reads what was given once; 12 KiB of workgroup memory.
// Contract src/kernels/group_norm.rs, launch src/kernels/gpu/group_norm.rs.
#import moments

struct Params {
    first: u32,
    strips: u32,
    strips0: u32,
    quads0: u32,
    quads1: u32,
    tiles: u32,
    joined: u32,
    given_tiles: u32,
    given_rows: u32,
    sample_pixels: u32,
    given0_start: u32,
    given0_pitch: u32,
    given0_rows: u32,
    given1_start: u32,
    given1_pitch: u32,
    given1_rows: u32,
    stats_stride: u32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit, and what common/moments.wgsl is made for
const COLUMNS: u32 = 16u; // quads side by side
const LANES: u32 = WG / COLUMNS;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> given0: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> given1: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec4<f32>>;

// Quad q of a row of what the first or the second producer left.
fn load(second: bool, row: u32, q: u32) -> vec4<f32> {
    if second {
        return given1[p.given1_start + row % p.given1_rows * p.given1_pitch + q];
    }
    return given0[p.given0_start + row % p.given0_rows * p.given0_pitch + q];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let at = group.x + p.first;
    let strip = at % p.strips;
    let tile = at / p.strips % p.tiles;
    let sample = at / p.strips / p.tiles;
    let second = strip >= p.strips0;
    let quads = select(p.quads0, p.quads1, second);
    let q = select(strip, strip - p.strips0, second) * COLUMNS + thread % COLUMNS;
    let begin = tile * p.joined;
    let end = select(begin, min(begin + p.joined, p.given_tiles), q < quads);
    let row = sample * p.given_tiles;
    let shift = load(second, 2u * (row + begin), min(q, quads - 1u));
    var all = Moments();
    for (var i = begin + thread / COLUMNS; i < end; i += LANES) {
        let n = f32(min(p.given_rows, p.sample_pixels - i * p.given_rows));
        let mean = load(second, 2u * (row + i), q) - shift;
        all = together(all, Moments(vec4<f32>(n), mean, load(second, 2u * (row + i) + 1u, q)));
    }
    let total = column_together(all, thread, COLUMNS);
    if thread < COLUMNS && q < quads {
        let joint = select(q, q + p.quads0, second);
        let to = sample * p.stats_stride + (tile * (p.quads0 + p.quads1) + joint) * 3u;
        stats[to] = shift;
        stats[to + 1u] = total.mean;
        stats[to + 2u] = total.m2;
    }
}
