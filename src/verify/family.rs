//! The checks of what one family has and another lacks: second text encoders, pooled text, sizes, guidance, tiny
//! autoencoders.

use super::model::{columns, nhwc, tokens};
use super::reference::Values;
use super::{Bench, error};
use crate::diffusion::denoise::guided::embedded_guidance;
use crate::diffusion::prompt::chunks::Token;
use crate::diffusion::prompt::{end_of, token_rows};
use crate::error::{Error, Result};
use crate::graph::Input;
use crate::models::part::{self, Part, StepShape};
use crate::models::unet::size_embedding;
use crate::models::{Networks, Predictor};
use crate::tensor::{Shape, Tensor};

impl Bench<'_> {
    /// `text.K.PART` by the encoders' own names; `ids_2` are the second one's.
    pub(super) fn encoders(&self, name: &str) -> Result<f64> {
        let want = &self.reference.get(name)?.data;
        let (stem, last) = name.rsplit_once('.').unwrap_or((name, ""));
        let called = |n: usize| Ok::<_, Error>(self.stages.model().networks.encoder(n)?.called);
        let hidden = |n: usize, more: usize| self.hidden(stem, n, called(n)? + more);
        let got = match last {
            "penultimate" => hidden(0, 0)?,
            "penultimate_2" => hidden(1, 0)?,
            "context" => beside(&hidden(0, 0)?, &hidden(1, 0)?)?,
            "context_one_earlier" => beside(&hidden(0, 1)?, &hidden(1, 1)?)?,
            "clip_skip_2" => hidden(0, 1)?,
            "pooled" => self.pooled(stem)?,
            _ => hidden(0, 0)?,
        };
        error(got.data(), want)
    }

    fn ids(&self, stem: &str, encoder: usize) -> Result<Vec<u32>> {
        let name = if encoder == 0 { "ids".into() } else { format!("ids_{}", encoder + 1) };
        Ok(self.reference.get(&format!("{stem}.{name}"))?.data.iter().map(|id| *id as u32).collect())
    }

    fn rows(&self, ids: &[u32], encoder: usize) -> Result<Tensor> {
        let tokens: Vec<Token> = ids.iter().copied().map(Token::Id).collect();
        token_rows(self.stages.model(), encoder, &tokens, &[])
    }

    fn hidden(&self, stem: &str, encoder: usize, clip_skip: usize) -> Result<Tensor> {
        let ids = self.ids(stem, encoder)?;
        let positions = self.stages.model().networks.encoder(encoder)?.positions;
        let mut all = Vec::new();
        for chunk in ids.chunks(positions) {
            let part = Part::Text { encoder, chunks: 1, clip_skip };
            let rows = self.rows(chunk, encoder)?;
            let hidden = self.stages.run(part, None, vec![(part::text::TOKENS, rows)], &[part::text::HIDDEN])?;
            all.extend_from_slice(first(&hidden)?.data());
        }
        let width = self.stages.model().networks.encoder(encoder)?.width;
        Tensor::new(Shape::tokens(1, ids.len(), width), all)
    }

    /// The first chunk's pooled vector, by the last encoder.
    fn pooled(&self, stem: &str) -> Result<Tensor> {
        let encoder = self.stages.model().networks.text.len().saturating_sub(1);
        let config = self.stages.model().networks.encoder(encoder)?;
        let ids = self.ids(stem, encoder)?;
        let ids = &ids[..config.positions.min(ids.len())];
        let part = Part::Text { encoder, chunks: 1, clip_skip: config.called };
        let inputs = vec![(part::text::TOKENS, self.rows(ids, encoder)?)];
        let rows = self.stages.run(part, None, inputs, &[part::text::POOLED])?;
        let width = first(&rows)?.shape().c;
        let row = end_of(ids) * width;
        Tensor::new(Shape::tokens(1, 1, width), first(&rows)?.data()[row..row + width].to_vec())
    }

    /// `unet.NAME.output` and its relatives: the three parts of the network that predicts, one behind the other.
    pub(super) fn predicted(&self, name: &str) -> Result<f64> {
        let want = &self.reference.get(name)?.data;
        let (stem, last) = name.rsplit_once('.').unwrap_or((name, ""));
        if last == "vector" {
            return error(self.added(stem)?.data(), want);
        }
        let heads = last.strip_prefix("output_heads_").map(|list| self.with_heads(list)).transpose()?;
        let get = |part: &str| self.reference.get(&format!("{stem}.{part}"));
        let context = last.strip_prefix("output").filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let (latents, context) = (nhwc(get("sample")?)?, tokens(get(&format!("context{}", context.unwrap_or("")))?)?);
        let times = &get("timestep")?.data;
        let guided = last != "output_no_guidance";
        let output = self.steps(stem, heads.as_ref(), (latents, context, times), guided)?;
        error(&output.to_nchw(), want)
    }

    fn steps(
        &self,
        stem: &str,
        networks: Option<&Networks>,
        (latents, context, times): (Tensor, Tensor, &[f32]),
        guided: bool,
    ) -> Result<Tensor> {
        let own = &self.stages.model().networks;
        let (s, c) = (latents.shape(), context.shape());
        let contexts = Part::Context { contexts: c.b, tokens: c.w };
        let count = own.keys_values().len();
        let outputs: Vec<_> = (0..count).map(part::context::keys_values).collect();
        let kv = self.stages.run(contexts, networks, vec![(part::context::CONTEXT, context)], &outputs)?;
        let mut inputs = vec![(part::time::TIMESTEPS, Tensor::new(Shape::tokens(1, times.len(), 1), times.to_vec())?)];
        if own.added().is_some() {
            inputs.push((part::time::ADDED, self.added(stem)?));
        }
        if let Some(width) = own.guidance() {
            let given = self.reference.get(&format!("{stem}.timestep_cond"))?.data.clone();
            let values = if guided { given } else { vec![0.0; times.len() * width] };
            inputs.push((part::time::GUIDANCE, Tensor::new(Shape::tokens(1, times.len(), width), values)?));
        }
        let timesteps = Part::Time { timesteps: times.len() };
        let rows = self.stages.run(timesteps, networks, inputs, &[part::time::ROWS])?;
        let time = first(&rows)?;
        let time = Tensor::new(Shape::new(times.len(), 1, 1, time.shape().c), time.data().to_vec())?;
        let shape = StepShape { samples: s.b, contexts: c.b, times: times.len(), h: s.h, w: s.w, tokens: c.w };
        let mut inputs: Vec<(Input, Tensor)> =
            kv.into_iter().enumerate().map(|(n, kv)| (part::step::keys_values(n), kv)).collect();
        inputs.extend([(part::step::LATENTS, latents), (part::step::TIME, time)]);
        let output = self.stages.run(Part::Step(shape), networks, inputs, &[part::step::OUTPUT])?;
        Ok(first(&output)?.clone())
    }

    /// Pooled text and the sinusoids of the sizes, `[1, 1, rows, width]`.
    fn added(&self, stem: &str) -> Result<Tensor> {
        let kind = self.stages.model().networks.added().ok_or_else(|| Error::other("the model is told no sizes"))?;
        let pooled = self.reference.get(&format!("{stem}.pooled"))?;
        let sizes = self.reference.get(&format!("{stem}.time_ids"))?;
        let mut all = Vec::new();
        for (pooled, sizes) in pooled.data.chunks(kind.pooled).zip(sizes.data.chunks(kind.numbers)) {
            all.extend_from_slice(pooled);
            all.extend(sizes.iter().flat_map(|x| size_embedding(*x, kind.each)));
        }
        Tensor::new(Shape::tokens(1, all.len() / kind.width().max(1), kind.width()), all)
    }

    /// The networks with other attention heads, `2_4` a level, full resolution first.
    fn with_heads(&self, list: &str) -> Result<Networks> {
        let heads: Vec<usize> = list.split('_').filter_map(|n| n.parse().ok()).collect();
        let mut networks = self.stages.model().networks.clone();
        if let Some(Predictor::Unet(unet)) = &mut networks.predictor {
            if heads.len() != unet.down.len() {
                return Err(Error::other(format!("heads {list} for {} levels", unet.down.len())));
            }
            unet.down.iter_mut().zip(&heads).for_each(|(block, heads)| block.heads = *heads);
            unet.up.iter_mut().zip(heads.iter().rev()).for_each(|(block, heads)| block.heads = *heads);
            unet.middle.iter_mut().for_each(|block| block.heads = heads[heads.len() - 1]);
        }
        Ok(networks)
    }

    /// `guidance.W`: the embedding of the guidance scale W + 1.
    pub(super) fn guidance(&self, name: &str) -> Result<f64> {
        let want = &self.reference.get(name)?.data;
        let w: f32 = name
            .strip_prefix("guidance.")
            .and_then(|w| w.parse().ok())
            .ok_or_else(|| Error::other(format!("{name} is no guidance scale")))?;
        error(&embedded_guidance(w + 1.0, want.len()), want)
    }

    /// `taesd.*`: the tiny autoencoder both ways.
    pub(super) fn tiny(&self, name: &str) -> Result<f64> {
        let want: &Values = self.reference.get(name)?;
        let raw = name.starts_with("taesd.raw_");
        if name.ends_with("decoded") {
            let image = self.stages.decode(nhwc(self.reference.get("taesd.latents")?)?)?.to_nchw();
            let image: Vec<f32> = if raw { image.iter().map(|v| v * 0.5 + 0.5).collect() } else { image };
            return error(&image, &want.data);
        }
        let moments = self.stages.encode(nhwc(self.reference.get("taesd.image")?)?)?;
        let channels = self.stages.model().networks.latents().channels;
        error(&columns(&moments, 0, channels)?.to_nchw(), &want.data)
    }
}

fn first(tensors: &[Tensor]) -> Result<&Tensor> {
    tensors.first().ok_or_else(|| Error::other("a part gave nothing"))
}

/// Channels of both, token by token.
fn beside(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (wide, other) = (a.shape().c, b.shape().c);
    let rows = a.data().chunks_exact(wide).zip(b.data().chunks_exact(other));
    let data = rows.flat_map(|(a, b)| a.iter().chain(b)).copied().collect();
    Tensor::new(a.shape().with_c(wide + other), data)
}
