// weights slot: matrices and filters as f16 proper, for shaders that need SHADER_F16 anyway.
alias WQuad = vec4<f16>;

fn widen_w(q: WQuad) -> vec4<f32> {
    return vec4<f32>(q);
}
