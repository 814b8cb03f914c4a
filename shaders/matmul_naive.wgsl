// matmul and conv2d, plainly: y[row][n] = epilogue(sum over taps and k of x(row, tap)[k] w[tap][k][n]).
// Layout: x0, x1, y rows of quads; w [taps][k][n], quads along n.   One thread per quad of y; the sum in order of tap,
// k. Memory: every thread reads its row of x and its column of w.
// Contracts src/kernels/{matmul,conv2d}.rs, launch src/kernels/gpu/gemm.rs.
#import storage
#import weights
#import gemm_params
#import rows
#import store_output

const WG: u32 = 256u; // threads; the WebGPU default limit
const GEGLU: bool = false; // y = value * gelu(gate)

@group(0) @binding(3) var<storage, read> w: array<WQuad>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + p.first) * WG + thread;
    if i >= (p.row_end - p.row_begin) * p.quads {
        return;
    }
    let row = p.row_begin + i / p.quads;
    let q = i % p.quads;
    let r = row_at(row);
    let k_rows = 4u * p.k_quads; // w's rows are padded to whole quads of k
    var value = vec4<f32>();
    var gate = vec4<f32>();
    for (var tap = 0u; tap < p.taps; tap++) {
        for (var k = 0u; k < p.k; k++) {
            let x = vec4<f32>(element_at(r, tap, k));
            let at = (tap * k_rows + k) * p.w_quads;
            if GEGLU {
                value = fma(x, widen_w(w[at + 2u * q]), value);
                gate = fma(x, widen_w(w[at + 2u * q + 1u]), gate);
            } else {
                value = fma(x, widen_w(w[at + q]), value);
            }
        }
    }
    if GEGLU {
        _ = store_gated(value, gate, row, q);
    } else {
        _ = store(value, row, q);
    }
}
