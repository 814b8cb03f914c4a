// upsample: nearest neighbour, y[i, j] = x[i * h / h', j * w / w'] (floor).
// Layout: x [B, h, w, C], y [B, h', w', C]; rows of quads.   One thread per quad of y.
// Memory: reads each quad of x up to four times (neighbours: from the cache), writes y once.
// Contract src/kernels/upsample.rs, launch src/kernels/gpu/upsample.rs.
#import storage
#import channels

struct Params {
    first: u32,
    total: u32,
    quads: u32,
    c: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    pixel0: u32,
    base: u32,
    x_start: u32,
    x_pitch: u32,
    y_start: u32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> y: array<Quad>;

// Pixel of x, counted over all samples, that pixel `at` of y shows.
fn source(at: u32) -> u32 {
    let line = at / p.out_w;
    let sample = line / p.out_h;
    return (sample * p.in_h + line % p.out_h * p.in_h / p.out_h) * p.in_w + at % p.out_w * p.in_w / p.out_w;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + p.first) * WG + thread;
    if i >= p.total {
        return;
    }
    let q = i % p.quads;
    let row = source(p.pixel0 + i / p.quads) - p.base;
    y[p.y_start + i] = narrow(only_channels(widen(x[p.x_start + row * p.x_pitch + q]), q, p.c));
}
