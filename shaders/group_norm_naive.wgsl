// group_norm, the plain way: y = act((x - mean) / sqrt(var + eps) * gamma + beta), variance from a second pass.
// Layout: x0 [B', H, W, C0], x1 [B'', H, W, C1], y [B, H, W, C0 + C1], rows of quads; gamma, beta [C0 + C1], vec4.
// Threads: a workgroup per (sample, bundle); a bundle is as many groups as fill whole quads: 1, 2 or 4.
// Memory: reads x three times, channel by channel in the first two, writes y once; 1 KiB of workgroup memory.
// Contract src/kernels/group_norm.rs, launch src/kernels/gpu/group_norm.rs.
#import storage
#import channels
#import activation
#import reduce
#import split_mean

struct Params {
    first: u32,
    bundles: u32,
    bundle: u32,
    groups: u32,
    size: u32,
    pixels: u32,
    c: u32,
    c0: u32,
    quads: u32,
    eps: f32,
    x0_start: u32,
    x0_pitch: u32,
    x0_rows: u32,
    x1_start: u32,
    x1_pitch: u32,
    x1_rows: u32,
    y_start: u32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit
const MOST: u32 = 4u; // groups of a bundle
const ACT: u32 = 0u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x0: array<Quad>;
@group(0) @binding(2) var<storage, read> x1: array<Quad>;
@group(0) @binding(3) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> beta: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<Quad>;

// Of each group of the bundle: the mean in two parts, 1 / sqrt(var + eps).
var<workgroup> groups: array<vec3<f32>, MOST>;

fn value(row: u32, channel: u32) -> f32 {
    if channel < p.c0 {
        return widen(x0[p.x0_start + row % p.x0_rows * p.x0_pitch + channel / 4u])[channel % 4u];
    }
    let c = channel - p.c0;
    return widen(x1[p.x1_start + row % p.x1_rows * p.x1_pitch + c / 4u])[c % 4u];
}

fn measure(sample: u32, group: u32, thread: u32) -> vec3<f32> {
    let n = p.pixels * p.size;
    let row = sample * p.pixels;
    let c = group * p.size;
    // Subtracting a value of the group first keeps sums as small as its spread, however large its mean.
    let shift = value(row, c);
    var sum = 0.0;
    for (var i = thread; i < n; i += WG) {
        sum += value(row + i / p.size, c + i % p.size) - shift;
    }
    let mean = sum_lanes(sum, thread, WG) / f32(n);
    var squares = 0.0;
    for (var i = thread; i < n; i += WG) {
        let d = (value(row + i / p.size, c + i % p.size) - shift) - mean;
        squares += d * d;
    }
    let variance = sum_lanes(squares, thread, WG) / f32(n);
    return vec3<f32>(split_mean(shift, mean), 1.0 / sqrt(variance + p.eps));
}

fn normal(row: u32, channel: u32, first: u32) -> f32 {
    let c = min(channel, p.c - 1u);
    let g = groups[c / p.size - first];
    return ((value(row, c) - g.x) - g.y) * g.z;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let at = group.x + p.first;
    let sample = at / p.bundles;
    let begin = at % p.bundles * p.bundle;
    let end = min(begin + p.bundle, p.groups);
    for (var g = begin; g < end; g++) {
        let measured = measure(sample, g, thread);
        if thread == 0u {
            groups[g - begin] = measured;
        }
    }
    workgroupBarrier();
    let q0 = begin * p.size / 4u;
    let width = (end * p.size + 3u) / 4u - q0;
    for (var i = thread; i < p.pixels * width; i += WG) {
        let q = q0 + i % width;
        let row = sample * p.pixels + i / width;
        let v = vec4<f32>(
            normal(row, 4u * q, begin),
            normal(row, 4u * q + 1u, begin),
            normal(row, 4u * q + 2u, begin),
            normal(row, 4u * q + 3u, begin),
        );
        y[p.y_start + row * p.quads + q] = narrow(only_channels(activate(v * gamma[q] + beta[q], ACT), q, p.c));
    }
}
