//! Networks and a name go in, the settings that suit them come out.

use crate::models::Networks;
use crate::models::training::{Prediction, ScheduleConfig, Spacing};

/// The settings that suit a model; the user's flags go first.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// Side of the square picture that the model was trained on, in pixels.
    pub size: usize,
    /// Sampler steps.
    pub steps: usize,
    /// Guidance scale.
    pub guidance: f32,
    /// The sampler's name, and the timetable's behind it where it is not the sampler's own: `euler trailing`.
    pub sampler: String,
}

impl Defaults {
    /// What suits networks of this family, and what a name tells of distilled ones, with what they are then taken for:
    /// nothing in their tensors does. `said`: whether the schedule is the model's own word.
    pub fn of(networks: &Networks, schedule: &ScheduleConfig, name: &str, said: bool) -> (Self, Option<&'static str>) {
        let mut out = Self::default();
        let family = networks.predictor.as_ref().map_or(0, |p| p.context_width());
        let xl = networks.added().is_some();
        out.size = match (xl, family, schedule.prediction) {
            (true, ..) => 1024,
            (false, 1024, Prediction::V) => 768,
            _ => 512,
        };
        let name = name.to_ascii_lowercase();
        let says = |word: &str| name.contains(word);
        let fast =
            |size: usize, steps: usize, sampler: &str| Self { size, steps, guidance: 1.0, sampler: sampler.into() };
        let (mut own, kind) = match () {
            () if says("turbo") && family == 1024 => (fast(512, 1, "euler trailing"), Some("SD-Turbo")),
            () if says("turbo") && xl => (fast(512, 1, "euler_a trailing"), Some("SDXL-Turbo")),
            () if says("lightning") && xl => {
                (fast(1024, steps_of(&name).unwrap_or(4), "euler trailing"), Some("SDXL-Lightning"))
            }
            () if says("hyper") && xl => {
                (fast(1024, steps_of(&name).unwrap_or(4), "ddim_trailing"), Some("Hyper-SDXL"))
            }
            () if networks.guidance().is_some() => (Self { steps: 4, sampler: "lcm lcm".into(), ..out }, None),
            () if says("lcm") => (fast(out.size, 4, "lcm lcm"), Some("a latent consistency model")),
            () if says("sdxs") => (fast(512, 1, "euler trailing"), Some("SDXS")),
            () => (out, None),
        };
        if said && kind.is_none() && schedule.spacing == Spacing::Trailing && own.sampler == Self::default().sampler {
            own.sampler = "euler_a trailing".into();
        }
        (own, kind)
    }
}

/// `4` of `sdxl_lightning_4step`.
fn steps_of(name: &str) -> Option<usize> {
    let before = &name[..name.find("step")?].trim_end_matches(['-', '_', ' ']);
    let digits = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    before[before.len() - digits..].parse().ok().filter(|n| (1..=16).contains(n))
}

impl Default for Defaults {
    /// SD 1.x: 512 pixels, 20 steps of Euler a at guidance 7.5.
    fn default() -> Self {
        Self { size: 512, steps: 20, guidance: 7.5, sampler: "euler_a".into() }
    }
}
