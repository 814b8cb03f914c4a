// rows slot: matmul. A row of the output reads the same row of each source, the sample modulo the source's batch.
@group(0) @binding(1) var<storage, read> x0: array<Quad>;
@group(0) @binding(2) var<storage, read> x1: array<Quad>;

// Where a row reads: the first quad in each source.
struct Row {
    x0: u32,
    x1: u32,
}

fn row_at(row: u32) -> Row {
    let r0 = row % (p.x0_samples * p.pixels);
    let r1 = row % (p.x1_samples * p.pixels);
    return Row(p.x0_base + r0 * p.x0_pitch, p.x1_base + r1 * p.x1_pitch);
}

// Quad kq of the joint channels, for a first source of whole quads; zeros beyond them.
fn quad_at(r: Row, tap: u32, kq: u32) -> Quad {
    if kq >= p.k_quads {
        return Quad();
    }
    if 4u * kq < p.k0 {
        return only_k(x0[r.x0 + kq], kq);
    }
    return only_k(x1[r.x1 + kq - p.k0 / 4u], kq);
}

// Channel k of the joint channels, for any first source.
fn element_at(r: Row, tap: u32, k: u32) -> f32 {
    if k < p.k0 {
        return widen(x0[r.x0 + k / 4u])[k % 4u];
    }
    return widen(x1[r.x1 + (k - p.k0) / 4u])[(k - p.k0) % 4u];
}
