// geglu: y = v * gelu(g), where v is the first half of x's channels and g the second.
// Layout: x [B, H, W, 2C], y [B, H, W, C]; rows of quads.   One thread per quad of y.
// Memory: reads x once (a gate's quads twice where C is no multiple of 4), writes y once.
// Contract src/kernels/geglu.rs, launch src/kernels/gpu/geglu.rs.
#import storage
#import channels
#import activation
#import shift

struct Params {
    first: u32,
    total: u32,
    quads: u32,
    c: u32,
    x_start: u32,
    x_pitch: u32,
    x_quads: u32,
    y_start: u32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit
const ACT: u32 = 2u; // the gate's nonlinearity: gelu

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> y: array<Quad>;

// Channels c + 4 q and the three after it; beyond the last channel anything.
fn gate(row: u32, q: u32) -> vec4<f32> {
    let at = q + p.c / 4u;
    let a = widen(x[row + at]);
    if p.c % 4u == 0u {
        return a;
    }
    return shifted(a, widen(x[row + min(at + 1u, p.x_quads - 1u)]), p.c % 4u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + p.first) * WG + thread;
    if i >= p.total {
        return;
    }
    let q = i % p.quads;
    let row = p.x_start + i / p.quads * p.x_pitch;
    let v = widen(x[row + q]);
    y[p.y_start + i] = narrow(only_channels(v * activate(gate(row, q), ACT), q, p.c));
}
