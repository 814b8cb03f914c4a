//! OpenAI's API of images: its requests go in and become jobs, its answers come out.
//!
//! A client sends what failed with 5xx or 409 again, twice: what is wrong with a request is answered 400, and what
//! would fail again says `x-should-retry: false`.

mod reply;
mod request;
mod stream;

use crate::server::fault::{FaultKind, Refusal};
use crate::server::http::body;
use crate::server::jobs::record::{Client, Job, State as JobState};
use crate::server::models::Entry;
use crate::server::{By, Shared, blocking, clock};
use axum::extract::{FromRequest as _, Multipart, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use reply::Sent;
use request::{Form, Kind, Wanted, wanted};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// Fields and files of one form.
const MOST_FIELDS: usize = 64;
/// The header that names the model that drew.
const MODEL: &str = "x-lienzo-model";

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wrong {
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Wrong {
    fn of(param: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param.into()), code: None }
    }

    fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }
}

/// A no in OpenAI's form.
#[derive(Clone, Debug)]
struct No {
    status: StatusCode,
    error: Value,
    retry: Option<HeaderValue>,
}

impl From<Wrong> for No {
    fn from(wrong: Wrong) -> Self {
        let Wrong { message, param, code } = wrong;
        let error = json!({"message": message, "type": "invalid_request_error", "param": param, "code": code});
        Self { status: StatusCode::BAD_REQUEST, error, retry: None }
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        let retry = refusal.retry_after();
        let fault = *refusal.fault;
        let (status, kind, code) = match (refusal.status, fault.kind) {
            (_, FaultKind::QueueFull | FaultKind::ShuttingDown) => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("rate_limit_exceeded"))
            }
            (StatusCode::UNAUTHORIZED, _) => (refusal.status, "invalid_request_error", Some("invalid_api_key")),
            (status, _) if status.is_server_error() => (status, "server_error", None),
            // Nothing is worth being sent again as it is.
            (StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::REQUEST_TIMEOUT, _) => {
                (StatusCode::BAD_REQUEST, "invalid_request_error", None)
            }
            (status, _) => (status, "invalid_request_error", None),
        };
        let param = match fault.place.as_slice() {
            [order, field] if order == "order" => Some(name_of(field).to_owned()),
            _ => None,
        };
        let error = json!({"message": fault.message, "type": kind, "param": param, "code": code});
        Self { status, error, retry }
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let again = self.status == StatusCode::TOO_MANY_REQUESTS;
        let mut response = (self.status, Json(json!({"error": self.error}))).into_response();
        let headers = response.headers_mut();
        headers.insert("x-should-retry", HeaderValue::from_static(if again { "true" } else { "false" }));
        if let Some(retry) = self.retry {
            headers.insert(header::RETRY_AFTER, retry);
        }
        response
    }
}

/// How this API calls a field of an order.
fn name_of(field: &str) -> &str {
    match field {
        "width" | "height" => "size",
        "count" => "n",
        "init_image" => "image",
        other => other,
    }
}

/// A refusal as OpenAI words it.
pub(crate) fn refused(refusal: Refusal) -> Response {
    No::from(refusal).into_response()
}

/// Its routes.
pub(crate) fn routes() -> Router<Shared> {
    let route = |kind: Kind| {
        post(async move |State(app): State<Shared>, request: Request| -> Result<Response, No> {
            draw(app, request, kind).await
        })
    };
    Router::new()
        .route("/v1/images/generations", route(Kind::Generate))
        .route("/v1/images/edits", route(Kind::Edit))
        .route("/v1/images/variations", route(Kind::Vary))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
}

fn told(app: &Shared, entry: &Entry) -> Value {
    // Of the file; the one in the binary is as old as the server.
    let changed = entry.path.as_ref().and_then(|path| path.metadata().ok()?.modified().ok());
    let seconds = changed.and_then(|time| Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()));
    let begun = clock::millis() / 1000 - app.begun.elapsed().as_secs();
    json!({"id": entry.id, "object": "model", "created": seconds.unwrap_or(begun), "owned_by": "lienzo"})
}

async fn models(State(app): State<Shared>) -> Result<Json<Value>, No> {
    let all = blocking(move || {
        let usable = app.models.all().into_iter().filter(|entry| entry.model.is_ok());
        Ok(usable.map(|entry| told(&app, &entry)).collect::<Vec<_>>())
    })
    .await?;
    Ok(Json(json!({"object": "list", "data": all})))
}

async fn model(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, No> {
    let found = blocking(move || Ok(app.models.find(&id).map(|entry| told(&app, &entry)).ok_or(id))).await?;
    found.map(Json).map_err(|id| {
        let message = format!("The model '{}' does not exist", crate::error::escape(&id));
        let wrong = Wrong { message, param: Some("model".into()), code: Some("model_not_found") };
        No { status: StatusCode::NOT_FOUND, ..wrong.into() }
    })
}

/// A request's fields, whichever way they came.
async fn form(request: Request) -> Result<Form, No> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let wrong = |message: String| Wrong { message, param: None, code: None };
    if !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
        let bytes = body::bytes(request.into_body()).await?;
        return match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(Form { fields, files: Vec::new() }),
            Ok(_) => Err(wrong("the body is an object with the fields of the request".into()).into()),
            Err(e) => Err(wrong(format!("We could not parse the JSON body of your request: {e}")).into()),
        };
    }
    let broken = |e: axum::extract::multipart::MultipartError| -> No {
        let cut = body::refused(&e);
        if cut.fault.kind == FaultKind::TooLarge {
            cut.into()
        } else {
            wrong(format!("the form cannot be read: {}", e.body_text())).into()
        }
    };
    let read = Multipart::from_request(request, &()).await;
    let mut parts = read.map_err(|e| wrong(format!("the form cannot be read: {}", e.body_text())))?;
    let mut form = Form::default();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        if form.fields.len() + form.files.len() >= MOST_FIELDS {
            return Err(wrong(format!("a form has at most {MOST_FIELDS} fields")).into());
        }
        let picture = matches!(name.as_str(), "image" | "image[]" | "mask");
        let bytes = part.bytes().await.map_err(broken)?;
        if picture {
            form.files.push((name, bytes.to_vec()));
            continue;
        }
        let text = String::from_utf8(bytes.to_vec()).map_err(|_| Wrong::of(&name, "this field is no UTF-8 text"))?;
        form.fields.insert(name, text.into());
    }
    Ok(form)
}

/// One request: it becomes a job, and is answered when that ends, or as it goes on.
async fn draw(app: Shared, request: Request, kind: Kind) -> Result<Response, No> {
    let base = base(request.headers());
    let form = form(request).await?;
    let reading = app.clone();
    let (mut wanted, entry) = blocking(move || {
        let bring = |bytes: &[u8]| reading.jobs.pictures.bring(bytes).map(|u| u.sha256).map_err(|fault| fault.message);
        let wanted = match wanted(kind, form, &bring) {
            Ok(wanted) => wanted,
            Err(wrong) => return Ok(Err(wrong)),
        };
        // A name that nobody knows here is one of OpenAI's models.
        let named = wanted.model.as_deref().and_then(|name| reading.models.find(name));
        Ok(Ok((wanted, named.or_else(|| reading.models.default()))))
    })
    .await??;
    wanted.order.model = entry.as_ref().map(|entry| PathBuf::from(&entry.id));
    let by = By { client: Client::Openai, awaited: true, idempotency: None };
    let id = app.submit(wanted.order.clone(), by).await?.job().id.clone();
    let mut response = match wanted.stream {
        true => {
            let (events, body) = stream::stream();
            tokio::spawn(follow(app, id, wanted, kind, events));
            let kind = [
                (header::CONTENT_TYPE, "text/event-stream"),
                (header::HeaderName::from_static("x-accel-buffering"), "no"),
            ];
            (kind, body).into_response()
        }
        false => {
            let mut waiter = app.jobs.wait(&id).ok_or_else(Refusal::internal)?;
            let job = done(waiter.ended().await?)?;
            blocking(move || answer(&app, &job, &wanted, &base)).await.map(Json)?.into_response()
        }
    };
    if let Some(name) = entry.and_then(|entry| HeaderValue::from_str(&entry.id).ok()) {
        response.headers_mut().insert(MODEL, name);
    }
    Ok(response)
}

/// Where this server is, as the client calls it: its name has passed the guard.
fn base(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.map(|host| format!("http://{host}")).unwrap_or_default()
}

/// A job that has its pictures.
fn done(job: Arc<Job>) -> Result<Arc<Job>, No> {
    match (job.state, &job.error) {
        (JobState::Done, _) => Ok(job),
        (JobState::Failed, Some(fault)) => Err(Refusal::from(fault.clone()).into()),
        _ => Err(Wrong { message: "somebody cancelled this job".into(), param: None, code: Some("cancelled") }.into()),
    }
}

/// Tokens of the prompts.
fn tokens(app: &Shared, job: &Job) -> usize {
    let model = app.models.find(&job.model.id).and_then(|entry| entry.open().ok());
    let Some(tokenizer) = model.and_then(|model| model.tokenizer().ok()) else { return 0 };
    let of = |text: &Option<String>| text.as_deref().map_or(0, |text| tokenizer.encode(text).len());
    of(&job.order.prompt) + of(&job.order.negative_prompt)
}

/// Seconds since 1970.
fn created() -> u64 {
    clock::millis() / 1000
}

fn answer(app: &Shared, job: &Job, wanted: &Wanted, base: &str) -> Result<Value, Refusal> {
    let pictures = reply::pictures(job);
    let size = pictures.first().map_or((0, 0), |p| (p.width, p.height));
    let mut sent = Vec::new();
    for picture in pictures {
        sent.push(match wanted.url {
            true => Sent::Url(format!("{base}/images/{}.png", picture.sha256)),
            false => Sent::Bytes(reply::formatted(app.jobs.pictures.png(&picture.sha256)?, wanted.format)?),
        });
    }
    Ok(reply::whole(wanted, created(), &sent, size, tokens(app, job)))
}

/// Sends events until the job has ended or the client has gone.
async fn follow(app: Shared, id: String, wanted: Wanted, kind: Kind, events: Sender<String>) {
    if let Err(no) = told_in_events(&app, &id, &wanted, kind, &events).await {
        // Whoever has gone does not hear it.
        let _ = events.send(format!("data: {}\n\n", json!({"error": no.error}))).await;
    }
}

async fn told_in_events(
    app: &Shared,
    id: &str,
    wanted: &Wanted,
    kind: Kind,
    events: &Sender<String>,
) -> Result<(), No> {
    let mut waiter = app.jobs.wait(id).ok_or_else(Refusal::internal)?;
    let mut seen = None;
    let mut partials = 0;
    loop {
        let more = tokio::select! {
            more = waiter.changed() => more,
            () = events.closed() => return Ok(()),
        };
        let ended = !more || waiter.job().is_none_or(|job| job.state.ended());
        if let Some(preview) = app.jobs.preview(id).filter(|_| !ended && partials < wanted.partials)
            && seen != Some((preview.picture, preview.step))
        {
            seen = Some((preview.picture, preview.step));
            let (format, size) = (wanted.format, (preview.width, preview.height));
            let bytes = blocking(move || Ok(reply::unfinished(&preview, format)?)).await?;
            let event = reply::event(wanted, kind, created(), &bytes, size, Ok(partials));
            partials += 1;
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
        if ended {
            break;
        }
    }
    let job = done(waiter.ended().await?)?;
    let (app, wanted) = (app.clone(), wanted.clone());
    let all = blocking(move || {
        let tokens = tokens(&app, &job);
        let mut all = Vec::new();
        for picture in reply::pictures(&job) {
            let bytes = reply::formatted(app.jobs.pictures.png(&picture.sha256)?, wanted.format)?;
            all.push(reply::event(&wanted, kind, created(), &bytes, (picture.width, picture.height), Err(tokens)));
        }
        Ok(all)
    })
    .await?;
    for event in all {
        if events.send(event).await.is_err() {
            break;
        }
    }
    Ok(())
}
