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
             model may predict something else than it is taken to (noise, velocity or the clean sample); say which it is",
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
