// statistics slot: mean and M2 of every channel of y over tiles of STAT_ROWS rows of a sample, for the GroupNorm that
// follows. The importing shader declares what its threads have put into workgroup memory: `line_at(line, column)`, and
// how many rows of a tile of `count` a line has: `line_rows(line, count)`.
#import line_moments

const STATISTICS: bool = true;

// [sample][tile][mean, M2][quad]
@group(0) @binding(EPILOGUE + 4u) var<storage, read_write> statistics: array<vec4<f32>>;

// Joins the lines of a column, quad q of y, in order: with the mean known, M2 = sum of M2_i + n_i (mean_i - mean)^2
// (Chan, Golub and LeVeque 1979 for many sets at once). `row` is the tile's first of `count`.
fn leave(column: u32, q: u32, row: u32, count: u32) {
    if count == 0u || q >= p.quads {
        return;
    }
    let shift = line_at(0u, column).mean;
    var sum = vec4<f32>();
    for (var i = 0u; i < LINES; i++) {
        sum += f32(line_rows(i, count)) * (line_at(i, column).mean - shift);
    }
    let mean = sum / f32(count);
    var m2 = vec4<f32>();
    for (var i = 0u; i < LINES; i++) {
        let line = line_at(i, column);
        let d = (line.mean - shift) - mean;
        m2 += line.m2 + f32(line_rows(i, count)) * d * d;
    }
    let tiles = (p.pixels + STAT_ROWS - 1u) / STAT_ROWS;
    let tile = row / p.pixels * tiles + row % p.pixels / STAT_ROWS;
    let to = p.statistics_base + 2u * tile * p.quads + q;
    statistics[to] = shift + mean;
    statistics[to + p.quads] = m2;
}
