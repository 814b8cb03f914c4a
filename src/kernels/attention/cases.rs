//! What attention is tested and measured on.

use super::Attention;
use crate::kernels::{Case, Data, Op, Role};
use crate::tensor::Shape;

/// Every case: small ones, then those that are timed.
pub fn all() -> Vec<Case> {
    let mut all = small_cases();
    all.extend(masked_cases());
    all.extend(bench_cases());
    all
}

/// One case: batches of (q, k and v), queries, keys, heads, width of a head.
fn case(
    b: (usize, usize),
    tokens: (usize, usize),
    heads: (usize, usize),
    causal: bool,
    data: Data,
    role: Role,
) -> Case {
    let ((bq, bk), (q, k), (count, d)) = (b, tokens, heads);
    let mut name = format!("b{bq}_{q}x{k}_{count}x{d}");
    if bq != bk {
        name += &format!("_kv{bk}");
    }
    if causal {
        name += "_causal";
    }
    if data != Data::Normal {
        name += &format!("_{data:?}").to_lowercase();
    }
    let (qs, ks) = (Shape::tokens(bq, q, count * d), Shape::tokens(bk, k, count * d));
    Case {
        name,
        op: Attention { heads: count, causal, mask: false }.into(),
        x: vec![qs, ks, ks],
        w: Vec::new(),
        data,
        role,
    }
}

/// Around the sizes of tiles (32 queries, 128 keys) and every width of a head.
fn small_cases() -> Vec<Case> {
    let one = |q, k, heads, d| case((1, 1), (q, k), (heads, d), false, Data::Normal, Role::Test);
    let causal = |n, heads, d| case((1, 1), (n, n), (heads, d), true, Data::Normal, Role::Test);
    let with = |data| case((1, 1), (35, 131), (2, 12), false, data, Role::Test);
    let mut all = vec![
        one(1, 1, 1, 1),
        one(1, 77, 1, 4),
        one(31, 127, 2, 7),
        one(32, 128, 1, 16),
        one(33, 129, 3, 13),
        one(5, 300, 1, 37),
        one(67, 67, 2, 14),
        one(40, 77, 8, 40),
        one(33, 77, 8, 80),
        one(20, 77, 8, 160),
        one(64, 64, 8, 160),
        one(9, 257, 1, 512),
        one(3, 2, 2, 15),
        causal(1, 1, 8),
        causal(33, 2, 5),
        causal(77, 12, 64),
        causal(300, 1, 4),
        case((2, 2), (17, 77), (2, 40), false, Data::Normal, Role::Test),
        case((4, 2), (7, 9), (2, 3), false, Data::Normal, Role::Test),
        case((2, 4), (7, 9), (2, 3), false, Data::Normal, Role::Test),
    ];
    all.extend([Data::Outliers, Data::Constant, Data::Ramp, Data::LargeMean].map(with));
    all
}

/// The same with a mask of some samples, planes and rows; keys are hidden in all but normal data.
fn masked(case: Case, [b, heads, queries]: [usize; 3]) -> Case {
    let Op::Attention(op) = case.op else { return case };
    let mask = Shape::new(b, heads, queries, case.x[1].pixels());
    let name = format!("{}_mask{b}x{heads}x{queries}", case.name);
    let x = case.x.iter().copied().chain([mask]).collect();
    Case { name, op: Attention { mask: true, ..op }.into(), x, ..case }
}

/// Biases by head and query, padding of a text, both together with a causal order, and every way to share a mask.
fn masked_cases() -> Vec<Case> {
    let one = |b, tokens, heads, data, mask| masked(case((b, b), tokens, heads, false, data, Role::Test), mask);
    let causal = |n, heads, data, mask| masked(case((1, 1), (n, n), heads, true, data, Role::Test), mask);
    let mut all = vec![
        one(1, (1, 1), (1, 1), Data::Normal, [1, 1, 1]),
        one(1, (33, 129), (3, 13), Data::Normal, [1, 3, 33]),
        one(2, (40, 77), (2, 40), Data::Normal, [1, 2, 40]),
        one(2, (40, 77), (2, 40), Data::Ramp, [2, 1, 1]),
        one(2, (67, 131), (3, 8), Data::Ramp, [2, 3, 67]),
        one(1, (9, 257), (1, 512), Data::Ramp, [1, 1, 9]),
        one(1, (64, 64), (8, 64), Data::Normal, [1, 8, 1]),
        causal(77, (2, 64), Data::Normal, [1, 2, 77]),
        causal(35, (2, 12), Data::Ramp, [1, 1, 1]),
    ];
    all.push(masked(case((4, 2), (7, 9), (2, 4), false, Data::Normal, Role::Test), [2, 1, 7]));
    // Not LargeMean: its scores are so large that which of two keys wins is a matter of their rounding.
    all.extend([Data::Outliers, Data::Constant].map(|d| one(1, (35, 131), (2, 12), d, [1, 2, 35])));
    all
}

/// SD 1.x at 512x512, two samples; the decoder and the text encoder; with masks, a text encoder's bias by position and
/// the padded text of a diffusion transformer.
fn bench_cases() -> Vec<Case> {
    let two = |q, k, d| case((2, 2), (q, k), (8, d), false, Data::Normal, Role::Bench);
    vec![
        two(4096, 4096, 40),
        two(1024, 1024, 80),
        two(256, 256, 160),
        two(64, 64, 160),
        two(4096, 77, 40),
        two(1024, 77, 80),
        two(256, 77, 160),
        two(64, 77, 160),
        case((1, 1), (4096, 4096), (1, 512), false, Data::Normal, Role::Bench),
        case((2, 2), (77, 77), (12, 64), true, Data::Normal, Role::Bench),
        masked(case((1, 1), (512, 512), (12, 64), false, Data::Normal, Role::Bench), [1, 12, 512]),
        masked(case((2, 2), (1024, 154), (24, 64), false, Data::Ramp, Role::Bench), [2, 1, 1]),
    ]
}
