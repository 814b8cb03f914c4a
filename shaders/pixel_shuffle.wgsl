// pixel_shuffle: y[i s + di, j s + dj, c] = x[i, j, c s^2 + di s + dj] + base[i, j, c].
// Layout: x [B', h, w, C s^2], base [B'', h, w, C], y [B, h s, w s, C]; rows of quads.   One thread per quad of y.
// Memory: reads x once (four channels a thread, neighbours from the cache), writes y once.
// Contract src/kernels/pixel_shuffle.rs, launch src/kernels/gpu/pixel_shuffle.rs.
#import storage
#import channels

struct Params {
    first: u32,
    total: u32,
    quads: u32,
    c: u32,
    factor: u32,
    width: u32,
    x_start: u32,
    x_pitch: u32,
    x_rows: u32,
    base_start: u32,
    base_pitch: u32,
    base_rows: u32,
    y_start: u32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit
const BASE: bool = false; // x itself is bound where there is none

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read> base: array<Quad>;
@group(0) @binding(3) var<storage, read_write> y: array<Quad>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + p.first) * WG + thread;
    if i >= p.total {
        return;
    }
    let q = i % p.quads;
    let line = i / p.quads / p.width;
    let px = i / p.quads % p.width;
    let row = line / p.factor * (p.width / p.factor) + px / p.factor;
    let begin = p.x_start + row % p.x_rows * p.x_pitch;
    // The first of the four channels; those of the next three are factor^2 further on, the last real one at most.
    let each = p.factor * p.factor;
    let inner = line % p.factor * p.factor + px % p.factor;
    var v = vec4<f32>();
    for (var k = 0u; k < 4u; k++) {
        let channel = min(4u * q + k, p.c - 1u) * each + inner;
        v[k] = widen(x[begin + channel / 4u])[channel % 4u];
    }
    if BASE {
        v += widen(base[p.base_start + row % p.base_rows * p.base_pitch + q]);
    }
    y[p.y_start + i] = narrow(only_channels(v, q, p.c));
}
