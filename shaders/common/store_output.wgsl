// store slot: the sum's epilogue, y = act(sum + bias + row) + residual, or with GEGLU y = value * gelu(gate). What is
// stored is given back, as it can be read again.
#import activation
#import channels

const EPILOGUE: u32 = 4u; // the first of its bindings

@group(0) @binding(EPILOGUE) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(EPILOGUE + 1u) var<storage, read> added_row: array<Quad>;
@group(0) @binding(EPILOGUE + 2u) var<storage, read> residual: array<Quad>;
@group(0) @binding(EPILOGUE + 3u) var<storage, read_write> y: array<Quad>;

fn put(v: vec4<f32>, row: u32, q: u32) -> vec4<f32> {
    let stored = narrow(only_channels(v, q, p.c));
    y[p.y_base + row * p.quads + q] = stored;
    return widen(stored);
}

fn store(sum: vec4<f32>, row: u32, q: u32) -> vec4<f32> {
    var v = sum;
    if p.has_bias != 0u {
        v += bias[q];
    }
    if p.has_row != 0u {
        v += widen(added_row[row / p.pixels % p.row_samples * p.row_pitch + p.row_offset + q]);
    }
    v = activate(v, p.act);
    if p.has_residual != 0u {
        v += widen(residual[p.residual_base + row % (p.residual_samples * p.pixels) * p.residual_pitch + q]);
    }
    return put(v, row, q);
}

fn store_gated(value: vec4<f32>, gate: vec4<f32>, row: u32, q: u32) -> vec4<f32> {
    var v = value;
    var g = gate;
    if p.has_bias != 0u {
        v += bias[2u * q];
        g += bias[2u * q + 1u];
    }
    return put(v * gelu(g), row, q);
}
