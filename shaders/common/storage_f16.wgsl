// storage slot: activations as f16 proper, for shaders that need SHADER_F16 anyway.
alias Quad = vec4<f16>;

fn widen(q: Quad) -> vec4<f32> {
    return vec4<f32>(q);
}

fn narrow(v: vec4<f32>) -> Quad {
    return vec4<f16>(v);
}
