// roofline_copy: y = x, 16 bytes a thread: the memory bandwidth that every other kernel is compared with.
// Layout: x, y flat arrays of f32 quads.   One thread per quad.   Memory: reads x once, writes y once.
// Launch src/kernels/gpu/roofline.rs.
struct Params {
    first: u32,
    total: u32,
    factor: f32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + p.first) * WG + thread;
    if i < p.total {
        y[i] = x[i];
    }
}
