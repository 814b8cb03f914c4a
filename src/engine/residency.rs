//! What stays in memory from one stage to the next: the stages of a request and a budget go in, a rule and its peak
//! come out. Pure arithmetic on plans; no weight is read.

use crate::backend::Memory;
use crate::models::part::Part;

/// Models below this are kept whole: loading them again costs more than it gives back.
const SMALL: u64 = 1_000_000_000;

/// Which programs may be loaded at the same time; each rule keeps less than the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All that were ever used.
    #[default]
    All,
    /// All but the text encoders, where a picture grows window by window and the others alternate.
    Windows,
    /// The U-Net and the decoder, which alternate where several pictures are made; of the others only the one at work.
    Pictures,
    /// Only the one at work.
    Phase,
    /// Only the one at work, and of its matrices only those of neighbouring steps.
    Stream,
}

impl Keep {
    /// Whether `other` may stay loaded while `stage` is.
    pub fn beside(self, stage: &Part, other: &Part) -> bool {
        // A sampler that does not know its times asks for one at a time, between two runs of the U-Net.
        let asked = |a: &Part, b: &Part| matches!((a, b), (Part::Time { timesteps: 1 }, Part::Step(_)));
        let picture = |s: &Part| matches!(s, Part::Step(_) | Part::Decode { .. });
        let is_text = |part: &Part| matches!(part, Part::Text { .. });
        match self {
            Self::All => true,
            _ if stage.kind() == other.kind() || asked(stage, other) || asked(other, stage) => true,
            Self::Windows => !is_text(stage) && !is_text(other),
            Self::Pictures => picture(stage) && picture(other),
            Self::Phase | Self::Stream => false,
        }
    }

    /// Bytes at the worst moment of a request.
    pub fn peak(self, stages: &[(Part, Memory)]) -> u64 {
        let beside = |stage: &Part| {
            let loaded: Vec<_> = stages.iter().filter(|(other, _)| self.beside(stage, other)).collect();
            let activations: u64 = loaded.iter().map(|(_, m)| m.activations).sum();
            // Programs of one kind share their weights.
            let first = |i: usize| !loaded[..i].iter().any(|(s, _)| s.kind() == loaded[i].0.kind());
            let weights: u64 = (0..loaded.len()).filter(|i| first(*i)).map(|i| loaded[i].1.weights).sum();
            activations + weights
        };
        stages.iter().map(|(stage, _)| beside(stage)).max().unwrap_or(0)
    }
}

/// What is run again after a picture was decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Again {
    /// Nothing.
    #[default]
    Nothing,
    /// The network that predicts, for another picture or after a preview.
    Pictures,
    /// Everything but the text encoders: a picture grows window by window.
    Windows,
}

/// A rule, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residency {
    /// What stays loaded.
    pub keep: Keep,
    /// Bytes of weights and activations at the worst moment.
    pub peak: u64,
}

impl Residency {
    /// The rule that keeps the most of what will be used again and fits into `budget`; the one that keeps the least
    /// where none does.
    pub fn choose(stages: &[(Part, Memory)], again: Again, budget: Option<u64>) -> Self {
        let small = Keep::All.peak(stages) <= SMALL;
        let useful = [
            (Keep::All, small),
            (Keep::Windows, again == Again::Windows),
            (Keep::Pictures, again >= Again::Pictures),
            (Keep::Phase, true),
        ];
        let candidates = useful.into_iter().filter(|(_, useful)| *useful);
        let all: Vec<Self> = candidates.map(|(keep, _)| Self { keep, peak: keep.peak(stages) }).collect();
        let fits = all.iter().find(|r| budget.is_none_or(|b| r.peak <= b));
        *fits.unwrap_or(&all[all.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::part::StepShape;

    const MB: u64 = 1_000_000;

    fn stages(timesteps: usize, unet: u64) -> Vec<(Part, Memory)> {
        let shape = StepShape { samples: 1, contexts: 2, times: 1, h: 64, w: 64, tokens: 77 };
        let one =
            |stage, weights, activations| (stage, Memory { weights: weights * MB, activations: activations * MB });
        vec![
            one(Part::Text { encoder: 0, chunks: 1, clip_skip: 1 }, 170, 5),
            one(Part::Context { contexts: 2, tokens: 77 }, 40, 14),
            one(Part::Time { timesteps }, 60, 1),
            one(Part::Step(shape), unet, 100),
            one(Part::Decode { size: (1, 64, 64) }, 100, 600),
        ]
    }

    #[test]
    fn one_picture_of_a_large_model_holds_a_stage_at_a_time() {
        let r = Residency::choose(&stages(20, 1630), Again::Nothing, None);
        assert_eq!(r, Residency { keep: Keep::Phase, peak: 1730 * MB });
        // Asked one at a time, the times stay beside the U-Net.
        assert_eq!(Residency::choose(&stages(1, 1630), Again::Nothing, None).peak, 1791 * MB);
    }

    #[test]
    fn several_pictures_keep_the_unet_if_it_fits() {
        let stages = stages(20, 1630);
        let both = Residency { keep: Keep::Pictures, peak: 2430 * MB };
        assert_eq!(Residency::choose(&stages, Again::Pictures, None), both);
        assert_eq!(Residency::choose(&stages, Again::Pictures, Some(2430 * MB)), both);
        let alone = Residency { keep: Keep::Phase, peak: 1730 * MB };
        assert_eq!(Residency::choose(&stages, Again::Pictures, Some(2429 * MB)), alone);
        // What does not fit at all is told by its peak; the caller refuses.
        assert_eq!(Residency::choose(&stages, Again::Pictures, Some(MB)), alone);
    }

    #[test]
    fn a_picture_that_grows_keeps_what_every_window_needs_if_it_fits() {
        let stages = stages(20, 1630);
        // All but the text encoder's 175.
        let all = Residency { keep: Keep::Windows, peak: 2545 * MB };
        assert_eq!(Residency::choose(&stages, Again::Windows, None), all);
        assert_eq!(Residency::choose(&stages, Again::Windows, Some(2545 * MB)), all);
        let both = Residency { keep: Keep::Pictures, peak: 2430 * MB };
        assert_eq!(Residency::choose(&stages, Again::Windows, Some(2544 * MB)), both);
    }

    #[test]
    fn small_models_are_kept_whole_if_they_fit() {
        let mut stages = stages(20, 10);
        stages[4].1.activations = 400 * MB;
        assert_eq!(Residency::choose(&stages, Again::Nothing, None), Residency { keep: Keep::All, peak: 900 * MB });
        let tight = Some(899 * MB);
        assert_eq!(Residency::choose(&stages, Again::Nothing, tight), Residency { keep: Keep::Phase, peak: 500 * MB });
        assert_eq!(
            Residency::choose(&stages, Again::Pictures, tight),
            Residency { keep: Keep::Pictures, peak: 610 * MB }
        );
    }

    #[test]
    fn weights_of_one_kind_count_once() {
        let mut all = stages(20, 1630);
        all.push((Part::Decode { size: (1, 32, 32) }, Memory { weights: 100 * MB, activations: 150 * MB }));
        assert_eq!(Keep::Pictures.peak(&all), 2580 * MB);
        assert_eq!(Keep::Stream.peak(&all[4..]), 850 * MB);
    }
}
