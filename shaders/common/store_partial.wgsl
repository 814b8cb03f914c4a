// store slot: part of a sum, which matmul_reduce.wgsl adds to the others. The rows of a
// split follow those of the one before.
@group(0) @binding(4) var<storage, read_write> partials: array<vec4<f32>>; // [split][row][quad of w]

fn store(sum: vec4<f32>, row: u32, q: u32) -> vec4<f32> {
    partials[(row - p.row_begin) * p.w_quads + q] = sum;
    return sum;
}

fn store_gated(value: vec4<f32>, gate: vec4<f32>, row: u32, q: u32) -> vec4<f32> {
    _ = store(value, row, 2u * q);
    return store(gate, row, 2u * q + 1u);
}
