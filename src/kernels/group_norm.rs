//! group_norm: `y = act((x - mean) / sqrt(var + eps) * gamma + beta)` over each (sample, group of channels).
//!
//! Operands: `x` `[b, h, w, c]`, or two sources whose channels follow each other (groups may straddle them); then, if
//! `given`, the statistics of each source in [`Tiles::Pixels`], which its producer has left. Weights: gamma `[c]`, beta
//! `[c]`. Variance is the biased one. Statistics are (mean, M2) per channel for fixed tiles of pixels, merged in index
//! order (Chan) in f64: never `E[x^2] - E[x]^2`.
//!
//! Variants, slowest first. CPU: `naive`, two passes over a group; `tiled`, statistics by tiles of pixels, so that the
//! work is shared out whatever the number of groups. GPU: `naive`, a workgroup per group; `merged`, moments of tiles
//! first, so that 32 groups do not leave a device idle.

use super::statistics::Tiles;
use super::{
    Activation, Case, Cost, Data, Dims, Kernel, Op, Operand64, Packing, Role, f32_bytes, join_sources, rounding,
    unflatten,
};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Two sources instead of one.
    pub two_sources: bool,
    /// Groups; they divide the channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// The nonlinearity.
    pub act: Activation,
    /// Statistics come with the operands instead of being taken.
    pub given: bool,
}

impl GroupNorm {
    /// How many operands are sources.
    pub fn sources(&self) -> usize {
        1 + usize::from(self.two_sources)
    }
}

impl Kernel for GroupNorm {
    const NAME: &'static str = "group_norm";

    fn output(&self, x: &[Shape], w: &[Dims]) -> Result<Vec<Shape>> {
        let joint = join_sources(Self::NAME, x, self.two_sources)?;
        let sources = self.sources();
        let given = if self.given { &x[..sources] } else { &[] };
        let want: Vec<Shape> = given.iter().map(|s| Tiles::Pixels.shape(*s)).collect();
        if x[sources..] != want || w.len() != 2 || w.iter().any(|d| *d != Dims::vector(joint.c)) {
            return Err(Error::other(format!(
                "takes {sources} sources, the statistics {want:?}, gamma and beta of their channels; got {x:?}, {w:?}"
            )));
        }
        if self.groups == 0 || joint.c % self.groups != 0 {
            return Err(Error::other(format!("{} groups do not divide the {} channels", self.groups, joint.c)));
        }
        Ok(vec![joint])
    }

    fn packings(&self) -> Vec<Packing> {
        vec![Packing::VECTOR, Packing::VECTOR]
    }

    fn cost(&self, x: &[Shape], w: &[Dims]) -> Cost {
        let n = self.output(x, w).map_or(0, |y| y[0].len()) as u64;
        Cost { flops: 8 * n, bytes: f32_bytes(x) + 4 * n }
    }

    fn tolerance(&self, x: &[Shape], _: &[Dims]) -> f64 {
        let c: usize = x[..self.sources()].iter().map(|s| s.c).sum();
        rounding(x[0].pixels() * c / self.groups)
    }

    fn reference(&self, x: &[Operand64<'_>], w: &[Operand64<'_>], at: &[usize]) -> Vec<f64> {
        let (x, given) = x.split_at(self.sources());
        let c: usize = x.iter().map(|s| s.shape.c).sum();
        let b = x.iter().map(|s| s.shape.b).max().unwrap_or(1);
        let shape = Shape { b, c, ..x[0].shape };
        let size = c / self.groups;
        let value = |b, y, px, c: usize| match c.checked_sub(x[0].shape.c) {
            None => x[0].at(b, y, px, c),
            Some(c) => x[1].at(b, y, px, c),
        };
        let moments = |b: usize, group: usize| {
            let all = || {
                let pixels = (0..shape.h).flat_map(|y| (0..shape.w).map(move |px| (y, px)));
                pixels.flat_map(|(y, px)| (group * size..(group + 1) * size).map(move |c| value(b, y, px, c)))
            };
            let n = (shape.pixels() * size) as f64;
            let mean = all().sum::<f64>() / n;
            (mean, all().map(|v| (v - mean).powi(2)).sum::<f64>() / n)
        };
        let tiles = Tiles::Pixels;
        let left = |b: usize, tile: usize, what: usize, c: usize| match c.checked_sub(x[0].shape.c) {
            None => given[0].at(b, tile, what, c),
            Some(c) => given[1].at(b, tile, what, c),
        };
        let merged = |b: usize, group: usize| {
            let all = || {
                let each = (0..tiles.count(shape)).map(|t| (t, tiles.pixels_of(shape, t) as f64));
                each.flat_map(|(t, n)| (group * size..(group + 1) * size).map(move |c| (t, n, c)))
            };
            let n = (shape.pixels() * size) as f64;
            let mean = all().map(|(t, n, c)| n * left(b, t, 0, c)).sum::<f64>() / n;
            let m2 = all().map(|(t, n, c)| left(b, t, 1, c) + n * (left(b, t, 0, c) - mean).powi(2)).sum::<f64>();
            (mean, m2 / n)
        };
        let moments = |b: usize, group: usize| if self.given { merged(b, group) } else { moments(b, group) };
        let mut known = vec![None; b * self.groups];
        let one = |i: &usize| {
            let [b, y, px, c] = unflatten(shape, *i);
            let (mean, var) = *known[b * self.groups + c / size].get_or_insert_with(|| moments(b, c / size));
            let v = (value(b, y, px, c) - mean) / (var + f64::from(self.eps)).sqrt();
            self.act.reference(v * w[0].data[c] + w[1].data[c])
        };
        at.iter().map(one).collect()
    }

    fn cases() -> Vec<Case> {
        let mut all = small_cases();
        all.extend(given_cases());
        all.extend(bench_cases());
        all
    }
}

/// One case; `x` are batches and channels of the sources.
fn case(size: (usize, usize), x: &[(usize, usize)], groups: usize, act: Activation, data: Data, role: Role) -> Case {
    let (h, w) = size;
    let shapes: Vec<Shape> = x.iter().map(|&(b, c)| Shape::new(b, h, w, c)).collect();
    let b = shapes.iter().map(|s| s.b).max().unwrap_or(1);
    let mut name = format!("b{b}_{h}x{w}");
    for (sb, c) in x {
        name += &if *sb == b { format!("_{c}") } else { format!("_{c}of{sb}") };
    }
    name += &format!("_g{groups}");
    if act != Activation::None {
        name += &format!("_{act:?}").to_lowercase();
    }
    if data != Data::Normal {
        name += &format!("_{data:?}").to_lowercase();
    }
    let c = x.iter().map(|s| s.1).sum();
    let op = GroupNorm { two_sources: x.len() == 2, groups, eps: 1e-5, act, given: false };
    Case { name, op: op.into(), x: shapes, w: vec![Dims::vector(c); 2], data, role }
}

/// Around the tile of 64 pixels; groups that straddle two sources; every width of SD 1.x.
fn small_cases() -> Vec<Case> {
    use Activation::{None, Silu};
    let one = |h, w, c, groups, act| case((h, w), &[(1, c)], groups, act, Data::Normal, Role::Test);
    let two = |a, b| case((3, 3), &[(2, a), (2, b)], 32, Silu, Data::Normal, Role::Test);
    let mut all = vec![
        one(1, 1, 1, 1, None),
        one(7, 9, 8, 2, Silu),
        one(8, 8, 33, 3, None),
        one(5, 13, 34, 17, Silu),
        one(11, 12, 4, 1, None),
        one(23, 29, 70, 7, Silu),
        case((5, 7), &[(2, 31), (1, 11)], 6, Silu, Data::Normal, Role::Test),
        case((9, 8), &[(1, 5), (4, 3)], 2, None, Data::Ramp, Role::Test),
    ];
    all.extend([64, 128, 256, 320, 512, 640, 960, 1280, 1920, 2560].map(|c| one(3, 4, c, 32, Silu)));
    all.extend([two(320, 320), two(640, 320), two(1280, 640), two(1280, 1280)]);
    let data = [Data::Outliers, Data::Constant, Data::Ramp, Data::LargeMean];
    all.extend(data.map(|d| case((7, 11), &[(2, 40)], 4, Silu, d, Role::Test)));
    all.extend(data.map(|d| case((13, 11), &[(1, 21), (1, 9)], 5, None, d, Role::Test)));
    all
}

/// The same case with statistics given: any; they need not be those of x.
fn given(case: Case) -> Case {
    let Op::GroupNorm(op) = case.op else { return case };
    let statistics: Vec<Shape> = case.x.iter().map(|s| Tiles::Pixels.shape(*s)).collect();
    let x = case.x.into_iter().chain(statistics).collect();
    let name = format!("{}_given", case.name);
    Case { name, op: GroupNorm { given: true, ..op }.into(), x, ..case }
}

/// Around the tile of 64 pixels, two sources of unlike batches, groups that straddle them, and so many tiles that they
/// are joined first.
fn given_cases() -> Vec<Case> {
    use Activation::{None, Silu};
    let one = |h, w, x: &[(usize, usize)], groups, act| case((h, w), x, groups, act, Data::Normal, Role::Test);
    let all = vec![
        one(1, 1, &[(1, 1)], 1, None),
        one(7, 9, &[(2, 8)], 2, Silu),
        one(8, 8, &[(1, 33)], 3, None),
        one(5, 13, &[(2, 34)], 17, Silu),
        one(11, 12, &[(1, 31), (2, 11)], 6, Silu),
        one(9, 8, &[(1, 5), (4, 3)], 2, None),
        one(3, 4, &[(2, 1280), (2, 640)], 32, Silu),
        one(83, 71, &[(2, 12)], 4, Silu),
        one(83, 71, &[(1, 5), (2, 3)], 2, None),
    ];
    all.into_iter().map(given).collect()
}

/// SD 1.x at 512x512: the U-Net with two samples, the decoder with one.
fn bench_cases() -> Vec<Case> {
    use Activation::{None, Silu};
    let one = |side, c| case((side, side), &[(2, c)], 32, Silu, Data::Normal, Role::Bench);
    let two = |side, a, b| case((side, side), &[(2, a), (2, b)], 32, Silu, Data::Normal, Role::Bench);
    let mut all = vec![case((64, 64), &[(2, 320)], 32, None, Data::Normal, Role::Bench)];
    all.extend([one(64, 320), one(32, 640), one(16, 1280), one(8, 1280)]);
    all.extend([two(64, 320, 320), two(64, 640, 320), two(32, 1280, 640), two(16, 1280, 1280)]);
    all.extend(
        [(64, 512), (128, 512), (256, 256), (512, 128)]
            .map(|(side, c)| case((side, side), &[(1, c)], 32, Silu, Data::Normal, Role::Bench)),
    );
    let left = |side, x: &[(usize, usize)]| given(case((side, side), x, 32, Silu, Data::Normal, Role::Bench));
    all.extend([left(64, &[(2, 320)]), left(64, &[(2, 640), (2, 320)]), left(8, &[(2, 1280)]), left(512, &[(1, 128)])]);
    all
}
