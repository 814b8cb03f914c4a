// Parameters of matmul and conv2d: y[row][n] = sum over taps and k of x(row, tap)[k] w[tap][k][n]. `*_base` is the quad
// of a binding at which row 0 of the whole operand would begin; it wraps around where a binding begins at a later row.
#import channels

struct Params {
    first: u32,
    row_begin: u32, // rows of the output that are computed; a row is a pixel of a sample
    row_end: u32,
    pixels: u32, // of a sample of the output
    quads: u32, // of a row of the output
    c: u32, // channels of the output
    w_quads: u32, // of a row of w: value and gate alternate with GEGLU
    k: u32, // channels that a tap reads, both sources together
    k_quads: u32,
    k0: u32, // channels of the first source
    taps: u32,
    tiles_n: u32, // tiles side by side
    strip_rows: u32, // rows after which tiles begin anew: those of a sample where statistics are left, else all
    strip_tiles: u32, // tiles above each other in them
    splits: u32, // parts of the sum that are computed apart
    split_slabs: u32, // slabs of k in each of them
    act: u32,
    has_bias: u32,
    has_row: u32,
    has_residual: u32,
    x0_base: u32,
    x0_pitch: u32,
    x0_samples: u32,
    x1_base: u32,
    x1_pitch: u32,
    x1_samples: u32,
    row_pitch: u32,
    row_offset: u32,
    row_samples: u32,
    residual_base: u32,
    residual_pitch: u32,
    residual_samples: u32,
    y_base: u32,
    statistics_base: u32,
    out_w: u32, // conv2d: pixels of a row of the output's picture
    stride: u32,
    before: u32, // zeros above and to the left
    upsample: u32, // 1 where the convolution reads the picture doubled
    in_h: u32, // the picture that the convolution sees: doubled, or doubled less one, with `upsample`
    in_w: u32,
    src_w: u32, // the picture in memory
    src_pixels: u32,
}

const ODD: bool = false; // k is no multiple of 4

@group(0) @binding(0) var<uniform> p: Params;

// The first row of the tile_m-th tile of `height` rows, and one past its last.
fn rows_of(tile_m: u32, height: u32) -> vec2<u32> {
    let strip = p.row_begin + tile_m / p.strip_tiles * p.strip_rows;
    let first = strip + tile_m % p.strip_tiles * height;
    return vec2<u32>(first, min(first + height, min(strip + p.strip_rows, p.row_end)));
}

// Quad kq of the joint channels: behind the last one a view has something else.
fn only_k(q: Quad, kq: u32) -> Quad {
    if ODD && kq == p.k_quads - 1u {
        return narrow(only_channels(widen(q), kq, p.k));
    }
    return q;
}
