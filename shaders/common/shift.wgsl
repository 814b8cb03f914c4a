// Four neighbouring channels that begin at channel s (0 to 3) of the eight in a and b.
fn shifted(a: vec4<f32>, b: vec4<f32>, s: u32) -> vec4<f32> {
    switch s {
        case 1u: { return vec4<f32>(a.yzw, b.x); }
        case 2u: { return vec4<f32>(a.zw, b.xy); }
        case 3u: { return vec4<f32>(a.w, b.xyz); }
        default: { return a; }
    }
}

// Quad q of the channels of two sources that follow each other: c0 channels of the first, then those of the second.
// a: quad q of the first. earlier, b: the second's quads q - c0 / 4 - 1 and q - c0 / 4. What the sources do not have
// may be anything.
fn joined(a: vec4<f32>, earlier: vec4<f32>, b: vec4<f32>, q: u32, c0: u32) -> vec4<f32> {
    let s = c0 % 4u;
    var second = b;
    if s != 0u {
        second = shifted(earlier, b, 4u - s);
    }
    return select(second, a, vec4<u32>(4u * q) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(c0));
}
