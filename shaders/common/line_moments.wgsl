// What a thread adds to the statistics of a tile of STAT_ROWS rows of y: a *line*, up to
// four of the rows, of four channels.
const STAT_ROWS: u32 = 64u; // as src/kernels/statistics.rs says
const LINES: u32 = 16u; // lines of such a tile

// Mean and M2, the sum of squared distances from it.
struct Line {
    mean: vec4<f32>,
    m2: vec4<f32>,
}

// Of the first n of four values.
fn line_of(v: array<vec4<f32>, 4>, n: u32) -> Line {
    // What is summed is as small as the spread of the values, however large their mean.
    let shift = v[0];
    var sum = vec4<f32>();
    // #unroll
    for (var i = 0u; i < 4u; i++) {
        sum += select(vec4<f32>(), v[i] - shift, i < n);
    }
    let mean = sum / f32(max(n, 1u));
    var m2 = vec4<f32>();
    // #unroll
    for (var i = 0u; i < 4u; i++) {
        let d = select(vec4<f32>(), (v[i] - shift) - mean, i < n);
        m2 += d * d;
    }
    return Line(select(vec4<f32>(), shift + mean, n > 0u), m2);
}
