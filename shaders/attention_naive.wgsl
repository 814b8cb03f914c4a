// attention, the plain way: softmax(q k^T / sqrt(d)) v for each head, with an online softmax.
// Layout: q [B', T, heads * d], k, v [B'', S, heads * d], y [B, T, heads * d]; rows of quads, each with its own pitch.
// Threads: one per quad of y. Where d is no multiple of 4 the lanes of a quad can belong to different heads, so each
//   lane has its own softmax; scores are computed anew for each quad.
// Memory: reads all keys and values for each quad.
// Contract src/kernels/attention.rs, launch src/kernels/gpu/attention.rs.
#import storage
#import mask
#import channels

struct Params {
    first: u32,
    total: u32,
    quads: u32,
    c: u32,
    d: u32,
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
}

const WG: u32 = 256u; // threads; the WebGPU default limit
const CAUSAL: bool = false;
const LEAST: f32 = -3.0e38; // below every score, and finite

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<Quad>;
@group(0) @binding(2) var<storage, read> k: array<Quad>;
@group(0) @binding(3) var<storage, read> v: array<Quad>;
@group(0) @binding(4u + MASKS) var<storage, read_write> y: array<Quad>;

// The score of a head; q_row and k_row are the rows' first quads.
fn score(q_row: u32, k_row: u32, head: u32) -> f32 {
    var sum = 0.0;
    let begin = head * p.d;
    if p.d % 4u == 0u {
        for (var i = begin / 4u; i < (begin + p.d) / 4u; i++) {
            sum += dot(widen(q[q_row + i]), widen(k[k_row + i]));
        }
    } else {
        for (var c = begin; c < begin + p.d; c++) {
            sum += widen(q[q_row + c / 4u])[c % 4u] * widen(k[k_row + c / 4u])[c % 4u];
        }
    }
    return sum * p.scale;
}

// The scores of the heads of a quad's lanes.
fn scores(q_row: u32, k_row: u32, heads: vec4<u32>) -> vec4<f32> {
    var s = vec4<f32>(score(q_row, k_row, heads.x));
    if any(heads != vec4<u32>(heads.x)) {
        s.y = score(q_row, k_row, heads.y);
        s.z = score(q_row, k_row, heads.z);
        s.w = score(q_row, k_row, heads.w);
    }
    return s;
}

// The same with what the mask adds for one query and key.
fn masked(s: vec4<f32>, sample: u32, heads: vec4<u32>, query: u32, key: u32) -> vec4<f32> {
    return vec4<f32>(
        biased(vec4<f32>(s.x), sample, heads.x, query, key / 4u)[key % 4u],
        biased(vec4<f32>(s.y), sample, heads.y, query, key / 4u)[key % 4u],
        biased(vec4<f32>(s.z), sample, heads.z, query, key / 4u)[key % 4u],
        biased(vec4<f32>(s.w), sample, heads.w, query, key / 4u)[key % 4u],
    );
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let at = (group.x + p.first) * WG + thread;
    if at >= p.total {
        return;
    }
    let quad = at % p.quads;
    let row = at / p.quads;
    let sample = row / p.rows;
    let channels = min(vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.c - 1u));
    let heads = channels / p.d;
    let q_row = p.q_start + row % p.q_rows * p.q_pitch;
    let k_first = sample * p.keys % p.k_rows;
    let v_first = sample * p.keys % p.v_rows;
    var end = p.keys;
    if CAUSAL {
        end = min(end, p.query0 + row % p.rows + 1u);
    }
    var most = vec4<f32>(LEAST);
    var sum = vec4<f32>();
    var out = vec4<f32>();
    for (var key = 0u; key < end; key++) {
        var s = scores(q_row, p.k_start + (k_first + key) * p.k_pitch, heads);
        if MASKS > 0u {
            s = masked(s, sample, heads, row % p.rows, key);
        }
        let higher = max(most, s);
        let keep = exp(most - higher);
        let weight = exp(s - higher);
        most = higher;
        sum = sum * keep + weight;
        out = out * keep + weight * widen(v[p.v_start + (v_first + key) * p.v_pitch + quad]);
    }
    y[p.y_start + at] = narrow(only_channels(out / sum, quad, p.c));
}
