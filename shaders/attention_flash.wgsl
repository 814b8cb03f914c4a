// attention: softmax(q k^T / sqrt(d)) v for each head, scores in tiles that never leave the workgroup (Dao et al.
// 2022). Layout: q [B', T, heads * d], k, v [B'', S, heads * d], y [B, T, heads * d]; rows of quads, each with its own
//   pitch; d is 4 HEAD.
// Threads: a workgroup per (sample, head, 4 TY queries), as TY rows of TX. It goes through the keys in blocks of 4 TX:
//   scores: a thread has 4 queries by 4 keys (outer products of quads of q and k from workgroup memory);
//   weights: the row's maximum so far and this block's give exp(score - maximum), and what was summed before is scaled;
//   values: a thread adds, for the same 4 queries, quads tx, tx + TX, ... of the head.
// Memory: q, k and v are read once for each (query block, key block) through `stage`; up to 16 KiB of workgroup memory,
//   24 where the device has plenty. Query 4 ty + i lies in slot i TY + ty, likewise keys, so that neighbouring threads
//   read neighbouring quads.
// Contract src/kernels/attention.rs, launch src/kernels/gpu/attention.rs.
#import storage
#import mask
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

// Chosen by the launch, with reasons; here for 40 channels.
const TX: u32 = 10u;
const TY: u32 = 16u;
const HEAD: u32 = 10u; // quads of a head
const PER: u32 = 1u; // of which a thread adds up so many
const PART: u32 = 1u; // of which so many are staged at once
const STEP: u32 = 2u; // quads of q and k that are staged at once
const VALUES: u32 = 20u; // rows of v that are staged at once
const CAUSAL: bool = false;

const WG: u32 = TX * TY;
const QUERIES: u32 = 4u * TY;
const KEYS: u32 = 4u * TX;
const PARTS: u32 = PER / PART;
const WIDTH: u32 = PART * TX; // quads of a staged row of v
const STAGE: u32 = max(STEP * (QUERIES + KEYS), VALUES * WIDTH);
const PITCH: u32 = QUERIES + 1u; // odd, so that rows of weights begin in different banks
const LEAST: f32 = -3.0e38; // below every score, and finite

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<Quad>;
@group(0) @binding(2) var<storage, read> k: array<Quad>;
@group(0) @binding(3) var<storage, read> v: array<Quad>;
@group(0) @binding(4u + MASKS) var<storage, read_write> y: array<Quad>;

// Quads of q, [step][slot], then of k; or of v, [key][quad].
var<workgroup> stage: array<vec4<f32>, STAGE>;
// exp(score - maximum) of four keys, [key / 4][slot of the query].
var<workgroup> weights: array<vec4<f32>, TX * PITCH>;

// Quads `begin`, `begin + 1`, ... of a head's q and k. Rows beyond the last repeat it: their results are not used.
fn stage_scores(thread: u32, q_first: u32, queries: u32, k_first: u32, keys: u32, quad0: u32, begin: u32) {
    for (var i = thread; i < STEP * QUERIES; i += WG) {
        let row = i / STEP;
        var a = vec4<f32>();
        if begin + i % STEP < HEAD {
            a = widen(q[p.q_start + (q_first + min(row, queries - 1u)) * p.q_pitch + quad0 + begin + i % STEP]);
        }
        stage[i % STEP * QUERIES + row % 4u * TY + row / 4u] = a;
    }
    for (var i = thread; i < STEP * KEYS; i += WG) {
        let row = i / STEP;
        var a = vec4<f32>();
        if begin + i % STEP < HEAD {
            a = widen(k[p.k_start + (k_first + min(row, keys - 1u)) * p.k_pitch + quad0 + begin + i % STEP]);
        }
        stage[STEP * QUERIES + i % STEP * KEYS + row % 4u * TX + row / 4u] = a;
    }
}

// Quads `begin` to `begin + WIDTH` of a head's v, for VALUES keys.
fn stage_values(thread: u32, v_first: u32, keys: u32, quad0: u32, begin: u32) {
    for (var i = thread; i < VALUES * WIDTH; i += WG) {
        let quad = quad0 + min(begin + i % WIDTH, HEAD - 1u);
        stage[i] = widen(v[p.v_start + (v_first + min(i / WIDTH, keys - 1u)) * p.v_pitch + quad]);
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tx = thread % TX;
    let ty = thread / TX;
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
    // Keys that each of the four queries sees.
    var seen = vec4<u32>(p.keys);
    if CAUSAL {
        seen = min(seen, vec4<u32>(p.query0 + query + 4u * ty) + vec4<u32>(1u, 2u, 3u, 4u));
    }
    var most = vec4<f32>(LEAST);
    var sum = vec4<f32>();
    var out: array<vec4<f32>, 4u * PER>;
    for (var key = 0u; key < end; key += KEYS) {
        var s: array<vec4<f32>, 4>;
        for (var begin = 0u; begin < HEAD; begin += STEP) {
            workgroupBarrier();
            stage_scores(thread, row % p.q_rows, queries, k_first + key, p.keys - key, quad0, begin);
            workgroupBarrier();
            // #unroll
            for (var j = 0u; j < STEP; j++) {
                let at_k = STEP * QUERIES + j * KEYS + tx;
                let k0 = stage[at_k];
                let k1 = stage[at_k + TX];
                let k2 = stage[at_k + 2u * TX];
                let k3 = stage[at_k + 3u * TX];
                // #unroll
                for (var i = 0u; i < 4u; i++) {
                    let a = stage[j * QUERIES + i * TY + ty];
                    s[i] += vec4<f32>(dot(a, k0), dot(a, k1), dot(a, k2), dot(a, k3));
                }
            }
        }
        let mine = vec4<u32>(key + 4u * tx) + vec4<u32>(0u, 1u, 2u, 3u);
        var high: vec4<f32>;
        // #unroll
        for (var i = 0u; i < 4u; i++) {
            s[i] = biased(s[i] * p.scale, sample, head, query + 4u * ty + i, key / 4u + tx);
            s[i] = select(vec4<f32>(LEAST), s[i], mine < vec4<u32>(seen[i]));
            high[i] = max(max(s[i].x, s[i].y), max(s[i].z, s[i].w));
        }
        let higher = max(most, max_over(high, thread, TX));
        let keep = exp(most - higher);
        most = higher;
        sum *= keep;
        // #unroll
        for (var i = 0u; i < 4u; i++) {
            let w = select(vec4<f32>(), exp(s[i] - higher[i]), mine < vec4<u32>(seen[i]));
            sum[i] += dot(w, vec4<f32>(1.0));
            weights[tx * PITCH + i * TY + ty] = w;
            // #unroll
            for (var j = 0u; j < PER; j++) {
                out[i * PER + j] *= keep[i];
            }
        }
        // #unroll
        for (var part = 0u; part < PARTS; part++) {
            for (var begin = 0u; begin < min(KEYS, end - key); begin += VALUES) {
                workgroupBarrier();
                stage_values(thread, v_first + key + begin, p.keys - key - begin, quad0, part * WIDTH);
                workgroupBarrier();
                for (var four = 0u; four < VALUES / 4u; four++) {
                    let at_w = (begin / 4u + four) * PITCH + ty;
                    let w0 = weights[at_w];
                    let w1 = weights[at_w + TY];
                    let w2 = weights[at_w + 2u * TY];
                    let w3 = weights[at_w + 3u * TY];
                    // #unroll
                    for (var r = 0u; r < 4u; r++) {
                        // #unroll
                        for (var j = 0u; j < PART; j++) {
                            let b = stage[(4u * four + r) * WIDTH + j * TX + tx];
                            out[part * PART + j] += w0[r] * b;
                            out[PER + part * PART + j] += w1[r] * b;
                            out[2u * PER + part * PART + j] += w2[r] * b;
                            out[3u * PER + part * PART + j] += w3[r] * b;
                        }
                    }
                }
            }
        }
    }
    let scale = 1.0 / sum_over(sum, thread, TX);
    // #unroll
    for (var i = 0u; i < 4u; i++) {
        // #unroll
        for (var j = 0u; j < PER; j++) {
            if 4u * ty + i < queries && j * TX + tx < HEAD {
                let to = p.y_start + (row + 4u * ty + i) * p.y_pitch + quad0 + j * TX + tx;
                y[to] = narrow(out[i * PER + j] * scale[i]);
            }
        }
    }
}
