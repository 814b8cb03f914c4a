//! Orders, and what became of them.

use crate::server::fault::{FaultKind, Refusal};
use crate::server::http::body;
use crate::server::jobs::record::{Client, Job};
use crate::server::jobs::{Submitted, order};
use crate::server::{By, Shared, blocking};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// POST /api/jobs
pub(super) async fn submit(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let idempotency = idempotency(&headers)?;
    let order = order::read(body::json(body).await?)?;
    if let Some(known) = idempotency.as_deref().and_then(|key| app.jobs.of_idempotency(key)) {
        return again(&app, &order, &known);
    }
    let by = By { client: Client::Api, awaited: false, idempotency };
    let submitted = app.submit(order, by).await?;
    let id = submitted.job().id.clone();
    let told = app.jobs.told(&id).ok_or_else(Refusal::internal)?;
    let status = if matches!(submitted, Submitted::New(_)) { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut response = (status, Json(told)).into_response();
    if let Ok(at) = HeaderValue::from_str(&format!("api/jobs/{id}")) {
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

fn idempotency(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().unwrap_or_default();
    let fits =
        (1..=64).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let wrong = "an Idempotency-Key has 1 to 64 letters, digits, _ and -";
    if fits { Ok(Some(key.to_owned())) } else { Err(Refusal::new(FaultKind::BadRequest, wrong)) }
}

/// The answer to an order that was sent before under the same key; one that is another is refused.
fn again(app: &Shared, order: &crate::Order, known: &Job) -> Result<Response, Refusal> {
    let (Value::Object(asked), Value::Object(taken)) = (order::wire(order), order::wire(&known.order)) else {
        return Err(Refusal::internal());
    };
    // A model may be named in several ways, and a sampler may bring its schedule.
    let loose = ["model", "sampler", "schedule", "timesteps"];
    let same = asked.iter().all(|(name, value)| loose.contains(&name.as_str()) || taken.get(name) == Some(value));
    if !same {
        return Err(Refusal::new(FaultKind::Conflict, "this Idempotency-Key was used for another order"));
    }
    Ok(Json(app.jobs.told(&known.id).ok_or_else(Refusal::internal)?).into_response())
}

/// The query of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<String>,
    before: Option<String>,
    after: Option<String>,
    find: Option<String>,
    limit: Option<usize>,
}

/// GET /api/jobs
pub(super) async fn list(
    State(app): State<Shared>,
    query: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(wanted) = query.map_err(|e| Refusal::new(FaultKind::BadRequest, e.body_text()))?;
    let limit = wanted.limit.unwrap_or(60);
    if !(1..=500).contains(&limit) {
        return Err(Refusal::new(FaultKind::BadRequest, format!("limit {limit}: use 1 to 500")));
    }
    let states: Option<Vec<&str>> = wanted.state.as_deref().map(|s| s.split(',').collect());
    let find = wanted.find.as_deref().map(folded).filter(|find| !find.is_empty());
    let fits = |job: &Job| {
        let text = |text: &Option<String>| text.as_deref().map(folded).unwrap_or_default();
        states.as_ref().is_none_or(|all| all.contains(&job.state.word()))
            && find.as_ref().is_none_or(|find| {
                text(&job.order.prompt).contains(find) || text(&job.order.negative_prompt).contains(find)
            })
    };
    // Before the list: what happens between the two is told again, and does no harm.
    let event = app.jobs.hub.last();
    let ends = (wanted.after.as_deref(), wanted.before.as_deref());
    let (jobs, pictures) = app.jobs.list(ends, limit + 1, fits);
    let more = (jobs.len() > limit).then(|| jobs[limit - 1].id.clone());
    let jobs: Vec<Value> = jobs.iter().take(limit).filter_map(|job| app.jobs.told(&job.id)).collect();
    Ok(Json(json!({"jobs": jobs, "more": more, "pictures": pictures, "event": event})))
}

/// In lower case, without accents.
pub(super) fn folded(text: &str) -> String {
    text.nfd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect()
}

fn no_job() -> Refusal {
    Refusal::not_found("job")
}

/// GET /api/jobs/{id}
pub(super) async fn job(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    app.jobs.told(&id).map(Json).ok_or_else(no_job)
}

/// DELETE /api/jobs/{id}
pub(super) async fn delete(State(app): State<Shared>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    blocking(move || app.jobs.delete(&id)).await.map(|()| StatusCode::NO_CONTENT)
}

/// DELETE /api/jobs/{id}/pictures/{sha256}
pub(super) async fn delete_picture(
    State(app): State<Shared>,
    Path((id, sha)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    blocking(move || app.jobs.delete_picture(&id, &sha)).await.map(|()| StatusCode::NO_CONTENT)
}

/// POST /api/jobs/{id}/cancel
pub(super) async fn cancel(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    app.cancel(&id).await.ok_or_else(no_job)?;
    app.jobs.told(&id).map(Json).ok_or_else(no_job)
}

/// GET /api/jobs/{id}/preview
pub(super) async fn preview(State(app): State<Shared>, Path(id): Path<String>) -> Result<Response, Refusal> {
    app.jobs.job(&id).ok_or_else(no_job)?;
    Ok(match app.jobs.preview(&id) {
        Some(preview) => ([(header::CONTENT_TYPE, "image/png")], preview.png.clone()).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// POST /api/plan
pub(super) async fn plan(State(app): State<Shared>, body: Body) -> Result<Json<Value>, Refusal> {
    let order = order::read(body::json(body).await?)?;
    blocking(move || {
        let resolved = app.resolve(&order)?;
        let work = &resolved.work;
        let estimate = app.painter.estimate(&resolved.order, work)?;
        let base = &work.base;
        let size = base.picture().map_or((base.width, base.height), |init| init.size);
        let (width, height) = base.start.outpaint().map_or(size, |o| o.sides.grown(size));
        Ok(Json(json!({
            "order": order::wire(&resolved.order),
            "pictures": work.total(),
            "width": width,
            "height": height,
            "memory": {"need": estimate.need, "have": estimate.have},
            "seconds": estimate.seconds,
            "device": estimate.device,
            "notes": work.notes,
        })))
    })
    .await
}
