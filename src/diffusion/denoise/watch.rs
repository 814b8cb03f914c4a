//! What the caller hears of a sampling in, a word when the model seems to predict something else than it is taken to.
//!
//! Nothing in a checkpoint's tensors tells whether its network predicts noise or velocity. Latents of pictures have a
//! standard deviation near 1; a network of one kind, read as the other, leaves the noise in its estimates (sigma times
//! the noise, 14 at the start) or takes out more than there is.

use super::run::Progress;

/// The standard deviations that estimates of a picture's latents have, with room.
const USUAL: (f64, f64) = (0.3, 3.0);
/// So many evaluations are looked at.
const LOOKED_AT: usize = 3;

/// Watches the first estimates of each image of a run.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    heard: usize,
    odd: usize,
    last: f64,
}

/// The estimates are none of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspicion {
    /// Their standard deviation.
    pub deviation: f64,
}

impl std::fmt::Display for Suspicion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = USUAL;
        write!(
            f,
            "the first steps leave latents of standard deviation {:.2}, where those of pictures have {low} to {high}: the \
             model may predict something else than it is taken to (noise, velocity or the clean sample)",
            self.deviation
        )
    }
}

impl Watch {
    /// Hears of an evaluation; answers once, after the first few (all, where there are fewer), if every one of them was
    /// out of the usual.
    pub fn hear(&mut self, progress: &Progress<'_>) -> Option<Suspicion> {
        if self.heard >= LOOKED_AT {
            return None;
        }
        self.heard += 1;
        self.last = deviation(&progress.denoised());
        let usual = (USUAL.0..=USUAL.1).contains(&self.last);
        self.odd += usize::from(!usual);
        let wanted = progress.evaluations.unwrap_or(LOOKED_AT).min(LOOKED_AT);
        (self.heard == wanted && self.odd == wanted).then_some(Suspicion { deviation: self.last })
    }
}

fn deviation(values: &[f32]) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::denoise::guided::{Guided, Unet};
    use crate::diffusion::denoise::noise::ImageNoise;
    use crate::diffusion::denoise::plan::{Settings, Timetable};
    use crate::diffusion::denoise::run::{At, sample};
    use crate::diffusion::denoise::{Schedule, find};
    use crate::error::Result;
    use crate::models::training::{Prediction, ScheduleConfig};
    use crate::rng::RngKind;
    use std::ops::ControlFlow;

    /// The perfect network for pictures whose latents are noise of deviation 1, which predicts `real`.
    struct Perfect(Prediction);

    impl Unet for Perfect {
        fn predict(&mut self, x: &[f32], at: At, _: Option<&mut [f32]>, conds: &mut [Vec<f32>]) -> Result<()> {
            let alpha = 1.0 / (at.sigma * at.sigma + 1.0).sqrt();
            let sigma = at.sigma * alpha;
            for (out, x) in conds[0].iter_mut().zip(x) {
                *out = match self.0 {
                    Prediction::Epsilon => sigma * x,
                    Prediction::Sample => alpha * x,
                    // alpha noise - sigma clean, of which x is known and both are independent: 0.
                    Prediction::V | Prediction::Flow => 0.0,
                };
            }
            Ok(())
        }
    }

    fn doubts(real: Prediction, taken: Prediction, sampler: &str, steps: usize) -> Vec<f64> {
        let schedule = Schedule::new(&ScheduleConfig::default()).unwrap();
        let plan = Timetable::new(&schedule, &Settings::new(find(sampler).unwrap(), steps)).unwrap();
        let (mut watch, mut heard) = (Watch::default(), Vec::new());
        let mut unet = Perfect(real);
        let mut guided = Guided::new(&mut unet, taken, 1.0);
        let mut noise = ImageNoise::new(RngKind::Cpu, &[7]);
        let mut hear = |p: &Progress<'_>| {
            heard.extend(watch.hear(p).map(|doubt| doubt.deviation));
            ControlFlow::Continue(())
        };
        sample(&plan, (1, 4096), None, &mut noise, &mut guided, &mut hear).unwrap();
        heard
    }

    #[test]
    fn a_network_taken_for_what_it_is_raises_no_doubt() {
        for sampler in ["euler", "euler_a", "ddim", "dpm++2m", "unipc"] {
            // From nothing but noise the best guess of these pictures is their mean: the first guesses are small.
            for (steps, real) in [(10, Prediction::Epsilon), (10, Prediction::V), (10, Prediction::Sample)] {
                let heard = doubts(real, real, sampler, steps);
                assert!(heard.iter().all(|d| *d < USUAL.1), "{sampler}, {real:?}: {heard:?}");
            }
        }
    }

    #[test]
    fn velocity_taken_for_noise_is_noticed_once_and_in_a_single_step_too() {
        for (sampler, steps) in [("euler", 1), ("euler", 2), ("euler", 20), ("ddim", 20)] {
            let heard = doubts(Prediction::V, Prediction::Epsilon, sampler, steps);
            assert_eq!(heard.len(), 1, "{sampler}, {steps} steps: {heard:?}");
            assert!(heard[0] > USUAL.1);
        }
    }

    #[test]
    fn it_names_both_numbers_and_no_flag() {
        let text = Suspicion { deviation: 14.25 }.to_string();
        assert!(text.contains("14.25") && text.contains("0.3 to 3") && !text.contains("--"), "{text}");
    }
}
