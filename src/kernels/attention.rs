//! attention: `softmax(q k^T / sqrt(d)) v` for each head; the scores are never stored as a whole.
//!
//! Operands: `q` `[b, h, w, heads * d]`, `k` and `v` `[b', h', w', heads * d]`; rows are tokens, a head is d
//! neighbouring channels. Column views are allowed for all three. With `causal`, token i sees tokens 0 ..= i.

use super::{Case, Cost, Data, Dims, Kernel, Operand64, Packing, Role, f32_bytes, joint_batch, rounding};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Heads; they divide the channels.
    pub heads: usize,
    /// Each token sees itself and what comes before it.
    pub causal: bool,
}

impl Kernel for Attention {
    const NAME: &'static str = "attention";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        let [q, k, v] = x else {
            return Err(Error::other(format!("takes q, k and v, got {x:?}")));
        };
        let b = joint_batch(Self::NAME, x)?;
        let same = (k.h, k.w, k.c) == (v.h, v.w, v.c) && k.c == q.c;
        if !same || q.is_empty() || k.is_empty() || !w.is_empty() {
            return Err(Error::other(format!("q, k and v do not fit: {q}, {k}, {v}, weights {w:?}")));
        }
        if self.heads == 0 || q.c % self.heads != 0 {
            return Err(Error::other(format!("{} heads do not divide the {} channels of q", self.heads, q.c)));
        }
        if self.causal && q.pixels() != k.pixels() {
            return Err(Error::other(format!("causal attention needs as many keys as queries, got {q} and {k}")));
        }
        Ok(vec![q.with_b(b)])
    }

    fn packings(&self) -> Vec<Packing> {
        Vec::new()
    }

    fn cost(&self, x: &[Shape], _: &[Dims]) -> Cost {
        let b = x.iter().map(|s| s.b).max().unwrap_or(0);
        let pairs = x[0].pixels() * x[1].pixels();
        let seen = if self.causal { pairs.div_ceil(2) } else { pairs };
        Cost { flops: 4 * (b * seen * x[0].c) as u64, bytes: f32_bytes(x) + 4 * x[0].with_b(b).len() as u64 }
    }

    fn tolerance(&self, x: &[Shape], _: &[Dims]) -> f64 {
        // A score of size s is off by s 2^-24, which exp turns into a relative error of its weight; scores of outliers
        // reach 20 sqrt(d). With few keys nothing averages that out, so their number does not enter below 64.
        4.0 * rounding(x[1].pixels().max(x[0].c / self.heads).max(64))
    }

    fn reference(&self, x: &[Operand64<'_>], _: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let (q, k, v) = (&x[0], &x[1], &x[2]);
        let d = q.shape.c / self.heads;
        let keys = k.shape.pixels();
        let token = |x: &Operand64<'_>, b, t: usize, c| x.at(b, t / x.shape.w, t % x.shape.w, c);
        // Neighbouring outputs share their weights.
        let (mut known, mut weights) = (None, vec![0.0; keys]);
        let mut one = |i: &usize| {
            let (c, t) = (i % q.shape.c, i / q.shape.c % q.shape.pixels());
            let (b, head) = (i / (q.shape.c * q.shape.pixels()), c / d);
            let seen = if self.causal { t + 1 } else { keys };
            if known != Some((b, t, head)) {
                known = Some((b, t, head));
                for (j, w) in weights[..seen].iter_mut().enumerate() {
                    let dot: f64 = (head * d..head * d + d).map(|c| token(q, b, t, c) * token(k, b, j, c)).sum();
                    *w = dot / (d as f64).sqrt();
                }
                let most = weights[..seen].iter().copied().fold(f64::NEG_INFINITY, f64::max);
                weights[..seen].iter_mut().for_each(|w| *w = (*w - most).exp());
                let sum: f64 = weights[..seen].iter().sum();
                weights[..seen].iter_mut().for_each(|w| *w /= sum);
            }
            weights[..seen].iter().enumerate().map(|(j, w)| w * token(v, b, j, c)).sum()
        };
        at.iter().map(&mut one).collect()
    }

    fn cases() -> Vec<Case> {
        let mut all = small_cases();
        all.extend(bench_cases());
        all
    }
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
    Case { name, op: Attention { heads: count, causal }.into(), x: vec![qs, ks, ks], w: Vec::new(), data, role }
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

/// SD 1.x at 512x512, two samples; the decoder and the text encoder.
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
    ]
}
