//! Latents in another size, as torch.nn.functional.interpolate resizes them with `align_corners` off: what a second,
//! larger pass begins with.

use crate::error::{Error, Result, escape};
use crate::tensor::{Shape, Tensor};

/// How neighbours are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// Linear between the two nearest along each side.
    Bilinear,
    /// The same, made wider where the picture shrinks.
    BilinearAntialiased,
    /// Keys' cubic of four, a = -0.75.
    Bicubic,
    /// The same made wider where the picture shrinks, a = -0.5.
    BicubicAntialiased,
    /// The one at `floor(i from / to)`.
    Nearest,
    /// The one at `floor((i + 1/2) from / to)`.
    NearestExact,
}

impl Interpolation {
    /// All of them, with the webui's names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("Latent", Self::Bilinear),
        ("Latent (antialiased)", Self::BilinearAntialiased),
        ("Latent (bicubic)", Self::Bicubic),
        ("Latent (bicubic antialiased)", Self::BicubicAntialiased),
        ("Latent (nearest)", Self::Nearest),
        ("Latent (nearest-exact)", Self::NearestExact),
    ];

    /// By the webui's name, in any case.
    ///
    /// # Errors
    /// Usage, with what there is.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
        found.map(|(_, mode)| *mode).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            Error::usage(format!("unknown latent upscaler '{}': use one of {}", escape(name), known.join(", ")))
        })
    }

    /// The webui's name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }

    /// The places of a side of `from` that place `i` of a side of `to` is made of, with their weights.
    fn taps(self, i: usize, from: usize, to: usize) -> Vec<(usize, f32)> {
        let scale = from as f32 / to as f32;
        let center = scale * (i as f32 + 0.5);
        let inside = |at: f32| (at.max(0.0) as usize).min(from - 1);
        match self {
            Self::Nearest => vec![(inside((i as f32 * scale).floor()), 1.0)],
            Self::NearestExact => vec![(inside(center.floor()), 1.0)],
            Self::Bilinear => {
                let at = (center - 0.5).max(0.0);
                let (first, part) = (at.floor(), at - at.floor());
                vec![(inside(first), 1.0 - part), (inside(first + 1.0), part)]
            }
            Self::Bicubic => {
                let at = center - 0.5;
                let (first, part) = (at.floor(), at - at.floor());
                (-1..=2).map(|d| (inside(first + d as f32), cubic(part - d as f32, -0.75))).collect()
            }
            Self::BilinearAntialiased => wide(center, scale, from, 1.0, |x| (1.0 - x.abs()).max(0.0)),
            Self::BicubicAntialiased => wide(center, scale, from, 2.0, |x| cubic(x, -0.5)),
        }
    }
}

/// Keys' cubic convolution (Keys 1981).
fn cubic(x: f32, a: f32) -> f32 {
    let x = x.abs();
    match x {
        _ if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        _ if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * a,
        _ => 0.0,
    }
}

/// A filter that reaches `reach` places, as many times wider as the picture shrinks, its weights' sum made 1.
fn wide(center: f32, scale: f32, from: usize, reach: f32, filter: impl Fn(f32) -> f32) -> Vec<(usize, f32)> {
    let stretch = scale.max(1.0);
    let first = (center - reach * stretch + 0.5).max(0.0) as usize;
    let end = ((center + reach * stretch + 0.5) as usize).min(from);
    let weight = |x: usize| filter((x as f32 - center + 0.5) / stretch);
    let sum: f32 = (first..end).map(weight).sum();
    (first..end).map(|x| (x, weight(x) / sum)).collect()
}

/// `x [b, h, w, c]` in another height and width: along the rows first, then along the columns.
///
/// # Errors
/// A size of nothing.
pub fn interpolate(x: &Tensor, (h, w): (usize, usize), mode: Interpolation) -> Result<Tensor> {
    let s = x.shape();
    if s.is_empty() || h == 0 || w == 0 {
        return Err(Error::other(format!("{s} cannot be resized to {h}x{w}")));
    }
    let columns: Vec<_> = (0..w).map(|i| mode.taps(i, s.w, w)).collect();
    let lines: Vec<_> = (0..h).map(|i| mode.taps(i, s.h, h)).collect();
    let mut rows = Tensor::zeros(Shape { w, ..s });
    for (line, out) in rows.data_mut().chunks_exact_mut(w * s.c).enumerate() {
        let from = &x.data()[line * s.w * s.c..][..s.w * s.c];
        weigh(&columns, from, s.c, out);
    }
    let mut out = Tensor::zeros(Shape { h, w, ..s });
    for b in 0..s.b {
        let from = &rows.data()[b * s.h * w * s.c..][..s.h * w * s.c];
        weigh(&lines, from, w * s.c, &mut out.data_mut()[b * h * w * s.c..][..h * w * s.c]);
    }
    Ok(out)
}

/// Each run of `size` values of `out` as a weighed sum of runs of `from`.
fn weigh(taps: &[Vec<(usize, f32)>], from: &[f32], size: usize, out: &mut [f32]) {
    for (taps, out) in taps.iter().zip(out.chunks_exact_mut(size)) {
        for (at, weight) in taps {
            out.iter_mut().zip(&from[at * size..]).for_each(|(o, v)| *o += weight * v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_the_same_size_changes_nothing() {
        let shape = Shape::new(2, 5, 7, 3);
        let x = Tensor::new(shape, (0..shape.len()).map(|i| (i * 37 % 101) as f32).collect()).unwrap();
        for (name, mode) in Interpolation::ALL {
            assert_eq!(Interpolation::parse(&name.to_uppercase()).unwrap(), mode);
            let same = interpolate(&x, (5, 7), mode).unwrap();
            let far = |(a, b): (&f32, &f32)| (a - b).abs();
            assert!(same.data().iter().zip(x.data()).map(far).fold(0.0, f32::max) < 1e-4, "{name}");
            for (from, to) in [(5, 13), (13, 5), (1, 4), (4, 1)] {
                for i in 0..to {
                    let sum: f32 = mode.taps(i, from, to).iter().map(|(_, w)| w).sum();
                    assert!((sum - 1.0).abs() < 1e-5, "{name} {i} of {from} to {to}: {sum}");
                }
            }
        }
        assert!(Interpolation::parse("Latent (sinc)").is_err());
    }
}
