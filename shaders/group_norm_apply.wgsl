// group_norm, last dispatch: y = act((x - mean) / sqrt(var + eps) * gamma + beta).
// Layout: x0, x1 as group_norm_stats.wgsl has them; tiles as the slot `tiles` says; y [B, H, W, C0 + C1], rows of
// quads; gamma, beta [C0 + C1], vec4. Threads: a workgroup per (sample, block of rows, 16 quads of y). It first joins
//   the tiles of all channels of the groups that its quads belong to (256 threads in rows of `columns`, a group a
//   column), then goes through its rows. Memory: reads x and writes y once; 13 KiB of workgroup memory.
// Contract src/kernels/group_norm.rs, launch src/kernels/gpu/group_norm.rs.
#import storage
#import channels
#import activation
#import shift
#import moments
#import split_mean
#import tiles

struct Params {
    first: u32,
    strips: u32,
    blocks: u32,
    block_rows: u32,
    pixels: u32,
    tiles: u32,
    tile_rows: u32,
    sample_pixels: u32,
    size: u32,
    columns: u32,
    c: u32,
    c0: u32,
    quads: u32,
    quads0: u32,
    quads1: u32,
    eps: f32,
    x0_start: u32,
    x0_pitch: u32,
    x0_rows: u32,
    x1_start: u32,
    x1_pitch: u32,
    x1_rows: u32,
    stats_stride: u32,
    y_start: u32,
    given_tiles: u32,
    given0_start: u32,
    given0_pitch: u32,
    given0_rows: u32,
    given1_start: u32,
    given1_pitch: u32,
    given1_rows: u32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit, and what common/moments.wgsl is made for
const WIDTH: u32 = 16u; // quads side by side: 128 bytes of f16 or more a row
const MOST_GROUPS: u32 = 64u; // of one channel each, in 16 quads
const ACT: u32 = 0u;
const Y: u32 = 6u; // y's binding

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x0: array<Quad>;
@group(0) @binding(2) var<storage, read> x1: array<Quad>;
@group(0) @binding(3) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> beta: array<vec4<f32>>;
@group(0) @binding(Y) var<storage, read_write> y: array<Quad>;

// Of each group that the workgroup needs: the mean in two parts, 1 / sqrt(var + eps).
var<workgroup> groups: array<vec3<f32>, MOST_GROUPS>;

// Number, mean less `shift`, and M2 of channel e % size of the group in tile e / size; nothing beyond the last.
fn entry(sample: u32, group: u32, e: u32, shift: f32) -> vec3<f32> {
    let tile = e / p.size;
    if tile >= p.tiles {
        return vec3<f32>();
    }
    let n = min(p.tile_rows, p.sample_pixels - tile * p.tile_rows);
    let t = tile_at(sample, tile, group * p.size + e % p.size);
    return vec3<f32>(f32(n), (t.x - shift) + t.y, t.z);
}

// Fills `groups` from group `begin` on: a column of threads for each of `count` groups, four entries a thread at once.
fn join_groups(sample: u32, begin: u32, count: u32, thread: u32) {
    let column = thread % p.columns;
    let group = begin + min(column, count - 1u);
    let step = WG / p.columns;
    let shift = tile_at(sample, 0u, group * p.size).x;
    var all = Moments();
    for (var e = thread / p.columns; e < p.tiles * p.size; e += 4u * step) {
        let a = entry(sample, group, e, shift);
        let b = entry(sample, group, e + step, shift);
        let c = entry(sample, group, e + 2u * step, shift);
        let d = entry(sample, group, e + 3u * step, shift);
        let four = Moments(
            vec4<f32>(a.x, b.x, c.x, d.x),
            vec4<f32>(a.y, b.y, c.y, d.y),
            vec4<f32>(a.z, b.z, c.z, d.z),
        );
        all = together(all, four);
    }
    let total = column_together(lanes_together(all), thread, p.columns);
    if thread < count {
        groups[thread] = vec3<f32>(split_mean(shift, total.mean.x), 1.0 / sqrt(total.m2.x / total.n.x + p.eps));
    }
    workgroupBarrier();
}

// Quad q of a joint row.
fn load(row: u32, q: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if 4u * q < p.c0 {
        v = widen(x0[p.x0_start + row % p.x0_rows * p.x0_pitch + q]);
    }
    if 4u * q + 3u >= p.c0 && p.quads1 > 0u {
        let at = q - p.c0 / 4u;
        let x1_row = p.x1_start + row % p.x1_rows * p.x1_pitch;
        let earlier = widen(x1[x1_row + max(at, 1u) - 1u]);
        v = joined(v, earlier, widen(x1[x1_row + min(at, p.quads1 - 1u)]), q, p.c0);
    }
    return v;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let at = group.x + p.first;
    let strip = at % p.strips;
    let block = at / p.strips % p.blocks;
    let sample = at / p.strips / p.blocks;
    let begin = strip * WIDTH * 4u / p.size;
    let last = (min((strip + 1u) * WIDTH * 4u, p.c) - 1u) / p.size;
    join_groups(sample, begin, last - begin + 1u, thread);
    let q = strip * WIDTH + thread % WIDTH;
    if q >= p.quads {
        return;
    }
    let channel = min(vec4<u32>(4u * q) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.c - 1u));
    let a = groups[channel.x / p.size - begin];
    let b = groups[channel.y / p.size - begin];
    let c = groups[channel.z / p.size - begin];
    let d = groups[channel.w / p.size - begin];
    let mean = vec4<f32>(a.x, b.x, c.x, d.x);
    let rest = vec4<f32>(a.y, b.y, c.y, d.y);
    let scale = vec4<f32>(a.z, b.z, c.z, d.z);
    let factor = gamma[q];
    let offset = beta[q];
    let end = min((block + 1u) * p.block_rows, p.pixels);
    for (var r = block * p.block_rows + thread / WIDTH; r < end; r += WG / WIDTH) {
        let row = sample * p.pixels + r;
        let v = ((load(row, q) - mean) - rest) * scale * factor + offset;
        y[p.y_start + row * p.quads + q] = narrow(only_channels(activate(v, ACT), q, p.c));
    }
}
