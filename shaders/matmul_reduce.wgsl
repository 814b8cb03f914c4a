// matmul and conv2d, the end of a split sum: y[row][n] = epilogue(sum over splits of partial[split][row][n]), in index
// order. Layout: partials [split][row][quad of w] in f32, y rows of quads.   A workgroup computes BM rows and 16 quads
// of y, a thread four rows of one quad, 16 apart.
// Memory: reads every partial sum once; 8 KiB of workgroup memory for the statistics of y.
// Contracts src/kernels/{matmul,conv2d}.rs, launch src/kernels/gpu/gemm.rs.
#import storage
#import gemm_params
#import store_output
#import statistics

const WG: u32 = 256u; // threads; the WebGPU default limit
const BM: u32 = 64u; // rows of a workgroup: a tile of statistics
const COLUMNS: u32 = 16u; // quads of a workgroup
const GEGLU: bool = false; // y = value * gelu(gate)

@group(0) @binding(1) var<storage, read> partials: array<vec4<f32>>;

var<workgroup> lines: array<Line, WG>; // [line][column]

fn line_at(line: u32, column: u32) -> Line {
    return lines[line * COLUMNS + column];
}

fn line_rows(line: u32, count: u32) -> u32 {
    return (max(count, line) - line + LINES - 1u) / LINES;
}

fn total(row: u32, q: u32) -> vec4<f32> {
    let rows = p.row_end - p.row_begin;
    var sum = vec4<f32>();
    for (var split = 0u; split < p.splits; split++) {
        sum += partials[(split * rows + row - p.row_begin) * p.w_quads + q];
    }
    return sum;
}

fn finish(row: u32, q: u32) -> vec4<f32> {
    if GEGLU {
        return store_gated(total(row, 2u * q), total(row, 2u * q + 1u), row, q);
    }
    return store(total(row, q), row, q);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = group.x + p.first;
    let first_row = rows_of(tile / p.tiles_n, BM).x;
    let end_row = rows_of(tile / p.tiles_n, BM).y;
    let column = thread % COLUMNS;
    let line = thread / COLUMNS;
    let q = tile % p.tiles_n * COLUMNS + column;
    var v: array<vec4<f32>, 4>;
    // #unroll
    for (var i = 0u; i < 4u; i++) {
        let row = first_row + line + 16u * i;
        if row < end_row && q < p.quads {
            v[i] = finish(row, q);
        }
    }
    if STATISTICS {
        let count = end_row - first_row;
        lines[thread] = line_of(v, line_rows(line, count));
        workgroupBarrier();
        if thread < COLUMNS {
            leave(column, q, first_row, count);
        }
    }
}
