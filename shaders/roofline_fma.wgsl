// roofline_fma: chains of multiply-adds that never leave the registers: the f32 peak that every other kernel is
// compared with. Layout: x, y flat arrays of f32 quads.   One thread per quad, 8 chains of 4 lanes, 256 multiply-adds
// each. A chain waits for itself, so 8 of them are under way; their sum is written, so that none can be left out.
// Memory: reads and writes one quad a thread.
// Launch src/kernels/gpu/roofline.rs.
struct Params {
    first: u32,
    total: u32,
    factor: f32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit
const ROUNDS: u32 = 32u; // of 8 unrolled multiply-adds: the loop itself must not be seen

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + p.first) * WG + thread;
    if i >= p.total {
        return;
    }
    let f = vec4<f32>(p.factor);
    let s = x[i];
    var a = s;
    var b = s + 1.0;
    var c = s + 2.0;
    var d = s + 3.0;
    var e = s + 4.0;
    var g = s + 5.0;
    var h = s + 6.0;
    var k = s + 7.0;
    for (var round = 0u; round < ROUNDS; round++) {
        // #unroll
        for (var j = 0u; j < 8u; j++) {
            a = fma(a, f, s);
            b = fma(b, f, s);
            c = fma(c, f, s);
            d = fma(d, f, s);
            e = fma(e, f, s);
            g = fma(g, f, s);
            h = fma(h, f, s);
            k = fma(k, f, s);
        }
    }
    y[i] = a + b + c + d + e + g + h + k;
}
