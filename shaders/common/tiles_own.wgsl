// tiles slot: moments that group_norm_stats or group_norm_join has left, [B][tile][quad of x0, then of x1][3] of vec4.
@group(0) @binding(5) var<storage, read> stats: array<vec4<f32>>;

// Of a channel in a tile of a sample: its mean in two parts, then M2.
fn tile_at(sample: u32, tile: u32, channel: u32) -> vec3<f32> {
    let second = channel >= p.c0;
    let c = select(channel, channel - p.c0, second);
    let quad = select(c / 4u, p.quads0 + c / 4u, second);
    let at = sample * p.stats_stride + (tile * (p.quads0 + p.quads1) + quad) * 3u;
    return vec3<f32>(stats[at][c % 4u], stats[at + 1u][c % 4u], stats[at + 2u][c % 4u]);
}
