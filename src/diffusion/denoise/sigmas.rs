//! The name of a sigma schedule and a step count in, the falling noise levels of the
//! k-samplers out, with the webui's rules.
//!
//! Sources: k-diffusion `sampling.py` and `external.py` for the formulas, the webui's
//! choices as its metadata implies them.

use super::lcm;
use super::plan::{Settings, Tables, Timing};
use super::schedule::{Schedule, exp, linspace};
use super::timesteps::{Timesteps, spaced};
use crate::error::{Error, Result, escape};
use crate::models::training::Spacing;

/// How noise levels are spaced (`--scheduler`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScheduleKind {
    /// The sampler's own.
    #[default]
    Automatic,
    /// Even in timesteps from the last to 0; `discrete` elsewhere.
    Uniform,
    /// Even in sigma^(1/7) (Karras et al. 2022).
    Karras,
    /// Even in log sigma.
    Exponential,
    /// Even in log sigma to the power rho, here 1.
    Polyexponential,
    /// Even in timesteps, without the last point (Stability's generative models).
    SgmUniform,
    /// Every (1000 / n)-th entry of the table, from the top.
    Simple,
    /// Even in timesteps between the table's ends.
    Normal,
    /// Quantiles of the Beta(0.6, 0.6) distribution (Lee et al. 2024).
    Beta,
    /// Even in the arctangent of sigma.
    KlOptimal,
    /// The levels optimised for SD 1.x (Sabour et al. 2024).
    AlignYourSteps,
    /// Every (1000 / n)-th entry of the table, from index 1.
    Ddim,
    /// diffusers' `leading` timesteps, with the noise that belongs to them.
    Leading,
    /// diffusers' `linspace` timesteps, sigma linear between them.
    Linspace,
    /// diffusers' `trailing` timesteps: what SD-Turbo, SDXL-Turbo and SDXL-Lightning are made for.
    Trailing,
    /// Stability's demonstration of its Turbo models: timesteps 999, 899, 799, ..., and from the last one to 0.
    Turbo,
    /// The places among the 50 of latent consistency models that diffusers takes.
    Lcm,
}

/// Every kind with the webui's label and the other names it goes by.
const NAMES: &[(ScheduleKind, &str, &[&str])] = &[
    (ScheduleKind::Automatic, "Automatic", &["auto", "default"]),
    (ScheduleKind::Uniform, "Uniform", &["discrete"]),
    (ScheduleKind::Karras, "Karras", &[]),
    (ScheduleKind::Exponential, "Exponential", &[]),
    (ScheduleKind::Polyexponential, "Polyexponential", &[]),
    (ScheduleKind::SgmUniform, "SGM Uniform", &[]),
    (ScheduleKind::KlOptimal, "KL Optimal", &[]),
    (ScheduleKind::AlignYourSteps, "Align Your Steps", &["ays"]),
    (ScheduleKind::Simple, "Simple", &[]),
    (ScheduleKind::Normal, "Normal", &[]),
    (ScheduleKind::Ddim, "DDIM", &["ddim_uniform"]),
    (ScheduleKind::Beta, "Beta", &[]),
    (ScheduleKind::Leading, "Leading", &[]),
    (ScheduleKind::Linspace, "Linspace", &[]),
    (ScheduleKind::Trailing, "Trailing", &[]),
    (ScheduleKind::Turbo, "Turbo", &["SDTurbo", "SDTurboScheduler"]),
    (ScheduleKind::Lcm, "LCM", &[]),
];

/// Schedules of other programs, each with the nearest of ours.
const FOREIGN: &[(&str, &str)] = &[
    ("gits", "Align Your Steps"),
    ("align_your_steps_gits", "Align Your Steps"),
    ("align_your_steps_11", "Align Your Steps"),
    ("align_your_steps_32", "Align Your Steps"),
    ("smoothstep", "Beta"),
    ("linear_quadratic", "Simple"),
    ("bong_tangent", "KL Optimal"),
    ("beta57", "Beta"),
    ("logit_normal", "Uniform"),
    ("cosine", "KL Optimal"),
    ("ltx2", "Simple"),
    ("flux", "Simple"),
    ("flux2", "Simple"),
];

/// A name without what people vary: case, spaces, dashes, underscores, and `++` for `pp`.
pub(super) fn normalised(name: &str) -> String {
    let plain: String = name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).collect();
    plain.to_lowercase().replace("++", "pp")
}

impl ScheduleKind {
    /// All kinds, in the webui's order.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(kind, ..)| *kind)
    }

    /// The webui's label.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(kind, ..)| *kind == self).map_or("Automatic", |(_, name, _)| name)
    }

    /// Its other names.
    pub fn aliases(self) -> &'static [&'static str] {
        NAMES.iter().find(|(kind, ..)| *kind == self).map_or(&[], |(_, _, aliases)| aliases)
    }

    /// The kind of this name, if there is one.
    pub(super) fn lookup(name: &str) -> Option<Self> {
        let wanted = normalised(name);
        let matches = |n: &&str| normalised(n) == wanted;
        NAMES.iter().find(|(_, n, aliases)| matches(n) || aliases.iter().any(matches)).map(|(kind, ..)| *kind)
    }

    /// The nearest of ours to a schedule that only other programs have.
    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        let wanted = normalised(name);
        FOREIGN.iter().find(|(n, _)| normalised(n) == wanted).map(|(_, near)| *near)
    }

    /// Reads a name of the webui, stable-diffusion.cpp or ComfyUI, ignoring case, spaces, dashes and underscores.
    pub fn parse(name: &str) -> Result<Self> {
        if let Some(kind) = Self::lookup(name) {
            return Ok(kind);
        }
        if let Some(near) = Self::nearest(name) {
            return Err(Error::usage(format!("schedule '{}' is not built in; the nearest is {near}", escape(name))));
        }
        let all: Vec<&str> = NAMES.iter().map(|(_, name, _)| *name).collect();
        Err(Error::usage(format!("unknown schedule '{}': use one of {}", escape(name), all.join(", "))))
    }
}

/// The tables of the k-samplers: a schedule's levels, or those of its timesteps.
pub(super) fn tables(schedule: &Schedule, settings: &Settings) -> Tables {
    let kind = match settings.schedule {
        ScheduleKind::Automatic => settings.sampler.schedule,
        asked => asked,
    };
    let share = settings.share().unwrap_or(1.0);
    if let Timesteps::Only(t) = settings.timesteps {
        return placed(schedule, &[t.into()], Noise::Whole);
    }
    if let Some((times, noise)) = own_times(schedule, kind, settings.steps, share) {
        // The places of consistency models are taken out of the part that the strength leaves, as in diffusers.
        return Tables { whole: kind == ScheduleKind::Lcm, ..placed(schedule, &times, noise) };
    }
    let discards = settings.sampler.discard_penultimate;
    let mut sigmas = sigmas(schedule, kind, settings.steps + usize::from(discards));
    if discards {
        sigmas.remove(sigmas.len() - 2);
    }
    Tables { sigmas, ..Tables::default() }
}

/// The noise of a start from pure noise.
enum Noise {
    /// As much as the first level says.
    Level,
    /// What unit noise at the first timestep is in these terms: the square root of sigma^2 + 1.
    Whole,
}

/// Levels at given timesteps, where the U-Net is asked.
fn placed(schedule: &Schedule, times: &[f64], noise: Noise) -> Tables {
    let mut sigmas: Vec<f32> = times.iter().map(|t| schedule.sigma_linear(*t)).collect();
    let timing = Timing::Pairs(sigmas.iter().copied().zip(times.iter().map(|t| *t as f32)).collect());
    let noise = match noise {
        Noise::Whole => Some((f64::from(sigmas[0]).powi(2) + 1.0).sqrt()),
        Noise::Level => None,
    };
    sigmas.push(0.0);
    Tables { sigmas, timing, noise, ..Tables::default() }
}

/// The timesteps of schedules that are made of timesteps, falling.
fn own_times(schedule: &Schedule, kind: ScheduleKind, n: usize, share: f64) -> Option<(Vec<f64>, Noise)> {
    let whole = |list: Vec<usize>| list.into_iter().map(|t| t as f64).collect();
    Some(match kind {
        // The rules would begin a single step at the wrong end.
        ScheduleKind::Leading | ScheduleKind::Linspace if n == 1 => (vec![schedule.last_time().into()], Noise::Level),
        ScheduleKind::Leading => {
            (timesteps_of(schedule, Spacing::Leading, n, schedule.config().steps_offset), Noise::Whole)
        }
        ScheduleKind::Linspace => (timesteps_of(schedule, Spacing::Linspace, n, 0), Noise::Level),
        ScheduleKind::Trailing => (timesteps_of(schedule, Spacing::Trailing, n, 0), Noise::Level),
        ScheduleKind::Turbo => (whole(turbo(schedule, n)), Noise::Whole),
        ScheduleKind::Lcm => (whole(lcm::places(schedule, n, share)), Noise::Whole),
        _ => return None,
    })
}

/// Timesteps of diffusers' Euler, Heun, LMS and KDPM2, falling; `linspace` is not rounded there.
pub(crate) fn timesteps_of(schedule: &Schedule, spacing: Spacing, n: usize, offset: usize) -> Vec<f64> {
    let last = f64::from(schedule.last_time());
    match spacing {
        Spacing::Linspace => (0..n).rev().map(|i| last * i as f64 / (n - 1).max(1) as f64).collect(),
        _ => spaced(schedule, spacing, n, offset).into_iter().map(|t| t as f64).collect(),
    }
}

/// Stability's steps of a tenth of the table (`SubstepSampler` of its demonstration); more than ten share it evenly.
pub(crate) fn turbo(schedule: &Schedule, n: usize) -> Vec<usize> {
    let train = schedule.sigmas().len();
    let stride = train / n.max(10);
    (0..n).map(|i| (train - 1).saturating_sub(i * stride)).collect()
}

/// Noise levels from high to low for `steps` steps, then 0. `Automatic` counts as `Uniform` here.
///
/// The list has `steps + 1` entries, but for `Ddim` where the rule may give more (31 evaluations for 30 steps).
/// One step goes from the largest level to 0 with every schedule, where some of the formulas divide by 0.
pub fn sigmas(schedule: &Schedule, kind: ScheduleKind, steps: usize) -> Vec<f32> {
    let n = steps.max(1);
    let (min, max) = (schedule.sigma_min(), schedule.sigma_max());
    let at_times = |times: &[f32]| times.iter().map(|&t| schedule.sigma_at(t)).collect::<Vec<f32>>();
    let mut list = match kind {
        _ if n == 1 => vec![max],
        ScheduleKind::Automatic | ScheduleKind::Uniform => at_times(&linspace(schedule.last_time(), 0.0, n)),
        ScheduleKind::Karras => karras(n, min, max),
        ScheduleKind::Exponential => linspace(log(max) as f32, log(min) as f32, n).into_iter().map(exp).collect(),
        ScheduleKind::Polyexponential => {
            let (low, range) = (log(min) as f32, (log(max) - log(min)) as f32);
            linspace(1.0, 0.0, n).into_iter().map(|r| exp(r * range + low)).collect()
        }
        ScheduleKind::SgmUniform => {
            let times = linspace(schedule.time_of(max), schedule.time_of(min), n + 1);
            at_times(&times[..n])
        }
        ScheduleKind::Normal => at_times(&linspace(schedule.time_of(max), schedule.time_of(min), n)),
        ScheduleKind::Simple => simple(schedule.sigmas(), n),
        ScheduleKind::Beta => (0..n)
            .map(|i| {
                let quantile = beta_quantile(1.0 - i as f64 / (n - 1) as f64);
                (f64::from(min) + quantile * (f64::from(max) - f64::from(min))) as f32
            })
            .collect(),
        ScheduleKind::KlOptimal => (0..n)
            .map(|i| {
                let f = i as f64 / (n - 1) as f64;
                (f * f64::from(min).atan() + (1.0 - f) * f64::from(max).atan()).tan() as f32
            })
            .collect(),
        ScheduleKind::AlignYourSteps => align_your_steps(n),
        ScheduleKind::Ddim => ddim(schedule.sigmas(), n),
        ScheduleKind::Leading
        | ScheduleKind::Linspace
        | ScheduleKind::Trailing
        | ScheduleKind::Turbo
        | ScheduleKind::Lcm => {
            let times = own_times(schedule, kind, n, 1.0).map(|(times, _)| times).unwrap_or_default();
            times.into_iter().map(|t| schedule.sigma_linear(t)).collect()
        }
    };
    list.push(0.0);
    list
}

fn log(sigma: f32) -> f64 {
    f64::from(sigma).ln()
}

/// Karras et al. (2022), equation 5, rho 7, without the final 0. One value is `max`.
pub(super) fn karras(n: usize, min: f32, max: f32) -> Vec<f32> {
    let root = |s: f32| f64::from(s).powf(1.0 / 7.0);
    let (high, range) = (root(max) as f32, (root(min) - root(max)) as f32);
    linspace(0.0, 1.0, n).into_iter().map(|r| f64::from(high + r * range).powi(7) as f32).collect()
}

fn simple(table: &[f32], n: usize) -> Vec<f32> {
    let stride = table.len() as f64 / n as f64;
    (0..n).map(|i| table[table.len() - 1 - (i as f64 * stride) as usize]).collect()
}

fn ddim(table: &[f32], n: usize) -> Vec<f32> {
    let stride = (table.len() / n).max(1);
    let mut list: Vec<f32> = table.iter().skip(1).step_by(stride).copied().collect();
    list.reverse();
    list
}

/// The eleven levels for SD 1.x, log-linear in between. `n` is at least 2.
fn align_your_steps(n: usize) -> Vec<f32> {
    const KNOTS: [f64; 11] = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029];
    let at = |i: usize| {
        let place = i as f64 * (KNOTS.len() - 1) as f64 / (n - 1) as f64;
        let low = (place as usize).min(KNOTS.len() - 2);
        let w = place - low as f64;
        ((1.0 - w) * KNOTS[low].ln() + w * KNOTS[low + 1].ln()).exp() as f32
    };
    (0..n).map(at).collect()
}

/// The quantile function of Beta(0.6, 0.6), by bisection: exact to f64's last digits and quick enough for a table.
fn beta_quantile(p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return p.clamp(0.0, 1.0);
    }
    // The distribution is symmetric; in the lower half small quantiles keep their relative precision.
    if p > 0.5 {
        return 1.0 - beta_quantile(1.0 - p);
    }
    let (mut low, mut high) = (0.0f64, 0.5f64);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if beta_cdf(middle) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function I_x(a, a) for a = 0.6 and x at most 1/2, by its power series.
///
/// `x^a / B * sum_k (1 - a)_k x^k / (k! (a + k))` (DLMF 8.17.7), whose terms fall by at least 1/2.
fn beta_cdf(x: f64) -> f64 {
    const A: f64 = 0.6;
    // B(0.6, 0.6) = gamma(0.6)^2 / gamma(1.2)
    const GAMMA_A: f64 = 1.489_192_248_812_817;
    const GAMMA_2A: f64 = 0.918_168_742_399_760_6;
    let (mut term, mut sum) = (1.0, 1.0 / A);
    for k in 1..80 {
        let k = f64::from(k);
        term *= x * (k - A) / k;
        sum += term / (A + k);
    }
    x.powf(A) * sum * GAMMA_2A / (GAMMA_A * GAMMA_A)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::denoise::golden::{Golden, assert_near};
    use crate::models::training::ScheduleConfig;

    fn table(kind: ScheduleKind, n: usize) -> Vec<f32> {
        sigmas(&Schedule::new(&ScheduleConfig::default()).unwrap(), kind, n)
    }

    #[test]
    fn k_diffusions_tables() {
        let golden = Golden::open();
        for (name, kind) in [
            ("discrete", ScheduleKind::Uniform),
            ("karras", ScheduleKind::Karras),
            ("exponential", ScheduleKind::Exponential),
        ] {
            let (ours, reference) = (table(kind, 6), golden.f32(&format!("k.sigmas.{name}")));
            golden.check(&format!("k.sigmas.{name}"), &ours, 1e-6);
            // The Brownian tree rounds sigmas to six decimals: stay with torch to the last bit or so.
            for (a, b) in ours.iter().zip(&reference) {
                assert!((a - b).abs() <= b.abs() * 2.4e-7, "{name}: {a} is not {b}");
            }
        }
    }

    /// Ten steps of the webui, as the formulas of k-diffusion give them for SD 1.x's table.
    #[test]
    fn ten_steps_of_the_webui() {
        let uniform = [14.6146, 7.8399, 4.6092, 2.9183, 1.9502, 1.3449, 0.9324, 0.6250, 0.3687, 0.0292, 0.0];
        assert_near(&table(ScheduleKind::Uniform, 10), &uniform, 6e-5);
        assert_near(&table(ScheduleKind::Automatic, 10), &uniform, 6e-5);
        assert_near(&table(ScheduleKind::Normal, 10), &uniform, 6e-5);
        let karras = [14.6146, 9.1029, 5.4784, 3.1686, 1.7494, 0.9141, 0.4469, 0.2014, 0.0819, 0.0292, 0.0];
        assert_near(&table(ScheduleKind::Karras, 10), &karras, 6e-5);
        // Sabour et al. (2024): eleven steps are the published levels.
        let knots = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029, 0.0];
        assert_near(&table(ScheduleKind::AlignYourSteps, 11), &knots, 1e-5);
    }

    /// Ten steps for SD 1.x of the schedules that no reference file has, computed in f64 with numpy and mpmath (the
    /// quantiles) from the definitions: k-diffusion's `get_sigmas_polyexponential`; Stability's generative models; the
    /// webui's and ComfyUI's `simple` and `ddim`; the arctangents of KL Optimal; Lee et al. 2024; Sabour et al. 2024.
    #[test]
    fn ten_steps_by_definition() {
        #[rustfmt::skip]
        let tables = [
            (ScheduleKind::Polyexponential, [14.61464, 7.32487, 3.67123, 1.84002, 0.92222, 0.46222, 0.23166, 0.11611, 0.05819, 0.02917, 0.0]),
            (ScheduleKind::SgmUniform, [14.61464, 8.30717, 5.09241, 3.32507, 2.27973, 1.61558, 1.16286, 0.83188, 0.57119, 0.34370, 0.0]),
            (ScheduleKind::Simple, [14.61464, 8.30280, 5.08776, 3.32108, 2.27646, 1.61289, 1.16058, 0.82986, 0.56928, 0.34167, 0.0]),
            (ScheduleKind::Ddim, [8.39068, 5.13443, 3.34776, 2.29285, 1.62369, 1.16822, 0.83565, 0.57405, 0.34619, 0.04131, 0.0]),
            (ScheduleKind::KlOptimal, [14.61464, 4.23235, 2.39372, 1.59707, 1.13300, 0.81524, 0.57291, 0.37248, 0.19529, 0.02917, 0.0]),
            (ScheduleKind::Beta, [14.61464, 13.92778, 12.49098, 10.59761, 8.44244, 6.20137, 4.04620, 2.15283, 0.71602, 0.02917, 0.0]),
            (ScheduleKind::AlignYourSteps, [14.615, 6.11351, 3.56511, 2.39387, 1.64996, 1.13579, 0.74252, 0.44501, 0.16921, 0.029, 0.0]),
        ];
        for (kind, want) in tables {
            assert_near(&table(kind, 10), &want, 6e-5);
        }
    }

    /// Each rule recomputed from its definition.
    #[test]
    fn defining_properties() {
        let schedule = Schedule::new(&ScheduleConfig::default()).unwrap();
        let all = schedule.sigmas();
        let s = table(ScheduleKind::Simple, 20);
        assert!((0..20).all(|i| s[i] == all[999 - 50 * i]));
        let s = table(ScheduleKind::SgmUniform, 20);
        let expected: Vec<f32> = (0..20).map(|i| schedule.sigma_at(999.0 - 49.95 * i as f32)).collect();
        assert_near(&s[..20], &expected, 1e-4);
        let s = table(ScheduleKind::Ddim, 20);
        assert!(s.len() == 21 && (0..20).all(|i| s[i] == all[951 - 50 * i]));
        // The rule's own count: indices 1, 34, ..., 991.
        assert_eq!(table(ScheduleKind::Ddim, 30).len(), 32);
        assert_eq!(table(ScheduleKind::Polyexponential, 7)[3], table(ScheduleKind::Exponential, 7)[3]);
        let s = table(ScheduleKind::KlOptimal, 5);
        let middle = (0.5 * (f64::from(s[0]).atan() + f64::from(s[4]).atan())).tan();
        assert!((f64::from(s[2]) - middle).abs() < 1e-6);
    }

    /// The quantiles against numerical integration of the density with u = x^0.6, which removes the pole at 0.
    #[test]
    fn beta_quantiles() {
        let cdf = |x: f64| {
            let n = 20_000;
            let top = x.powf(0.6);
            let f = |u: f64| (1.0 - u.powf(1.0 / 0.6)).powf(-0.4);
            (0..n).map(|i| f((f64::from(i) + 0.5) / f64::from(n) * top)).sum::<f64>() * top / f64::from(n) / 0.6
        };
        // The density is symmetric, so the integral up to 1/2 is half of the whole.
        let whole = 2.0 * cdf(0.5);
        for p in [0.01, 0.1, 0.3, 0.5] {
            assert!((cdf(beta_quantile(p)) / whole - p).abs() < 1e-7, "{p}");
            assert!((beta_quantile(1.0 - p) - (1.0 - beta_quantile(p))).abs() < 1e-12);
        }
        let s = table(ScheduleKind::Beta, 3);
        assert_near(&s, &[14.614647, 0.5 * (14.614647 + 0.029168), 0.029168, 0.0], 1e-5);
    }

    /// The timesteps are those of `tables` in the samplers.json of diffusers' reference loops.
    #[test]
    fn schedules_of_timesteps() {
        let schedule = Schedule::new(&ScheduleConfig::default()).unwrap();
        let all = schedule.sigmas();
        let at = |times: &[usize]| times.iter().map(|t| all[*t]).chain([0.0]).collect::<Vec<f32>>();
        assert_eq!(table(ScheduleKind::Trailing, 7), at(&[999, 856, 713, 570, 428, 285, 142]));
        assert_eq!(table(ScheduleKind::Leading, 6), at(&[831, 665, 499, 333, 167, 1]));
        assert_eq!(table(ScheduleKind::Turbo, 3), at(&[999, 899, 799]));
        assert_eq!(table(ScheduleKind::Lcm, 4), at(&[999, 759, 499, 259]));
        let linspace = [14.614_647, 5.092_418_7, 2.279_734_8, 1.162_866_6, 0.571_190_2, 0.029_167_535, 0.0];
        assert_near(&table(ScheduleKind::Linspace, 6), &linspace, 3e-6);
    }

    #[test]
    fn every_schedule_falls_to_zero_for_every_count() {
        for kind in ScheduleKind::all() {
            for n in [1, 2, 3, 7, 11, 30, 100, 999, 1000] {
                let s = table(kind, n);
                assert!(s.iter().all(|v| v.is_finite()) && s.is_sorted_by(|a, b| a >= b), "{kind:?} {n}");
                assert!(s[s.len() - 2] > 0.0 && s[s.len() - 1] == 0.0, "{kind:?} {n}");
                assert!(kind == ScheduleKind::Ddim || s.len() == n + 1, "{kind:?} {n}");
            }
            assert_near(&table(kind, 1), &[14.614647, 0.0], 1e-5);
        }
    }

    #[test]
    fn names() {
        for kind in ScheduleKind::all() {
            assert_eq!(ScheduleKind::parse(kind.name()).unwrap(), kind);
        }
        assert_eq!(ScheduleKind::parse("sgm-UNIFORM").unwrap(), ScheduleKind::SgmUniform);
        assert_eq!(ScheduleKind::parse("SGMUniform").unwrap(), ScheduleKind::SgmUniform);
        assert_eq!(ScheduleKind::parse("discrete").unwrap(), ScheduleKind::Uniform);
        assert!(ScheduleKind::parse("gits").unwrap_err().to_string().contains("Align Your Steps"));
        assert!(ScheduleKind::parse("kerras").unwrap_err().to_string().contains("Karras"));
    }
}
