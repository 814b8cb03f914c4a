//! Latents and timesteps in, denoised latents out: the unified predictor-corrector (Zhao et al. 2023).

use super::plan::{Method, Settings, Tables};
use super::run::{Run, combine};
use super::schedule::Schedule;
use super::timesteps::{Point, Timesteps, unipc_points};
use crate::error::Result;

/// Which member of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UniPc {
    /// 1 to 3.
    pub order: usize,
    /// B(h) = h; otherwise B(h) = e^h - 1.
    pub bh1: bool,
}

impl UniPc {
    /// diffusers' defaults: bh2, order 2.
    pub const DIFFUSERS: Self = Self { order: 2, bh1: false };
    /// The webui's: bh1, order 3.
    pub const WEBUI: Self = Self { order: 3, bh1: true };

    /// Its code. Orders beyond 3 are 3.
    pub fn method(self) -> Method {
        match (self.order, self.bh1) {
            (..=1, _) => unipc::<1, false>,
            (2, false) => unipc::<2, false>,
            (2, true) => unipc::<2, true>,
            (_, false) => unipc::<3, false>,
            (_, true) => unipc::<3, true>,
        }
    }
}

/// The tables of UniPC, and with the webui's its method.
pub(super) fn tables(schedule: &Schedule, settings: &Settings) -> Tables {
    let points = unipc_points(schedule, settings.timesteps, settings.steps);
    let points = points.into_iter().map(|p| p.with_signal(schedule)).collect();
    let webui = settings.timesteps == Timesteps::Webui;
    Tables { points, method: webui.then(|| UniPc::WEBUI.method()), ..Tables::default() }
}

/// A clean estimate and where it was made.
struct Past {
    clean: Vec<f32>,
    lambda: f64,
}

/// UniPC on the clean estimate, lower orders at both ends. One evaluation a step: the corrector reuses the next one's.
pub(super) fn unipc<const ORDER: usize, const BH1: bool>(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let kind = UniPc { order: ORDER, bh1: BH1 };
    let points = &run.plan.points;
    let steps = points.len() - 1;
    // Newest first.
    let mut past: Vec<Past> = Vec::new();
    let mut before = x.to_vec();
    let mut order = 0;
    for (i, pair) in points.windows(2).enumerate() {
        let mut clean = vec![0.0; x.len()];
        run.epsilon(x, pair[0], &mut clean)?;
        let (alpha, noise) = (pair[0].alpha_bar.sqrt(), (1.0 - pair[0].alpha_bar).sqrt());
        combine(&mut clean, -noise / alpha, &[(1.0 / alpha, x)]);
        if i > 0 {
            update(kind, &mut before, &past, order, (points[i - 1], pair[0]), Some(&clean));
            x.copy_from_slice(&before);
        }
        past.insert(0, Past { clean, lambda: lambda(pair[0]) });
        past.truncate(kind.order);
        order = kind.order.min(steps - i).min(past.len());
        before.copy_from_slice(x);
        update(kind, x, &past, order, (pair[0], pair[1]), None);
        run.end_step(x)?;
    }
    Ok(())
}

fn lambda(p: Point) -> f64 {
    0.5 * (p.alpha_bar.ln() - (1.0 - p.alpha_bar).ln())
}

/// Moves x between two places: the predictor, or with the estimate of the end (`there`) the corrector.
fn update(kind: UniPc, x: &mut [f32], past: &[Past], order: usize, (from, to): (Point, Point), there: Option<&[f32]>) {
    let h = lambda(to) - lambda(from);
    if h <= 0.0 {
        return; // the same place twice, in tables of many steps
    }
    let ratios: Vec<f64> = past[1..order].iter().map(|p| (p.lambda - past[0].lambda) / h).collect();
    // Equal places leave nothing to extrapolate from.
    let order = 1 + ratios.iter().take_while(|r| **r < 0.0).count();
    let ratios = &ratios[..order - 1];
    let (alpha, phi) = (to.alpha_bar.sqrt(), (-h).exp_m1());
    let scale = alpha * if kind.bh1 { -h } else { phi };
    let weights = weights(kind, h, ratios, there.is_some());
    // Terms in D1_k = (m_k - m_0) / r_k, gathered by estimate; a step to the clean end has order 1 and no such terms.
    let mut newest = -alpha * phi;
    let mut terms: Vec<(f64, &[f32])> = Vec::new();
    for (k, ratio) in ratios.iter().enumerate() {
        let c = -scale * weights[k] / ratio;
        newest -= c;
        terms.push((c, &past[k + 1].clean));
    }
    if let Some(there) = there {
        let c = -scale * weights[order - 1];
        newest -= c;
        terms.push((c, there));
    }
    terms.push((newest, &past[0].clean));
    let kept = ((1.0 - to.alpha_bar) / (1.0 - from.alpha_bar)).sqrt();
    combine(x, kept, &terms);
}

/// The solution rho of R rho = b: with rows r^(i-1), and b from the phi functions (the
/// paper's appendix, predicting clean).
///
/// The predictor leaves the last unknown out. Order 2 of the predictor and order 1 of
/// the corrector are 1/2 by definition.
fn weights(kind: UniPc, h: f64, ratios: &[f64], corrector: bool) -> Vec<f64> {
    let unknowns = ratios.len() + usize::from(corrector);
    if unknowns <= 1 {
        return vec![0.5; unknowns];
    }
    let hh = -h;
    let big = if kind.bh1 { hh } else { hh.exp_m1() };
    let nodes: Vec<f64> = ratios.iter().copied().chain(corrector.then_some(1.0)).collect();
    let mut phi = hh.exp_m1() / hh - 1.0;
    let mut factorial = 1.0;
    let mut rows = Vec::new();
    for i in 0..unknowns {
        let mut row: Vec<f64> = nodes.iter().map(|r| r.powi(i as i32)).collect();
        row.push(phi * factorial / big);
        rows.push(row);
        factorial *= (i + 2) as f64;
        phi = phi / hh - 1.0 / factorial;
    }
    solve(rows)
}

/// Gauss elimination of a small regular system whose rows end with the right-hand side.
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let n = rows.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|&a, &b| rows[a][i].abs().total_cmp(&rows[b][i].abs())).unwrap_or(i);
        rows.swap(i, pivot);
        let top = rows[i].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let factor = row[i] / top[i];
            row.iter_mut().zip(&top).for_each(|(r, t)| *r -= factor * t);
        }
    }
    (0..n).map(|i| rows[i][n] / rows[i][i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_systems_are_solved() {
        let solution = solve(vec![vec![0.0, 2.0, 1.0, 7.0], vec![1.0, 1.0, 1.0, 6.0], vec![2.0, 0.0, -1.0, -1.0]]);
        for (a, b) in solution.iter().zip([1.0, 2.0, 3.0]) {
            assert!((a - b).abs() < 1e-12);
        }
    }
}
