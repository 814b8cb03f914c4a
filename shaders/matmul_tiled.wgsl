// matmul and conv2d by register tiles: y[row][n] = epilogue(sum over taps and k of x(row, tap)[k] w[tap][k][n]).
// Layout: x0, x1, y rows of quads; w [taps][k][n], quads along n.   A workgroup computes BM rows and BN columns of y
// (of w with GEGLU), a thread TM rows and TN quads of them; a split of k along z. A slab is BK channels of one tap.
// Memory: (BM + BN) BK f32 of workgroup memory, at most 16 KiB; a thread holds the next slab's share in registers while
// this one is multiplied. Statistics of y go through the same workgroup memory at the end.
// Contracts src/kernels/{matmul,conv2d}.rs, launch src/kernels/gpu/gemm.rs.
#import storage
#import weights
#import gemm_params
#import rows
#import store
#import statistics

const WG: u32 = 256u; // threads; the WebGPU default limit
const BM: u32 = 64u; // rows of a tile: 64 or 128
const BN: u32 = 64u; // columns of a tile: 64 or 128; 128 with GEGLU
const BK: u32 = 16u; // channels of a slab; a_slot() counts on 4 quads
const GEGLU: bool = false; // y = value * gelu(gate)
const TM: u32 = BM / 16u; // rows of a thread, 16 apart: a line of each tile of statistics
const TN: u32 = BN / 64u; // quads of a thread, 16 apart
const KQ: u32 = BK / 4u;
const NQ: u32 = BN / 4u;
const LOADS_A: u32 = BM * KQ / WG; // quads that a thread loads of a slab of x
const LOADS_B: u32 = BK * NQ / WG; // and of w

@group(0) @binding(3) var<storage, read> w: array<WQuad>;

var<workgroup> a_tile: array<vec4<f32>, BM * KQ>; // [row][quad of k], see a_slot()
var<workgroup> b_tile: array<vec4<f32>, BK * NQ>; // [k][quad of n]; with GEGLU the values, then the gates

// Quads of a row are permuted so that the four rows that a subgroup reads at once lie in different banks.
fn a_slot(row: u32, kq: u32) -> u32 {
    return row * KQ + (kq ^ (row / 2u % KQ));
}

// The quad of w's rows that stands at place q of b_tile's.
fn w_quad(tile: u32, q: u32) -> u32 {
    if GEGLU {
        return tile * NQ + q % (NQ / 2u) * 2u + q / (NQ / 2u);
    }
    return tile * NQ + q;
}

fn w_at(tap: u32, k: u32, q: u32) -> WQuad {
    if k >= 4u * p.k_quads || q >= p.w_quads {
        return WQuad();
    }
    return w[(tap * 4u * p.k_quads + k) * p.w_quads + q];
}

fn line_at(line: u32, column: u32) -> Line {
    return Line(a_tile[line * NQ + column], b_tile[line * NQ + column]);
}

fn line_rows(line: u32, count: u32) -> u32 {
    return (max(count, line) - line + LINES - 1u) / LINES;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = group.x + p.first;
    let tile_n = tile % p.tiles_n;
    let first_row = rows_of(tile / p.tiles_n, BM).x;
    let end_row = rows_of(tile / p.tiles_n, BM).y;
    // 32 neighbouring threads cover 4 rows and 8 quads.
    let column = thread % 8u + thread / 32u % 2u * 8u;
    let line = thread / 8u % 4u + thread / 64u * 4u;

    // What this thread loads of each slab.
    let a_row = thread / KQ;
    let a_quad = thread % KQ;
    var rows: array<Row, LOADS_A>;
    // #unroll
    for (var i = 0u; i < LOADS_A; i++) {
        // Rows beyond the last are computed from it and not stored.
        rows[i] = row_at(min(first_row + a_row + i * (WG / KQ), end_row - 1u));
    }
    let b_row = thread / NQ;
    let b_quad = w_quad(tile_n, thread % NQ);
    var a_next: array<Quad, LOADS_A>;
    var b_next: array<WQuad, LOADS_B>;

    let tap_slabs = (p.k_quads + KQ - 1u) / KQ;
    let begin = group.z * p.split_slabs;
    let end = min(begin + p.split_slabs, p.taps * tap_slabs);
    var tap = begin / tap_slabs;
    var kq_begin = begin % tap_slabs * KQ;
    var acc: array<vec4<f32>, TM * TN>;
    for (var slab = begin; slab <= end; slab++) {
        if slab < end {
            // #unroll
            for (var i = 0u; i < LOADS_A; i++) {
                a_next[i] = quad_at(rows[i], tap, kq_begin + a_quad);
            }
            // #unroll
            for (var i = 0u; i < LOADS_B; i++) {
                b_next[i] = w_at(tap, 4u * kq_begin + b_row + i * (WG / NQ), b_quad);
            }
            kq_begin += KQ;
            if kq_begin >= p.k_quads {
                kq_begin = 0u;
                tap++;
            }
        }
        if slab > begin {
            // #unroll
            for (var kq = 0u; kq < KQ; kq++) {
                var a: array<vec4<f32>, TM>;
                // #unroll
                for (var i = 0u; i < TM; i++) {
                    a[i] = a_tile[a_slot(line + 16u * i, kq)];
                }
                // #unroll
                for (var k = 0u; k < 4u; k++) {
                    // #unroll
                    for (var n = 0u; n < TN; n++) {
                        let b = b_tile[(4u * kq + k) * NQ + 16u * n + column];
                        // #unroll
                        for (var i = 0u; i < TM; i++) {
                            acc[i * TN + n] = fma(vec4<f32>(a[i][k]), b, acc[i * TN + n]);
                        }
                    }
                }
            }
        }
        workgroupBarrier();
        if slab < end {
            // #unroll
            for (var i = 0u; i < LOADS_A; i++) {
                a_tile[a_slot(a_row + i * (WG / KQ), a_quad)] = widen(a_next[i]);
            }
            // #unroll
            for (var i = 0u; i < LOADS_B; i++) {
                b_tile[thread + i * WG] = widen_w(b_next[i]);
            }
        }
        workgroupBarrier();
    }

    let split_rows = group.z * (p.row_end - p.row_begin);
    // #unroll
    for (var i = 0u; i < TM; i++) {
        let row = first_row + line + 16u * i;
        if row < end_row {
            if GEGLU {
                let q = tile_n * (NQ / 2u) + column;
                if q < p.quads {
                    _ = store_gated(acc[i * TN], acc[i * TN + TN - 1u], row + split_rows, q);
                }
            } else {
                // #unroll
                for (var n = 0u; n < TN; n++) {
                    let q = tile_n * NQ + 16u * n + column;
                    if q < p.quads {
                        acc[i * TN + n] = store(acc[i * TN + n], row + split_rows, q);
                    }
                }
            }
        }
    }
    if STATISTICS {
        // #unroll
        for (var s = 0u; s < BM / STAT_ROWS; s++) {
            let begin_row = first_row + s * STAT_ROWS;
            let count = min(max(end_row, begin_row) - begin_row, STAT_ROWS);
            // #unroll
            for (var n = 0u; n < TN; n++) {
                var v: array<vec4<f32>, 4>;
                // #unroll
                for (var i = 0u; i < 4u; i++) {
                    v[i] = acc[(4u * s + i) * TN + n];
                }
                let own = line_of(v, line_rows(line, count));
                a_tile[line * NQ + 16u * n + column] = own.mean;
                b_tile[line * NQ + 16u * n + column] = own.m2;
            }
            workgroupBarrier();
            if thread < NQ {
                leave(thread, tile_n * NQ + thread, begin_row, count);
            }
            workgroupBarrier();
        }
    }
}
