//! The JSON configurations of a diffusers folder (or of our bundle) to config structs, and back.

use super::arch::three;
use super::{Defaults, TokenizerFiles};
use crate::error::escape;
use crate::models::autoencoder::kl::KlConfig;
use crate::models::text::{MlpActivation, Padding, TextConfig};
use crate::models::training::{Prediction, ScheduleConfig, Spacing, ZeroSnr};
use crate::models::unet::{UnetConfig, UnetLevel};
use serde_json::{Value, json};

type Parsed<T> = Result<T, String>;

/// What a folder or a bundle says of itself; what it does not say comes from the tensors' shapes.
#[derive(Default)]
pub struct Sections {
    /// `unet/config.json`.
    pub unet: Option<Value>,
    /// `vae/config.json`.
    pub vae: Option<Value>,
    /// `text_encoder/config.json`.
    pub text_encoder: Option<Value>,
    /// `scheduler/scheduler_config.json`.
    pub scheduler: Option<Value>,
    /// `tokenizer/`.
    pub tokenizer: Option<TokenizerFiles>,
    /// The bundle's own settings.
    pub defaults: Option<Defaults>,
    /// The bundle's own name.
    pub name: Option<String>,
}

fn get<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    config.get(key).filter(|v| !v.is_null())
}

fn show(value: &Value) -> String {
    escape(&value.to_string())
}

fn size(config: &Value, key: &str, default: Option<usize>) -> Parsed<usize> {
    match (get(config, key), default) {
        (Some(v), _) => as_size(key, v),
        (None, Some(n)) => Ok(n),
        (None, None) => Err(format!("has no {key}")),
    }
}

fn as_size(key: &str, v: &Value) -> Parsed<usize> {
    let n = v.as_u64().filter(|&n| n <= 1 << 24);
    n.map(|n| n as usize).ok_or_else(|| format!("has {key} = {}, which is not a size", show(v)))
}

fn sizes(config: &Value, key: &str) -> Parsed<Vec<usize>> {
    let list = get(config, key).and_then(Value::as_array).filter(|l| (1..=8).contains(&l.len()));
    let list = list.ok_or_else(|| format!("has no {key}, a list of 1 to 8 sizes"))?;
    list.iter().map(|v| as_size(key, v)).collect()
}

fn float(config: &Value, key: &str, default: f64) -> Parsed<f64> {
    let Some(v) = get(config, key) else { return Ok(default) };
    v.as_f64().ok_or_else(|| format!("has {key} = {}, which is not a number", show(v)))
}

fn flag(config: &Value, key: &str, default: bool) -> Parsed<bool> {
    let Some(v) = get(config, key) else { return Ok(default) };
    v.as_bool().ok_or_else(|| format!("has {key} = {}, which is neither true nor false", show(v)))
}

/// A key that may be absent or null, and otherwise has to be this value: everything else is another architecture.
fn only(config: &Value, key: &str, value: &Value) -> Parsed<()> {
    let same = |v: &Value| v == value || v.as_f64().is_some_and(|x| Some(x) == value.as_f64());
    match get(config, key).filter(|v| !same(v)) {
        None => Ok(()),
        Some(v) => Err(format!("has {key} = {}; only {value} is supported", show(v))),
    }
}

fn absent(config: &Value, keys: &[&str]) -> Parsed<()> {
    match keys.iter().find_map(|key| Some((key, get(config, key)?))) {
        None => Ok(()),
        Some((key, v)) => Err(format!("has {key} = {}, which is not supported", show(v))),
    }
}

/// `unet/config.json`.
pub fn unet(config: &Value) -> Parsed<UnetConfig> {
    if get(config, "addition_embed_type").is_some() {
        return Err("is SDXL's U-Net; SDXL is not supported, use a Stable Diffusion 1.x or 2.x model".into());
    }
    let unsupported =
        ["class_embed_type", "num_class_embeds", "encoder_hid_dim", "time_cond_proj_dim", "time_embedding_dim"];
    absent(config, &unsupported)?;
    let fixed = [
        ("act_fn", json!("silu")),
        ("attention_type", json!("default")),
        ("center_input_sample", json!(false)),
        ("conv_in_kernel", json!(3)),
        ("conv_out_kernel", json!(3)),
        ("downsample_padding", json!(1)),
        ("dual_cross_attention", json!(false)),
        ("flip_sin_to_cos", json!(true)),
        ("freq_shift", json!(0)),
        ("mid_block_scale_factor", json!(1)),
        ("mid_block_type", json!("UNetMidBlock2DCrossAttn")),
        ("only_cross_attention", json!(false)),
        ("resnet_out_scale_factor", json!(1.0)),
        ("resnet_time_scale_shift", json!("default")),
        ("time_embedding_type", json!("positional")),
        ("transformer_layers_per_block", json!(1)),
    ];
    fixed.iter().try_for_each(|(key, value)| only(config, key, value))?;
    let channels = sizes(config, "block_out_channels")?;
    let attention = attention(config, channels.len())?;
    let heads = heads(config, channels.len())?;
    let level = |i: usize| UnetLevel { channels: channels[i], heads: heads[i], attention: attention[i] };
    Ok(UnetConfig {
        in_channels: size(config, "in_channels", Some(4))?,
        out_channels: size(config, "out_channels", Some(4))?,
        levels: (0..channels.len()).map(level).collect(),
        blocks: size(config, "layers_per_block", Some(2))?,
        context_width: size(config, "cross_attention_dim", None)?,
        groups: size(config, "norm_num_groups", Some(32))?,
        eps: float(config, "norm_eps", 1e-5)? as f32,
    })
}

/// Which levels have transformers; the way up mirrors the way down.
fn attention(config: &Value, levels: usize) -> Parsed<Vec<bool>> {
    let side = |key: &str, with: &str, without: &str| {
        let list = get(config, key).and_then(Value::as_array).filter(|l| l.len() == levels);
        let list = list.ok_or_else(|| format!("has no {key} for each of its {levels} levels"))?;
        let kind = |v: &Value| match v.as_str() {
            Some(s) if s == with => Ok(true),
            Some(s) if s == without => Ok(false),
            _ => Err(format!("has {key} with {}; only {with} and {without} are supported", show(v))),
        };
        list.iter().map(kind).collect::<Parsed<Vec<bool>>>()
    };
    let down = side("down_block_types", "CrossAttnDownBlock2D", "DownBlock2D")?;
    let mut up = side("up_block_types", "CrossAttnUpBlock2D", "UpBlock2D")?;
    up.reverse();
    if down == up { Ok(down) } else { Err("has up_block_types that do not mirror down_block_types".into()) }
}

/// Heads by level: `num_attention_heads`, or `attention_head_dim`, which has always meant the number of heads.
fn heads(config: &Value, levels: usize) -> Parsed<Vec<usize>> {
    let key = if get(config, "num_attention_heads").is_some() { "num_attention_heads" } else { "attention_head_dim" };
    match get(config, key) {
        Some(Value::Array(list)) if list.len() == levels => list.iter().map(|v| as_size(key, v)).collect(),
        Some(v) => Ok(vec![as_size(key, v)?; levels]),
        None => Ok(vec![8; levels]),
    }
}

/// `vae/config.json`.
pub fn vae(config: &Value) -> Parsed<KlConfig> {
    let fixed = [
        ("act_fn", json!("silu")),
        ("in_channels", json!(3)),
        ("out_channels", json!(3)),
        ("mid_block_add_attention", json!(true)),
        ("use_quant_conv", json!(true)),
        ("use_post_quant_conv", json!(true)),
    ];
    fixed.iter().try_for_each(|(key, value)| only(config, key, value))?;
    absent(config, &["latents_mean", "latents_std", "shift_factor"])?;
    for (key, kind) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
        let list = get(config, key).and_then(Value::as_array);
        if let Some(v) = list.and_then(|l| l.iter().find(|v| *v != kind)) {
            return Err(format!("has {key} with {}; only {kind} is supported", show(v)));
        }
    }
    Ok(KlConfig {
        channels: sizes(config, "block_out_channels")?,
        blocks: size(config, "layers_per_block", Some(1))?,
        latent_channels: size(config, "latent_channels", Some(4))?,
        groups: size(config, "norm_num_groups", Some(32))?,
        scaling: float(config, "scaling_factor", f64::from(super::arch::SCALING))? as f32,
        shift: 0.0,
    })
}

/// `text_encoder/config.json`; absent keys mean what transformers' `CLIPTextConfig` means by them.
pub fn clip(config: &Value) -> Parsed<TextConfig> {
    let config = get(config, "text_config").unwrap_or(config);
    let activation = match get(config, "hidden_act").map(|v| v.as_str().unwrap_or("")) {
        None | Some("quick_gelu") => MlpActivation::QuickGelu,
        Some("gelu") => MlpActivation::Gelu,
        Some(other) => return Err(format!("has hidden_act = {}; quick_gelu and gelu are supported", escape(other))),
    };
    Ok(TextConfig {
        vocab: size(config, "vocab_size", Some(49_408))?,
        width: size(config, "hidden_size", Some(512))?,
        layers: size(config, "num_hidden_layers", Some(12))?,
        heads: size(config, "num_attention_heads", Some(8))?,
        mlp_width: size(config, "intermediate_size", Some(2048))?,
        positions: size(config, "max_position_embeddings", Some(77))?,
        activation,
        eps: float(config, "layer_norm_eps", 1e-5)? as f32,
        // The two were never published apart.
        padding: if activation == MlpActivation::Gelu { Padding::Token(0) } else { Padding::End },
        ..TextConfig::default()
    })
}

/// `scheduler/scheduler_config.json`; absent keys mean what diffusers means by them.
pub fn schedule(config: &Value) -> Parsed<ScheduleConfig> {
    absent(config, &["trained_betas"])?;
    let word = |key: &str| get(config, key).map(|v| v.as_str().unwrap_or(""));
    let class = word("_class_name").unwrap_or("");
    let first_kind = matches!(class, "" | "DDIMScheduler" | "PNDMScheduler" | "LCMScheduler");
    let scaled_linear = match word("beta_schedule") {
        Some("scaled_linear") => true,
        None | Some("linear") => false,
        Some(s) => return Err(format!("has beta_schedule = {}; linear and scaled_linear are supported", escape(s))),
    };
    let prediction = match word("prediction_type") {
        None | Some("epsilon") => Prediction::Epsilon,
        Some("v_prediction") => Prediction::V,
        Some("sample") => Prediction::Sample,
        Some(s) => return Err(format!("has prediction_type = {}; epsilon, v_prediction, sample are", escape(s))),
    };
    let spacing = match word("timestep_spacing") {
        Some("leading") => Spacing::Leading,
        Some("linspace") => Spacing::Linspace,
        Some("trailing") => Spacing::Trailing,
        None => {
            if first_kind {
                Spacing::Leading
            } else {
                Spacing::Linspace
            }
        }
        Some(s) => return Err(format!("has timestep_spacing = {}; leading, linspace, trailing are", escape(s))),
    };
    let parsed = ScheduleConfig {
        beta_start: float(config, "beta_start", 0.0001)?,
        beta_end: float(config, "beta_end", 0.02)?,
        scaled_linear,
        train_steps: size(config, "num_train_timesteps", Some(1000))?,
        prediction,
        steps_offset: size(config, "steps_offset", Some(0))?,
        spacing,
        set_alpha_to_one: flag(config, "set_alpha_to_one", class == "DDIMScheduler")?,
        zero_snr: flag(config, "rescale_betas_zero_snr", false)?.then_some(ZeroSnr::Diffusers),
    };
    let betas = 0.0 < parsed.beta_start && parsed.beta_start <= parsed.beta_end && parsed.beta_end < 1.0;
    if !betas || !(2..=100_000).contains(&parsed.train_steps) || parsed.steps_offset >= parsed.train_steps {
        return Err("has betas outside of 0 to 1, or a number of timesteps that makes no schedule".into());
    }
    Ok(parsed)
}

/// The bundle's metadata entry: the four configs, the tokenizer, the settings and the name, each optional.
pub fn sections(text: &str) -> Parsed<Sections> {
    if text.len() > 16 << 20 {
        return Err("has a lienzo entry of more than 16 MB in its metadata".into());
    }
    let mut all: Value =
        serde_json::from_str(text).map_err(|e| format!("has a malformed lienzo entry: {}", escape(&e.to_string())))?;
    let mut take = |key: &str| all.get_mut(key).map(Value::take).filter(|v| !v.is_null());
    let mut out = Sections {
        unet: take("unet"),
        vae: take("vae"),
        text_encoder: take("text_encoder"),
        scheduler: take("scheduler"),
        ..Sections::default()
    };
    if let Some(t) = take("tokenizer") {
        let part = |key: &str| t.get(key).and_then(Value::as_str).map(str::to_owned);
        let (vocab, merges) = part("vocab").zip(part("merges")).ok_or("has a tokenizer without vocab or merges")?;
        out.tokenizer = Some(TokenizerFiles { vocab, merges });
    }
    if let Some(d) = take("defaults") {
        out.defaults = Some(defaults(&d)?);
    }
    out.name = take("name").and_then(|n| n.as_str().map(str::to_owned));
    Ok(out)
}

fn defaults(config: &Value) -> Parsed<Defaults> {
    let usual = Defaults::default();
    let sampler = get(config, "sampler").and_then(Value::as_str).map_or(usual.sampler, str::to_owned);
    let guidance = float(config, "guidance", usual.guidance.into())? as f32;
    let out = Defaults {
        size: size(config, "size", Some(usual.size))?,
        steps: size(config, "steps", Some(usual.steps))?,
        guidance,
        sampler,
    };
    let fits = (8..=4096).contains(&out.size) && (1..=1000).contains(&out.steps) && (0.0..=100.0).contains(&guidance);
    if fits { Ok(out) } else { Err("has default settings that no picture can be made with".into()) }
}

/// The same entry for a model that is written out: only the parts named, in diffusers' words.
pub fn to_json(model: &super::Model, like: &super::Model) -> Value {
    let mut out = serde_json::Map::new();
    let (Ok((clip, unet, vae)), Ok((like_clip, like_unet, like_vae))) = (three(&model.networks), three(&like.networks))
    else {
        return Value::Object(out);
    };
    let mut put = |key: &str, differs: bool, value: Value| {
        if differs {
            out.insert(key.into(), value);
        }
    };
    put("unet", unet != like_unet, unet_json(unet));
    put("vae", vae != like_vae, vae_json(vae));
    put("text_encoder", clip != like_clip, clip_json(clip));
    put("scheduler", model.schedule != like.schedule, schedule_json(&model.schedule));
    if let Some(t) = &model.tokenizer {
        put("tokenizer", true, json!({"vocab": t.vocab, "merges": t.merges}));
    }
    let d = &model.defaults;
    let settings = json!({"size": d.size, "steps": d.steps, "guidance": short(d.guidance), "sampler": d.sampler});
    put("defaults", model.defaults != like.defaults, settings);
    Value::Object(out)
}

/// An f32 as the shortest decimal that reads back as the same f32.
fn short(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

fn unet_json(u: &UnetConfig) -> Value {
    let kind = |a: bool, with: &str, without: &str| if a { with.to_owned() } else { without.to_owned() };
    let down = u.levels.iter().map(|l| kind(l.attention, "CrossAttnDownBlock2D", "DownBlock2D"));
    let up = u.levels.iter().rev().map(|l| kind(l.attention, "CrossAttnUpBlock2D", "UpBlock2D"));
    json!({
        "in_channels": u.in_channels,
        "out_channels": u.out_channels,
        "block_out_channels": u.levels.iter().map(|l| l.channels).collect::<Vec<_>>(),
        "attention_head_dim": u.levels.iter().map(|l| l.heads).collect::<Vec<_>>(),
        "down_block_types": down.collect::<Vec<_>>(),
        "up_block_types": up.collect::<Vec<_>>(),
        "layers_per_block": u.blocks,
        "cross_attention_dim": u.context_width,
        "norm_num_groups": u.groups,
        "norm_eps": short(u.eps),
    })
}

fn vae_json(v: &KlConfig) -> Value {
    json!({
        "block_out_channels": v.channels,
        "layers_per_block": v.blocks,
        "latent_channels": v.latent_channels,
        "norm_num_groups": v.groups,
        "scaling_factor": short(v.scaling),
    })
}

fn clip_json(c: &TextConfig) -> Value {
    json!({
        "vocab_size": c.vocab,
        "hidden_size": c.width,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "intermediate_size": c.mlp_width,
        "max_position_embeddings": c.positions,
        "hidden_act": match c.activation { MlpActivation::QuickGelu => "quick_gelu", MlpActivation::Gelu => "gelu" },
        "layer_norm_eps": short(c.eps),
    })
}

fn schedule_json(s: &ScheduleConfig) -> Value {
    json!({
        "beta_start": s.beta_start,
        "beta_end": s.beta_end,
        "beta_schedule": if s.scaled_linear { "scaled_linear" } else { "linear" },
        "num_train_timesteps": s.train_steps,
        "prediction_type": match s.prediction {
            Prediction::Epsilon => "epsilon",
            Prediction::V => "v_prediction",
            Prediction::Sample => "sample",
            Prediction::Flow => "flow_prediction",
        },
        "steps_offset": s.steps_offset,
        "timestep_spacing": match s.spacing {
            Spacing::Leading => "leading",
            Spacing::Linspace => "linspace",
            Spacing::Trailing => "trailing",
        },
        "set_alpha_to_one": s.set_alpha_to_one,
        "rescale_betas_zero_snr": s.zero_snr.is_some(),
    })
}
