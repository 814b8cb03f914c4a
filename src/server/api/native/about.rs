//! What this server can do: version, limits, models, samplers, and how a model reads a prompt.

use super::OPENAPI;
use super::draw::folded;
use crate::diffusion::SIZES;
use crate::diffusion::denoise::samplers::{Calls, Family, SAMPLERS, find_named};
use crate::diffusion::denoise::sigmas::ScheduleKind;
use crate::diffusion::prompt::chunks::Lexicon;
use crate::diffusion::prompt::read::read;
use crate::job::hints::{Hint, Vocabulary, hints};
use crate::server::fault::{Fault, FaultKind, Refusal};
use crate::server::http::{body, guard};
use crate::server::jobs::{order, record};
use crate::server::models::Entry;
use crate::server::{App, Shared, blocking, clock};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use unicode_normalization::char::is_combining_mark;

/// Prompts that the embedded model draws well.
const IDEAS: [&str; 8] = [
    "a red apple on a blue background",
    "two orange cats on a green background",
    "a small blue whale at the bottom",
    "a rocket and a moon on a black background",
    "three yellow stars on a purple background",
    "a green turtle on a light blue background",
    "a pink octopus on a white background",
    "a snowman and a Christmas tree on a blue background",
];
/// What others draw.
const PLAIN_IDEAS: [&str; 3] = [
    "a lighthouse on a cliff at dusk, oil painting",
    "a red fox in a snowy forest, photograph, soft light",
    "a small house by a lake, watercolor",
];

/// GET /api/openapi.json
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// GET /api/options
pub(super) async fn options(State(app): State<Shared>) -> Json<Value> {
    let (name, gpu) = app.painter.device().unwrap_or_else(|| ("cpu".into(), false));
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "device": {"name": name, "kind": if gpu { "gpu" } else { "cpu" }},
        "can": [],
        "limits": {
            "side": {"min": SIZES.0, "max": SIZES.1, "multiple": 8},
            "steps": 1000,
            "count": order::MAX_COUNT,
            "cells": order::MAX_CELLS,
            "queue": app.jobs.broker.room(),
            "body": guard::BODY,
            "upload": guard::UPLOAD,
            "prompt": order::MAX_PROMPT,
        },
    }))
}

/// GET /api/models
pub(super) async fn models(State(app): State<Shared>) -> Json<Value> {
    Json(listed(&app))
}

/// POST /api/models/refresh
pub(super) async fn refresh(State(app): State<Shared>) -> Result<Json<Value>, Refusal> {
    blocking(move || {
        app.models.refresh()?;
        app.jobs.hub.tell("models", crate::server::jobs::events::Weight::Lasting, "", "{}".into());
        Ok(Json(listed(&app)))
    })
    .await
}

fn listed(app: &App) -> Value {
    let models: Vec<Value> = app.models.all().iter().map(|e| model(e)).collect();
    let vaes: Vec<Value> = app.models.vaes().iter().map(|(id, _)| json!({"id": id, "name": id})).collect();
    let default = app.models.default().map(|e| e.id.clone()).unwrap_or_default();
    json!({"models": models, "vaes": vaes, "default": default})
}

/// One model of the list.
fn model(entry: &Entry) -> Value {
    let embedded = entry.path.is_none();
    let (name, kind, size, defaults, inpainting, error) = match &entry.model {
        Ok(model) => {
            let own = &model.defaults;
            let named = find_named(&own.sampler).ok();
            let defaults = json!({
                "steps": own.steps,
                "guidance": order::told(json!(own.guidance)),
                "sampler": named.map_or(own.sampler.as_str(), |n| n.sampler.name),
                "schedule": named.and_then(|n| n.schedule).unwrap_or_default().name(),
                "clip_skip": 1,
            });
            let kind = match () {
                () if embedded => "embedded",
                () if model.networks.added().is_some() => "SDXL",
                () if own.size == 768 => "SD 2.x",
                () => "SD 1.x",
            };
            (model.name.clone(), kind, own.size, defaults, model.networks.inpaints(), None)
        }
        Err(e) => {
            let own =
                json!({"steps": 20, "guidance": 7.5, "sampler": "Euler a", "schedule": "Automatic", "clip_skip": 1});
            // Where it lies is nobody's business.
            let mut fault = Fault::new(FaultKind::BadFile, e.message());
            fault.place = vec!["model".into(), entry.id.clone()];
            (entry.id.clone(), "unknown", 512, own, false, Some(fault))
        }
    };
    let state = if error.is_some() {
        "broken"
    } else if embedded {
        "ready"
    } else {
        "on_disk"
    };
    let ideas: &[&str] = if embedded { &IDEAS } else { &PLAIN_IDEAS };
    json!({
        "id": entry.id,
        "name": name,
        "sha256": entry.known_sha256(),
        "bytes": entry.bytes,
        "kind": kind,
        "embedded": embedded,
        "state": state,
        "inpainting": inpainting,
        "vocabulary": embedded,
        "size": {"width": size, "height": size},
        "defaults": defaults,
        "ideas": ideas,
        "error": error,
    })
}

/// GET /api/models/{model}/words
pub(super) async fn words(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let entry = app.models.find(&id).ok_or_else(|| Refusal::not_found("model"))?;
    if entry.path.is_some() {
        return Err(Refusal::new(FaultKind::NotFound, "this model has no list of words: say what you like"));
    }
    let word = |(name, spanish): (String, Option<String>)| json!({"name": name, "spanish": spanish});
    let groups = Vocabulary::embedded()?
        .groups()
        .into_iter()
        .map(|(kind, words)| json!({"kind": kind, "words": words.into_iter().map(word).collect::<Vec<_>>()}));
    Ok(Json(json!({"groups": groups.collect::<Vec<_>>()})))
}

/// GET /api/samplers
pub(super) async fn samplers() -> Json<Value> {
    let sampler = |s: &crate::diffusion::denoise::samplers::SamplerInfo| {
        let calls = match s.calls {
            Calls::One => "one",
            Calls::OneMore => "one_more",
            Calls::Two => "two",
            Calls::Varies => "varies",
        };
        let schedules = s.family == Family::Sigma && !s.distilled;
        json!({"id": s.name, "name": s.name, "aliases": s.aliases, "calls": calls, "schedules": schedules})
    };
    let schedule = |kind: ScheduleKind| json!({"id": kind.name(), "name": kind.name(), "aliases": kind.aliases()});
    Json(json!({
        "samplers": SAMPLERS.iter().map(sampler).collect::<Vec<_>>(),
        "schedules": ScheduleKind::all().map(schedule).collect::<Vec<_>>(),
    }))
}

/// GET /api/workers
pub(super) async fn workers(State(app): State<Shared>) -> Json<Value> {
    let running = app.jobs.active().into_iter().find(|job| job.state == record::State::Running);
    let device = app.painter.device().map_or_else(|| "cpu".into(), |(name, _)| name);
    let one = json!({
        "id": "self",
        "name": "self",
        "device": device,
        "state": if running.is_some() { "busy" } else { "idle" },
        "seconds_per_step": app.painter.latest_pace(),
        "job": running.map(|job| job.id.clone()),
        "seen": clock::now(),
    });
    Json(json!({"workers": [one]}))
}

/// What is asked of a prompt.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    prompt: String,
    negative_prompt: Option<String>,
    model: Option<String>,
}

/// POST /api/prompt
pub(super) async fn prompt(State(app): State<Shared>, body: Body) -> Result<Json<Value>, Refusal> {
    let asked: Asked = serde_json::from_value(body::json(body).await?)
        .map_err(|e| Refusal::from(Fault::new(FaultKind::Usage, e.to_string())))?;
    if asked.prompt.len().max(asked.negative_prompt.as_deref().unwrap_or_default().len()) > order::MAX_PROMPT {
        return Err(Fault::of_order("prompt", format!("at most {} bytes are read", order::MAX_PROMPT)).into());
    }
    blocking(move || {
        let entry = app.models.of_order(asked.model.as_deref().map(std::path::Path::new))?;
        let model = entry.open()?;
        let tokens = model.tokenizer()?;
        let positions = model.networks.positions();
        let lexicon = Lexicon { tokens: &tokens, embeddings: &[], positions };
        let count = |text: &str, negative: bool| -> Result<(usize, usize), Refusal> {
            let reading = read(text, negative, model.defaults.steps, lexicon)?;
            let of = |chunks: &[crate::diffusion::prompt::chunks::Chunk]| chunks.iter().map(|c| c.tokens.len()).sum();
            let longest = reading.texts.iter().map(|t| (of(&t.chunks), t.chunks.len()));
            Ok(longest.max().unwrap_or_default())
        };
        let (all, chunks) = count(&asked.prompt, false)?;
        let negative = count(asked.negative_prompt.as_deref().unwrap_or_default(), true)?.0;
        let told = if model.path.is_none() { hints(&asked.prompt, &[])?.all } else { Vec::new() };
        Ok(Json(json!({
            "tokens": all,
            "chunk": positions.saturating_sub(2),
            "chunks": chunks,
            "negative_tokens": negative,
            "hints": told.iter().map(|one| hint(one, &asked.prompt)).collect::<Vec<_>>(),
        })))
    })
    .await
}

fn hint(hint: &Hint, prompt: &str) -> Value {
    let message = hint.line();
    match hint {
        Hint::UnknownWord { word, near } => {
            let word = typed(word, prompt);
            json!({"kind": "unknown_word", "word": word, "near": near, "message": message})
        }
        Hint::MoreUnknownWords(count) => json!({"kind": "more_unknown_words", "count": count, "message": message}),
        Hint::OtherLanguage(prompt) => json!({"kind": "other_language", "prompt": prompt, "message": message}),
        Hint::UntrainedColor { word, .. } => json!({"kind": "untrained_color", "word": word, "message": message}),
        Hint::TooManyThings(count) => json!({"kind": "too_many_things", "count": count, "message": message}),
        Hint::SeveralBigThings => json!({"kind": "several_big_things", "message": message}),
    }
}

/// A word as it stands in the prompt: hints have it in lower case and without accents.
fn typed<'p>(word: &'p str, prompt: &'p str) -> &'p str {
    let inside = |c: char| c.is_alphanumeric() || is_combining_mark(c) || matches!(c, '-' | '\'' | '.');
    let pieces = prompt.split(|c| !inside(c));
    let mut bare = pieces.map(|piece| piece.trim_matches(|c: char| !c.is_alphanumeric() && !is_combining_mark(c)));
    bare.find(|piece| folded(piece) == word).unwrap_or(word)
}
