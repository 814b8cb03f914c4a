// timestep_embedding: y[i] = cos(t f_i), y[n / 2 + i] = sin(t f_i), with f_i = 10000^(-i / (n / 2)), i < n / 2.
// Layout: t [B, 1, T, 1], y [B, 1, T, N]; rows of quads.   One thread per quad of y.
// Drivers may compute sin and cos of an angle of hundreds with any error, and f32 cannot hold such an angle. So angles
// are counted in turns, in integers: f_i / 2 pi as a fraction of 64 bits, times t's 24 bits, of which 32 bits of the
// fraction of a turn are kept (1.5e-9 radians); then an octant's polynomials.
// Memory: reads a row's t once for each quad of y, writes y once.
// Contract src/kernels/timestep_embedding.rs, launch src/kernels/gpu/timestep_embedding.rs.
#import storage
#import channels

struct Params {
    first: u32,
    total: u32,
    quads: u32,
    c: u32,
    ratio_low: u32,
    ratio_high: u32,
    x_start: u32,
    x_pitch: u32,
    y_start: u32,
}

const WG: u32 = 256u; // threads; the WebGPU default limit
// 1 / (2 pi) times 2^64.
const TURN_HIGH: u32 = 0x28BE60DBu;
const TURN_LOW: u32 = 0x9391054Au;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> y: array<Quad>;

// The 64 bits of a product: low, high.
fn product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let mid = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (mid & 0xffffu);
    return vec2<u32>(a * b, (a >> 16u) * (b >> 16u) + (mid >> 16u) + (other >> 16u));
}

// The sum of three numbers of 32 bits: low, carry.
fn sum3(a: u32, b: u32, c: u32) -> vec2<u32> {
    let ab = a + b;
    let abc = ab + c;
    return vec2<u32>(abc, select(0u, 1u, ab < a) + select(0u, 1u, abc < c));
}

// The product of two fractions of 64 bits (low, high), cut off.
fn times(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let cross0 = product(a.x, b.y);
    let cross1 = product(a.y, b.x);
    let high = product(a.y, b.y);
    let carry = sum3(product(a.x, b.x).y, cross0.x, cross1.x).y;
    let low = sum3(high.x, cross0.y, cross1.y);
    let total = sum3(low.x, carry, 0u);
    return vec2<u32>(total.x, high.y + low.y + total.y);
}

// f_i in turns, as a fraction of 64 bits: the ratio of neighbours to the power i, by squaring.
fn frequency(i: u32) -> vec2<u32> {
    var f = vec2<u32>(TURN_LOW, TURN_HIGH);
    var power = vec2<u32>(p.ratio_low, p.ratio_high);
    for (var n = i; n > 0u; n = n >> 1u) {
        if (n & 1u) == 1u {
            f = times(f, power);
        }
        power = times(power, power);
    }
    return f;
}

// Bits `shift` to `shift + 31` of three words, the lowest first.
fn bits_from(words: vec3<u32>, shift: u32) -> u32 {
    if shift >= 96u {
        return 0u;
    }
    var low = words.x;
    var high = words.y;
    if shift >= 64u {
        low = words.z;
        high = 0u;
    } else if shift >= 32u {
        low = words.y;
        high = words.z;
    }
    let by = shift % 32u;
    if by == 0u {
        return low;
    }
    return (low >> by) | (high << (32u - by));
}

// |t| f as a fraction of a turn, of 32 bits.
fn turns(t: f32, f: vec2<u32>) -> u32 {
    let bits = bitcast<u32>(t);
    let exponent = (bits >> 23u) & 0xffu;
    if exponent == 0u {
        return 0u; // below 2^-126
    }
    let mantissa = (bits & 0x7fffffu) | 0x800000u;
    let low = product(f.x, mantissa);
    let high = product(f.y, mantissa);
    let mid = sum3(low.y, high.x, 0u);
    // |t| f = words * 2^(exponent - 150 - 64); the fraction's 32 bits begin at bit 182 - exponent. There are no times
    // from 2^32 on.
    return bits_from(vec3<u32>(low.x, mid.x, high.y + mid.y), 182u - min(exponent, 182u));
}

// cos and sin of a fraction of a turn: an angle within an eighth of a turn of the nearest quarter, by Taylor
// polynomials whose next terms are below 2^-25.
fn cos_sin(turn: u32) -> vec2<f32> {
    let quarter = ((turn >> 29u) + 1u) >> 1u;
    let rest = turn - (quarter << 30u);
    let a = f32(bitcast<i32>(rest)) * 1.4629180792671596e-9; // 2 pi / 2^32
    let z = a * a;
    let s = a + a * z * (-0.16666667 + z * (0.008333333 + z * (-0.00019841270 + z * 2.7557319e-6)));
    let c = 1.0 + z * (-0.5 + z * (0.041666668 + z * (-0.0013888889 + z * (2.4801587e-5 - z * 2.7557319e-7))));
    switch quarter & 3u {
        case 1u: { return vec2<f32>(-s, c); }
        case 2u: { return vec2<f32>(-c, -s); }
        case 3u: { return vec2<f32>(s, -c); }
        default: { return vec2<f32>(c, s); }
    }
}

fn element(t: f32, channel: u32) -> f32 {
    let half = max(p.c / 2u, 1u);
    let v = cos_sin(turns(t, frequency(channel % half)));
    if channel < half {
        return v.x;
    }
    return select(v.y, -v.y, t < 0.0);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + p.first) * WG + thread;
    if i >= p.total {
        return;
    }
    let q = i % p.quads;
    let t = widen(x[p.x_start + i / p.quads * p.x_pitch]).x;
    let v = vec4<f32>(element(t, 4u * q), element(t, 4u * q + 1u), element(t, 4u * q + 2u), element(t, 4u * q + 3u));
    y[p.y_start + i] = narrow(only_channels(v, q, p.c));
}
