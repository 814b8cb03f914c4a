//! Words of files that go with a checkpoint go in, what they tell of its network comes out: what tensors do not show.

use super::{Defaults, Model};
use crate::models::training::{Prediction, Spacing};
use std::fmt;
use std::path::Path;

/// How it is known what a network predicts, the best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grounds {
    /// The configuration of its scheduler.
    Config,
    /// A configuration beside the file, `NAME.yaml`.
    Beside,
    /// An empty tensor in the file that says so.
    Marker,
    /// The network's answer to a question.
    Answer,
    /// The file's name.
    Name,
    /// Nothing but what most of its family predict.
    #[default]
    Family,
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "its scheduler's configuration says so",
            Self::Beside => "the .yaml beside it says so",
            Self::Marker => "a marker in the file says so",
            Self::Answer => "the network was asked",
            Self::Name => "guessed from its name",
            Self::Family => "guessed: most of its family do",
        })
    }
}

/// How it is known what the tensors do not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What the network predicts.
    pub prediction: Grounds,
    /// The distilled model that it is taken for, by its name alone.
    pub kind: Option<&'static str>,
}

/// What a file's name says of the prediction.
pub fn named(name: &str) -> Option<Prediction> {
    let name = name.to_ascii_lowercase().replace(['_', ' '], "-");
    let says = |word: &str| name.split(['-', '.']).any(|part| part == word);
    let velocity = ["v-pred", "vpred", "768-v-", "768v-"].iter().any(|word| name.contains(word));
    if velocity || says("768v") {
        return Some(Prediction::V);
    }
    (says("x0") && says("lightning")).then_some(Prediction::Sample)
}

/// What a configuration of the original scripts beside a file, `NAME.yaml`, says of the prediction.
pub fn beside(path: &Path) -> Option<Prediction> {
    let beside = path.with_extension("yaml");
    let small = std::fs::metadata(&beside).is_ok_and(|m| m.is_file() && m.len() <= 1 << 20);
    let text = if small { std::fs::read_to_string(&beside).ok()? } else { return None };
    let entry = |line: &str| {
        let (key, value) = line.split('#').next()?.split_once(':')?;
        Some((key.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
    };
    let entries: Vec<(String, String)> = text.lines().filter_map(entry).collect();
    match entries.iter().find(|(key, _)| key == "parameterization") {
        Some((_, value)) if value == "v" => Some(Prediction::V),
        Some((_, value)) if value == "x0" => Some(Prediction::Sample),
        Some(_) => Some(Prediction::Epsilon),
        // Theirs name classes; without a word they predict noise.
        None => entries.iter().any(|(key, _)| key == "target").then_some(Prediction::Epsilon),
    }
}

impl Model {
    /// The model with another word on what it predicts, and the settings that suit it then.
    #[must_use]
    pub fn predicting(mut self, prediction: Prediction, grounds: Grounds) -> Self {
        let changes = self.schedule.prediction != prediction;
        (self.schedule.prediction, self.evidence.prediction) = (prediction, grounds);
        if changes {
            let (defaults, kind) = Defaults::of(&self.networks, &self.schedule, &self.name, false);
            (self.defaults, self.evidence.kind) = (defaults, kind);
            if self.defaults.guidance == 1.0 {
                self.schedule.spacing = Spacing::Trailing;
            }
        }
        self
    }

    /// Whether nothing says what the network predicts and one question would tell: SD 2.x, but not its inpainting
    /// models, which all predict noise.
    pub fn can_be_asked(&self) -> bool {
        let wide = self.networks.predictor.as_ref().is_some_and(|p| p.context_width() == 1024);
        let guessed = matches!(self.evidence.prediction, Grounds::Name | Grounds::Family);
        wide && guessed && self.networks.added().is_none() && !self.networks.inpaints()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_what_is_predicted() {
        let says = |name| named(name);
        for name in
            ["noobaiXLNAIXL_vPred10Version", "NoobAI-XL-Vpred-v1.0", "fluffyrock-vpred", "v2-1_768-v-ema-pruned"]
        {
            assert_eq!(says(name), Some(Prediction::V), "{name}");
        }
        assert_eq!(says("sdxl_lightning_1step_x0"), Some(Prediction::Sample));
        for name in ["v1-5-pruned-emaonly", "v2-1_512-ema-pruned", "sd_xl_base_1.0", "768-variants", "dreamshaper_x0"] {
            assert_eq!(says(name), None, "{name}");
        }
    }
}
