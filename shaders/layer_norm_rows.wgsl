// layer_norm: y = (x - mean) / sqrt(var + eps) * gamma + beta over the channels of a row.
// Layout: x, y [rows, C], rows of quads; gamma, beta [C], vec4.
// Threads: LANES neighbouring threads per row, each with PER quads of it in registers.
// Memory: reads x once, writes y once; 1 KiB of workgroup memory.
// Contract src/kernels/layer_norm.rs, launch src/kernels/gpu/layer_norm.rs.
#import storage
#import channels
#import reduce

struct Params {
    first: u32,
    rows: u32,
    quads: u32,
    c: u32,
    eps: f32,
    x_start: u32,
    x_pitch: u32,
    y_start: u32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit
const LANES: u32 = 32u; // threads of a row, a power of two
const PER: u32 = 3u; // quads of a thread: few enough for registers

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> beta: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<Quad>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = (group.x + p.first) * (WG / LANES) + thread / LANES;
    let lane = thread % LANES;
    // Threads beyond the last row repeat it, so that all meet at the barriers.
    let begin = p.x_start + min(row, p.rows - 1u) * p.x_pitch;
    // Subtracting a value of the row first keeps sums as small as the row's spread, however large its mean.
    let shift = widen(x[begin]).x;
    var v: array<vec4<f32>, PER>;
    var sum = vec4<f32>();
    // #unroll
    for (var i = 0u; i < PER; i++) {
        let q = lane + i * LANES;
        v[i] = only_channels(widen(x[begin + min(q, p.quads - 1u)]) - shift, q, p.c);
        sum += v[i];
    }
    let mean = sum_lanes(dot(sum, vec4<f32>(1.0)), thread, LANES) / f32(p.c);
    var squares = vec4<f32>();
    // #unroll
    for (var i = 0u; i < PER; i++) {
        v[i] = only_channels(v[i] - mean, lane + i * LANES, p.c);
        squares += v[i] * v[i];
    }
    let variance = sum_lanes(dot(squares, vec4<f32>(1.0)), thread, LANES) / f32(p.c);
    let scale = 1.0 / sqrt(variance + p.eps);
    // #unroll
    for (var i = 0u; i < PER; i++) {
        let q = lane + i * LANES;
        if q < p.quads && row < p.rows {
            y[p.y_start + row * p.quads + q] = narrow(only_channels(v[i] * scale * gamma[q] + beta[q], q, p.c));
        }
    }
}
