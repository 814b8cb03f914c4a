// Nonlinearities, numbered as `impl From<Activation> for Const` in src/kernels/gpu.rs numbers them.
const ACT_SILU: u32 = 1u; // x / (1 + e^-x)
const ACT_GELU: u32 = 2u; // x Phi(x), Phi the normal distribution function
const ACT_QUICK_GELU: u32 = 3u; // x / (1 + e^(-1.702 x))
const ACT_RELU: u32 = 4u; // max(x, 0)
const ACT_TANH3: u32 = 5u; // 3 tanh(x / 3)
const ACT_TO_UNIT: u32 = 6u; // (x + 1) / 2
const ACT_FROM_UNIT: u32 = 7u; // 2 x - 1
const ACT_LEAKY_RELU: u32 = 8u; // x, below 0 0.2 x
const ACT_FIFTH: u32 = 9u; // 0.2 x

// x / (1 + e^z). The exponent is clamped because WGSL does not promise infinities; the quotient is 0 long before.
fn over_one_plus_exp(x: vec4<f32>, z: vec4<f32>) -> vec4<f32> {
    return x / (vec4<f32>(1.0) + exp(min(z, vec4<f32>(88.0))));
}

// The exact GELU, to a few units in the last place: 1 - Phi(a) = erfc(a / sqrt 2) / 2, where exp(z^2) erfc(z) (1 + 2 z)
// is a minimax polynomial (relative error 1.4e-8) in q = (z - 2) / (z + 2). Beyond a = 13
// the tail is below every normal f32.
fn gelu(x: vec4<f32>) -> vec4<f32> {
    let a = min(abs(x), vec4<f32>(13.0));
    let z = a * 0.70710678;
    let q = (z - 2.0) / (z + 2.0);
    var s = fma(vec4<f32>(-0.0003994505), q, vec4<f32>(-0.0012280055));
    s = fma(s, q, vec4<f32>(0.0013133079));
    s = fma(s, q, vec4<f32>(0.0086301));
    s = fma(s, q, vec4<f32>(-0.008060141));
    s = fma(s, q, vec4<f32>(-0.054203884));
    s = fma(s, q, vec4<f32>(0.16405542));
    s = fma(s, q, vec4<f32>(-0.16603146));
    s = fma(s, q, vec4<f32>(-0.09276398));
    s = fma(s, q, vec4<f32>(1.2769784));
    let tail = s * exp(-0.5 * a * a) / (4.0 * z + 2.0);
    return x * select(1.0 - tail, tail, x < vec4<f32>());
}

// 3 tanh(x / 3) from one exponential of a negative number: WGSL's own tanh may be less exact than that.
fn tanh3(x: vec4<f32>) -> vec4<f32> {
    let e = exp(abs(x) * (-2.0 / 3.0));
    return sign(x) * (3.0 * (vec4<f32>(1.0) - e) / (vec4<f32>(1.0) + e));
}

fn activate(v: vec4<f32>, kind: u32) -> vec4<f32> {
    switch kind {
        case ACT_SILU: {
            return over_one_plus_exp(v, -v);
        }
        case ACT_GELU: {
            return gelu(v);
        }
        case ACT_QUICK_GELU: {
            return over_one_plus_exp(v, -1.702 * v);
        }
        case ACT_RELU: {
            return max(v, vec4<f32>());
        }
        case ACT_TANH3: {
            return tanh3(v);
        }
        case ACT_TO_UNIT: {
            return fma(v, vec4<f32>(0.5), vec4<f32>(0.5));
        }
        case ACT_FROM_UNIT: {
            return fma(v, vec4<f32>(2.0), vec4<f32>(-1.0));
        }
        case ACT_LEAKY_RELU: {
            return select(v, 0.2 * v, v < vec4<f32>());
        }
        case ACT_FIFTH: {
            return 0.2 * v;
        }
        default: {
            return v;
        }
    }
}
