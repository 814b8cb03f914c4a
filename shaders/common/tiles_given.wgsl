// tiles slot: what the producers of the sources have left, of each [B'][tile][mean, M2] rows of quads of f32.
@group(0) @binding(5) var<storage, read> given0: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> given1: array<vec4<f32>>;

// Of a channel in a tile of a sample: its mean in two parts, then M2.
fn tile_at(sample: u32, tile: u32, channel: u32) -> vec3<f32> {
    let row = 2u * (sample * p.given_tiles + tile);
    if channel < p.c0 {
        let at = p.given0_start + row % p.given0_rows * p.given0_pitch + channel / 4u;
        return vec3<f32>(given0[at][channel % 4u], 0.0, given0[at + p.given0_pitch][channel % 4u]);
    }
    let c = channel - p.c0;
    let at = p.given1_start + row % p.given1_rows * p.given1_pitch + c / 4u;
    return vec3<f32>(given1[at][c % 4u], 0.0, given1[at + p.given1_pitch][c % 4u]);
}
