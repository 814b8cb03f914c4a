// group_norm, first of two dispatches where the producers of x leave nothing: moments of each channel over fixed tiles
// of pixels. Layout: x0 [B', H, W, C0], x1 [B'', H, W, C1], rows of quads; the sources' quads in turn, each on its own.
//   stats [B][tile][quad of x0, then of x1][3] of vec4: a shift (the tile's first value), the mean less the shift, M2.
//   The shift keeps what is summed as small as the spread of the values, however large their mean.
// Threads: a workgroup per (sample, tile, 16 quads); 16 quads by 16 rows at a time, joined in a fixed order.
// Memory: reads x once, in blocks of 4 rows a thread that stay in registers; 12 KiB of workgroup memory.
// Contract src/kernels/group_norm.rs, launch src/kernels/gpu/group_norm.rs.
#import storage
#import moments

struct Params {
    first: u32,
    strips: u32,
    strips0: u32,
    quads0: u32,
    quads1: u32,
    tiles: u32,
    tile0: u32,
    tile_rows: u32,
    pixels: u32,
    x0_start: u32,
    x0_pitch: u32,
    x0_rows: u32,
    x1_start: u32,
    x1_pitch: u32,
    x1_rows: u32,
    stats_stride: u32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit, and what common/moments.wgsl is made for
const COLUMNS: u32 = 16u; // quads side by side: 128 bytes of f16 or more a row
const LANES: u32 = WG / COLUMNS;
const BLOCK: u32 = 4u; // rows that a thread loads at once

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x0: array<Quad>;
@group(0) @binding(2) var<storage, read> x1: array<Quad>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec4<f32>>;

// Quad q of the row that is r rows after row `row` of the joint rows.
fn load(second: bool, row: u32, r: u32, q: u32) -> vec4<f32> {
    if second {
        return widen(x1[p.x1_start + (row % p.x1_rows + r) * p.x1_pitch + q]);
    }
    return widen(x0[p.x0_start + (row % p.x0_rows + r) * p.x0_pitch + q]);
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
    let begin = tile * p.tile_rows;
    let row = sample * p.pixels + begin;
    let rows = select(0u, min(p.tile_rows, p.pixels - begin), q < quads);
    let shift = load(second, row, 0u, min(q, quads - 1u));
    var all = Moments();
    for (var base = thread / COLUMNS; base < rows; base += LANES * BLOCK) {
        var v: array<vec4<f32>, BLOCK>;
        var sum = vec4<f32>();
        var n = 0.0;
        // #unroll
        for (var i = 0u; i < BLOCK; i++) {
            if base + LANES * i < rows {
                v[i] = load(second, row, base + LANES * i, q) - shift;
                sum += v[i];
                n += 1.0;
            }
        }
        let mean = sum / n;
        var m2 = vec4<f32>();
        // #unroll
        for (var i = 0u; i < BLOCK; i++) {
            if base + LANES * i < rows {
                m2 += (v[i] - mean) * (v[i] - mean);
            }
        }
        all = together(all, Moments(vec4<f32>(n), mean, m2));
    }
    let total = column_together(all, thread, COLUMNS);
    if thread < COLUMNS && q < quads {
        let joint = select(q, q + p.quads0, second);
        let to = sample * p.stats_stride + ((p.tile0 + tile) * (p.quads0 + p.quads1) + joint) * 3u;
        stats[to] = shift;
        stats[to + 1u] = total.mean;
        stats[to + 2u] = total.m2;
    }
}
