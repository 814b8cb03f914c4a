// Quad q of a row of c channels, with zeros beyond the channels: padding stays zero, whatever was computed for it.
fn only_channels(v: vec4<f32>, q: u32, c: u32) -> vec4<f32> {
    return select(vec4<f32>(), v, vec4<u32>(4u * q) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(c));
}
