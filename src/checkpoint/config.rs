//! The JSON configurations of a diffusers folder (or of our bundle) to config structs, and back.

use super::{Defaults, TokenizerFiles};
use crate::error::escape;
use crate::models::autoencoder::kl::KlConfig;
use crate::models::autoencoder::tiny::TinyConfig;
use crate::models::text::{MlpActivation, Padding, TextConfig};
use crate::models::training::{Prediction, ScheduleConfig, Spacing, ZeroSnr};
use crate::models::unet::{AddedEmbedding, UnetBlock, UnetConfig};
use crate::models::{Autoencoder, Predictor};
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
    /// `text_encoder_2/config.json`.
    pub text_encoder_2: Option<Value>,
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
    if let Some(v) = get(config, "addition_embed_type").filter(|v| *v != "text_time") {
        return Err(format!("has addition_embed_type = {}; text_time (SDXL) is supported", show(v)));
    }
    let unsupported = ["class_embed_type", "num_class_embeds", "encoder_hid_dim", "encoder_hid_dim_type"];
    absent(config, &unsupported)?;
    absent(config, &["time_embedding_dim", "time_embedding_act_fn", "timestep_post_act", "cross_attention_norm"])?;
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
        ("resnet_out_scale_factor", json!(1.0)),
        ("resnet_skip_time_act", json!(false)),
        ("resnet_time_scale_shift", json!("default")),
        ("time_embedding_type", json!("positional")),
    ];
    fixed.iter().try_for_each(|(key, value)| only(config, key, value))?;
    let (down, middle, up) = blocks(config)?;
    let added = match get(config, "addition_embed_type") {
        None => None,
        Some(_) => {
            let each = size(config, "addition_time_embed_dim", Some(256))?;
            let width = size(config, "projection_class_embeddings_input_dim", None)?;
            Some(AddedEmbedding { pooled: width.saturating_sub(6 * each), numbers: 6, each })
        }
    };
    Ok(UnetConfig {
        in_channels: size(config, "in_channels", Some(4))?,
        out_channels: size(config, "out_channels", Some(4))?,
        down,
        middle,
        up,
        context_width: size(config, "cross_attention_dim", None)?,
        groups: size(config, "norm_num_groups", Some(32))?,
        eps: float(config, "norm_eps", 1e-5)? as f32,
        linear: flag(config, "use_linear_projection", false)?,
        added,
        guidance: get(config, "time_cond_proj_dim").map(|v| as_size("time_cond_proj_dim", v)).transpose()?,
    })
}

type Blocks = (Vec<UnetBlock>, Option<UnetBlock>, Vec<UnetBlock>);

/// Down blocks, the middle, up blocks.
fn blocks(config: &Value) -> Parsed<Blocks> {
    let channels = sizes(config, "block_out_channels")?;
    let levels = channels.len();
    let heads = per_level(config, heads_key(config), levels, 8)?;
    let resnets = per_level(config, "layers_per_block", levels, 2)?;
    resnets.iter().try_for_each(|n| match (1..=16).contains(n) {
        true => Ok(()),
        false => Err(format!("has {n} U-Net blocks per level; between 1 and 16 are supported")),
    })?;
    let cross_only = cross_only(config, levels)?;
    let attends = |key: &str, with: &str, without: &str| kinds(config, key, (with, without), levels);
    let down_attends = attends("down_block_types", "CrossAttnDownBlock2D", "DownBlock2D")?;
    let up_attends = attends("up_block_types", "CrossAttnUpBlock2D", "UpBlock2D")?;
    let down_depths = depths(config, "transformer_layers_per_block", levels)?;
    let up_depths = match get(config, "reverse_transformer_layers_per_block") {
        Some(_) => depths(config, "reverse_transformer_layers_per_block", levels)?,
        None => down_depths.iter().rev().cloned().collect(),
    };
    let block = |level: usize, resnets: usize, attends: bool, depths: &[usize]| -> Parsed<UnetBlock> {
        let own = match depths {
            _ if !attends => vec![0; resnets],
            [one] => vec![*one; resnets],
            list if list.len() >= resnets => list[..resnets].to_vec(),
            list => return Err(format!("has {} transformer depths for {resnets} attentions", list.len())),
        };
        Ok(UnetBlock { channels: channels[level], heads: heads[level], cross_only: cross_only[level], depths: own })
    };
    let down = (0..levels).map(|i| block(i, resnets[i], down_attends[i], &down_depths[i])).collect::<Parsed<_>>()?;
    let up = (0..levels).map(|i| {
        let level = levels - 1 - i;
        block(level, resnets[level] + 1, up_attends[i], &up_depths[i])
    });
    let up = up.collect::<Parsed<_>>()?;
    let last = levels - 1;
    let cross_only = flag(config, "mid_block_only_cross_attention", false)?
        || config.get("only_cross_attention") == Some(&Value::Bool(true));
    let middle =
        |depths: Vec<usize>| Some(UnetBlock { channels: channels[last], heads: heads[last], cross_only, depths });
    // Absent means the usual one; null means none.
    let middle = match config.get("mid_block_type") {
        Some(Value::Null) => None,
        Some(v) if *v == "UNetMidBlock2D" => middle(vec![0]),
        Some(v) if *v != "UNetMidBlock2DCrossAttn" => {
            return Err(format!("has mid_block_type = {}; UNetMidBlock2DCrossAttn and UNetMidBlock2D are", show(v)));
        }
        _ => middle(vec![down_depths[last].last().copied().unwrap_or(1), 0]),
    };
    Ok((down, middle, up))
}

/// Transformer blocks of each attention, by level: one number for all, one a level, or a list of numbers a level.
fn depths(config: &Value, key: &str, levels: usize) -> Parsed<Vec<Vec<usize>>> {
    let level = |v: &Value| match v {
        Value::Array(list) => list.iter().map(|v| as_size(key, v)).collect(),
        v => Ok(vec![as_size(key, v)?]),
    };
    match get(config, key) {
        None => Ok(vec![vec![1]; levels]),
        Some(Value::Array(list)) if list.len() == levels => list.iter().map(level).collect(),
        Some(v @ Value::Array(_)) => Err(format!("has {key} = {} for {levels} levels", show(v))),
        Some(v) => Ok(vec![level(v)?; levels]),
    }
}

/// A size for all levels, or one for each.
fn per_level(config: &Value, key: &str, levels: usize, usual: usize) -> Parsed<Vec<usize>> {
    match get(config, key) {
        Some(Value::Array(list)) if list.len() == levels => list.iter().map(|v| as_size(key, v)).collect(),
        Some(v) => Ok(vec![as_size(key, v)?; levels]),
        None => Ok(vec![usual; levels]),
    }
}

/// `num_attention_heads`, or `attention_head_dim`, which has always meant the number of heads.
fn heads_key(config: &Value) -> &'static str {
    if get(config, "num_attention_heads").is_some() { "num_attention_heads" } else { "attention_head_dim" }
}

fn cross_only(config: &Value, levels: usize) -> Parsed<Vec<bool>> {
    let wrong = |v: &Value| format!("has only_cross_attention = {}, which is neither true nor false", show(v));
    match get(config, "only_cross_attention") {
        Some(Value::Array(list)) if list.len() == levels => {
            list.iter().map(|v| v.as_bool().ok_or_else(|| wrong(v))).collect()
        }
        Some(v) => Ok(vec![v.as_bool().ok_or_else(|| wrong(v))?; levels]),
        None => Ok(vec![false; levels]),
    }
}

/// Which blocks have transformers, in the order of the list.
fn kinds(config: &Value, key: &str, (with, without): (&str, &str), levels: usize) -> Parsed<Vec<bool>> {
    let list = get(config, key).and_then(Value::as_array).filter(|l| l.len() == levels);
    let list = list.ok_or_else(|| format!("has no {key} for each of its {levels} levels"))?;
    let kind = |v: &Value| match v.as_str() {
        Some(s) if s == with => Ok(true),
        Some(s) if s == without => Ok(false),
        _ => Err(format!("has {key} with {}; only {with} and {without} are supported", show(v))),
    };
    list.iter().map(kind).collect()
}

/// Whether a `vae/config.json` is that of a tiny autoencoder.
pub fn is_tiny(config: &Value) -> bool {
    get(config, "_class_name").is_some_and(|class| class == "AutoencoderTiny")
}

/// What a tiny autoencoder's configuration says beside its shapes.
pub fn tiny(config: &Value, shapes: TinyConfig) -> Parsed<TinyConfig> {
    only(config, "act_fn", &json!("relu"))?;
    only(config, "shift_factor", &json!(0.0))?;
    only(config, "upsampling_scaling_factor", &json!(2))?;
    Ok(TinyConfig { scaling: float(config, "scaling_factor", 1.0)? as f32, ..shapes })
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
    absent(config, &["latents_mean", "latents_std"])?;
    only(config, "shift_factor", &json!(0.0))?;
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
        scaling: float(config, "scaling_factor", KlConfig::default().scaling.into())? as f32,
        ..KlConfig::default()
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
        text_encoder_2: take("text_encoder_2"),
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

/// The same entry for a model that is written out: only what differs from what the shapes tell, in diffusers' words.
pub fn to_json(model: &super::Model, like: &super::Model) -> Value {
    let mut out = serde_json::Map::new();
    let mut put = |key: &str, differs: bool, value: Value| {
        if differs {
            out.insert(key.into(), value);
        }
    };
    let (own, shapes) = (&model.networks, &like.networks);
    if let Some(Predictor::Unet(unet)) = &own.predictor {
        put("unet", own.predictor != shapes.predictor, unet_json(unet));
    }
    match &own.autoencoder {
        Some(Autoencoder::Kl(vae)) => put("vae", own.autoencoder != shapes.autoencoder, vae_json(vae)),
        Some(Autoencoder::Tiny(tiny)) => {
            let json = json!({"_class_name": "AutoencoderTiny", "scaling_factor": short(tiny.scaling)});
            put("vae", own.autoencoder != shapes.autoencoder, json);
        }
        None => {}
    }
    for (n, text) in own.text.iter().enumerate() {
        put(&crate::models::text::root(n), shapes.text.get(n) != Some(text), clip_json(text));
    }
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

/// `unet/config.json` of a configuration, as far as it is not what diffusers takes for granted.
pub fn unet_json(u: &UnetConfig) -> Value {
    let kind = |block: &UnetBlock, with: &str, without: &str| {
        if block.depths.iter().any(|d| *d > 0) { with.to_owned() } else { without.to_owned() }
    };
    let down: Vec<String> = u.down.iter().map(|b| kind(b, "CrossAttnDownBlock2D", "DownBlock2D")).collect();
    let up: Vec<String> = u.up.iter().map(|b| kind(b, "CrossAttnUpBlock2D", "UpBlock2D")).collect();
    let mut out = json!({
        "in_channels": u.in_channels,
        "out_channels": u.out_channels,
        "block_out_channels": u.down.iter().map(|b| b.channels).collect::<Vec<_>>(),
        "attention_head_dim": u.down.iter().map(|b| b.heads).collect::<Vec<_>>(),
        "down_block_types": down,
        "up_block_types": up,
        "layers_per_block": u.down.iter().map(|b| b.depths.len()).collect::<Vec<_>>(),
        "cross_attention_dim": u.context_width,
        "norm_num_groups": u.groups,
        "norm_eps": short(u.eps),
    });
    let mut put = |key: &str, unusual: bool, value: Value| {
        if unusual {
            out[key] = value;
        }
    };
    let same = |list: &[usize]| list.windows(2).all(|two| two[0] == two[1]);
    if u.down.iter().all(|b| same(&b.depths) && b.depths.len() == u.down[0].depths.len()) {
        put("layers_per_block", true, json!(u.down[0].depths.len()));
    }
    let deep = u.down.iter().chain(&u.up).chain(&u.middle).any(|b| b.depths.iter().any(|d| *d > 1));
    let depths = |blocks: &[UnetBlock]| blocks.iter().map(|b| b.depths.clone()).collect::<Vec<_>>();
    let mut down_depths = depths(&u.down);
    if let (Some(last), Some(middle)) = (down_depths.last_mut(), &u.middle)
        && last.iter().all(|d| *d == 0)
    {
        // Where the last level has no attention, its number is the middle's.
        last.fill(middle.depths.first().copied().unwrap_or(0));
    }
    put("transformer_layers_per_block", deep, json!(down_depths));
    put("reverse_transformer_layers_per_block", deep, json!(depths(&u.up)));
    let middle = u.middle.as_ref().map(|b| b.depths.as_slice());
    let plain = if middle == Some(&[0]) { json!("UNetMidBlock2D") } else { Value::Null };
    put("mid_block_type", middle.is_none() || middle == Some(&[0]), plain);
    let cross_only: Vec<bool> = u.down.iter().map(|b| b.cross_only).collect();
    put("only_cross_attention", cross_only.contains(&true), json!(cross_only));
    put("use_linear_projection", u.linear, json!(true));
    put("time_cond_proj_dim", u.guidance.is_some(), json!(u.guidance));
    if let Some(added) = u.added {
        put("addition_embed_type", true, json!("text_time"));
        put("addition_time_embed_dim", true, json!(added.each));
        put("projection_class_embeddings_input_dim", true, json!(added.width()));
    }
    out
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
        // What lies behind the last hidden state that is read is not written out.
        "num_hidden_layers": c.layers - if c.projection.is_some() { 0 } else { c.trained - 1 },
        "trained_state": if c.projection.is_some() { c.trained } else { 1 },
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
