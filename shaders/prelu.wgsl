// prelu: y = x, below 0 slope x.
// Layout: x, y [B, H, W, C], rows of quads; slope [C], vec4.   One thread per quad of y.
// Memory: reads x once, writes y once.
// Contract src/kernels/prelu.rs, launch src/kernels/gpu/prelu.rs.
#import storage
#import channels

struct Params {
    first: u32,
    total: u32,
    quads: u32,
    c: u32,
    x_start: u32,
    x_pitch: u32,
    y_start: u32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read> slope: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<Quad>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + p.first) * WG + thread;
    if i >= p.total {
        return;
    }
    let q = i % p.quads;
    let v = widen(x[p.x_start + i / p.quads * p.x_pitch + q]);
    y[p.y_start + i] = narrow(only_channels(select(v, slope[q] * v, v < vec4<f32>()), q, p.c));
}
