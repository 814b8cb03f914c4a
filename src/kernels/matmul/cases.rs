//! What matmul is tested and measured on.

use super::Matmul;
use crate::kernels::group_affine::affine;
use crate::kernels::statistics::Tiles;
use crate::kernels::{Activation, Case, Data, Dims, Role};
use crate::tensor::Shape;

/// Every case: small ones, the widths of models at few rows, then those that are timed.
pub fn all() -> Vec<Case> {
    let mut all = small_cases();
    all.extend(channel_cases());
    all.extend(bench_cases());
    all
}

/// One case; `x` are the widths of the sources and their batches, `extra` the batches of row and residual.
fn case(
    op: Matmul,
    rows: (usize, usize),
    x: &[(usize, usize)],
    n: usize,
    extra: &[usize],
    data: Data,
    role: Role,
) -> Case {
    let op = Matmul { two_sources: x.len() == 2, ..op };
    let (h, w) = rows;
    let mut shapes: Vec<Shape> = x.iter().map(|&(b, c)| Shape::new(b, h, w, c)).collect();
    let mut batches = extra.iter().copied();
    if op.norm.is_some() {
        let k = x.iter().map(|s| s.1).sum();
        shapes.push(affine(x.iter().map(|s| s.0).max().unwrap_or(1), k));
    }
    if op.row {
        shapes.push(Shape::new(batches.next().unwrap_or(1), 1, 1, n));
    }
    if op.residual {
        shapes.push(Shape::new(batches.next().unwrap_or(1), h, w, n));
    }
    let k = x.iter().map(|s| s.1).sum();
    let mut weights = vec![Dims::matrix(n, k)];
    weights.extend(op.bias.then_some(Dims::vector(n)));
    let b = shapes.iter().map(|s| s.b).max().unwrap_or(1);
    let mut name = format!("b{b}_{h}x{w}");
    for (sb, c) in x {
        name += &if *sb == b { format!("_{c}") } else { format!("_{c}of{sb}") };
    }
    name += &format!("_{n}");
    let switches = [
        (op.norm.is_some(), "norm"),
        (op.bias, "bias"),
        (op.row, "row"),
        (op.geglu, "geglu"),
        (op.residual, "residual"),
        (op.statistics == Some(Tiles::Rows), "statistics"),
        (op.statistics == Some(Tiles::Pixels), "statistics64"),
    ];
    for (_, s) in switches.iter().filter(|s| s.0) {
        name += &format!("_{s}");
    }
    if op.act != Activation::None {
        name += &format!("_{:?}", op.act).to_lowercase();
    }
    if data != Data::Normal {
        name += &format!("_{data:?}").to_lowercase();
    }
    Case { name, op: op.into(), x: shapes, w: weights, data, role }
}

const PLAIN: Matmul = Matmul {
    two_sources: false,
    bias: false,
    row: false,
    act: Activation::None,
    geglu: false,
    residual: false,
    norm: None,
    statistics: None,
};

/// Around the sizes of tiles (14 and 6 rows, 32 columns, 256 rows a task, 512 inputs a block), enough outputs for the
/// largest (128 by 128 on a GPU), and every switch.
fn small_cases() -> Vec<Case> {
    let bias = Matmul { bias: true, ..PLAIN };
    let all = Matmul { row: true, residual: true, ..bias };
    let gated = Matmul { geglu: true, ..PLAIN };
    let one = |op, rows, k, n| case(op, (1, rows), &[(1, k)], n, &[1, 1], Data::Normal, Role::Test);
    let with = |op, data| case(op, (7, 5), &[(1, 61)], 37, &[1, 1], data, Role::Test);
    let act = |act| case(Matmul { act, ..all }, (3, 5), &[(2, 17)], 35, &[1, 2], Data::Normal, Role::Test);
    let mut list = vec![
        one(PLAIN, 1, 1, 1),
        one(bias, 13, 31, 31),
        one(PLAIN, 14, 32, 32),
        one(bias, 15, 33, 33),
        one(PLAIN, 5, 511, 3),
        one(bias, 7, 512, 64),
        one(PLAIN, 2, 513, 47),
        one(bias, 3, 1031, 65),
        one(PLAIN, 257, 7, 323),
        one(all, 97, 29, 101),
        one(gated, 11, 13, 2),
        one(gated, 15, 33, 62),
        one(Matmul { bias: true, ..gated }, 29, 40, 66),
        one(all, 1500, 19, 1398),
        one(gated, 1500, 53, 1398),
        one(all, 5, 2049, 33),
        one(gated, 6, 1537, 62),
        case(PLAIN, (3, 7), &[(1, 19), (1, 45)], 33, &[], Data::Normal, Role::Test),
        case(all, (5, 3), &[(1, 300), (2, 301)], 40, &[4, 1], Data::Normal, Role::Test),
        case(all, (5, 3), &[(4, 33), (2, 5)], 7, &[1, 2], Data::Ramp, Role::Test),
        case(bias, (1, 77), &[(2, 768)], 24, &[], Data::Outliers, Role::Test),
    ];
    // Many rows, narrower than their source: they can be written over it.
    list.extend([
        one(bias, 1700, 40, 20),
        case(PLAIN, (1, 700), &[(2, 37)], 32, &[], Data::Ramp, Role::Test),
        case(Matmul { act: Activation::Silu, ..bias }, (1, 531), &[(1, 300)], 36, &[], Data::Normal, Role::Test),
    ]);
    let normed = Matmul { norm: Some(Activation::Silu), statistics: Some(Tiles::Rows), ..all };
    let plain = Matmul { norm: Some(Activation::None), ..PLAIN };
    list.extend([
        one(plain, 5, 40, 120),
        case(normed, (9, 5), &[(2, 65)], 37, &[1, 2], Data::Normal, Role::Test),
        case(normed, (4, 3), &[(1, 30), (2, 31)], 40, &[4, 1], Data::Normal, Role::Test),
        case(normed, (5, 70), &[(4, 33), (2, 5)], 7, &[1, 2], Data::Ramp, Role::Test),
    ]);
    let left = Matmul { statistics: Some(Tiles::Pixels), ..all };
    list.extend([
        case(left, (9, 5), &[(2, 65)], 37, &[1, 2], Data::Normal, Role::Test),
        case(left, (13, 15), &[(4, 32), (2, 5)], 7, &[1, 2], Data::Ramp, Role::Test),
        case(left, (8, 10), &[(2, 1540)], 70, &[2, 1], Data::Normal, Role::Test),
        case(left, (1, 1500), &[(1, 19)], 1398, &[1, 1], Data::Normal, Role::Test),
    ]);
    list.extend([Data::Outliers, Data::Constant, Data::LargeMean].map(|d| with(left, d)));
    list.extend([Data::Outliers, Data::Constant, Data::LargeMean].map(|d| with(normed, d)));
    list.extend([Data::Outliers, Data::Constant, Data::Ramp, Data::LargeMean].map(|d| with(all, d)));
    list.extend(Activation::ALL.map(act));
    list
}

/// The widths of SD 1.x at few rows.
fn channel_cases() -> Vec<Case> {
    let bias = Matmul { bias: true, ..PLAIN };
    let gated = Matmul { geglu: true, ..bias };
    let residual = Matmul { residual: true, ..bias };
    let one = |op, k, n| case(op, (1, 3), &[(2, k)], n, &[2], Data::Normal, Role::Test);
    let mut all = Vec::new();
    for c in [320, 640, 1280] {
        all.push(one(residual, c, c));
        all.push(one(PLAIN, c, 40));
    }
    all.push(one(gated, 320, 2560));
    all.extend(
        [(512, 512), (768, 3072), (3072, 768), (2560, 33), (1920, 64), (5120, 36)].map(|(k, n)| one(bias, k, n)),
    );
    all
}

/// SD 1.x at 512x512, two samples.
fn bench_cases() -> Vec<Case> {
    let bias = Matmul { bias: true, ..PLAIN };
    let gated = Matmul { geglu: true, ..bias };
    let residual = Matmul { residual: true, ..bias };
    let one = |op, side, k, n| case(op, (side, side), &[(2, k)], n, &[2], Data::Normal, Role::Bench);
    let mut all = Vec::new();
    for (side, c) in [(64, 320), (32, 640), (16, 1280), (8, 1280)] {
        all.push(one(PLAIN, side, c, 3 * c));
        all.push(one(PLAIN, side, c, c));
        all.push(one(residual, side, c, c));
        all.push(one(gated, side, c, 8 * c));
        all.push(one(residual, side, 4 * c, c));
    }
    for (side, c0, c1, n) in [(64, 320, 320, 320), (64, 640, 320, 320), (32, 1280, 640, 640), (16, 1280, 1280, 1280)] {
        all.push(case(bias, (side, side), &[(2, c0), (2, c1)], n, &[], Data::Normal, Role::Bench));
    }
    all.push(case(PLAIN, (1, 77), &[(2, 768)], 2 * 1280, &[], Data::Normal, Role::Bench));
    all.push(case(PLAIN, (1, 77), &[(2, 768)], 2 * 320, &[], Data::Normal, Role::Bench));
    all.push(case(
        Matmul { act: Activation::QuickGelu, ..bias },
        (1, 77),
        &[(2, 768)],
        3072,
        &[],
        Data::Normal,
        Role::Bench,
    ));
    all.push(case(bias, (1, 20), &[(1, 1280)], 1280, &[], Data::Normal, Role::Bench));
    all
}
