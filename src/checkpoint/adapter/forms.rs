//! A module's parts to what is added to its tensors: which form it is follows from the parts that are there.

use super::AdapterFile;
use super::parts::{AdapterModule, ModulePart};
use crate::weights::WeightSource;
use crate::weights::patch::delta::{Delta, DeltaForm, DeltaTarget, Factor, LowRank, Side};

/// A tensor's canonical name, and what is added to it.
pub type Change = (String, Delta);

/// The form that a module is in, for people.
pub fn form_name(module: &AdapterModule) -> String {
    let has = |part: ModulePart| module.factors.contains_key(&part);
    let name = match () {
        _ if has(ModulePart::Mid) => "LoCon (Tucker)",
        _ if has(ModulePart::Up) || has(ModulePart::Down) => {
            match module.factors.get(&ModulePart::Down).map(|f| &f.tensor.info.shape[..]) {
                Some([_, _, h, w]) if h * w > 1 => "LoCon",
                _ => "LoRA",
            }
        }
        _ if has(ModulePart::HadaT1) => "LoHa (Tucker)",
        _ if has(ModulePart::HadaW1A) => "LoHa",
        _ if has(ModulePart::LokrW1) || has(ModulePart::LokrW1A) => "LoKr",
        _ if has(ModulePart::A1) => "GLoRA",
        _ if has(ModulePart::Weight) => "(IA)3",
        _ if has(ModulePart::NormWeight) || has(ModulePart::NormBias) => "norm",
        _ if has(ModulePart::Diff) || has(ModulePart::DiffBias) => "full",
        _ => "unknown",
    };
    if has(ModulePart::Magnitude) { format!("DoRA over {name}") } else { name.to_owned() }
}

impl AdapterFile {
    /// What a module adds to the tensors of `path`, the model's canonical module.
    ///
    /// # Errors
    /// A sentence's end: what is missing, or does not fit.
    pub(super) fn changes(
        &self,
        module: &AdapterModule,
        path: &str,
        source: &dyn WeightSource,
    ) -> Result<Vec<Change>, String> {
        let has = |part: ModulePart| module.factors.contains_key(&part);
        let target = |end: &str| -> Result<(String, DeltaTarget), String> {
            let name = format!("{path}.{end}");
            let info = source.info(&name).ok_or_else(|| format!("changes a {end}, which the module lacks"))?;
            let target = DeltaTarget::new(&info.shape, path == "unet.conv_in");
            Ok((name, target))
        };
        let mut out = Vec::new();
        let form = form(module)?;
        let scale = form.as_ref().map_or(1.0, |form| self.scale(module, form, path));
        if let Some(form) = form {
            let (name, target) = target("weight")?;
            let magnitude = module.factors.get(&ModulePart::Magnitude).cloned();
            out.push((name, Delta::new(form, scale, magnitude, target)?));
        } else if has(ModulePart::Magnitude) {
            return Err("has magnitudes and nothing that they belong to".into());
        }
        for (part, by) in [(ModulePart::DiffBias, 1.0), (ModulePart::NormBias, 1.0), (ModulePart::UpBias, scale)] {
            if let Some(factor) = module.factors.get(&part) {
                let (name, target) = target("bias")?;
                out.push((name, Delta::new(DeltaForm::Full(factor.clone()), by, None, target)?));
            }
        }
        if out.is_empty() {
            return Err("holds nothing but a scale".into());
        }
        Ok(out)
    }

    /// alpha / rank, or what stands for it.
    fn scale(&self, module: &AdapterModule, form: &DeltaForm, path: &str) -> f64 {
        if let Some(scale) = module.numbers.get(&ModulePart::Scale) {
            return *scale;
        }
        let Some(rank) = form.rank().map(|rank| rank.max(1) as f64) else { return 1.0 };
        match module.numbers.get(&ModulePart::Alpha) {
            Some(alpha) => alpha / rank,
            None => self.told_scale(path, rank).unwrap_or(1.0),
        }
    }

    /// What diffusers' configuration of PEFT says of a module: alpha / rank, or alpha / sqrt(rank).
    fn told_scale(&self, path: &str, rank: f64) -> Option<f64> {
        let told: serde_json::Value = serde_json::from_str(self.metadata("lora_adapter_metadata")?).ok()?;
        let (part, inside) = path.split_once('.')?;
        let get = |key: &str| told.get(format!("{part}.{key}")).or_else(|| told.get(key));
        let alone = |pattern: &str| {
            let pattern = pattern.trim_start_matches('^').trim_end_matches('$').replace("\\.", ".");
            let whole = format!("text_model.{inside}");
            [inside, whole.as_str()].iter().any(|path| {
                let before = path.strip_suffix(pattern.as_str());
                !pattern.is_empty() && before.is_some_and(|b| b.is_empty() || b.ends_with('.'))
            })
        };
        let own = get("alpha_pattern")
            .and_then(|all| all.as_object())
            .and_then(|all| all.iter().find(|(pattern, _)| alone(pattern)).and_then(|(_, alpha)| alpha.as_f64()));
        let alpha = own.or_else(|| get("lora_alpha")?.as_f64())?;
        let root = get("use_rslora").and_then(serde_json::Value::as_bool).unwrap_or(false);
        Some(if root { alpha / rank.sqrt() } else { alpha / rank })
    }
}

/// What is added to the weight; none where only the bias changes.
fn form(module: &AdapterModule) -> Result<Option<DeltaForm>, String> {
    let get = |part: ModulePart| module.factors.get(&part).cloned();
    let need = |part: ModulePart| get(part).ok_or_else(|| format!("lacks its {part:?}"));
    let low = |left: ModulePart, turned: bool, core: Option<Factor>, right: ModulePart| -> Result<LowRank, String> {
        Ok(LowRank { left: need(left)?, turned, core, right: need(right)? })
    };
    let has = |part: ModulePart| module.factors.contains_key(&part);
    let any = |parts: &[ModulePart]| parts.iter().any(|part| has(*part));
    Ok(Some(if any(&[ModulePart::Up, ModulePart::Down]) {
        DeltaForm::Product(Box::new(low(ModulePart::Up, false, get(ModulePart::Mid), ModulePart::Down)?))
    } else if any(&[ModulePart::HadaW1A, ModulePart::HadaW1B, ModulePart::HadaW2A, ModulePart::HadaW2B]) {
        let half = |t: ModulePart, a: ModulePart, b: ModulePart| low(a, has(t), get(t), b);
        let one = half(ModulePart::HadaT1, ModulePart::HadaW1A, ModulePart::HadaW1B)?;
        DeltaForm::Hadamard(Box::new([one, half(ModulePart::HadaT2, ModulePart::HadaW2A, ModulePart::HadaW2B)?]))
    } else if any(&[ModulePart::LokrW1, ModulePart::LokrW1A, ModulePart::LokrW2, ModulePart::LokrW2A]) {
        let left = match get(ModulePart::LokrW1) {
            Some(whole) => Side::Whole(whole),
            None => Side::Factored(Box::new(low(ModulePart::LokrW1A, false, None, ModulePart::LokrW1B)?)),
        };
        let right = match get(ModulePart::LokrW2) {
            Some(whole) => Side::Whole(whole),
            None => Side::Factored(Box::new(low(
                ModulePart::LokrW2A,
                has(ModulePart::LokrT2),
                get(ModulePart::LokrT2),
                ModulePart::LokrW2B,
            )?)),
        };
        DeltaForm::Kronecker(Box::new([left, right]))
    } else if any(&[ModulePart::A1, ModulePart::A2, ModulePart::B1, ModulePart::B2]) {
        glora(need(ModulePart::A1)?, need(ModulePart::A2)?, need(ModulePart::B1)?, need(ModulePart::B2)?)
    } else if has(ModulePart::Weight) {
        let told =
            module.numbers.get(&ModulePart::OnInput).ok_or("does not say whether it scales inputs or outputs")?;
        DeltaForm::Scaled { by: need(ModulePart::Weight)?, inputs: *told != 0.0 }
    } else if let Some(diff) = get(ModulePart::Diff).or(get(ModulePart::NormWeight)) {
        DeltaForm::Full(diff)
    } else {
        return Ok(None);
    }))
}

/// Both layouts of GLoRA, told apart by shape: today `b1 b2 + W a1 a2`, in old files `b2 b1 + W a2 a1`.
fn glora(a1: Factor, a2: Factor, b1: Factor, b2: Factor) -> DeltaForm {
    let side = |f: &Factor, n: usize| f.tensor.info.shape.get(n).copied().unwrap_or(1);
    let old = side(&b2, 1) == side(&b1, 0) && side(&b1, 0) == side(&a1, 0) && side(&a1, 0) == side(&a2, 1);
    let new = side(&b2, 0) == side(&b1, 1) && side(&b1, 1) == side(&a1, 1) && side(&a1, 1) == side(&a2, 0);
    let (first, second, left, right) = if old && !new { (a2, a1, b2, b1) } else { (a1, a2, b1, b2) };
    let add = Box::new(LowRank { left, turned: false, core: None, right });
    DeltaForm::Glora { add, first: Box::new(first), second: Box::new(second) }
}
