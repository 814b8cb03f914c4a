// storage slot: activations as pairs of f16 in u32; needs no device feature. What f16 cannot hold becomes infinite and
// is found by the engine's check, so it is not clamped here.
alias Quad = vec2<u32>;

fn widen(q: Quad) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(q.x), unpack2x16float(q.y));
}

fn narrow(v: vec4<f32>) -> Quad {
    return vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
}
