// mask slot: [B', heads or 1, T or 1, S] is added to scaled scores.
const MASKS: u32 = 1u; // bindings

@group(0) @binding(4) var<storage, read> mask: array<Quad>;

// The scores of a query of this dispatch with a quad of keys. Queries and keys beyond the last repeat it: the importing
// shader does not use them.
fn biased(scores: vec4<f32>, sample: u32, head: u32, query: u32, quad: u32) -> vec4<f32> {
    let plane = sample % p.mask_b * p.mask_heads + head % p.mask_heads;
    let row = plane * p.mask_rows + min(p.query0 + query, p.mask_rows - 1u);
    let at = min(quad, (p.keys - 1u) / 4u);
    return scores + widen(mask[p.mask_start + row * p.mask_pitch + at]);
}
