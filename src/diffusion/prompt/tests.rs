//! Weights in the embedding, schedules, branches and embeddings, with a text encoder that hands back what it was given.

use super::*;
use crate::diffusion::denoise::guided::Unet as _;
use crate::diffusion::denoise::noise::ImageNoise;
use crate::diffusion::denoise::plan::{Settings, Timetable};
use crate::diffusion::denoise::run::{self, At, Denoiser, Progress};
use crate::diffusion::denoise::samplers;
use crate::diffusion::denoise::schedule::Schedule;
use crate::diffusion::{Conditioning, UnetCall};
use crate::models::Networks;
use crate::models::autoencoder::kl::KlConfig;
use crate::models::part::StepShape;
use crate::models::text::{Padding, TextConfig};
use crate::models::training::ScheduleConfig;
use crate::models::unet::UnetConfig;
use crate::rng::RngKind;
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

const WIDTH: usize = 8;

/// Counts what it is asked for; its U-Net answers with the sum of each context.
struct Fake {
    model: Model,
    encoded: RefCell<usize>,
    unets: RefCell<Vec<StepShape>>,
}

impl Fake {
    fn new() -> Self {
        let clip = TextConfig {
            vocab: 49408,
            width: WIDTH,
            layers: 1,
            heads: 1,
            mlp_width: 8,
            padding: Padding::Token(0),
            ..TextConfig::default()
        };
        let unet = UnetConfig { groups: 4, ..UnetConfig::new(&[(8, 1, true)], 1, WIDTH) };
        let vae = KlConfig {
            channels: vec![4],
            blocks: 1,
            latent_channels: 4,
            groups: 4,
            scaling: 1.0,
            ..KlConfig::default()
        };
        let model = Model::random("fake", Networks::new(clip, unet, vae));
        Self { model, encoded: RefCell::new(0), unets: RefCell::default() }
    }
}

impl Stages for Fake {
    fn model(&self) -> &Model {
        &self.model
    }

    fn text(&self, _: usize, tokens: Tensor, _: usize) -> Result<Tensor> {
        *self.encoded.borrow_mut() += 1;
        Ok(tokens)
    }

    fn unet(&self, shape: StepShape, told: Conditioning, _: Option<&[f32]>) -> Result<Box<dyn UnetCall + '_>> {
        self.unets.borrow_mut().push(shape);
        Ok(Box::new(Sums { shape, context: told.context }))
    }

    fn decode(&self, latents: Tensor) -> Result<Tensor> {
        Ok(latents)
    }

    fn encode(&self, image: Tensor) -> Result<Tensor> {
        Ok(image)
    }
}

struct Sums {
    shape: StepShape,
    context: Tensor,
}

impl UnetCall for Sums {
    fn predict(&mut self, _: &Tensor, _: &[f32]) -> Result<Tensor> {
        let StepShape { contexts, h, w, .. } = self.shape;
        let each = self.context.data().chunks_exact(self.context.data().len() / contexts);
        let data = each.flat_map(|c| vec![c.iter().sum::<f32>(); 4 * h * w]).collect();
        Tensor::new(Shape::new(contexts, h, w, 4), data)
    }
}

fn request(prompt: &str, negative: &str, steps: usize) -> Request {
    let sampling = Settings::new(samplers::find("euler").unwrap(), steps);
    let own = Request::new(&Model::embedded().unwrap(), prompt).unwrap();
    Request { negative_prompt: negative.into(), seed: 1, width: 64, height: 64, guidance: 7.5, sampling, ..own }
}

fn embedded(fake: &Fake, request: &Request) -> Prompts {
    embed(fake, &Tokenizer::clip(), request, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn a_weight_multiplies_its_tokens_and_the_mean_comes_back() {
    let fake = Fake::new();
    let plain = embedded(&fake, &request("a red apple", "", 5)).embeddings[0].clone();
    let strong = embedded(&fake, &request("a (red:1.5) apple", "", 5)).embeddings[0].clone();
    let mut want: Vec<f64> = plain.data().iter().map(|v| f64::from(*v)).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let before = mean(&want);
    // Start, a, red: the third row.
    want[2 * WIDTH..3 * WIDTH].iter_mut().for_each(|v| *v *= 1.5);
    let ratio = before / mean(&want);
    for (got, want) in strong.data().iter().zip(&want) {
        let want = want * ratio;
        assert!((f64::from(*got) - want).abs() < 1e-5 * want.abs().max(1.0), "{got} {want}");
    }
    assert_ne!(strong.data()[2 * WIDTH..3 * WIDTH], plain.data()[2 * WIDTH..3 * WIDTH]);
    // Brackets that come to nothing leave every bit.
    assert_eq!(embedded(&fake, &request("a (red:1.0) apple", "", 5)).embeddings[0], plain);
    assert_eq!(embedded(&fake, &request("a ([red]) apple", "", 5)).embeddings[0], plain);
}

#[test]
fn chunks_are_encoded_alone_and_once() {
    let fake = Fake::new();
    let prompts = embedded(&fake, &request("cat BREAK dog BREAK cat", "", 5));
    assert_eq!(prompts.embeddings[0].shape(), Shape::tokens(1, 3 * 77, WIDTH));
    let rows = 77 * WIDTH;
    let data = prompts.embeddings[0].data();
    assert_eq!(data[..rows], data[2 * rows..]);
    // cat, dog, and the empty negative prompt.
    assert_eq!(*fake.encoded.borrow(), 3);
}

#[test]
fn one_chunk_each_is_one_call_and_different_lengths_are_two() {
    let fake = Fake::new();
    for (negative, contexts) in [("blurry", vec![2]), ("blurry BREAK ugly", vec![1, 1])] {
        let prompts = embedded(&fake, &request("cat", negative, 5));
        fake.unets.borrow_mut().clear();
        let mut unet = PromptedUnet::new(&fake, &prompts, (1, 2, 2), None).unwrap();
        assert_eq!(fake.unets.borrow().iter().map(|s| s.contexts).collect::<Vec<_>>(), contexts);
        let (mut uncond, mut conds) = (vec![0.0; 16], vec![vec![0.0; 16]]);
        let at = At { step: 0, evaluation: 0, t: 1.0, sigma: 1.0 };
        unet.predict(&[0.0; 16], at, Some(&mut uncond), &mut conds).unwrap();
        let sum = |i: usize| prompts.embeddings[i].data().iter().sum::<f32>();
        assert_eq!((conds[0][0], uncond[0]), (sum(0), sum(1)));
        // A caller that wants no unconditional half did not say so before.
        assert!(unet.predict(&[0.0; 16], at, None, &mut conds).is_err());
    }
}

#[test]
fn prompts_change_over_the_steps() {
    let fake = Fake::new();
    let prompts = embedded(&fake, &request("[cat|dog]", "[red:blue:2]", 4));
    assert_eq!((prompts.embeddings.len(), prompts.contexts.len()), (4, 4));
    let sets: Vec<&Contexts> = (0..6).map(|step| &prompts.contexts[prompts.at(step)]).collect();
    let conds: Vec<usize> = sets.iter().map(|s| s.conds[0]).collect();
    let unconds: Vec<Option<usize>> = sets.iter().map(|s| s.uncond).collect();
    // Steps beyond the last keep its texts.
    assert_eq!((conds, unconds), (vec![0, 1, 0, 1, 1, 1], [2, 2, 3, 3, 3, 3].map(Some).to_vec()));
    fake.unets.borrow_mut().clear();
    let mut unet = PromptedUnet::new(&fake, &prompts, (1, 2, 2), None).unwrap();
    let (mut uncond, mut conds) = (vec![0.0; 16], vec![vec![0.0; 16]]);
    for round in 0..2 {
        for step in 0..4 {
            let at = At { step, evaluation: step, t: 1.0, sigma: 1.0 };
            unet.predict(&[0.0; 16], at, Some(&mut uncond), &mut conds).unwrap();
            let want = prompts.embeddings[step % 2].data().iter().sum::<f32>();
            assert_eq!(conds[0][0], want, "step {step}");
        }
        assert_eq!(fake.unets.borrow().len(), 4, "round {round}");
    }
}

/// Remembers the prompt that held at each evaluation.
struct Held<'a> {
    prompts: &'a Prompts,
    seen: Vec<usize>,
}

impl Denoiser for Held<'_> {
    fn denoised(&mut self, _: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.epsilon(&[], at, out)
    }

    fn epsilon(&mut self, _: &[f32], at: At, out: &mut [f32]) -> Result<()> {
        self.seen.push(self.prompts.contexts[self.prompts.at(at.step)].conds[0]);
        out.fill(0.0);
        Ok(())
    }
}

/// The texts of `prompt` (numbered as they first appear) at the evaluations of a sampler's six steps.
fn held(sampler: &str, prompt: &str, strength: Option<f32>) -> Vec<usize> {
    let fake = Fake::new();
    let mut asked = request(prompt, "", 6);
    asked.sampling.sampler = samplers::find(sampler).unwrap();
    asked.sampling.strength = strength;
    let prompts = embedded(&fake, &asked);
    let plan = Timetable::new(&Schedule::new(&ScheduleConfig::default()).unwrap(), &asked.sampling).unwrap();
    let mut denoiser = Held { prompts: &prompts, seen: Vec::new() };
    let (mut noise, init) = (ImageNoise::new(RngKind::Nv, &[1]), [0.0; 4]);
    let mut heard = |_: &Progress<'_>| ControlFlow::Continue(());
    let init = strength.map(|_| &init[..]);
    run::sample(&plan, (1, 4), init, &mut noise, &mut denoiser, &mut heard).unwrap();
    denoiser.seen
}

#[test]
fn prompts_switch_after_whole_steps_whatever_the_sampler() {
    let one = ["euler", "euler_a", "lms", "dpm++2m", "dpm++2m_sde", "ddim", "unipc", "lcm", "dpm_fast"];
    let two = ["heun", "dpm2", "dpm2_a", "dpm++2s_a", "dpm++sde", "restart"];
    for (samplers, calls) in [(&one[..], 1), (&two, 2)] {
        for sampler in samplers {
            // Six steps, the last of them with one evaluation everywhere.
            let each = |texts: [usize; 6]| {
                let times = |i: usize| if i < 5 { calls } else { 1 };
                texts.into_iter().enumerate().flat_map(|(i, text)| vec![text; times(i)]).collect::<Vec<_>>()
            };
            assert_eq!(held(sampler, "[cat:dog:2]", None), each([0, 0, 1, 1, 1, 1]), "{sampler}");
            assert_eq!(held(sampler, "[cat:dog:0.5]", None), each([0, 0, 0, 1, 1, 1]), "{sampler}");
            assert_eq!(held(sampler, "[cat|dog]", None), each([0, 1, 0, 1, 0, 1]), "{sampler}");
            assert_eq!(held(sampler, "[cat:dog:6]", None), each([0; 6]), "{sampler}");
        }
    }
    assert_eq!(held("plms", "[cat|dog]", None), [0, 0, 1, 0, 1, 0, 1]);
    // int(0.5 x 6) + 1 = 4 steps are run, and their first is step 1.
    assert_eq!(held("euler", "[cat:dog:2]", Some(0.5)), [0, 0, 1, 1]);
    assert_eq!(held("heun", "[cat:dog:0.5]", Some(0.5)), [0, 0, 0, 0, 0, 0, 1]);
    assert!(held("dpm_adaptive", "[cat:dog:2]", None).starts_with(&[0, 0, 1]));
}

/// What the memory check assumes is what is then asked of the engine.
#[test]
fn the_demand_is_what_the_calls_take() {
    let cat = |n: usize| vec!["cat"; n].join(" ");
    let prompts = [
        ("cat", "", 2, 154, 154),
        (&cat(76), "", 2, 231, 231),
        (&format!("{} AND dog AND bird :0.5", cat(160)), "blurry BREAK ugly", 4, 231 + 77 + 77 + 154, 539),
        ("[cat|dog|bird BREAK bird]", "blurry", 4, 2 * 154 + 231, 77 * 5),
        ("[cat:dog:0.5]", "[red:blue BREAK x:0.5]", 3, 154 + 231, 77 * 5),
    ];
    for (prompt, negative, ready, ready_tokens, text_tokens) in prompts {
        let fake = Fake::new();
        let asked = request(prompt, negative, 6);
        let demand = Demand::new(&asked, &Tokenizer::clip(), &fake.model).unwrap();
        let have = (demand.ready, demand.ready_tokens, demand.text_tokens);
        assert_eq!(have, (ready.min(have.0), ready_tokens, text_tokens), "{prompt}");
        let prompts = embedded(&fake, &asked);
        let mut unet = PromptedUnet::new(&fake, &prompts, (1, 2, 2), None).unwrap();
        let (mut uncond, mut conds) = (vec![0.0; 16], vec![vec![0.0; 16]; prompts.weights().len()]);
        for step in 0..6 {
            let at = At { step, evaluation: step, t: 1.0, sigma: 1.0 };
            unet.predict(&[0.0; 16], at, Some(&mut uncond), &mut conds).unwrap();
        }
        let made = fake.unets.borrow();
        let kinds: std::collections::BTreeSet<_> = made.iter().map(|s| (s.contexts, s.tokens)).collect();
        assert_eq!(demand.calls, kinds, "{prompt}");
        assert_eq!((demand.ready, demand.ready_tokens), (made.len(), made.iter().map(|s| s.contexts * s.tokens).sum()));
        let rows: usize = prompts.embeddings.iter().map(|e| e.shape().w).sum();
        assert_eq!(demand.text_tokens, rows);
    }
    // A prompt of many turns is not kept whole.
    let many = format!("[{}]", (0..40).map(|i| format!("a{i}")).collect::<Vec<_>>().join("|"));
    let demand = Demand::new(&request(&many, "", 40), &Tokenizer::clip(), &Fake::new().model).unwrap();
    assert_eq!((demand.ready, demand.ready_tokens, demand.text_tokens), (16, 16 * 154, 41 * 77));
}

#[test]
fn and_makes_branches_with_weights() {
    let fake = Fake::new();
    let mut asked = request("cat :2 AND dog AND bird BREAK cat:-0.5", "x AND y", 4);
    asked.guidance = 1.0;
    let prompts = embedded(&fake, &asked);
    assert_eq!(prompts.weights(), [2.0, 1.0, -0.5]);
    // The negative prompt's AND is a word, and branches need the unconditional half whatever the guidance.
    assert_eq!(prompts.embeddings.len(), 4);
    fake.unets.borrow_mut().clear();
    let mut unet = PromptedUnet::new(&fake, &prompts, (1, 2, 2), None).unwrap();
    assert_eq!(
        fake.unets.borrow().iter().map(|s| (s.contexts, s.tokens)).collect::<Vec<_>>(),
        [(2, 77), (1, 77), (1, 154)]
    );
    let (mut uncond, mut conds) = (vec![0.0; 16], vec![vec![0.0; 16]; 3]);
    unet.predict(&[0.0; 16], At { step: 3, evaluation: 3, t: 1.0, sigma: 1.0 }, Some(&mut uncond), &mut conds).unwrap();
    for (i, cond) in conds.iter().enumerate() {
        assert_eq!(cond[0], prompts.embeddings[i].data().iter().sum::<f32>());
    }
}

fn learned(name: &str, vectors: usize) -> Embedding {
    let values = (0..vectors * WIDTH).map(|i| i as f32).collect();
    Embedding { name: name.into(), file: format!("{name}.pt"), values, width: WIDTH, hash: "0".into(), fault: None }
}

#[test]
fn an_embedding_takes_the_place_of_its_name() {
    let fake = Fake::new();
    let mut asked = request("a (MyCat-2:1.0) on grass", "", 4);
    asked.embeddings = Arc::new(vec![learned("my", 1), learned("mycat-2", 2)]);
    let tokens = Tokenizer::clip();
    let lexicon = Lexicon { tokens: &tokens, embeddings: &asked.embeddings, positions: 77 };
    let read = read::read(&asked.prompt, false, 4, lexicon).unwrap();
    let vector = |row| Token::Vector { embedding: 1, row };
    let got: Vec<Token> = read.texts[0].chunks[0].tokens.iter().map(|t| t.0).collect();
    let id = |word: &str| Token::Id(tokens.encode(word)[0]);
    assert_eq!(got, [id("a"), vector(0), vector(1), id("on"), id("grass")]);
    let with = embedded(&fake, &asked).embeddings[0].clone();
    asked.embeddings = Arc::new(vec![Embedding { values: vec![0.0; 2 * WIDTH], ..learned("mycat-2", 2) }]);
    let without = embedded(&fake, &asked).embeddings[0].clone();
    for i in 0..2 * WIDTH {
        let at = 2 * WIDTH + i;
        assert!((with.data()[at] - without.data()[at] - i as f32).abs() < 1e-4);
    }
}

#[test]
fn an_embedding_is_never_split() {
    let tokens = Tokenizer::clip();
    let embeddings = [learned("zzqx", 10)];
    let lexicon = Lexicon { tokens: &tokens, embeddings: &embeddings, positions: 77 };
    let sizes = |text: &str| {
        let read = read::read(text, false, 4, lexicon)?;
        Ok::<_, Error>(read.texts[0].chunks.iter().map(|c| c.tokens.len()).collect::<Vec<_>>())
    };
    let cats = |n: usize| vec!["cat"; n].join(" ");
    assert_eq!(sizes(&format!("{} zzqx", cats(65))).unwrap(), [75]);
    assert_eq!(sizes(&format!("{} zzqx", cats(66))).unwrap(), [66, 10]);
    // Behind a comma it moves as a whole.
    assert_eq!(sizes(&format!("{}, zzqx dog dog", cats(63))).unwrap(), [64, 12]);
    let large = [learned("zzqx", 76)];
    let lexicon = Lexicon { embeddings: &large, ..lexicon };
    assert!(read::read("zzqx", false, 4, lexicon).err().unwrap().to_string().contains("76 vectors"));
}

/// Random prompts of the characters that mean something: nothing panics, and what comes out is bounded.
#[test]
fn any_prompt_can_be_read() {
    let count = std::env::var("LIENZO_FUZZ_PROMPTS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000u64);
    let words = [
        "(",
        ")",
        "[",
        "]",
        ":",
        "|",
        "\\",
        ",",
        " ",
        "a",
        "cat",
        "BREAK",
        " BREAK ",
        " AND ",
        "AND",
        "1.3",
        ":1.5)",
        ":3]",
        "-",
        ".5",
        "\n",
        "é",
        "猫",
        "zzqx",
        "<|endoftext|>",
        "9e9",
        "[a:b:2]",
        "(x)",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % below
    };
    let tokens = Tokenizer::clip();
    let embeddings = [learned("zzqx", 3)];
    let lexicon = Lexicon { tokens: &tokens, embeddings: &embeddings, positions: 77 };
    let mut text = String::new();
    for i in 0..count {
        text.clear();
        let long = if i % 1000 == 0 { 2_000 } else { 24 };
        (0..next(long)).for_each(|_| text.push_str(words[next(words.len())]));
        let steps = 1 + next(12);
        let Ok(read) = read::read(&text, false, steps, lexicon) else { continue };
        for branch in &read.branches {
            assert_eq!(branch.spans.last().map(|s| s.0), Some(steps), "{text:?}");
        }
        for chunk in read.texts.iter().flat_map(|t| &t.chunks) {
            assert!(chunk.tokens.len() <= 75 && chunk.tokens.iter().all(|t| t.1.is_finite()), "{text:?}");
        }
    }
}
