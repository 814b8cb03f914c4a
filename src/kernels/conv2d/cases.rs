//! What conv2d is tested and measured on.

use super::{Conv2d, Pad};
use crate::kernels::group_affine::affine;
use crate::kernels::statistics::Tiles;
use crate::kernels::{Activation, Case, Data, Dims, Role};
use crate::tensor::Shape;

/// All of them, small ones first.
pub(super) fn all() -> Vec<Case> {
    let mut all = small_cases();
    all.extend(channel_cases());
    all.extend(norm_cases());
    all.extend(statistics_cases());
    all.extend(bench_cases());
    all
}

/// One case; `x` are batches and channels of the sources, `extra` the batches of row and residual.
fn case(
    op: Conv2d,
    size: (usize, usize),
    x: &[(usize, usize)],
    n: usize,
    extra: &[usize],
    data: Data,
    role: Role,
) -> Case {
    let op = Conv2d { two_sources: x.len() == 2, ..op };
    let (h, w) = size;
    let mut shapes: Vec<Shape> = x.iter().map(|&(b, c)| Shape::new(b, h, w, c)).collect();
    let mut batches = extra.iter().copied();
    let (vh, vw) = op.upsample.unwrap_or(size);
    if op.norm.is_some() {
        let k = x.iter().map(|s| s.1).sum();
        shapes.push(affine(x.iter().map(|s| s.0).max().unwrap_or(1), k));
    }
    if op.row {
        shapes.push(Shape::new(batches.next().unwrap_or(1), 1, 1, n));
    }
    if op.residual {
        let size = |n| op.out_size(n).unwrap_or(0);
        shapes.push(Shape::new(batches.next().unwrap_or(1), size(vh), size(vw), n));
    }
    let mut weights = vec![Dims::filter3(n, x.iter().map(|s| s.1).sum())];
    weights.extend(op.bias.then_some(Dims::vector(n)));
    let b = shapes.iter().map(|s| s.b).max().unwrap_or(1);
    let mut name = format!("b{b}_{h}x{w}");
    for (sb, c) in x {
        name += &if *sb == b { format!("_{c}") } else { format!("_{c}of{sb}") };
    }
    name += &format!("_{n}");
    if let Some((h, w)) = op.upsample {
        name += &format!("_up{h}x{w}");
    }
    let after = op.pad == Pad::After;
    let switches = [
        (op.stride2, "s2"),
        (after, "after"),
        (op.norm.is_some(), "norm"),
        (op.bias, "bias"),
        (op.row, "row"),
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

const PLAIN: Conv2d = Conv2d {
    two_sources: false,
    stride2: false,
    pad: Pad::Around,
    upsample: None,
    bias: false,
    row: false,
    act: Activation::None,
    residual: false,
    norm: None,
    statistics: None,
};

/// Around the sizes of tiles, both strides and paddings, both upsamplings, and every switch.
fn small_cases() -> Vec<Case> {
    let bias = Conv2d { bias: true, ..PLAIN };
    let all = Conv2d { row: true, residual: true, ..bias };
    let s2 = Conv2d { stride2: true, ..bias };
    let after = Conv2d { pad: Pad::After, ..s2 };
    let up = |h, w| Conv2d { upsample: Some((h, w)), ..bias };
    let one = |op, h, w, k, n| case(op, (h, w), &[(1, k)], n, &[1, 1], Data::Normal, Role::Test);
    let mut list = vec![
        one(PLAIN, 1, 1, 1, 1),
        one(bias, 1, 7, 3, 5),
        one(bias, 13, 1, 4, 31),
        one(PLAIN, 7, 2, 32, 32),
        one(all, 5, 3, 33, 33),
        one(bias, 17, 19, 3, 65),
        one(PLAIN, 3, 5, 57, 7),
        one(bias, 4, 4, 170, 47),
        one(s2, 7, 9, 5, 11),
        one(s2, 8, 6, 33, 32),
        one(s2, 1, 1, 4, 4),
        one(after, 8, 6, 33, 32),
        one(after, 7, 9, 5, 11),
        one(after, 2, 2, 4, 4),
        one(Conv2d { pad: Pad::After, ..bias }, 5, 4, 3, 3),
        one(up(10, 6), 5, 3, 33, 32),
        one(up(9, 5), 5, 3, 7, 35),
        one(up(10, 5), 5, 3, 64, 5),
        one(up(1, 2), 1, 1, 4, 4),
        one(Conv2d { residual: true, row: true, ..up(6, 7) }, 3, 4, 5, 6),
        case(bias, (5, 3), &[(1, 19), (1, 45)], 33, &[], Data::Normal, Role::Test),
        case(all, (3, 4), &[(1, 30), (2, 31)], 40, &[4, 1], Data::Normal, Role::Test),
        case(all, (3, 4), &[(4, 33), (2, 5)], 7, &[1, 2], Data::Ramp, Role::Test),
        case(up(8, 7), (4, 4), &[(1, 12), (2, 21)], 9, &[], Data::Normal, Role::Test),
        case(Conv2d { act: Activation::Silu, ..all }, (6, 5), &[(2, 9)], 34, &[2, 2], Data::Normal, Role::Test),
    ];
    let data = [Data::Outliers, Data::Constant, Data::Ramp, Data::LargeMean];
    list.extend(fast_cases());
    list.extend(data.map(|d| case(all, (5, 5), &[(1, 37)], 35, &[1, 1], d, Role::Test)));
    list
}

/// Sizes at which fast algorithms pay: around their tiles of 4 (and 2) outputs, strips of 8 (and 32) tiles, tasks of
/// 128 (and 512) tiles, 32 channels, blocks of 80, and enough outputs for a GPU's largest (128 by 128).
fn fast_cases() -> Vec<Case> {
    let bias = Conv2d { bias: true, ..PLAIN };
    let all = Conv2d { row: true, residual: true, ..bias };
    let up = |op, h: usize, w: usize| Conv2d { upsample: Some((2 * h, 2 * w)), ..op };
    let one = |op, h, w, k, n| case(op, (h, w), &[(1, k)], n, &[1, 1], Data::Normal, Role::Test);
    let mut list = vec![
        one(PLAIN, 8, 8, 32, 32),
        one(bias, 7, 7, 33, 31),
        one(bias, 9, 12, 8, 65),
        one(all, 12, 13, 31, 4),
        one(PLAIN, 3, 36, 130, 33),
        one(bias, 37, 2, 20, 7),
        one(bias, 16, 33, 129, 9),
        one(all, 45, 47, 17, 34),
        one(bias, 38, 40, 2, 1398),
        one(up(PLAIN, 1, 1), 1, 1, 8, 1),
        one(up(bias, 6, 6), 6, 6, 33, 31),
        one(up(all, 5, 33), 5, 33, 16, 40),
        one(up(bias, 23, 24), 23, 24, 9, 5),
        one(up(bias, 4, 5), 4, 5, 257, 33),
        case(bias, (8, 9), &[(1, 19), (1, 45)], 33, &[], Data::Normal, Role::Test),
        case(all, (7, 8), &[(1, 120), (2, 31)], 40, &[4, 1], Data::Normal, Role::Test),
        case(all, (9, 7), &[(4, 33), (2, 5)], 7, &[1, 2], Data::Ramp, Role::Test),
        case(bias, (8, 8), &[(3, 300)], 40, &[], Data::Normal, Role::Test),
        case(up(bias, 8, 7), (8, 7), &[(1, 12), (2, 21)], 9, &[], Data::Normal, Role::Test),
        case(Conv2d { act: Activation::Silu, ..all }, (10, 11), &[(2, 9)], 34, &[2, 2], Data::Normal, Role::Test),
    ];
    let data = [Data::Outliers, Data::Constant, Data::Ramp, Data::LargeMean];
    list.extend(data.map(|d| case(all, (8, 11), &[(1, 37)], 35, &[1, 1], d, Role::Test)));
    list.extend(data.map(|d| case(up(all, 4, 5), (4, 5), &[(1, 37)], 35, &[1, 1], d, Role::Test)));
    list
}

/// Norms on the way in and statistics on the way out: around the tile of 4 rows, in every form, with two sources,
/// batches that repeat, and more columns than a task has tiles.
fn norm_cases() -> Vec<Case> {
    let normed = |op| Conv2d { norm: Some(Activation::Silu), statistics: Some(Tiles::Rows), ..op };
    let bias = normed(Conv2d { bias: true, ..PLAIN });
    let all = Conv2d { row: true, residual: true, ..bias };
    let s2 = Conv2d { stride2: true, ..bias };
    let up = |op, h: usize, w: usize| Conv2d { upsample: Some((2 * h, 2 * w)), ..op };
    let one = |op, h, w, k, n| case(op, (h, w), &[(1, k)], n, &[1, 1], Data::Normal, Role::Test);
    let mut list = vec![
        one(bias, 1, 1, 3, 2),
        one(bias, 3, 5, 33, 33),
        one(Conv2d { norm: Some(Activation::None), ..bias }, 5, 4, 7, 65),
        one(all, 8, 8, 32, 32),
        one(s2, 9, 7, 33, 40),
        one(all, 13, 12, 31, 70),
        one(bias, 5, 530, 8, 33),
        one(up(bias, 6, 6), 6, 6, 33, 31),
        one(up(all, 5, 33), 5, 33, 16, 40),
        one(Conv2d { upsample: Some((9, 5)), ..bias }, 5, 3, 7, 35),
        case(all, (3, 4), &[(1, 30), (2, 31)], 40, &[4, 1], Data::Normal, Role::Test),
        case(all, (7, 8), &[(1, 120), (2, 31)], 40, &[4, 1], Data::Normal, Role::Test),
        case(bias, (9, 7), &[(4, 33), (2, 5)], 7, &[1, 2], Data::Ramp, Role::Test),
        case(Conv2d { norm: None, ..all }, (8, 9), &[(2, 300)], 40, &[1, 2], Data::Normal, Role::Test),
        case(Conv2d { statistics: None, ..all }, (8, 9), &[(2, 130)], 40, &[1, 2], Data::Normal, Role::Test),
    ];
    let data = [Data::Outliers, Data::Constant, Data::Ramp, Data::LargeMean];
    list.extend(data.map(|d| case(all, (8, 11), &[(2, 37)], 35, &[1, 1], d, Role::Test)));
    list
}

/// Statistics for a norm of its own: around the tile of 64 pixels, with samples whose pixels are no whole tiles, in one
/// workgroup or several, in sums that are split.
fn statistics_cases() -> Vec<Case> {
    let bias = Conv2d { bias: true, statistics: Some(Tiles::Pixels), ..PLAIN };
    let all = Conv2d { row: true, residual: true, ..bias };
    let s2 = Conv2d { stride2: true, ..bias };
    let one = |op, h, w, k, n, data| case(op, (h, w), &[(2, k)], n, &[1, 2], data, Role::Test);
    let mut list = vec![
        one(bias, 1, 1, 3, 2, Data::Normal),
        one(bias, 9, 7, 5, 33, Data::Normal),
        one(all, 8, 8, 8, 70, Data::Normal),
        one(all, 13, 15, 6, 67, Data::Ramp),
        one(s2, 17, 19, 4, 9, Data::Normal),
        one(all, 5, 13, 173, 20, Data::Normal),
        one(all, 8, 9, 320, 37, Data::Normal),
        one(Conv2d { upsample: Some((9, 14)), ..bias }, 5, 7, 6, 12, Data::Normal),
        case(bias, (38, 40), &[(1, 2)], 1398, &[], Data::Normal, Role::Test),
        case(all, (7, 8), &[(1, 120), (2, 31)], 40, &[4, 1], Data::Normal, Role::Test),
    ];
    list.extend([Data::Outliers, Data::Constant, Data::LargeMean].map(|d| one(all, 8, 11, 20, 35, d)));
    list
}

/// The channels of SD 1.x at few pixels.
fn channel_cases() -> Vec<Case> {
    let all = Conv2d { bias: true, row: true, residual: true, ..PLAIN };
    let bias = Conv2d { bias: true, ..PLAIN };
    let one = |k, n| case(bias, (2, 3), &[(2, k)], n, &[], Data::Normal, Role::Test);
    let mut list = vec![
        one(4, 320),
        one(320, 4),
        one(3, 128),
        one(128, 3),
        one(512, 8),
        one(128, 256),
        one(256, 128),
        one(512, 64),
        one(640, 96),
        one(1280, 40),
        case(all, (2, 3), &[(2, 320)], 320, &[1, 2], Data::Normal, Role::Test),
    ];
    let pairs = [(320, 320), (640, 320), (640, 640), (1280, 640), (1280, 1280)];
    list.extend(pairs.map(|(a, b)| case(bias, (2, 3), &[(2, a), (2, b)], 33, &[], Data::Normal, Role::Test)));
    list
}

/// SD 1.x at 512x512: the U-Net with two samples, the decoder with one.
fn bench_cases() -> Vec<Case> {
    let bias = Conv2d { bias: true, ..PLAIN };
    let row = Conv2d { row: true, ..bias };
    let residual = Conv2d { residual: true, ..bias };
    let one = |op, side, k, n| case(op, (side, side), &[(2, k)], n, &[2], Data::Normal, Role::Bench);
    let two = |side, k0, k1, n| case(row, (side, side), &[(2, k0), (2, k1)], n, &[2], Data::Normal, Role::Bench);
    let decoder = |op, side, k, n| case(op, (side, side), &[(1, k)], n, &[1], Data::Normal, Role::Bench);
    let up = |side| Conv2d { upsample: Some((2 * side, 2 * side)), ..bias };
    let s2 = Conv2d { stride2: true, ..bias };
    let mut all = vec![one(bias, 64, 4, 320), one(bias, 64, 320, 4)];
    for (side, c) in [(64, 320), (32, 640), (16, 1280), (8, 1280)] {
        all.extend([one(row, side, c, c), one(residual, side, c, c)]);
    }
    all.extend([(64, 320), (32, 640), (16, 1280)].map(|(side, c)| one(s2, side, c, c)));
    all.extend([(32, 640), (16, 1280), (8, 1280)].map(|(side, c)| one(up(side), side, c, c)));
    all.extend([one(row, 32, 320, 640), one(row, 16, 640, 1280)]);
    all.extend([two(64, 320, 320, 320), two(64, 640, 320, 320), two(32, 640, 640, 640), two(32, 1280, 640, 640)]);
    all.extend([two(32, 640, 320, 640), two(16, 1280, 1280, 1280), two(16, 1280, 640, 1280), two(8, 1280, 1280, 1280)]);
    all.extend([decoder(residual, 64, 512, 512), decoder(residual, 128, 512, 512), decoder(residual, 256, 256, 256)]);
    let normed = Conv2d { norm: Some(Activation::Silu), statistics: Some(Tiles::Rows), ..residual };
    all.extend([one(normed, 64, 320, 320), decoder(normed, 512, 128, 128)]);
    let left = Conv2d { statistics: Some(Tiles::Pixels), ..residual };
    all.extend([one(left, 64, 320, 320), one(left, 8, 1280, 1280), decoder(left, 512, 128, 128)]);
    all.extend([decoder(residual, 512, 128, 128), decoder(bias, 512, 128, 3), decoder(up(256), 256, 256, 256)]);
    all
}
