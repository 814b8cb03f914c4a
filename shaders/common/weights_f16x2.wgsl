// weights slot: matrices and filters as pairs of f16 in u32.
alias WQuad = vec2<u32>;

fn widen_w(q: WQuad) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(q.x), unpack2x16float(q.y));
}
