// concat: the channels of a, then those of b.
// Layout: a [B', H, W, C0], b [B'', H, W, C1], y [B, H, W, C0 + C1]; rows of quads.   One thread per quad of y.
// Memory: reads each operand once (b twice where C0 is no multiple of 4), writes y once.
// Contract src/kernels/concat.rs, launch src/kernels/gpu/concat.rs.
#import storage
#import channels
#import shift

struct Params {
    first: u32,
    total: u32,
    quads: u32,
    c: u32,
    c0: u32,
    a_start: u32,
    a_pitch: u32,
    a_rows: u32,
    b_start: u32,
    b_pitch: u32,
    b_rows: u32,
    b_quads: u32,
    y_start: u32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<Quad>;
@group(0) @binding(2) var<storage, read> b: array<Quad>;
@group(0) @binding(3) var<storage, read_write> y: array<Quad>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + p.first) * WG + thread;
    if i >= p.total {
        return;
    }
    let q = i % p.quads;
    let row = i / p.quads;
    var v = vec4<f32>();
    if 4u * q < p.c0 {
        v = widen(a[p.a_start + row % p.a_rows * p.a_pitch + q]);
    }
    if 4u * q + 3u >= p.c0 {
        let b_row = p.b_start + row % p.b_rows * p.b_pitch;
        // q - c0 / 4, and the one before it where b's quads are shifted against y's.
        let at = q - p.c0 / 4u;
        let earlier = widen(b[b_row + max(at, 1u) - 1u]);
        v = joined(v, earlier, widen(b[b_row + min(at, p.b_quads - 1u)]), q, p.c0);
    }
    y[p.y_start + i] = narrow(only_channels(v, q, p.c));
}
