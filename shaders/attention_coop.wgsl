// attention on tensor cores: softmax(q k^T / sqrt(d)) v for each head, f16 into f32.
// A fragment's elements cannot be scaled one by one, so sums cannot be rescaled when a larger score turns up: a first
// sweep over the keys finds each row's maximum, a second has exp(score - maximum) times v added up by the tensor cores.
// Layout: q [B', T, heads * d], k, v [B'', S, heads * d], y [B, T, heads * d]; rows of quads, each with its own pitch;
//   d is 4 HEAD.
// Threads: a workgroup per (sample, head, 16 SUBGROUPS queries), a subgroup of 32 for 16 of them.
// Memory: a_tile has all of the queries' channels in CHUNKS parts, then the weights; b_tile a part of k, transposed, or
//   of v; a fragment of f32 for each subgroup.
// Contract src/kernels/attention.rs, launch src/kernels/gpu/attention/coop.rs.
#import fragment
#import storage
#import reduce_rows

struct Params {
    first: u32,
    blocks: u32,
    heads: u32,
    rows: u32,
    query0: u32,
    keys: u32,
    scale: f32,
    q_start: u32,
    q_pitch: u32,
    q_rows: u32,
    k_start: u32,
    k_pitch: u32,
    k_rows: u32,
    v_start: u32,
    v_pitch: u32,
    v_rows: u32,
    mask_start: u32,
    mask_pitch: u32,
    mask_b: u32,
    mask_heads: u32,
    mask_rows: u32,
    y_start: u32,
    y_pitch: u32,
}

// Chosen by the launch, as large as workgroup memory allows; here for 40 channels.
const SUBGROUPS: u32 = 4u;
const KEYS: u32 = 64u; // of a block
const HEAD: u32 = 10u; // quads of a head
const CH: u32 = 48u; // channels of a part, a multiple of 16
const CHUNKS: u32 = 1u; // parts
const CAUSAL: bool = false;

const WG: u32 = 32u * SUBGROUPS;
const QUERIES: u32 = 16u * SUBGROUPS;
const ROWS: u32 = 16u / FRAG; // fragments above each other that make a subgroup's 16 queries
const KEY_FRAGS: u32 = KEYS / FRAG;
const CH_FRAGS: u32 = CH / FRAG;
const CQ: u32 = CH / 4u;
// Rows are padded by 16 bytes of f16: against bank conflicts, and as aligned as loads of fragments must be.
const A_STRIDE: u32 = max(CH, KEYS) + 8u;
const B_STRIDE: u32 = max(CH, KEYS) + 8u;
const WEIGHTS: u32 = CHUNKS * QUERIES * A_STRIDE; // where they begin in a_tile
const ELEMENTS: u32 = FRAG * FRAG / 32u; // elements of a fragment for each lane, of one row
const SHARE: u32 = FRAG / ELEMENTS; // lanes that share a row
const LEAST: f32 = -3.0e38; // below every score, and finite

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<Quad>;
@group(0) @binding(2) var<storage, read> k: array<Quad>;
@group(0) @binding(3) var<storage, read> v: array<Quad>;
@group(0) @binding(4) var<storage, read_write> y: array<Quad>;

// q [part][query][channel]; weights [query][key]
var<workgroup> a_tile: array<Half, (CHUNKS + 1u) * QUERIES * A_STRIDE>;
var<workgroup> b_tile: array<Half, max(CH, KEYS) * B_STRIDE>; // k [channel][key], or v [key][channel]
var<workgroup> patches: array<f32, SUBGROUPS * FRAG * FRAG>;
var<workgroup> scales: array<f32, QUERIES>; // 1 / sum of a row's weights

fn stage_q(thread: u32, first: u32, queries: u32, quad0: u32) {
    for (var i = thread; i < QUERIES * CHUNKS * CQ; i += WG) {
        let row = i / (CHUNKS * CQ);
        let quad = i % (CHUNKS * CQ);
        var a = vec4<Half>();
        if quad < HEAD {
            a = vec4<Half>(widen(q[p.q_start + (first + min(row, queries - 1u)) * p.q_pitch + quad0 + quad]));
        }
        let at = (quad / CQ * QUERIES + row) * A_STRIDE + quad % CQ * 4u;
        a_tile[at] = a.x;
        a_tile[at + 1u] = a.y;
        a_tile[at + 2u] = a.z;
        a_tile[at + 3u] = a.w;
    }
}

// A part of k's channels, transposed. Rows beyond the last repeat it: their weights are zero.
fn stage_k(thread: u32, first: u32, keys: u32, quad0: u32, chunk: u32) {
    for (var i = thread; i < KEYS * CQ; i += WG) {
        let key = i % KEYS;
        let quad = chunk * CQ + i / KEYS;
        var b = vec4<Half>();
        if quad < HEAD {
            b = vec4<Half>(widen(k[p.k_start + (first + min(key, keys - 1u)) * p.k_pitch + quad0 + quad]));
        }
        let at = i / KEYS * 4u * B_STRIDE + key;
        b_tile[at] = b.x;
        b_tile[at + B_STRIDE] = b.y;
        b_tile[at + 2u * B_STRIDE] = b.z;
        b_tile[at + 3u * B_STRIDE] = b.w;
    }
}

fn stage_v(thread: u32, first: u32, keys: u32, quad0: u32, chunk: u32) {
    for (var i = thread; i < KEYS * CQ; i += WG) {
        let key = i / CQ;
        let quad = chunk * CQ + i % CQ;
        var b = vec4<Half>();
        if quad < HEAD {
            b = vec4<Half>(widen(v[p.v_start + (first + min(key, keys - 1u)) * p.v_pitch + quad0 + quad]));
        }
        let at = key * B_STRIDE + i % CQ * 4u;
        b_tile[at] = b.x;
        b_tile[at + 1u] = b.y;
        b_tile[at + 2u] = b.z;
        b_tile[at + 3u] = b.w;
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, invocation: Invocation) {
    let thread = invocation.thread;
    let subgroup = place(invocation).x;
    let lane = place(invocation).y;
    let at = group.x + p.first;
    let query = at % p.blocks * QUERIES;
    let head = at / p.blocks % p.heads;
    let sample = at / p.blocks / p.heads;
    let quad0 = head * HEAD;
    let row = sample * p.rows + query;
    let queries = p.rows - query;
    let k_first = sample * p.keys % p.k_rows;
    let v_first = sample * p.keys % p.v_rows;
    var end = p.keys;
    if CAUSAL {
        end = min(end, p.query0 + query + QUERIES);
    }
    // Of each fragment this lane has ELEMENTS neighbouring elements of one row, which it shares with SHARE - 1 others.
    let lane_row = lane / SHARE;
    let lane_key = lane % SHARE * ELEMENTS;
    let patch_at = subgroup * FRAG * FRAG;
    var seen = vec4<u32>(p.keys);
    var most = vec4<f32>(LEAST);
    var sum = vec4<f32>();
    if CAUSAL {
        // #unroll
        for (var i = 0u; i < ROWS; i++) {
            seen[i] = min(p.keys, p.query0 + query + subgroup * 16u + i * FRAG + lane_row + 1u);
        }
    }
    var out: array<FragC, CHUNKS * ROWS * CH_FRAGS>;
    stage_q(thread, row % p.q_rows, queries, quad0);
    for (var sweep = 0u; sweep < 2u; sweep++) {
        for (var key = 0u; key < end; key += KEYS) {
            var s: array<FragC, ROWS * KEY_FRAGS>;
            for (var chunk = 0u; chunk < CHUNKS; chunk++) {
                workgroupBarrier();
                stage_k(thread, k_first + key, p.keys - key, quad0, chunk);
                workgroupBarrier();
                // #unroll
                for (var c = 0u; c < CH_FRAGS; c++) {
                    // #unroll
                    for (var i = 0u; i < ROWS; i++) {
                        let a = load_a((chunk * QUERIES + subgroup * 16u + i * FRAG) * A_STRIDE + c * FRAG);
                        // #unroll
                        for (var n = 0u; n < KEY_FRAGS; n++) {
                            let b = load_b(c * FRAG * B_STRIDE + n * FRAG);
                            s[i * KEY_FRAGS + n] = multiply_add(a, b, s[i * KEY_FRAGS + n], lane);
                        }
                    }
                }
            }
            // #unroll
            for (var i = 0u; i < ROWS; i++) {
                // #unroll
                for (var n = 0u; n < KEY_FRAGS; n++) {
                    store_c(s[i * KEY_FRAGS + n], patch_at, lane);
                    workgroupBarrier();
                    for (var e = 0u; e < ELEMENTS; e++) {
                        let score = patches[patch_at + lane_row * FRAG + lane_key + e] * p.scale;
                        let visible = key + n * FRAG + lane_key + e < seen[i];
                        if sweep == 0u {
                            most[i] = max(most[i], select(LEAST, score, visible));
                        } else {
                            let w = Half(select(0.0, exp(min(score - most[i], 0.0)), visible));
                            sum[i] += f32(w);
                            let to = (subgroup * 16u + i * FRAG + lane_row) * A_STRIDE + n * FRAG + lane_key + e;
                            a_tile[WEIGHTS + to] = w;
                        }
                    }
                    workgroupBarrier();
                }
            }
            if sweep == 1u {
                // #unroll
                for (var chunk = 0u; chunk < CHUNKS; chunk++) {
                    workgroupBarrier();
                    stage_v(thread, v_first + key, p.keys - key, quad0, chunk);
                    workgroupBarrier();
                    // #unroll
                    for (var c = 0u; c < KEY_FRAGS; c++) {
                        // #unroll
                        for (var i = 0u; i < ROWS; i++) {
                            let a = load_a(WEIGHTS + (subgroup * 16u + i * FRAG) * A_STRIDE + c * FRAG);
                            // #unroll
                            for (var n = 0u; n < CH_FRAGS; n++) {
                                let b = load_b(c * FRAG * B_STRIDE + n * FRAG);
                                let to = (chunk * ROWS + i) * CH_FRAGS + n;
                                out[to] = multiply_add(a, b, out[to], lane);
                            }
                        }
                    }
                }
            }
        }
        if sweep == 0u {
            most = max_over(most, thread, SHARE);
        }
    }
    sum = sum_over(sum, thread, SHARE);
    if lane % SHARE == 0u {
        // #unroll
        for (var i = 0u; i < ROWS; i++) {
            scales[subgroup * 16u + i * FRAG + lane_row] = 1.0 / sum[i];
        }
    }
    // #unroll
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
        // #unroll
        for (var i = 0u; i < ROWS; i++) {
            // #unroll
            for (var n = 0u; n < CH_FRAGS; n++) {
                store_c(out[(chunk * ROWS + i) * CH_FRAGS + n], patch_at, lane);
                workgroupBarrier();
                for (var e = lane; e < FRAG * FRAG / 4u; e += 32u) {
                    let r = subgroup * 16u + i * FRAG + e / (FRAG / 4u);
                    let quad = (chunk * CH + n * FRAG) / 4u + e % (FRAG / 4u);
                    let f = patch_at + 4u * e;
                    let o = vec4<f32>(patches[f], patches[f + 1u], patches[f + 2u], patches[f + 3u]);
                    if r < queries && quad < HEAD {
                        y[p.y_start + (row + r) * p.y_pitch + quad0 + quad] = narrow(o * scales[r]);
                    }
                }
                workgroupBarrier();
            }
        }
    }
}
