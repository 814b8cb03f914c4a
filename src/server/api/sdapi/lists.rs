//! What there is goes in; the webui's lists come out.

use crate::diffusion::denoise::samplers::{Calls, Draws, SAMPLERS, SamplerInfo};
use crate::diffusion::denoise::sigmas::ScheduleKind;
use crate::job::styles::presets;
use crate::server::models::{Entry, Models};
use crate::system;
use serde_json::{Map, Value, json};

/// A model's name in this API: `name.ext [hash]`, without the hash while it is not known.
pub(super) fn title(entry: &Entry) -> String {
    match hash(entry) {
        Some(hash) => format!("{} [{hash}]", entry.id),
        None => entry.id.clone(),
    }
}

/// The first ten digits of its sha256, where that is known.
pub(super) fn hash(entry: &Entry) -> Option<String> {
    entry.known_sha256().map(|sha| sha.chars().take(10).collect())
}

/// `sd-models`. Files are told by name: where they are is nobody's business.
pub(super) fn models(models: &Models) -> Value {
    let usable = |e: &&std::sync::Arc<Entry>| e.model.is_ok();
    let one = |e: &std::sync::Arc<Entry>| {
        let stem = e.model.as_ref().map_or_else(|_| e.id.clone(), |m| m.name.clone());
        json!({
            "title": title(e), "model_name": stem, "hash": hash(e), "sha256": e.known_sha256(), "filename": e.id,
            "config": null,
        })
    };
    models.all().iter().filter(usable).map(one).collect()
}

/// `sd-vae`.
pub(super) fn vaes(models: &Models) -> Value {
    models.vaes().iter().map(|(id, _)| json!({"model_name": id, "filename": id})).collect()
}

/// A name in k-diffusion's spelling: `k_dpmpp_2m_sde`.
fn k_name(name: &str) -> String {
    format!("k_{}", name.to_lowercase().replace("++", "pp").replace([' ', '-'], "_"))
}

/// `samplers`.
pub(super) fn samplers() -> Value {
    SAMPLERS.iter().map(sampler).collect()
}

fn sampler(s: &SamplerInfo) -> Value {
    let mut aliases = vec![k_name(s.name)];
    aliases.extend(s.aliases.iter().map(|&alias| alias.to_owned()));
    let mut options = Map::new();
    if s.schedule != ScheduleKind::Uniform {
        options.insert("scheduler".into(), schedule_name(s.schedule).into());
    }
    for (name, holds) in [
        ("uses_ensd", s.draws == Draws::Generator),
        ("brownian_noise", s.draws == Draws::Brownian),
        ("second_order", s.calls == Calls::Two),
        ("discard_next_to_last_sigma", s.discard_penultimate),
    ] {
        if holds {
            options.insert(name.into(), "True".into());
        }
    }
    json!({"name": s.name, "aliases": aliases, "options": options})
}

fn schedule_name(kind: ScheduleKind) -> String {
    kind.name().to_lowercase().replace(' ', "_")
}

/// `schedulers`.
pub(super) fn schedulers() -> Value {
    let one = |kind: ScheduleKind| {
        let rho = match kind {
            ScheduleKind::Karras => 7.0,
            ScheduleKind::Polyexponential => 1.0,
            _ => -1.0,
        };
        let asks = matches!(
            kind,
            ScheduleKind::SgmUniform
                | ScheduleKind::Simple
                | ScheduleKind::Normal
                | ScheduleKind::Ddim
                | ScheduleKind::Beta
        );
        let aliases = kind.aliases();
        json!({
            "name": schedule_name(kind),
            "label": kind.name(),
            "aliases": (!aliases.is_empty()).then_some(aliases),
            "default_rho": rho,
            "need_inner_model": asks,
        })
    };
    ScheduleKind::all().map(one).collect()
}

/// `prompt-styles`.
pub(super) fn styles() -> Value {
    let one = |s: crate::job::styles::Style| json!({"name": s.name, "prompt": s.prompt, "negative_prompt": s.negative_prompt});
    presets().into_iter().map(one).collect()
}

/// `memory`: this process's and the machine's, as far as the system tells.
pub(super) fn memory() -> Value {
    let (total, free) = (system::memory_limit(), system::available_memory());
    json!({
        "ram": {"free": free, "used": system::resident(), "total": total},
        "cuda": {"error": "unavailable"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::denoise::samplers::find_named;

    #[test]
    fn every_name_that_is_listed_can_be_asked_for() {
        let list = samplers();
        let all = list.as_array().unwrap();
        assert!(all.len() >= 20);
        for s in all {
            let name = s["name"].as_str().unwrap();
            for alias in s["aliases"].as_array().unwrap().iter().chain([&s["name"]]) {
                let found = find_named(alias.as_str().unwrap()).unwrap().sampler.name;
                assert_eq!(found, name, "{alias}");
            }
            assert!(s["options"].as_object().unwrap().values().all(Value::is_string));
        }
        let list = schedulers();
        for s in list.as_array().unwrap() {
            for name in ["name", "label"] {
                assert_eq!(ScheduleKind::parse(s[name].as_str().unwrap()).unwrap().name(), s["label"], "{s}");
            }
        }
        assert_eq!((&list[0]["name"], &list[5]["name"]), (&json!("automatic"), &json!("sgm_uniform")));
    }
}
