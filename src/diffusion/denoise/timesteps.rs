//! A spacing and a step count in, the timesteps of DDIM, PLMS and UniPC out, each with its cumulative alpha.

use super::plan::{Settings, Tables};
use super::schedule::Schedule;
use super::sigmas::normalised;
use crate::error::{Error, Result, escape};
use crate::models::training::{Spacing, ZeroSnr};

/// How the timesteps of DDIM, PLMS, UniPC and TCD are chosen. The k-samplers take sigma schedules instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Timesteps {
    /// The original scripts': the model's own spacing (leading for SD 1.x) for DDIM and PLMS, linspace for UniPC, the
    /// distilled models' 50 places for TCD.
    #[default]
    Auto,
    /// diffusers' rule of this name.
    Spaced(Spacing),
    /// The webui's tables: 20 steps of DDIM are 19 evaluations, UniPC runs at order 3.
    Webui,
    /// This one alone, for one step of any sampler (Hyper-SDXL's network for one step: 800).
    Only(u16),
}

impl Timesteps {
    /// Whether a k-sampler pays attention, which otherwise takes a sigma schedule.
    pub fn counts_for_levels(self) -> bool {
        matches!(self, Self::Only(_))
    }

    /// Reads `auto | leading | linspace | trailing | webui`, or a timestep.
    pub fn parse(name: &str) -> Result<Self> {
        match normalised(name).as_str() {
            "auto" | "automatic" | "default" => Ok(Self::Auto),
            "leading" => Ok(Self::Spaced(Spacing::Leading)),
            "linspace" => Ok(Self::Spaced(Spacing::Linspace)),
            "trailing" => Ok(Self::Spaced(Spacing::Trailing)),
            "webui" => Ok(Self::Webui),
            word => word.parse().ok().filter(|t| *t < 1000).map(Self::Only).ok_or_else(|| {
                Error::usage(format!(
                    "unknown timesteps '{}': use auto, leading, linspace, trailing, webui or one timestep from 0 to 999",
                    escape(name)
                ))
            }),
        }
    }
}

/// One place of the diffusion process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The timestep that the U-Net is asked at.
    pub t: f32,
    /// Cumulative alpha: x = sqrt(abar) clean + sqrt(1 - abar) noise.
    pub alpha_bar: f64,
}

impl Point {
    /// The noise level in variance-exploding terms, sqrt((1 - abar) / abar).
    pub fn sigma(self) -> f64 {
        ((1.0 - self.alpha_bar) / self.alpha_bar).max(0.0).sqrt()
    }

    /// The place of an integer timestep, held inside of the table.
    pub fn at(schedule: &Schedule, t: usize) -> Self {
        let t = t.min(schedule.alphas_cumprod().len() - 1);
        Self { t: t as f32, alpha_bar: f64::from(schedule.alphas_cumprod()[t]) }
    }

    /// The same place with at least the signal that the schedule's highest noise level has, for methods that divide by
    /// it.
    pub fn with_signal(self, schedule: &Schedule) -> Self {
        let least = schedule.config().zero_snr.map_or(0.0, ZeroSnr::floor);
        Self { alpha_bar: self.alpha_bar.max(f64::from(least)), ..self }
    }

    /// The place with this noise level (0 is the clean picture).
    pub fn from_sigma(t: f32, sigma: f32) -> Self {
        Self { t, alpha_bar: 1.0 / (1.0 + f64::from(sigma).powi(2)) }
    }
}

/// The tables of DDIM and PLMS.
pub(super) fn tables(schedule: &Schedule, settings: &Settings) -> Tables {
    Tables { points: ddim_points(schedule, settings.timesteps, settings.steps), ..Tables::default() }
}

/// `n` timesteps of diffusers' `DDIMScheduler` and `PNDMScheduler`, falling.
///
/// `leading` adds the offset; a timestep beyond the table (1000 steps of SD 1.x) is held at the last one.
pub fn spaced(schedule: &Schedule, spacing: Spacing, n: usize, offset: usize) -> Vec<usize> {
    let last = schedule.alphas_cumprod().len() - 1;
    let list = match spacing {
        Spacing::Leading => leading(last + 1, n, n, offset),
        Spacing::Linspace => (0..n).rev().map(|i| even(last, i, n - 1)).collect(),
        Spacing::Trailing => trailing(last + 1, n),
    };
    list.into_iter().map(|t| t.min(last)).collect()
}

/// `n` timesteps of diffusers' multistep solvers (`UniPCMultistepScheduler`, `DPMSolverMultistepScheduler`), falling.
///
/// They divide the range into `n + 1` and leave the lowest point to the final step.
pub fn spaced_multistep(schedule: &Schedule, spacing: Spacing, n: usize, offset: usize) -> Vec<usize> {
    let last = schedule.alphas_cumprod().len() - 1;
    let list = match spacing {
        Spacing::Leading => leading(last + 1, n, n + 1, offset),
        Spacing::Linspace => (1..=n).rev().map(|i| even(last, i, n)).collect(),
        Spacing::Trailing => trailing(last + 1, n),
    };
    list.into_iter().map(|t| t.min(last)).collect()
}

/// The `n` highest of `parts` multiples of `train / parts`, plus the offset.
fn leading(train: usize, n: usize, parts: usize, offset: usize) -> Vec<usize> {
    let stride = train / parts;
    (parts - n..parts).rev().map(|i| i * stride + offset).collect()
}

/// `linspace(0, last, parts + 1)[i]`, rounded half to even as numpy does.
fn even(last: usize, i: usize, parts: usize) -> usize {
    if parts == 0 { 0 } else { (i as f64 * (last as f64 / parts as f64)).round_ties_even() as usize }
}

fn trailing(train: usize, n: usize) -> Vec<usize> {
    let stride = train as f64 / n as f64;
    (0..n).map(|i| (train as f64 - i as f64 * stride).round_ties_even().max(1.0) as usize - 1).collect()
}

/// The places that DDIM and PLMS go through for `n` steps; the last one is where they end, not asked.
pub fn ddim_points(schedule: &Schedule, timesteps: Timesteps, n: usize) -> Vec<Point> {
    let spacing = match timesteps {
        Timesteps::Auto => schedule.config().spacing,
        Timesteps::Spaced(spacing) => spacing,
        Timesteps::Webui => return webui_ddim(schedule, n),
        Timesteps::Only(t) => return vec![Point::at(schedule, t.into()), Point::at(schedule, 0)],
    };
    ddim_spaced(schedule, spacing, n, schedule.config().steps_offset, schedule.config().set_alpha_to_one)
}

/// diffusers' table with an end at abar_0, or at 1 where `to_one` says so.
pub(crate) fn ddim_spaced(schedule: &Schedule, spacing: Spacing, n: usize, offset: usize, to_one: bool) -> Vec<Point> {
    let times = spaced(schedule, spacing, n, offset);
    let mut points: Vec<Point> = times.into_iter().map(|t| Point::at(schedule, t)).collect();
    let end = if to_one { 1.0 } else { f64::from(schedule.alphas_cumprod()[0]) };
    points.push(Point { t: 0.0, alpha_bar: end });
    points
}

/// The webui's table: `range(0, 1000, 1000 // n) + 1` held inside of the table, ending at its lowest timestep.
///
/// One step would have no place to go to; it goes from the only timestep to abar_0.
fn webui_ddim(schedule: &Schedule, n: usize) -> Vec<Point> {
    let train = schedule.alphas_cumprod().len();
    let times = (0..train).step_by((train / n).max(1)).map(|t| Point::at(schedule, t + 1));
    let mut points: Vec<Point> = times.collect();
    points.reverse();
    if points.len() == 1 {
        points.push(Point::at(schedule, 0));
    }
    points
}

/// The places that UniPC goes through for `n` steps; the last one is where it ends, not asked.
pub fn unipc_points(schedule: &Schedule, timesteps: Timesteps, n: usize) -> Vec<Point> {
    let spacing = match timesteps {
        // The models' own "leading" is meant for DDIM; diffusers' UniPC is linspace unless a file says otherwise.
        Timesteps::Auto if schedule.config().spacing == Spacing::Leading => Spacing::Linspace,
        Timesteps::Auto => schedule.config().spacing,
        Timesteps::Spaced(spacing) => spacing,
        Timesteps::Webui => return webui_unipc(schedule, n),
        Timesteps::Only(t) => return with_clean_end(schedule, vec![t.into()]),
    };
    with_clean_end(schedule, spaced_multistep(schedule, spacing, n, schedule.config().steps_offset))
}

fn with_clean_end(schedule: &Schedule, times: Vec<usize>) -> Vec<Point> {
    let places = times.into_iter().map(|t| Point::at(schedule, t));
    places.chain([Point { t: 0.0, alpha_bar: 1.0 }]).collect()
}

/// UniPC's own `time_uniform`: `linspace(1, 1/1000, n + 1)` of the unit interval, log alpha linear between entries.
fn webui_unipc(schedule: &Schedule, n: usize) -> Vec<Point> {
    let alphas = schedule.alphas_cumprod();
    let last = alphas.len() - 1;
    let at = |i: usize| {
        let t = last as f64 * (n - i) as f64 / n as f64;
        let low = (t as usize).min(last - 1);
        let w = t - low as f64;
        let (a, b) = (f64::from(alphas[low]).ln(), f64::from(alphas[low + 1]).ln());
        Point { t: t as f32, alpha_bar: ((1.0 - w) * a + w * b).exp() }
    };
    (0..=n).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::training::ScheduleConfig;

    fn schedule() -> Schedule {
        Schedule::new(&ScheduleConfig::default()).unwrap()
    }

    #[test]
    fn twenty_steps_of_every_spacing() {
        let s = schedule();
        let leading = spaced(&s, Spacing::Leading, 20, 1);
        assert_eq!((leading.len(), &leading[..3], leading[19]), (20, &[951, 901, 851][..], 1));
        let trailing = spaced(&s, Spacing::Trailing, 20, 1);
        assert_eq!((trailing.len(), &trailing[..3], trailing[19]), (20, &[999, 949, 899][..], 49));
        let linspace = spaced(&s, Spacing::Linspace, 20, 1);
        assert_eq!((linspace.len(), &linspace[..3], linspace[19]), (20, &[999, 946, 894][..], 0));
        assert_eq!(spaced_multistep(&s, Spacing::Linspace, 5, 1), [999, 799, 599, 400, 200]);
        assert_eq!(spaced_multistep(&s, Spacing::Leading, 4, 1), [801, 601, 401, 201]);
    }

    #[test]
    fn the_webuis_tables() {
        let s = schedule();
        let points = ddim_points(&s, Timesteps::Webui, 20);
        assert_eq!((points.len(), points[0].t, points[19].t), (20, 951.0, 1.0));
        assert_eq!(ddim_points(&s, Timesteps::Webui, 30).len(), 31);
        let points = unipc_points(&s, Timesteps::Webui, 10);
        assert_eq!((points.len(), points[0].t, points[10].t), (11, 999.0, 0.0));
        assert!((points[5].t - 499.5).abs() < 1e-3);
    }

    #[test]
    fn n_steps_are_n_evaluations_that_fall() {
        let s = schedule();
        for n in [1, 2, 7, 30, 333, 999, 1000] {
            for spacing in [Spacing::Leading, Spacing::Linspace, Spacing::Trailing] {
                for points in
                    [ddim_points(&s, Timesteps::Spaced(spacing), n), unipc_points(&s, Timesteps::Spaced(spacing), n)]
                {
                    assert_eq!(points.len(), n + 1, "{spacing:?}");
                    assert!(points.windows(2).all(|w| w[0].alpha_bar <= w[1].alpha_bar), "{spacing:?} {n}");
                    assert!(points.iter().all(|p| (0.0..=999.0).contains(&p.t)));
                }
            }
            assert!(ddim_points(&s, Timesteps::Webui, n).len() >= 2);
        }
        assert!(Timesteps::parse("sideways").is_err());
        assert_eq!(Timesteps::parse("Trailing").unwrap(), Timesteps::Spaced(Spacing::Trailing));
        assert_eq!(Timesteps::parse("800").unwrap(), Timesteps::Only(800));
        assert!(Timesteps::parse("1000").is_err());
    }
}
