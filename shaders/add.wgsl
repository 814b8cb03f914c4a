// add: y = a + b, element by element; b may be one row for all pixels of a sample.
// Layout: a, y [B, H, W, C]; b [B', H, W, C] or [B', 1, 1, C]; rows of quads.   One thread per quad of y.
// Memory: reads each operand once, writes y once.
// Contract src/kernels/add.rs, launch src/kernels/gpu/add.rs.
#import storage
#import channels

struct Params {
    first: u32,
    total: u32,
    quads: u32,
    c: u32,
    a_start: u32,
    a_rows: u32,
    a_pitch: u32,
    b_start: u32,
    b_share: u32,
    b_rows: u32,
    b_pitch: u32,
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
    let row = i / p.quads;
    let q = i % p.quads;
    let left = widen(a[p.a_start + row % p.a_rows * p.a_pitch + q]);
    let right = widen(b[p.b_start + row / p.b_share % p.b_rows * p.b_pitch + q]);
    y[p.y_start + i] = narrow(only_channels(left + right, q, p.c));
}
