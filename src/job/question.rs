//! A network whose files do not say what it predicts goes in; its answer to one question, and what that tells, come
//! out.
//!
//! SD 2.x was published in both kinds with equal shapes. Asked for a constant latent at the last timestep, a network
//! that predicts noise answers about what it was given, and one that predicts velocity far less (the webui and
//! stable-diffusion.cpp ask the same).

use crate::checkpoint::Model;
use crate::diffusion::Stages as _;
use crate::engine::Engine;
use crate::engine::residency::Keep;
use crate::error::{Error, Result};
use crate::models::part::{self, Part, StepShape};
use crate::models::training::Prediction;
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Height and width of the latents in the question.
const SIDE: usize = 8;
/// Tokens of its text.
const TOKENS: usize = 2;
/// The value of all of it.
const VALUE: f32 = 0.5;
/// The last timestep.
const TIMESTEP: f32 = 999.0;
/// Answers that lie further below the question are a velocity's.
const BELOW: f64 = -1.0;

/// Asks the network. Its weights are read once and not kept.
///
/// # Errors
/// What keeps it from being run.
pub fn prediction(engine: &Engine, model: &Arc<Model>, cancel: &AtomicBool) -> Result<Prediction> {
    let session = engine.session(model, cancel).keeping(Keep::Stream);
    let networks = &model.networks;
    let filled = |shape: Shape| Tensor::new(shape, vec![VALUE; shape.len()]);
    let context = filled(Shape::tokens(1, TOKENS, networks.predictor()?.context_width()))?;
    let contexts = Part::Context { contexts: 1, tokens: TOKENS };
    let outputs: Vec<_> = (0..networks.keys_values().len()).map(part::context::keys_values).collect();
    let kv = session.run(contexts, None, vec![(part::context::CONTEXT, context)], &outputs)?;
    let time = Tensor::new(Shape::tokens(1, 1, 1), vec![TIMESTEP])?;
    let time = vec![(part::time::TIMESTEPS, time)];
    let rows = session.run(Part::Time { timesteps: 1 }, None, time, &[part::time::ROWS])?;
    let nothing = || Error::other("the network gave no answer");
    let row = rows.first().ok_or_else(nothing)?;
    let row = Tensor::new(Shape::new(1, 1, 1, row.shape().c), row.data().to_vec())?;
    let shape = StepShape { samples: 1, contexts: 1, times: 1, h: SIDE, w: SIDE, tokens: TOKENS };
    let mut inputs: Vec<_> = kv.into_iter().enumerate().map(|(n, kv)| (part::step::keys_values(n), kv)).collect();
    let latents = filled(Shape::new(1, SIDE, SIDE, networks.in_channels()))?;
    inputs.extend([(part::step::LATENTS, latents), (part::step::TIME, row)]);
    let answer = session.run(Part::Step(shape), None, inputs, &[part::step::OUTPUT])?;
    let values = answer.first().ok_or_else(nothing)?.data();
    let mean = values.iter().map(|v| f64::from(*v - VALUE)).sum::<f64>() / values.len().max(1) as f64;
    Ok(if mean < BELOW { Prediction::V } else { Prediction::Epsilon })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::autoencoder::kl::KlConfig;
    use crate::models::text::TextConfig;
    use crate::models::unet::UnetConfig;
    use crate::models::{Networks, Predictor};
    use crate::weights::{SourceId, TensorInfo, WeightSource};
    use half::f16;

    /// A model whose answers are moved by a constant.
    struct Moved(Arc<dyn WeightSource>, SourceId, f32);

    impl WeightSource for Moved {
        fn id(&self, _: &str) -> SourceId {
            self.1
        }

        fn names(&self) -> Vec<&str> {
            self.0.names()
        }

        fn info(&self, name: &str) -> Option<&TensorInfo> {
            self.0.info(name)
        }

        fn read(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
            let rows = self.info(name).map_or(0, |info| info.shape[0]);
            self.read_rows(name, 0, rows, out)
        }

        fn read_rows(&self, name: &str, first: usize, count: usize, out: &mut Vec<u8>) -> Result<()> {
            self.0.read_rows(name, first, count, out)?;
            if name == "unet.conv_out.bias" {
                for value in out.chunks_exact_mut(2) {
                    let moved = f16::from_le_bytes([value[0], value[1]]).to_f32() + self.2;
                    value.copy_from_slice(&f16::from_f32(moved).to_le_bytes());
                }
            }
            Ok(())
        }
    }

    fn small(context: usize) -> Model {
        let unet = UnetConfig { groups: 4, ..UnetConfig::new(&[(16, 1, true), (32, 1, true)], 1, context) };
        let text = TextConfig { width: context, heads: 16, layers: 1, vocab: 300, ..TextConfig::default() };
        let vae = KlConfig { channels: vec![4], blocks: 1, groups: 4, ..KlConfig::default() };
        Model::random("small", Networks::new(text, unet, vae))
    }

    #[test]
    fn an_answer_far_below_the_question_is_a_velocity() {
        let engine = Engine::on_cpu().unwrap();
        for (by, want) in [(4.0, Prediction::Epsilon), (-4.0, Prediction::V)] {
            let model = small(1024);
            let moved = Moved(model.source.clone(), SourceId::new(), by);
            let model = Arc::new(Model::new("moved", Arc::new(moved), model.networks.clone()));
            assert!(model.can_be_asked());
            assert_eq!(prediction(&engine, &model, &AtomicBool::new(false)).unwrap(), want, "{by}");
        }
    }

    #[test]
    fn only_models_that_say_nothing_are_asked() {
        use crate::checkpoint::Grounds;
        assert!(!small(768).can_be_asked());
        for (grounds, asked) in [(Grounds::Config, false), (Grounds::Beside, false), (Grounds::Marker, false)] {
            assert_eq!(small(1024).predicting(Prediction::V, grounds).can_be_asked(), asked);
        }
        assert!(small(1024).predicting(Prediction::V, Grounds::Name).can_be_asked());
        let mut inpaints = small(1024);
        if let Some(Predictor::Unet(unet)) = &mut inpaints.networks.predictor {
            unet.in_channels = 9;
        }
        assert!(!inpaints.can_be_asked());
    }
}
