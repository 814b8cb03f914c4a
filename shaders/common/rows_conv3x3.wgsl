// rows slot: 3x3 convolution as implicit GEMM. A row of the output is a pixel; for tap t it reads the source's pixel at
// stride * pixel + (t / 3, t % 3) - before, or zeros outside. Of a picture doubled by nearest neighbour (to 2n or
// 2n - 1 pixels) pixel i is pixel i / 2 of the source. What lies left of or above the
// picture wraps to large coordinates.
@group(0) @binding(1) var<storage, read> x0: array<Quad>;
@group(0) @binding(2) var<storage, read> x1: array<Quad>;

struct Row {
    x0: u32, // first quad of the sample in each source
    x1: u32,
    top: u32, // coordinates that tap 0 reads
    left: u32,
}

fn row_at(row: u32) -> Row {
    let sample = row / p.pixels;
    let pixel = row % p.pixels;
    return Row(
        p.x0_base + sample % p.x0_samples * p.src_pixels * p.x0_pitch,
        p.x1_base + sample % p.x1_samples * p.src_pixels * p.x1_pitch,
        pixel / p.out_w * p.stride - p.before,
        pixel % p.out_w * p.stride - p.before,
    );
}

fn inside(r: Row, tap: u32) -> bool {
    return r.top + tap / 3u < p.in_h && r.left + tap % 3u < p.in_w;
}

fn pixel_at(r: Row, tap: u32) -> u32 {
    return ((r.top + tap / 3u) >> p.upsample) * p.src_w + ((r.left + tap % 3u) >> p.upsample);
}

// Quad kq of the joint channels, for a first source of whole quads; zeros beyond them and outside the picture.
fn quad_at(r: Row, tap: u32, kq: u32) -> Quad {
    if kq >= p.k_quads || !inside(r, tap) {
        return Quad();
    }
    if 4u * kq < p.k0 {
        return only_k(x0[r.x0 + pixel_at(r, tap) * p.x0_pitch + kq], kq);
    }
    return only_k(x1[r.x1 + pixel_at(r, tap) * p.x1_pitch + kq - p.k0 / 4u], kq);
}

// Channel k of the joint channels, for any first source.
fn element_at(r: Row, tap: u32, k: u32) -> f32 {
    if !inside(r, tap) {
        return 0.0;
    }
    if k < p.k0 {
        return widen(x0[r.x0 + pixel_at(r, tap) * p.x0_pitch + k / 4u])[k % 4u];
    }
    return widen(x1[r.x1 + pixel_at(r, tap) * p.x1_pitch + (k - p.k0) / 4u])[(k - p.k0) % 4u];
}
