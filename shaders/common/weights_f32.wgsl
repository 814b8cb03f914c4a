// weights slot: matrices and filters as f32.
alias WQuad = vec4<f32>;

fn widen_w(q: WQuad) -> vec4<f32> {
    return q;
}
