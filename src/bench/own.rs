//! Sizes of one's own go in, a case comes out: checked by the same contract and timed like the built-in ones.

use crate::error::{Error, Result};
use crate::kernels::attention::Attention;
use crate::kernels::conv2d::Conv2d;
use crate::kernels::group_norm::GroupNorm;
use crate::kernels::matmul::Matmul;
use crate::kernels::{Activation, Case, Data, Dims, Op, Role};
use crate::tensor::Shape;

/// Elements of all operands, weights and outputs of a case, at most: a GiB of f32, of which checking keeps copies.
const MOST: u128 = 1 << 28;

/// What a product does with its sums, beside adding a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Epilogue {
    /// Nothing.
    #[default]
    None,
    /// GELU.
    Gelu,
    /// SiLU.
    Silu,
    /// Adds a tensor of the output's shape.
    Residual,
    /// Value times GELU of gate: half as many columns come out. A matmul's alone.
    Geglu,
}

impl Epilogue {
    /// Every one, with its name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("none", Self::None),
        ("gelu", Self::Gelu),
        ("silu", Self::Silu),
        ("residual", Self::Residual),
        ("geglu", Self::Geglu),
    ];

    fn act(self) -> Activation {
        match self {
            Self::Gelu => Activation::Gelu,
            Self::Silu => Activation::Silu,
            Self::None | Self::Residual | Self::Geglu => Activation::None,
        }
    }

    fn suffix(self) -> String {
        let name = Self::ALL.iter().find(|(_, e)| *e == self).map_or("", |(name, _)| name);
        if self == Self::None { String::new() } else { format!("_{name}") }
    }
}

/// Sizes, checked; their product must be one that memory holds.
fn sized(sizes: &[usize]) -> Result<()> {
    let elements = sizes.iter().fold(1_u128, |all, n| all.saturating_mul(*n as u128));
    match elements {
        0 => Err(Error::usage("sizes are 1 or more")),
        n if n > MOST => Err(Error::usage(format!("{n} elements in one tensor; at most {MOST} are benchmarked"))),
        _ => Ok(()),
    }
}

/// A case whose shapes fit its op.
fn case(name: String, op: impl Into<Op>, x: Vec<Shape>, w: Vec<Dims>) -> Result<Case> {
    let case = Case { name, op: op.into(), x, w, data: Data::Normal, role: Role::Bench };
    case.op.output(&case.x, &case.w).map_err(|e| Error::usage(e.to_string()))?;
    Ok(case)
}

/// `[batch, m, k]` times `[n, k]`, with a bias.
///
/// # Errors
/// Usage: sizes that do not fit each other, or too much memory.
pub fn matmul([m, n, k, batch]: [usize; 4], epilogue: Epilogue) -> Result<Case> {
    [[batch, m, k], [1, n, k], [batch, m, n]].iter().try_for_each(|sizes| sized(sizes))?;
    let geglu = epilogue == Epilogue::Geglu;
    let residual = epilogue == Epilogue::Residual;
    let op = Matmul { bias: true, act: epilogue.act(), geglu, residual, ..Matmul::default() };
    let mut x = vec![Shape::tokens(batch, m, k)];
    x.extend(residual.then(|| Shape::tokens(batch, m, n)));
    let name = format!("own_b{batch}_1x{m}_{k}_{n}{}", epilogue.suffix());
    case(name, op, x, vec![Dims::matrix(n, k), Dims::vector(n)])
}

/// A 3x3 convolution of `[batch, h, w, cin]` to `cout` channels, with a bias, by a stride of 1 or 2.
///
/// # Errors
/// As [`matmul`]; another stride; gating.
pub fn conv2d([h, w, cin, cout, batch]: [usize; 5], stride: usize, epilogue: Epilogue) -> Result<Case> {
    if !(1..=2).contains(&stride) || epilogue == Epilogue::Geglu {
        return Err(Error::usage("a convolution has a stride of 1 or 2, and no geglu behind it"));
    }
    [[batch, h, w, cin], [batch, h, w, cout], [9, cin, cout, 1]].iter().try_for_each(|sizes| sized(sizes))?;
    let residual = epilogue == Epilogue::Residual;
    let op = Conv2d { bias: true, stride2: stride == 2, act: epilogue.act(), residual, ..Conv2d::default() };
    let mut x = vec![Shape::new(batch, h, w, cin)];
    x.extend(residual.then(|| Shape::new(batch, h.div_ceil(stride), w.div_ceil(stride), cout)));
    let s2 = if stride == 2 { "_s2" } else { "" };
    let name = format!("own_b{batch}_{h}x{w}_{cin}_{cout}{s2}{}", epilogue.suffix());
    case(name, op, x, vec![Dims::filter3(cout, cin), Dims::vector(cout)])
}

/// `heads` heads of `dim` channels each: queries by keys.
///
/// # Errors
/// As [`matmul`].
pub fn attention([queries, keys, heads, dim, batch]: [usize; 5]) -> Result<Case> {
    [[batch, queries, heads, dim], [batch, keys, heads, dim]].iter().try_for_each(|sizes| sized(sizes))?;
    let (q, k) = (Shape::tokens(batch, queries, heads * dim), Shape::tokens(batch, keys, heads * dim));
    let name = format!("own_b{batch}_{queries}x{keys}_{heads}x{dim}");
    case(name, Attention { heads, causal: false, mask: false }, vec![q, k, k], Vec::new())
}

/// A GroupNorm of `[batch, h, w, c]`, with a nonlinearity behind it.
///
/// # Errors
/// As [`matmul`]; what only a product does.
pub fn group_norm([h, w, c, groups, batch]: [usize; 5], epilogue: Epilogue) -> Result<Case> {
    if matches!(epilogue, Epilogue::Residual | Epilogue::Geglu) {
        return Err(Error::usage("behind a group_norm there is none, gelu or silu"));
    }
    sized(&[batch, h, w, c])?;
    sized(&[groups])?;
    let op = GroupNorm { two_sources: false, groups, eps: 1e-5, act: epilogue.act(), given: false };
    let name = format!("own_b{batch}_{h}x{w}_{c}_g{groups}{}", epilogue.suffix());
    case(name, op, vec![Shape::new(batch, h, w, c)], vec![Dims::vector(c); 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Layout, Prepared};
    use crate::dtype::Storage;
    use crate::kernels::{cases, cpu};
    use crate::simd::Isa;
    use crate::workers::Workers;

    #[test]
    fn own_shapes_are_checked_by_the_same_contract() {
        let workers = Workers::new(1).unwrap();
        let own = [
            matmul([5, 6, 7, 2], Epilogue::Gelu).unwrap(),
            matmul([5, 6, 7, 2], Epilogue::Geglu).unwrap(),
            matmul([5, 6, 7, 1], Epilogue::Residual).unwrap(),
            conv2d([5, 7, 3, 4, 2], 2, Epilogue::Residual).unwrap(),
            attention([9, 5, 2, 8, 1]).unwrap(),
            group_norm([3, 4, 8, 2, 1], Epilogue::Silu).unwrap(),
        ];
        for case in own {
            let prepared = Prepared::new(&case, Storage::F16).unwrap();
            let all = cpu::variants(&case.op, &case.x, &case.w);
            for (i, _) in all.iter().enumerate().filter(|(_, v)| v.supported) {
                let outcome = prepared.check(i, Isa::best(), Layout::Own, &workers).unwrap();
                assert!(outcome.passed() && outcome.what.contains("/own_"), "{outcome}");
            }
        }
    }

    #[test]
    fn own_shapes_are_those_of_the_built_in_case() {
        let built_in = cases().into_iter().find(|c| c.role == Role::Bench && c.op.name() == "attention").unwrap();
        let [q, k, _] = built_in.x[..] else { panic!("{built_in:?}") };
        let own = attention([q.w, k.w, 8, q.c / 8, q.b]).unwrap();
        assert_eq!((own.op, own.x), (built_in.op, built_in.x));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(matmul([0, 1, 1, 1], Epilogue::None).is_err());
        assert!(matmul([1 << 40, 1 << 40, 1 << 40, 1 << 40], Epilogue::None).is_err());
        assert!(matmul([4, 3, 4, 1], Epilogue::Geglu).is_err());
        assert!(conv2d([4, 4, 4, 4, 1], 3, Epilogue::None).is_err());
        assert!(group_norm([4, 4, 6, 4, 1], Epilogue::None).is_err());
        assert!(group_norm([4, 4, 8, 0, 1], Epilogue::None).is_err());
    }
}
