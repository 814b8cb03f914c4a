// layer_norm, the plain way: y = (x - mean) / sqrt(var + eps) * gamma + beta over the channels of a row.
// Layout: x, y [rows, C], rows of quads; gamma, beta [C], vec4.   One thread per row.
// Memory: reads x three times (neighbouring threads read different rows), writes y once.
// Contract src/kernels/layer_norm.rs, launch src/kernels/gpu/layer_norm.rs.
#import storage
#import channels

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

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> beta: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<Quad>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = (group.x + p.first) * WG + thread;
    if row >= p.rows {
        return;
    }
    let begin = p.x_start + row * p.x_pitch;
    // Subtracting a value of the row first keeps sums as small as the row's spread, however large its mean.
    let shift = widen(x[begin]).x;
    var sum = vec4<f32>();
    for (var q = 0u; q < p.quads; q++) {
        sum += only_channels(widen(x[begin + q]) - shift, q, p.c);
    }
    let mean = dot(sum, vec4<f32>(1.0)) / f32(p.c);
    var squares = vec4<f32>();
    for (var q = 0u; q < p.quads; q++) {
        let d = only_channels((widen(x[begin + q]) - shift) - mean, q, p.c);
        squares += d * d;
    }
    let scale = 1.0 / sqrt(dot(squares, vec4<f32>(1.0)) / f32(p.c) + p.eps);
    for (var q = 0u; q < p.quads; q++) {
        let v = ((widen(x[begin + q]) - shift) - mean) * scale * gamma[q] + beta[q];
        y[p.y_start + row * p.quads + q] = narrow(only_channels(v, q, p.c));
    }
}
