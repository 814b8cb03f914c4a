//! A key of an adapter's file to the module that it names, as the file spells it, and which part of it.

use crate::error::{Error, Kind, Result, escape};
use crate::weights::decode_f32;
use crate::weights::patch::delta::Factor;
use std::collections::BTreeMap;

/// What a module of an adapter consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModulePart {
    Up,
    Down,
    Mid,
    /// Of what is added to the bias.
    UpBias,
    HadaT1,
    HadaW1A,
    HadaW1B,
    HadaT2,
    HadaW2A,
    HadaW2B,
    LokrW1,
    LokrW1A,
    LokrW1B,
    LokrW2,
    LokrW2A,
    LokrW2B,
    LokrT2,
    A1,
    A2,
    B1,
    B2,
    /// Of (IA)3.
    Weight,
    OnInput,
    Diff,
    DiffBias,
    NormWeight,
    NormBias,
    Alpha,
    Scale,
    Magnitude,
}

/// How keys end.
const ENDS: [(&str, ModulePart); 36] = [
    (".lora_up.weight", ModulePart::Up),
    (".lora_down.weight", ModulePart::Down),
    (".lora_mid.weight", ModulePart::Mid),
    (".lora_B.weight", ModulePart::Up),
    (".lora_A.weight", ModulePart::Down),
    (".lora_up.bias", ModulePart::UpBias),
    (".lora_B.bias", ModulePart::UpBias),
    (".lora.up.weight", ModulePart::Up),
    (".lora.down.weight", ModulePart::Down),
    (".lora_linear_layer.up.weight", ModulePart::Up),
    (".lora_linear_layer.down.weight", ModulePart::Down),
    ("_lora.up.weight", ModulePart::Up),
    ("_lora.down.weight", ModulePart::Down),
    (".lora_magnitude_vector.weight", ModulePart::Magnitude),
    (".lora_magnitude_vector", ModulePart::Magnitude),
    (".dora_scale", ModulePart::Magnitude),
    (".hada_t1", ModulePart::HadaT1),
    (".hada_w1_a", ModulePart::HadaW1A),
    (".hada_w1_b", ModulePart::HadaW1B),
    (".hada_t2", ModulePart::HadaT2),
    (".hada_w2_a", ModulePart::HadaW2A),
    (".hada_w2_b", ModulePart::HadaW2B),
    (".lokr_w1", ModulePart::LokrW1),
    (".lokr_w1_a", ModulePart::LokrW1A),
    (".lokr_w1_b", ModulePart::LokrW1B),
    (".lokr_w2", ModulePart::LokrW2),
    (".lokr_w2_a", ModulePart::LokrW2A),
    (".lokr_w2_b", ModulePart::LokrW2B),
    (".lokr_t2", ModulePart::LokrT2),
    (".on_input", ModulePart::OnInput),
    (".diff", ModulePart::Diff),
    (".diff_b", ModulePart::DiffBias),
    (".w_norm", ModulePart::NormWeight),
    (".b_norm", ModulePart::NormBias),
    (".alpha", ModulePart::Alpha),
    (".scale", ModulePart::Scale),
];
/// The same for parts whose names mean something elsewhere too: only the four of them together are a form.
const GLORA: [(&str, ModulePart); 4] = [
    (".a1.weight", ModulePart::A1),
    (".a2.weight", ModulePart::A2),
    (".b1.weight", ModulePart::B1),
    (".b2.weight", ModulePart::B2),
];

/// What the file says of one module.
#[derive(Clone, Default)]
pub struct AdapterModule {
    /// Its matrices.
    pub factors: BTreeMap<ModulePart, Factor>,
    /// Its scalars.
    pub numbers: BTreeMap<ModulePart, f64>,
}

/// A key's module and part; `scaled` tells of which modules a plain `weight` is a part.
pub fn split(key: &str, scaled: impl Fn(&str) -> bool) -> Option<(String, ModulePart)> {
    let key = nameless(key);
    let own = ENDS.iter().chain(&GLORA).find_map(|(end, part)| Some((key.strip_suffix(end)?, *part, *end)));
    if let Some((module, part, end)) = own {
        return Some((if end.starts_with('_') { attention(module) } else { module.to_owned() }, part));
    }
    let module = key.strip_suffix(".weight").filter(|module| scaled(module))?;
    Some((module.to_owned(), ModulePart::Weight))
}

/// `X.lora_A.NAME.weight` without the adapter's name, which PEFT puts there.
fn nameless(key: &str) -> String {
    for mark in [".lora_A.", ".lora_B.", ".lora_magnitude_vector."] {
        if let Some((module, rest)) = key.split_once(mark)
            && let Some((name, end @ ("weight" | "bias"))) = rest.rsplit_once('.')
            && !name.is_empty()
            && !name.contains('.')
        {
            return format!("{module}{mark}{end}");
        }
    }
    key.to_owned()
}

/// `attn1.processor.to_out` of diffusers' old attention processors is `attn1.to_out.0`, and in text encoders
/// `self_attn.to_q` is `self_attn.q_proj`.
fn attention(module: &str) -> String {
    let module = module.replace(".processor.", ".");
    if let Some((head, to)) = module.rsplit_once(".self_attn.to_") {
        return format!("{head}.self_attn.{to}_proj");
    }
    if module.ends_with(".to_out") { format!("{module}.0") } else { module }
}

/// Kinds of files that are known and not read, by what their keys hold.
const OTHERS: [(&str, &str); 12] = [
    (".oft_blocks", "an OFT or BOFT adapter"),
    (".oft_diag", "an OFT adapter"),
    ("oft_R.", "an OFT adapter"),
    ("boft_", "a BOFT adapter"),
    (".set_weight", "an adapter that replaces weights"),
    ("lllite_unet", "a ControlNet-LLLite"),
    ("lora_controlnet", "a control-LoRA"),
    ("control_model.", "a ControlNet"),
    ("controlnet_cond_embedding.", "a ControlNet"),
    ("ip_adapter.", "an IP-Adapter"),
    ("image_proj.", "an IP-Adapter"),
    ("lora_unet_double_blocks", "a LoRA for Flux"),
];

/// Nothing for what may be an adapter that is read.
///
/// # Errors
/// A sentence that lacks the file's name.
pub fn refused<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let found = names.find_map(|name| OTHERS.iter().find(|(sign, _)| name.contains(sign)));
    match found {
        Some((_, what)) => Err(format!("is {what}, which is not read here; use a LoRA, LoHa, LoKr or the like")),
        None => Ok(()),
    }
}

/// The one number of a tensor.
pub fn scalar(factor: &Factor) -> Result<f64> {
    let bad = |why: String| Error::new(Kind::BadFile, format!("{} {why}", escape(&factor.name)));
    if factor.tensor.info.len() != 1 {
        return Err(bad(format!("has shape {:?} where one number is expected", factor.tensor.info.shape)));
    }
    let (mut raw, mut values) = (Vec::new(), Vec::new());
    factor.tensor.read(&mut raw)?;
    decode_f32(factor.tensor.info.dtype, &raw, &mut values);
    match values.first() {
        Some(v) if v.is_finite() => Ok(f64::from(*v)),
        _ => Err(bad("is not finite; the adapter is damaged".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cut_whoever_wrote_them() {
        for (key, module, part) in [
            (
                "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight",
                "lora_unet_mid_block_attentions_0_proj_in",
                ModulePart::Down,
            ),
            ("unet.conv_in.lora_A.weight", "unet.conv_in", ModulePart::Down),
            ("unet.conv_in.lora_B.default_0.weight", "unet.conv_in", ModulePart::Up),
            ("a.attn1.to_q.lora_magnitude_vector.weight", "a.attn1.to_q", ModulePart::Magnitude),
            ("a.attn1.to_q.lora_magnitude_vector.default.weight", "a.attn1.to_q", ModulePart::Magnitude),
            ("a.attn1.processor.to_q_lora.down.weight", "a.attn1.to_q", ModulePart::Down),
            ("a.attn1.processor.to_out_lora.up.weight", "a.attn1.to_out.0", ModulePart::Up),
            ("a.attn1.to_out.0.lora.up.weight", "a.attn1.to_out.0", ModulePart::Up),
            ("te.layers.0.self_attn.to_out_lora.up.weight", "te.layers.0.self_attn.out_proj", ModulePart::Up),
            (
                "te.layers.0.self_attn.q_proj.lora_linear_layer.up.weight",
                "te.layers.0.self_attn.q_proj",
                ModulePart::Up,
            ),
            ("x.lokr_w1_a", "x", ModulePart::LokrW1A),
            ("x.lokr_w1", "x", ModulePart::LokrW1),
            ("x.diff_b", "x", ModulePart::DiffBias),
            ("x.a1.weight", "x", ModulePart::A1),
            ("ia.weight", "ia", ModulePart::Weight),
        ] {
            assert_eq!(split(key, |m| m == "ia"), Some((module.to_owned(), part)), "{key}");
        }
        for key in ["x.weight", "x.lora_A.a.b.weight", "lora_up", ""] {
            assert_eq!(split(key, |_| false), None, "{key}");
        }
    }
}
