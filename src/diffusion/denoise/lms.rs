//! Latents and noise levels in, denoised latents out: the linear multistep method of order 4.

use std::collections::VecDeque;

use super::run::{Run, combine};
use crate::error::Result;

const ORDER: usize = 4;

/// Integrates the polynomial through the last four slopes (k-diffusion's `sample_lms`). One evaluation a step.
pub(super) fn lms(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let sigmas: Vec<f64> = run.plan.sigmas.iter().map(|&s| f64::from(s)).collect();
    let mut slopes: VecDeque<Vec<f32>> = VecDeque::new();
    let mut denoised = vec![0.0; x.len()];
    for (i, (sigma, next)) in run.plan.steps().enumerate() {
        run.denoise(x, sigma, &mut denoised)?;
        let slope = |(x, d): (&f32, &f32)| ((f64::from(*x) - f64::from(*d)) / sigma) as f32;
        slopes.push_front(x.iter().zip(&denoised).map(slope).collect());
        slopes.truncate(ORDER);
        let nodes: Vec<f64> = (0..slopes.len()).map(|j| sigmas[i - j]).collect();
        let terms: Vec<(f64, &[f32])> =
            slopes.iter().enumerate().map(|(j, s)| (coefficient(&nodes, j, sigma, next), s.as_slice())).collect();
        combine(x, 1.0, &terms);
        run.end_step(x)?;
    }
    Ok(())
}

/// The integral over `[from, to]` of the Lagrange polynomial that is 1 at `nodes[j]` and 0 at the others.
///
/// Its degree is at most 3, so Gauss-Legendre with two points is exact. Equal nodes
/// (tables of many steps) are left out.
fn coefficient(nodes: &[f64], j: usize, from: f64, to: f64) -> f64 {
    let basis = |s: f64| {
        let others = nodes.iter().enumerate().filter(|&(k, &node)| k != j && node != nodes[j]);
        others.map(|(_, node)| (s - node) / (nodes[j] - node)).product::<f64>()
    };
    let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
    let offset = half / 3.0f64.sqrt();
    half * (basis(middle - offset) + basis(middle + offset))
}

#[cfg(test)]
mod tests {
    use super::coefficient;

    #[test]
    fn cubics_are_integrated_exactly() {
        let nodes = [3.0, 4.5, 7.0, 11.0];
        let f = |s: f64| 2.0 * s.powi(3) - s * s + 0.5;
        let integral = |s: f64| 0.5 * s.powi(4) - s.powi(3) / 3.0 + 0.5 * s;
        let sum: f64 = (0..4).map(|j| coefficient(&nodes, j, 3.0, 2.0) * f(nodes[j])).sum();
        assert!((sum - (integral(2.0) - integral(3.0))).abs() < 1e-9);
    }
}
