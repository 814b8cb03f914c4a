// matmul and conv2d, the end of a split sum: y[row][n] = epilogue(sum over splits of partial[split][row][n]), in index order.
// Layout: partials [split][row][quad of w] in f32, y rows of quads.   One thread per quad of y.
// Memory: reads every partial sum once.
// Contracts src/kernels/{matmul,conv2d}.rs, launch src/kernels/gpu/gemm.rs.
#import storage
#import gemm_params
#import store_output

const WG: u32 = 256u; // threads; the WebGPU default limit
const GEGLU: bool = false; // y = value * gelu(gate)

@group(0) @binding(1) var<storage, read> partials: array<vec4<f32>>;

fn total(row: u32, q: u32) -> vec4<f32> {
    let rows = p.row_end - p.row_begin;
    var sum = vec4<f32>();
    for (var split = 0u; split < p.splits; split++) {
        sum += partials[(split * rows + row - p.row_begin) * p.w_quads + q];
    }
    return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + p.first) * WG + thread;
    if i >= (p.row_end - p.row_begin) * p.quads {
        return;
    }
    let row = p.row_begin + i / p.quads;
    let q = i % p.quads;
    if GEGLU {
        store_gated(total(row, 2u * q), total(row, 2u * q + 1u), row, q);
    } else {
        store(total(row, q), row, q);
    }
}
