// matmul and conv2d on tensor cores: y[row][n] = epilogue(sum over taps and k of x(row, tap)[k] w[tap][k][n]), f16 into
// f32. Layout: x0, x1, y rows of quads; w [taps][k][n], quads along n.   A workgroup computes BM rows and BN columns of
// y (of w with GEGLU), a subgroup of 32 a grid of FM x FN fragments of them; a split of k along z. A slab is BK
// channels of one tap. Memory: the slab's BM BK + BK BN halves and a fragment of f32 for each subgroup; a thread holds
// its share of the next slab in registers while this one is multiplied.
// Contracts src/kernels/{matmul,conv2d}.rs, launch src/kernels/gpu/gemm.rs.
#import fragment
#import storage
#import weights
#import gemm_params
#import rows
#import store
#import statistics

const WG: u32 = 128u; // threads: 32 for each subgroup
const BM: u32 = 64u; // rows of a tile
const BN: u32 = 64u; // columns of a tile
const BK: u32 = 32u; // channels of a slab
const SUBGROUPS_M: u32 = 2u; // subgroups above each other
const SUBGROUPS_N: u32 = 2u; // and side by side
const GEGLU: bool = false; // y = value * gelu(gate)
const FM: u32 = BM / SUBGROUPS_M / FRAG;
const FN: u32 = BN / SUBGROUPS_N / FRAG;
const KQ: u32 = BK / 4u;
const NQ: u32 = BN / 4u;
const PATCH: u32 = 16u * FRAG; // f32 of a subgroup: a fragment, or eight for each of the lanes that store it
const WIDTH: u32 = FRAG / 4u; // quads of a row of a fragment
const LOADS_A: u32 = BM * KQ / WG; // quads that a thread loads of a slab of x
const LOADS_B: u32 = BK * NQ / WG; // and of w
// Rows of the tiles are padded by 16 bytes of f16: against bank conflicts, and as
// aligned as loads of fragments must be.
const A_STRIDE: u32 = BK + 8u;
const B_STRIDE: u32 = BN + 8u;

@group(0) @binding(3) var<storage, read> w: array<WQuad>;

var<workgroup> a_tile: array<Half, BM * A_STRIDE>; // [row][k]
// [k][column]; scalars, because Metal loads fragments from them alone.
var<workgroup> b_tile: array<Half, BK * B_STRIDE>;
// A fragment of each subgroup, to be stored; then lines.
var<workgroup> patches: array<f32, SUBGROUPS_M * SUBGROUPS_N * PATCH>;

fn w_at(tap: u32, k: u32, q: u32) -> WQuad {
    if k >= 4u * p.k_quads || q >= p.w_quads {
        return WQuad();
    }
    return w[(tap * 4u * p.k_quads + k) * p.w_quads + q];
}

fn patch_quad(at: u32) -> vec4<f32> {
    return vec4<f32>(patches[at], patches[at + 1u], patches[at + 2u], patches[at + 3u]);
}

// Stores what a lane takes of the fragment in its subgroup's patch, row r and the column-th quad of y; gives it back.
fn store_patch(at: u32, r: u32, column: u32, row: u32, q: u32) -> vec4<f32> {
    if q >= p.quads {
        return vec4<f32>();
    }
    if GEGLU {
        let value = at + r * FRAG + 8u * column;
        return store_gated(patch_quad(value), patch_quad(value + 4u), row, q);
    }
    return store(patch_quad(at + r * FRAG + 4u * column), row, q);
}

// A line of statistics has four rows, 8 apart, of the 32 rows of a subgroup; two subgroups above each other have 16
// lines. Column: of all tiles of statistics, of all subgroups beside each other, the quads of a fragment.
fn line_at(line: u32, column: u32) -> Line {
    let above = column / (SUBGROUPS_N * WIDTH) * 2u + line / 8u;
    let beside = column / WIDTH % SUBGROUPS_N;
    let at = (above * SUBGROUPS_N + beside) * PATCH + (line % 8u * WIDTH + column % WIDTH) * 8u;
    return Line(patch_quad(at), patch_quad(at + 4u));
}

fn line_rows(line: u32, count: u32) -> u32 {
    let begin = line / 8u * 32u + line % 8u;
    return min((max(count, begin) - begin + 7u) / 8u, 4u);
}

fn put_line(at: u32, line: Line) {
    // #unroll
    for (var i = 0u; i < 4u; i++) {
        patches[at + i] = line.mean[i];
        patches[at + 4u + i] = line.m2[i];
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, invocation: Invocation) {
    let thread = invocation.thread;
    let subgroup = place(invocation).x;
    let lane = place(invocation).y;
    let tile = group.x + p.first;
    let tile_n = tile % p.tiles_n;
    let first_row = rows_of(tile / p.tiles_n, BM).x;
    let end_row = rows_of(tile / p.tiles_n, BM).y;
    // This subgroup's part of the tile.
    let part_m = subgroup / SUBGROUPS_N * (FM * FRAG);
    let part_n = subgroup % SUBGROUPS_N * (FN * FRAG);

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
    let b_quad = thread % NQ;
    var a_next: array<Quad, LOADS_A>;
    var b_next: array<WQuad, LOADS_B>;

    let tap_slabs = (p.k_quads + KQ - 1u) / KQ;
    let begin = group.z * p.split_slabs;
    let end = min(begin + p.split_slabs, p.taps * tap_slabs);
    var tap = begin / tap_slabs;
    var kq_begin = begin % tap_slabs * KQ;
    var acc: array<FragC, FM * FN>;
    for (var slab = begin; slab <= end; slab++) {
        if slab < end {
            // #unroll
            for (var i = 0u; i < LOADS_A; i++) {
                a_next[i] = quad_at(rows[i], tap, kq_begin + a_quad);
            }
            // #unroll
            for (var i = 0u; i < LOADS_B; i++) {
                b_next[i] = w_at(tap, 4u * kq_begin + b_row + i * (WG / NQ), tile_n * NQ + b_quad);
            }
            kq_begin += KQ;
            if kq_begin >= p.k_quads {
                kq_begin = 0u;
                tap++;
            }
        }
        if slab > begin {
            // #unroll
            for (var k = 0u; k < BK / FRAG; k++) {
                var a: array<FragA, FM>;
                // #unroll
                for (var i = 0u; i < FM; i++) {
                    a[i] = load_a((part_m + i * FRAG) * A_STRIDE + k * FRAG);
                }
                // #unroll
                for (var n = 0u; n < FN; n++) {
                    let b = load_b(k * FRAG * B_STRIDE + part_n + n * FRAG);
                    // #unroll
                    for (var i = 0u; i < FM; i++) {
                        acc[i * FN + n] = multiply_add(a[i], b, acc[i * FN + n], lane);
                    }
                }
            }
        }
        workgroupBarrier();
        if slab < end {
            // #unroll
            for (var i = 0u; i < LOADS_A; i++) {
                let at = (a_row + i * (WG / KQ)) * A_STRIDE + 4u * a_quad;
                let v = vec4<Half>(widen(a_next[i]));
                a_tile[at] = v.x;
                a_tile[at + 1u] = v.y;
                a_tile[at + 2u] = v.z;
                a_tile[at + 3u] = v.w;
            }
            // #unroll
            for (var i = 0u; i < LOADS_B; i++) {
                let at = (b_row + i * (WG / NQ)) * B_STRIDE + 4u * b_quad;
                let v = vec4<Half>(widen_w(b_next[i]));
                b_tile[at] = v.x;
                b_tile[at + 1u] = v.y;
                b_tile[at + 2u] = v.z;
                b_tile[at + 3u] = v.w;
            }
        }
        workgroupBarrier();
    }

    let split_rows = group.z * (p.row_end - p.row_begin);
    let patch_at = subgroup * PATCH;
    let width = select(WIDTH, WIDTH / 2u, GEGLU); // quads of y in a row of a fragment
    // #unroll
    for (var n = 0u; n < FN; n++) {
        let q = (tile_n * NQ + (part_n + n * FRAG) / 4u) / select(1u, 2u, GEGLU) + lane % width;
        var v: array<vec4<f32>, 4>;
        // #unroll
        for (var i = 0u; i < FM; i++) {
            store_c(acc[i * FN + n], patch_at, lane);
            workgroupBarrier();
            // Eight rows at a time, which are the same lane's of every fragment.
            // #unroll
            for (var k = 0u; k < FRAG / 8u; k++) {
                let r = lane / width + 8u * k;
                let row = first_row + part_m + i * FRAG + r;
                if lane / width < 8u && row < end_row {
                    v[i * (FRAG / 8u) + k] = store_patch(patch_at, r, lane % width, row + split_rows, q);
                }
            }
            workgroupBarrier();
        }
        if STATISTICS {
            let above = part_m / STAT_ROWS * STAT_ROWS; // where the tile of statistics begins that this subgroup is in
            let rows_here = min(max(end_row, first_row + above) - first_row - above, STAT_ROWS);
            if lane < 8u * WIDTH {
                let line = part_m % STAT_ROWS / 32u * 8u + lane / WIDTH;
                put_line(patch_at + lane * 8u, line_of(v, line_rows(line, rows_here)));
            }
            workgroupBarrier();
            if thread < BM / STAT_ROWS * SUBGROUPS_N * WIDTH {
                let begin_row = first_row + thread / (SUBGROUPS_N * WIDTH) * STAT_ROWS;
                let count = min(max(end_row, begin_row) - begin_row, STAT_ROWS);
                let quad = (thread / WIDTH % SUBGROUPS_N * FN + n) * WIDTH + thread % WIDTH;
                leave(thread, tile_n * NQ + quad, begin_row, count);
            }
            workgroupBarrier();
        }
    }
}
