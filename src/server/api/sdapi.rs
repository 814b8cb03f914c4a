//! The webui's API: its requests go in and become jobs, its answers come out. Formats are the webui's; what a field
//! asks for that is not here is refused by the field's name.

mod extras;
mod fields;
mod info;
mod lists;
pub(crate) mod pictures;
mod progress;
mod reply;
mod request;
mod scripts;
mod settings;

use crate::diffusion::inpaint;
use crate::job::picture::Shelf;
use crate::server::fault::{Fault, Refusal};
use crate::server::http::body;
use crate::server::jobs::record::{Client, Job, State as JobState};
use crate::server::{By, Shared, blocking};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use fields::Fields;
use progress::Now;
use request::{Asked, asked, name_of};
use serde_json::{Value, json};
use settings::{Desk, Settings, Unknown};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

/// Tasks that are remembered by the names that clients gave them.
const MOST_TASKS: usize = 1000;

/// What this API keeps between requests.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    settings: Mutex<Settings>,
    /// A client's name and a job's id, the newest last.
    tasks: Mutex<VecDeque<(String, String)>>,
    /// The jobs that were told last to stop, and to go on with their next picture.
    stopped: Mutex<[Option<String>; 2]>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Memory {
    fn remember(&self, task: String, job: String) {
        let mut tasks = lock(&self.tasks);
        tasks.retain(|(known, _)| *known != task);
        tasks.push_back((task, job));
        if tasks.len() > MOST_TASKS {
            tasks.pop_front();
        }
    }

    fn job_of(&self, task: &str) -> Option<String> {
        lock(&self.tasks).iter().find(|(known, _)| known == task).map(|(_, job)| job.clone())
    }
}

/// A no in FastAPI's form.
#[derive(Clone, Debug)]
pub(super) struct No {
    status: StatusCode,
    /// A text, or a list of `{loc, msg, type}`.
    detail: Value,
    retry: Option<HeaderValue>,
}

impl No {
    fn new(status: StatusCode, detail: Value) -> Self {
        Self { status, detail, retry: None }
    }

    fn internal() -> Self {
        Refusal::internal().into()
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        let retry = refusal.retry_after();
        let Refusal { status, fault } = refusal;
        let Fault { place, message, .. } = *fault;
        let detail = match place.as_slice() {
            [order, field] if order == "order" => {
                json!([fields::fault(&[json!(name_of(field))], &message, "value_error")])
            }
            _ => json!(message),
        };
        Self { status, detail, retry }
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"detail": self.detail}))).into_response();
        if let Some(retry) = self.retry {
            response.headers_mut().insert(header::RETRY_AFTER, retry);
        }
        response
    }
}

/// A refusal as FastAPI words it.
pub(crate) fn refused(refusal: Refusal) -> Response {
    No::from(refusal).into_response()
}

/// Its routes.
pub(crate) fn routes() -> Router<Shared> {
    let at = |path: &str| format!("/sdapi/v1/{path}");
    let empty = || get(async || Json(json!([])));
    let mut routes = Router::new();
    // What there is nothing of here.
    for path in [
        "latent-upscale-modes",
        "loras",
        "hypernetworks",
        "face-restorers",
        "realesrgan-models",
        "script-info",
        "extensions",
    ] {
        routes = routes.route(&at(path), empty());
    }
    routes
        .route(
            &at("txt2img"),
            post(async |State(app): State<Shared>, request: Request| draw(app, request, false).await),
        )
        .route(&at("img2img"), post(async |State(app): State<Shared>, request: Request| draw(app, request, true).await))
        .route(&at("options"), get(options).post(set_options))
        .route(&at("sd-models"), get(async |State(app): State<Shared>| Json(lists::models(&app.models))))
        .route(&at("sd-vae"), get(async |State(app): State<Shared>| Json(lists::vaes(&app.models))))
        .route(&at("samplers"), get(async || Json(lists::samplers())))
        .route(&at("schedulers"), get(async || Json(lists::schedulers())))
        .route(&at("upscalers"), get(async || Json(extras::list())))
        .route(&at("prompt-styles"), get(async || Json(lists::styles())))
        .route(&at("embeddings"), get(async || Json(json!({"loaded": {}, "skipped": {}}))))
        .route(&at("scripts"), get(async || Json(json!({"txt2img": [], "img2img": []}))))
        .route(&at("cmd-flags"), get(async || Json(json!({}))))
        .route(&at("memory"), get(async || Json(lists::memory())))
        .route(&at("refresh-checkpoints"), post(refresh))
        .route(&at("refresh-vae"), post(refresh))
        .route(&at("refresh-loras"), post(async || Json(Value::Null)))
        .route(&at("refresh-embeddings"), post(async || Json(Value::Null)))
        .route(&at("unload-checkpoint"), post(unload))
        // A model is loaded when it is drawn with.
        .route(&at("reload-checkpoint"), post(async || Json(json!({}))))
        .route(&at("interrupt"), post(interrupt))
        .route(&at("skip"), post(skip))
        .route(&at("progress"), get(progress))
        .route(&at("png-info"), post(png_info))
        .route(&at("extra-single-image"), post(extra_single))
        .route(&at("extra-batch-images"), post(extra_batch))
        .route("/internal/ping", get(async || Json(json!({}))))
        .route("/internal/progress", post(task_progress))
        .route("/internal/pending-tasks", get(pending))
}

/// What a request looks up.
struct Here(Shared);

impl Desk for Here {
    fn model(&self, name: &str) -> Result<String, String> {
        let models = &self.0.models;
        // `name.ext [hash]`: of two files of one name the hash would tell, but ids are names.
        let (plain, hash) = match name.strip_suffix(']').and_then(|name| name.rsplit_once(" [")) {
            Some((plain, hash)) => (plain, Some(hash)),
            None => (name, None),
        };
        let found = models.find(name).or_else(|| models.find(plain)).or_else(|| models.find(hash?));
        found.map(|entry| entry.id.clone()).ok_or_else(|| {
            let all: Vec<String> = models.all().iter().map(|entry| lists::title(entry)).collect();
            format!("there is no model '{}' here; there are: {}", crate::error::escape(name), all.join(", "))
        })
    }

    fn vae(&self, name: &str) -> Result<String, String> {
        let all = self.0.models.vaes();
        let stem = |path: &std::path::Path| path.file_stem().is_some_and(|stem| *stem == *name);
        let found = all.iter().find(|(id, path)| id == name || stem(path)).map(|(id, _)| id.clone());
        found.ok_or_else(|| format!("there is no VAE '{}' here", crate::error::escape(name)))
    }

    fn bring(&self, bytes: &[u8]) -> Result<String, String> {
        let brought = self.0.jobs.pictures.bring(bytes);
        brought.map(|upload| upload.sha256).map_err(|fault| format!("Invalid encoded image: {}", fault.message))
    }

    fn shelf(&self) -> &dyn Shelf {
        &self.0.jobs.pictures
    }
}

/// Runs on a thread that may block.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, No> + Send + 'static) -> Result<T, No> {
    blocking(move || Ok(work())).await?
}

/// `txt2img` and `img2img`: the request becomes a job, which is waited for.
async fn draw(app: Shared, request: Request, picture: bool) -> Result<Json<Value>, No> {
    let bytes = body::bytes(request.into_body()).await?;
    let here = Here(app.clone());
    let asked: Asked = aside(move || {
        let own = lock(&here.0.sdapi.settings).clone();
        asked(Fields::read(&bytes)?, picture, &here, &own)
    })
    .await?;
    let by = By { client: Client::Sdapi, awaited: true, idempotency: None };
    let id = app.submit(asked.order.clone(), by).await?.job().id.clone();
    if let Some(settings) = asked.lasting.clone() {
        *lock(&app.sdapi.settings) = settings;
    }
    if let Some(task) = asked.task.clone() {
        app.sdapi.remember(task, id.clone());
    }
    let mut waiter = app.jobs.wait(&id).ok_or_else(No::internal)?;
    let job = waiter.ended().await?;
    if let (JobState::Failed, Some(fault)) = (job.state, &job.error) {
        return Err(Refusal::from(fault.clone()).into());
    }
    aside(move || answer(&app, &job, asked)).await.map(Json)
}

/// The answer to a job that ended: one that was stopped has the pictures that were finished by then.
fn answer(app: &Shared, job: &Job, asked: Asked) -> Result<Value, No> {
    let mut files = Vec::new();
    if asked.send_images {
        for picture in reply::pictures(job) {
            files.push(app.jobs.pictures.png(&picture.sha256).map_err(Refusal::from)?);
        }
    }
    let model = app.models.find(&job.model.id).and_then(|entry| entry.open().ok());
    Ok(reply::reply(job, asked.echo, &files, model.is_some_and(|model| inpaint::told(&model))))
}

/// `GET options`.
async fn options(State(app): State<Shared>) -> Json<Value> {
    let own = lock(&app.sdapi.settings).clone();
    let entry = own.model.as_deref().and_then(|id| app.models.find(id)).or_else(|| app.models.default());
    let mut out = settings::told(&own);
    out.insert("sd_model_checkpoint".into(), json!(entry.as_deref().map(lists::title).unwrap_or_default()));
    out.insert("sd_checkpoint_hash".into(), json!(entry.as_deref().and_then(|e| e.known_sha256().map(str::to_owned))));
    Json(Value::Object(out))
}

/// `POST options`: they hold for the requests that follow.
async fn set_options(State(app): State<Shared>, request: Request) -> Result<Json<Value>, No> {
    let bytes = body::bytes(request.into_body()).await?;
    aside(move || {
        let Ok(Value::Object(given)) = serde_json::from_slice(&bytes) else {
            // In the words that other requests are refused with.
            return Fields::read(&bytes).map(|_| Json(Value::Null));
        };
        let mut own = lock(&app.sdapi.settings).clone();
        let mut wrong = Fields::of(serde_json::Map::new());
        for (name, why) in own.take(&given, &Here(app.clone()), Unknown::PassedOver).err().unwrap_or_default() {
            wrong.refuse(&name, why);
        }
        wrong.done()?;
        *lock(&app.sdapi.settings) = own;
        Ok(Json(Value::Null))
    })
    .await
}

/// `refresh-checkpoints`, `refresh-vae`: the folder is looked into again.
async fn refresh(State(app): State<Shared>) -> Result<Json<Value>, No> {
    aside(move || app.models.refresh().map(|()| Json(Value::Null)).map_err(|e| Refusal::from(e).into())).await
}

/// `unload-checkpoint`: what is loaded is let go of, once nothing draws with it.
async fn unload(State(app): State<Shared>) -> Json<Value> {
    app.painter.unload();
    Json(json!({}))
}

/// The job of this API that is drawn now.
fn running(app: &Shared) -> Option<Arc<Job>> {
    app.jobs.active().into_iter().find(|job| job.client == Client::Sdapi && job.state == JobState::Running)
}

/// `interrupt`: the job of this API that is drawn now ends. Without one nothing happens, and nothing is remembered.
async fn interrupt(State(app): State<Shared>) -> Json<Value> {
    if let Some(job) = running(&app) {
        lock(&app.sdapi.stopped)[0] = Some(job.id.clone());
        app.cancel(&job.id).await;
    }
    Json(json!({}))
}

/// `skip`: its picture ends, and the next one begins.
async fn skip(State(app): State<Shared>) -> Json<Value> {
    if let Some(job) = running(&app) {
        lock(&app.sdapi.stopped)[1] = Some(job.id.clone());
        app.jobs.skip(&job.id);
    }
    Json(Value::Null)
}

/// Tells of a job.
fn tell<T>(app: &Shared, job: Option<&Job>, told: impl FnOnce(Option<&Now<'_>>) -> T) -> T {
    let Some(job) = job else { return told(None) };
    let (progress, preview) = (app.jobs.progress(&job.id), app.jobs.preview(&job.id));
    let [interrupted, skipped] = lock(&app.sdapi.stopped).clone().map(|id| id.as_deref() == Some(job.id.as_str()));
    told(Some(&Now { job, progress: progress.as_ref(), preview: preview.as_deref(), interrupted, skipped }))
}

/// `progress`: of the job that is drawn, else of the first that waits.
async fn progress(State(app): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let skips =
        query.get("skip_current_image").is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "true" | "1"));
    let waiting = || app.jobs.active().into_iter().find(|job| job.client == Client::Sdapi);
    let job = running(&app).or_else(waiting);
    Json(tell(&app, job.as_deref(), |now| progress::told(now, !skips)))
}

/// `/internal/progress`: of the task that a client named.
async fn task_progress(State(app): State<Shared>, request: Request) -> Result<Json<Value>, No> {
    let bytes = body::bytes(request.into_body()).await?;
    let mut f = Fields::read(&bytes)?;
    let task = f.text("id_task", json!("")).unwrap_or_default();
    let seen = f.whole("id_live_preview", -1).and_then(|n| i64::try_from(n).ok()).unwrap_or(-1);
    let with_image = f.flag("live_preview", json!(true)).unwrap_or(true);
    f.done()?;
    let job = app.sdapi.job_of(&task).and_then(|id| app.jobs.job(&id));
    Ok(Json(tell(&app, job.as_deref(), |now| progress::of_task(now, seen, with_image))))
}

/// `/internal/pending-tasks`: those that wait, by the names that clients gave them.
async fn pending(State(app): State<Shared>) -> Json<Value> {
    let waits = |id: &str| app.jobs.job(id).is_some_and(|job| job.state == JobState::Queued);
    let tasks = lock(&app.sdapi.tasks).clone();
    let tasks: Vec<String> = tasks.into_iter().filter(|(_, id)| waits(id)).map(|(task, _)| task).collect();
    Json(json!({"size": tasks.len(), "tasks": tasks}))
}

async fn png_info(request: Request) -> Result<Json<Value>, No> {
    let bytes = body::bytes(request.into_body()).await?;
    aside(move || info::png_info(&bytes)).await.map(Json)
}

async fn extra_single(request: Request) -> Result<Json<Value>, No> {
    let bytes = body::bytes(request.into_body()).await?;
    let png = aside(move || extras::single(&bytes)).await?;
    Ok(Json(json!({"image": pictures::base64_of(&png), "html_info": ""})))
}

async fn extra_batch(request: Request) -> Result<Json<Value>, No> {
    let bytes = body::bytes(request.into_body()).await?;
    let all = aside(move || extras::batch(&bytes)).await?;
    let images: Vec<String> = all.iter().map(|png| pictures::base64_of(png)).collect();
    Ok(Json(json!({"images": images, "html_info": ""})))
}
