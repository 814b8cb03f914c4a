//! Pictures by their sha256: results and uploads, in full and small; and what a picture says of itself.

use crate::error::escape;
use crate::image::PictureLimits;
use crate::image::read::Picture;
use crate::image::{PARAMETERS, parameters::Parameters};
use crate::job::order::Order;
use crate::job::recipe::{Lacking, Recipe};
use crate::server::fault::{Fault, FaultKind, Refusal, told};
use crate::server::http::body;
use crate::server::jobs::order;
use crate::server::jobs::shelf::{Upload, is_sha256};
use crate::server::{Shared, blocking};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Nothing of a name changes its bytes.
const FOR_EVER: &str = "private, max-age=31536000, immutable";

/// POST /api/uploads
pub(super) async fn upload(State(app): State<Shared>, body: Body) -> Result<Response, Refusal> {
    let bytes = body::bytes(body).await?;
    let brought = blocking(move || Ok(app.jobs.pictures.bring(&bytes)?)).await?;
    let Upload { sha256, width, height, known } = brought;
    let told = json!({
        "url": format!("images/{sha256}.png"),
        "thumb": format!("thumbs/{sha256}.png"),
        "sha256": sha256,
        "width": width,
        "height": height,
    });
    let status = if known { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(told)).into_response())
}

/// Under which name it is saved.
#[derive(Deserialize)]
pub(super) struct Saved {
    download: Option<String>,
}

fn sha_of(name: &str) -> Result<String, Refusal> {
    let sha = name.strip_suffix(".png").filter(|sha| is_sha256(sha));
    sha.map(str::to_owned).ok_or_else(|| Refusal::not_found("picture"))
}

fn png(sha: &str, bytes: Vec<u8>, asked: &HeaderMap) -> Response {
    let tag = format!("\"{sha}\"");
    let same = asked.get(header::IF_NONE_MATCH).is_some_and(|t| t.as_bytes() == tag.as_bytes());
    let headers =
        [(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, FOR_EVER), (header::ETAG, tag.as_str())];
    if same { (StatusCode::NOT_MODIFIED, headers).into_response() } else { (headers, bytes).into_response() }
}

/// GET /images/{sha256}.png
pub(super) async fn image(
    State(app): State<Shared>,
    Path(name): Path<String>,
    Query(saved): Query<Saved>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let sha = sha_of(&name)?;
    let bytes = {
        let sha = sha.clone();
        blocking(move || Ok(app.jobs.pictures.png(&sha)?)).await?
    };
    let mut response = png(&sha, bytes, &headers);
    if let Some(name) = saved.download {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-');
        if name.is_empty() || name.len() > 80 || !name.chars().all(fits) {
            return Err(Refusal::new(FaultKind::BadRequest, "download: 1 to 80 letters, digits, spaces, _ and -"));
        }
        if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}.png\"")) {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
        }
    }
    Ok(response)
}

/// GET /thumbs/{sha256}.png
pub(super) async fn thumb(
    State(app): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let sha = sha_of(&name)?;
    let bytes = {
        let sha = sha.clone();
        blocking(move || Ok(app.jobs.pictures.thumb(&sha)?)).await?
    };
    Ok(png(&sha, bytes, &headers))
}

/// POST /api/png-info
pub(super) async fn png_info(State(app): State<Shared>, body: Body) -> Result<Json<Value>, Refusal> {
    let bytes = body::bytes(body).await?;
    blocking(move || {
        let picture = Picture::of_bytes(&bytes, std::path::Path::new("the picture"), PictureLimits::default())?;
        let text = picture.texts.iter().find(|(key, _)| key == PARAMETERS).map(|(_, text)| text.clone());
        let (order, problems) = match Recipe::read(&picture.texts) {
            Ok(recipe) => recipe_of(&app, &recipe, text.as_deref().unwrap_or_default()),
            Err(why) => (None, text.as_ref().map(|_| Fault::new(FaultKind::BadFile, why)).into_iter().collect()),
        };
        Ok(Json(json!({
            "width": picture.image.width,
            "height": picture.image.height,
            "text": text,
            "order": order.as_ref().map(order::wire),
            "problems": problems,
        })))
    })
    .await
}

/// The order that a picture was drawn from, as far as it can be asked for here, and what cannot.
fn recipe_of(app: &Shared, recipe: &Recipe, text: &str) -> (Option<Order>, Vec<Fault>) {
    let parameters = Parameters::parse(text);
    let mut problems = Vec::new();
    // The model by its hash, else by its name; none of its files is read for that.
    let (name, hash) = (parameters.get("Model"), parameters.get("Model hash"));
    let all = app.models.all();
    let by_hash = hash.and_then(|hash| all.iter().find(|e| e.known_sha256().is_some_and(|s| s.starts_with(hash))));
    let by_name = || name.and_then(|name| app.models.find(name));
    let found = by_hash.cloned().or_else(by_name);
    let mut order = Order::default();
    let mut lacking = match recipe.fill(&mut order, &[], &app.jobs.pictures, &AtomicBool::new(false)) {
        Ok(lacking) => lacking,
        Err(e) => return (None, vec![e.into()]),
    };
    order.model = found.as_ref().map(|e| PathBuf::from(&e.id));
    lacking.retain(|one| !matches!(one, Lacking::Model(..)) || found.is_none());
    for one in &lacking {
        let mut fault = Fault::new(FaultKind::Usage, told(&one.phrase()));
        fault.place = match one {
            Lacking::Model(..) => vec!["model".into(), escape(name.or(hash).unwrap_or_default())],
            Lacking::Vae(..) => vec!["order".into(), "vae".into()],
            Lacking::Refiner(..) => vec!["order".into(), "refiner".into()],
            Lacking::Picture(_) | Lacking::OtherPicture => vec!["order".into(), "init_image".into()],
            Lacking::Eta(_) => vec!["order".into(), "eta".into()],
            Lacking::Schedule(_) => vec!["order".into(), "schedule".into()],
            Lacking::Tag(_) | Lacking::Embeddings(_) | Lacking::Adapter(_) => vec!["order".into(), "prompt".into()],
            Lacking::Setting(setting) => vec!["setting".into(), escape(setting)],
        };
        problems.push(fault);
    }
    if let Err(fault) = order::check(&order) {
        problems.push(fault);
    }
    (Some(order), problems)
}
